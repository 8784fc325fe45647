"""A lens."""

import functools
from pathlib import Path
from typing import Any

from pydantic import model_validator

from lightcurver_ops.config import sections
from lightcurver_ops.config.base import Name, Secret, Section


class LensConfig(Section):
    """Everything about one monitored lens."""

    name: Name
    """Name of the lens: letters, digits, and _ . + -"""
    workdir: Path
    """Working directory: bookkeeping, frames, cutouts, light curves."""
    database: Secret = None
    """URL of the bookkeeping (postgresql+psycopg://...); null: database.sqlite3 in the working directory."""
    database_read_only: Secret = None
    """URL of the same bookkeeping for a role that cannot write: the web pages read with it; null: as all others do."""
    raw: sections.Raw
    roi: sections.Roi
    telescope: sections.Telescope | None = None
    background: sections.Background = sections.Background()
    detection: sections.Detection = sections.Detection()
    plate_solving: sections.PlateSolving = sections.PlateSolving()
    stars: sections.Stars = sections.Stars()
    catalogs: sections.Catalogs = sections.Catalogs()
    cutouts: sections.Cutouts = sections.Cutouts()
    psf: sections.Psf = sections.Psf()
    star_photometry: sections.StarPhotometry = sections.StarPhotometry()
    normalization: sections.Normalization = sections.Normalization()
    zero_points: sections.ZeroPoints = sections.ZeroPoints()
    roi_model: sections.RoiModel = sections.RoiModel()
    publication: sections.Publication = sections.Publication()
    compute: sections.Compute = sections.Compute()
    operations: sections.Operations = sections.Operations()

    @model_validator(mode="after")
    def _consistent(self) -> "LensConfig":
        if (
            self.roi_model.do_ROI_model
            and not self.roi.point_sources
            and not self.roi_model.further_optimize_background
        ):
            raise ValueError(
                "roi.point_sources is empty and roi_model.further_optimize_background is false: there is nothing to "
                "model; name the images under roi.point_sources, or set roi_model.do_ROI_model: false"
            )
        in_aperture = self.roi_model.method == "aperture"
        if self.roi_model.do_ROI_model and in_aperture != (self.star_photometry.method == "aperture"):
            raise ValueError(
                f"roi_model.method is {self.roi_model.method} and star_photometry.method is "
                f"{self.star_photometry.method}: the lens and its reference stars must be measured alike; write "
                "aperture for both, or for none"
            )
        if in_aperture and len(self.roi.point_sources) != 1:
            raise ValueError(
                f"roi_model.method is aperture and roi.point_sources names {len(self.roi.point_sources)} images: an "
                "aperture holds the light of one isolated star; write roi_model: {method: joint} and star_photometry: "
                "{method: psf}"
            )
        return self

    @functools.cached_property
    def roi_name(self) -> str:
        """Name of the region of interest in file names."""
        return self.roi.name or self.name

    @functools.cached_property
    def database_url(self) -> str:
        """SQLAlchemy URL of the bookkeeping."""
        return self.database or self.embedded_url

    @functools.cached_property
    def embedded_url(self) -> str:
        """SQLAlchemy URL of the file in the working directory, whether it is the bookkeeping or not."""
        return f"sqlite:///{self.workdir / 'database.sqlite3'}"

    def in_database(self, url: str | None) -> "LensConfig":
        """The same lens, its bookkeeping where its own file says, else at this URL, else in its working directory."""
        return self if self.database else self.with_settings(database=url)

    def read_from(self, url: str | None) -> "LensConfig":
        """As `in_database`, for one who only reads: with the role that cannot write, where the lens's file names it."""
        if self.database_read_only is None:
            return self.in_database(url)
        return self.with_settings(database=self.database_read_only)

    def with_settings(self, *, database: str | None = None, processes: int | None = None) -> "LensConfig":
        """The same lens with another bookkeeping or number of processes, where they are given."""
        changes: dict[str, Any] = {}
        if database is not None:
            changes["database"] = database
        if processes is not None:
            changes["compute"] = self.compute.model_copy(update={"processes": processes})
        changed = self.model_copy(update=changes)
        changed.__dict__.pop("database_url", None)  # a copy takes what was cached along
        return changed

    def band_of(self, filter_name: str) -> str | None:
        """The photometric band that stands for a filter; None where the configuration names none."""
        band = self.zero_points.photometric_band
        return band if isinstance(band, str) else band.get(filter_name)

    def value(self, key: str) -> Any:
        """The value of a dotted key (``psf.solver``), sections as plain data."""
        value: Any = self
        for part in key.split("."):
            value = getattr(value, part)
        return value.model_dump(mode="json") if isinstance(value, Section) else value
