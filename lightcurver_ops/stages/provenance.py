"""Where light curves come from: everything that decided each point, as the bookkeeping has it."""

import importlib.metadata
import math
from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lightcurver_ops import __version__
from lightcurver_ops.bookkeeping import frames, ledger, photometry, stars
from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.config import LensConfig
from lightcurver_ops.stages.base import WHOLE_LENS, Lens
from lightcurver_ops.stages.calculate_normalization_coefficient import flux_tables
from lightcurver_ops.stages.catalogs import catalog_identity
from lightcurver_ops.stages.usage import usage

_LIBRARIES = ("numpy", "scipy", "jax", "astropy", "sep", "astroscrappy", "photutils", "starred-astro")

# How and where the work is done; none of these changes a number.
_SECTIONS_WITHOUT_EFFECT = {"compute", "operations"}
_KEYS_WITHOUT_EFFECT = {
    "name", "workdir", "raw.raw_dirs", "raw.s3_endpoint_url", "raw.cache_dir", "raw.s3_etag_is_md5", "raw.read_noise",
    "roi.name", "plate_solving.frames", "plate_solving.min_success_fraction", "plate_solving.index_dir",
    "plate_solving.astrometry_net_api_key_file",
}  # fmt: skip


def values_that_matter(configuration: dict[str, Any]) -> dict[str, Any]:
    """Dotted key: value, of the keys of a configuration (as plain data) that can change a light curve."""
    flat: dict[str, Any] = {}
    for name, value in configuration.items():
        if name in _SECTIONS_WITHOUT_EFFECT:
            continue
        keys = (
            {f"{name}.{key}": one for key, one in value.items()} if isinstance(value, dict) else {name: value}
        )
        flat |= {key: one for key, one in keys.items() if key not in _KEYS_WITHOUT_EFFECT}
    return flat


def changed_from_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """Those of the values of `values_that_matter` that are not the defaults."""
    defaults: dict[str, Any] = {}
    for name, field in LensConfig.model_fields.items():
        if isinstance(field.default, BaseModel):
            given = field.default.model_dump(mode="json")
        else:
            section = field.annotation if isinstance(field.annotation, type) else None
            fields = section.model_fields if section and issubclass(section, BaseModel) else {}
            given = {key: _default_of(one) for key, one in fields.items()}
        defaults |= {f"{name}.{key}": value for key, value in given.items()}
    return {key: value for key, value in values.items() if value != defaults.get(key)}


def _default_of(field: Any) -> Any:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return None
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


class Origins:
    """What the bookkeeping says now of the frames of a lens: one look, for any number of frames.

    Args:
        connection: in a transaction that reads.
        lens: whose.
    """

    def __init__(self, connection: sa.Connection, lens: Lens):
        from lightcurver_ops.stages.pipeline import STAGES  # which imports the stage that imports this module

        self.lens = lens
        name = lens.name
        self._stages = STAGES
        self._products = {stage.name: ledger.products_of(connection, name, stage.name) for stage in STAGES}
        self.selection = stars.current_selection(connection, name)
        selection = self.selection or ""
        self._stars = stars.stars_of(connection, name, selection)
        self._names = {star.gaia_id: star.name for star in self._stars}
        self._psfs = photometry.psfs_of(connection, name, selection)
        self._coefficients = photometry.coefficients_of(connection, name, selection)
        self._zeropoints = photometry.zeropoints_of(connection, name, selection)
        self._normalizations = photometry.star_normalizations_of(connection, name, selection)
        self._fluxes = flux_tables(connection, lens)
        self._columns = {row.id: e for table in self._fluxes.values() for e, row in enumerate(table.frames)}
        self.frames = {row.image_relpath: row for row in frames.all_frames(connection, name)}
        self.unused = {item.frame.image_relpath: item.reason for item in usage(connection, lens.config)}

    def document(self, filter_name: str, relpaths: Iterable[str]) -> dict[str, Any]:
        """The origin of a light curve, as plain data: what all its points share, and each of its frames."""
        document = {
            "code_version": __version__,
            "libraries": _versions(),
            "stages": {stage.name: stage.version for stage in self._stages},
            **configuration_part(self.lens.config.model_dump(mode="json")),
            "catalogue": catalog_identity(self.lens.config),
            "photometric_band": self.lens.config.band_of(filter_name),
            "star_selection": self.selection,
            "stars": {star.name: star.gaia_id for star in self._stars},
            "stars_of_the_normalization": {
                self._names.get(row.star_gaia_id, row.star_gaia_id): {
                    "scale": row.scale,
                    "scatter": row.scatter,
                    "weight": row.weight,
                    "variable": row.variable,
                }
                for row in self._normalizations
                if row.filter == filter_name
            },
            "ledger": self.ledger(filter_name, WHOLE_LENS),
            "unused": {
                relpath: reason
                for relpath, reason in self.unused.items()
                if reason is not None and self.frames[relpath].filter == filter_name
            },
            "frames": {relpath: self.frame(relpath) for relpath in relpaths},
        }
        return without_nan(document)

    def frame(self, relpath: str) -> dict[str, Any]:
        """The origin of one frame: its raw file, and what each stage made of it."""
        row = self.frames[relpath]
        return {
            "mjd": row.mjd,
            "exptime": row.exptime,
            "gain": row.gain,
            "filter": row.filter,
            "raw": {
                "file": row.original_image_path,
                "sha256": row.raw_sha256,
                "sha256_of_pixels": row.pixel_hash,
            },
            "seeing_arcseconds": row.seeing_arcseconds,
            "sky_level_electron_per_second": row.sky_level_electron_per_second,
            "plate_solution": {
                "method": row.plate_solve_method,
                "stars": row.plate_solve_n_matched,
                "rms_arcsec": row.plate_solve_rms_arcsec,
                "pixel_scale": row.pixel_scale,
            },
            "psf": self._psf(row),
            "normalization": self._normalization(row),
            "zero_point": self._zero_point(row),
            "eliminated": bool(row.eliminated),
            "eliminated_by": row.eliminated_by,
            "comment": row.comment,
            "warnings": row.warnings,
            "inputs_hash": row.inputs_hash,
            "ledger": self.ledger(row.original_image_path, row.image_relpath),
        }

    def _psf(self, row: sa.Row) -> dict[str, Any] | None:
        psf = self._psfs.get(row.id)
        if psf is None:
            return None
        return {
            "file": psf.psf_relpath,
            "stars": [name for name in psf.psf_ref.removeprefix("psf_").split("_") if name],
            "chi2": psf.chi2,
            "fwhm_arcseconds": psf.fwhm_moffat_arcseconds,
            "elongation": psf.elongation,
            "doubleness": psf.doubleness,
            "converged": bool(psf.converged),
            "inputs_hash": psf.inputs_hash,
        }

    def _normalization(self, row: sa.Row) -> dict[str, Any] | None:
        coefficient = self._coefficients.get(row.id)
        if coefficient is None:
            return None
        return {
            "coefficient": coefficient.coefficient,
            "standard_error": coefficient.standard_error,
            "scatter": coefficient.coefficient_uncertainty,
            "n_stars": coefficient.n_stars,
            "stars": self._measured(row),
        }

    def _measured(self, row: sa.Row) -> list[str]:
        """The stars of the normalization whose fluxes in a frame entered its coefficient."""
        import numpy as np

        column = self._columns.get(row.id)
        if column is None:
            return []
        table = self._fluxes[row.filter]
        return [
            self._names.get(star, star)
            for star, flux in zip(table.star_ids, table.flux[:, column], strict=True)
            if np.isfinite(flux)
        ]

    def _zero_point(self, row: sa.Row) -> dict[str, Any] | None:
        zeropoint = self._zeropoints.get(row.id)
        if zeropoint is None:
            return None
        return {
            "value": zeropoint.zeropoint,
            "scatter": zeropoint.zeropoint_uncertainty,
            "n_stars": zeropoint.n_stars,
            "catalogue": zeropoint.source_catalog,
        }

    def ledger(self, *units: str) -> list[dict[str, Any]]:
        """What each stage has a record of, for these units, in the order of the stages."""
        return [
            {
                "stage": stage.name,
                "unit": unit,
                "status": product.status,
                "reason": product.reason,
                "attempts": product.attempts,
                "made_at": ledger.as_utc(product.made_at).isoformat() if product.made_at else None,
                "code_version": product.code_version,
                "run": product.run_id,
                "inputs_hash": product.inputs_hash,
            }
            for stage in self._stages
            for unit in units
            if (product := self._products[stage.name].get(unit)) is not None
        ]


def configuration_part(configuration: dict[str, Any]) -> dict[str, Any]:
    """The entries of a document that are about the configuration."""
    values = values_that_matter(configuration)
    return {"configuration": values, "configuration_hash": hash_of(values)}


def without_nan(value: Any) -> Any:
    """Nested plain data as JSON can have it: None for what is no number."""
    if isinstance(value, dict):
        return {key: without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _versions() -> dict[str, str]:
    versions = {}
    for library in _LIBRARIES:
        try:
            versions[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
