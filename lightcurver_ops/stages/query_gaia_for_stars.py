"""Stage 4: the reference stars, and which of them is in which frame."""

from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.errors import QualityGate
from lightcurver_ops.stages.base import WHOLE_LENS, Lens, Run, Stage
from lightcurver_ops.stages.calculate_common_and_total_footprint import combined_footprint_of
from lightcurver_ops.stages.catalogs import (
    catalog_identity,
    catalog_of,
    faintest_asked,
    lacks_catalog,
)
from lightcurver_ops.stages.star_columns import star_column


class QueryGaiaForStars(Stage):
    """Chooses the reference stars (unit ``*``) and finds them in the frames (one unit per frame)."""

    name = "query_gaia_for_stars"
    title = "Reference stars from the catalogue"
    depends_on: tuple[str, ...] = ("plate_solving", "calculate_common_and_total_footprint")
    config_keys = (
        "stars.strategy",
        "stars.ROI_disk_radius_arcseconds",
        "stars.min_gmag",
        "stars.max_gmag",
        "stars.max_astrometric_excess_noise",
        "stars.max_astrometric_excess_noise_significance",
        "stars.min_phot_g_mean_flux_over_error",
        "stars.min_number_stars",
        "stars.gaia_provider",
        "roi.ra",
        "roi.dec",
        "roi.ROI_size",
    )

    def __init__(self, lens: Lens):
        super().__init__(lens)
        if self.config.stars.strategy == "ROI_disk":
            self.depends_on = ("plate_solving",)  # which stars there are does not depend on any frame

    def is_outdated_by(self, unit: str, inputs: set[str]) -> bool:
        if unit == WHOLE_LENS:
            return self.config.stars.strategy != "ROI_disk" and bool(inputs)
        return unit in inputs or WHOLE_LENS in inputs

    def lacks_a_file(self) -> bool:
        return lacks_catalog(self.config)

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        rows = frames.usable_frames(connection, self.lens.name)
        if not rows:
            return {}
        selection = self._identifier(connection)
        solved = frames.footprints_of(connection, self.lens.name)
        stamp = self.config.cutouts.stamp_size_stars
        return {
            WHOLE_LENS: self.hash_inputs(selection, self._stamp_arcsec("stars"), self._stamp_arcsec("ROI")),
            **{
                row.image_relpath: hash_of(
                    self.name, self.version, selection, row.inputs_hash, solved[row.id].inputs_hash, stamp
                )
                for row in rows
            },
        }

    def make(self, units: dict[str, str], run: Run) -> None:
        if WHOLE_LENS in units:
            self._select(units[WHOLE_LENS], run)
        with reading(self.lens.engine) as connection:
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            chosen = stars.stars_of(connection, self.lens.name, selection)
            rows = {row.image_relpath: row for row in frames.usable_frames(connection, self.lens.name)}
        for unit, inputs_hash in units.items():
            if unit == WHOLE_LENS:
                continue
            row = rows[unit]
            inside = self._positions_in(row, chosen)

            def write(connection: sa.Connection, frame_id=row.id, inside=inside) -> None:
                stars.save_stars_in_frame(connection, frame_id, selection, inside)

            run.done(unit, inputs_hash, write)
        if self.config.compute.diagnostics:
            from lightcurver_ops.stages.figures import draw_footprints

            draw_footprints(self.lens, with_stars=True)

    def _identifier(self, connection: sa.Connection) -> str:
        """Of the selection: everything that decides which stars are in it and what they are called."""
        keys = {key: self.config.value(key) for key in self.config_keys if key != "stars.min_number_stars"}
        return hash_of(self.version, keys, catalog_identity(self.config), self._region_hash(connection))

    def _region_hash(self, connection: sa.Connection) -> str | None:
        """What the region depends on beside the configuration: nothing for a disk, else the frames."""
        if self.config.stars.strategy == "ROI_disk":
            return None
        footprint = combined_footprint_of(connection, self.lens.name)
        return footprint.hash if footprint else None

    def _select(self, inputs_hash: str, run: Run) -> None:
        from lightcurver_ops.catalogs.base import unmasked
        from lightcurver_ops.catalogs.controls import STAMP, lens_magnitude
        from lightcurver_ops.catalogs.merit import contamination
        from lightcurver_ops.catalogs.regions import separation_deg
        from lightcurver_ops.catalogs.selection import Cuts, select_reference_stars

        settings, roi = self.config.stars, self.config.roi
        cuts = Cuts(
            min_gmag=settings.min_gmag,
            max_gmag=settings.max_gmag,
            max_astrometric_excess_noise=settings.max_astrometric_excess_noise,
            max_astrometric_excess_noise_significance=settings.max_astrometric_excess_noise_significance,
            min_phot_g_mean_flux_over_error=settings.min_phot_g_mean_flux_over_error,
            exclusion_radius_arcsec=roi.ROI_size,
            min_number_stars=settings.min_number_stars,
        )
        catalogue = catalog_of(self.config)
        queried, inside = self._query(catalogue)
        ids = queried["source_id"].tolist()
        sky = queried["ra"], queried["dec"], unmasked(queried, "phot_g_mean_mag")
        by_id = dict(zip(ids, contamination(*sky, self._stamp_arcsec("stars")), strict=True))
        as_control = dict(zip(ids, contamination(*sky, STAMP * self._stamp_arcsec("ROI")), strict=True))
        chosen = select_reference_stars(queried[inside], roi.ra, roi.dec, cuts)
        run.note(chosen.account())
        columns = {
            "gmag": "phot_g_mean_mag",
            "rmag": "phot_rp_mean_mag",
            "bmag": "phot_bp_mean_mag",
            "pmra": "pmra",
            "pmdec": "pmdec",
            "ref_epoch": "ref_epoch",
            "astrometric_excess_noise": "astrometric_excess_noise",
            "astrometric_excess_noise_sig": "astrometric_excess_noise_sig",
            "phot_g_mean_flux_over_error": "phot_g_mean_flux_over_error",
            "ra": "ra",
            "dec": "dec",
            "distance_to_roi_arcsec": "distance_to_roi_arcsec",
        }
        values = {ours: unmasked(chosen.table, theirs) for ours, theirs in columns.items()}
        rows = [
            {
                "gaia_id": str(star["source_id"]),
                "name": str(star["name"]),
                "contamination": _known(by_id[int(star["source_id"])]),
                **{key: _known(column[index]) for key, column in values.items()},
            }
            for index, star in enumerate(chosen.table)
        ]
        description = {
            "strategy": settings.strategy,
            "catalogue": catalogue.identity(),
            "keys": {key: self.config.value(key) for key in self.config_keys},
            "account": chosen.account(),
            "lens_gmag": lens_magnitude(
                unmasked(queried, "phot_g_mean_mag"),
                separation_deg(queried["ra"], queried["dec"], roi.ra, roi.dec) * 3600,
                roi.ROI_size,
            ),
            "control_contamination": {
                str(star): round(as_control[star], 4)
                for star in chosen.table["source_id"].tolist()
                if as_control[star] > 0
            },
        }

        def write(connection: sa.Connection) -> None:
            selection = self._identifier(connection)
            stars.save_selection(connection, self.lens.name, selection, inputs_hash, description, rows)

        run.done(WHOLE_LENS, inputs_hash, write)

    def _stamp_arcsec(self, kind: str) -> float:
        """Side of a stamp, from the configuration alone: the stars must not depend on the frames."""
        shortest, longest = self.config.plate_solving.plate_scale_interval
        return float(getattr(self.config.cutouts, f"stamp_size_{kind}") * np.sqrt(shortest * longest))

    def _query(self, catalogue: Any) -> tuple[Any, np.ndarray]:
        """The stars of the catalogue around the ROI, and which of them lie in the region."""
        from lightcurver_ops.astrometry.footprints import region_from_text
        from lightcurver_ops.catalogs.regions import Disk, separation_deg

        settings, roi = self.config.stars, self.config.roi
        if settings.strategy == "ROI_disk":
            disk = Disk(roi.ra, roi.dec, settings.ROI_disk_radius_arcseconds / 3600)
            table = catalogue.query(disk, max_gmag=faintest_asked(self.config))
            return table, np.ones(len(table), dtype=bool)
        with reading(self.lens.engine) as connection:
            footprint = combined_footprint_of(connection, self.lens.name)
        assert footprint is not None  # stage 3 comes first
        text = footprint.common if settings.strategy == "common_footprint_stars" else footprint.largest
        region = region_from_text(text)
        if region.is_empty:
            raise QualityGate(
                f"{self.lens.name}: the frames have no footprint in common, so stars.strategy: common_footprint_stars "
                "finds no star; use ROI_disk, or eliminate frames with another pointing",
                n_frames=footprint.n_frames,
            )
        corners = np.concatenate([piece[0] for piece in region.polygons])
        radius = separation_deg(corners[:, 0], corners[:, 1], roi.ra, roi.dec).max()
        table = catalogue.query(Disk(roi.ra, roi.dec, float(radius)), max_gmag=faintest_asked(self.config))
        return table, region.contains(np.asarray(table["ra"]), np.asarray(table["dec"]))

    def _positions_in(self, row: sa.Row, chosen: list[sa.Row]) -> dict[str, tuple[float, float]]:
        """Stars inside the frame at its epoch, half a stamp from its edges."""
        from lightcurver_ops.astrometry.geometry import sky_to_pixel
        from lightcurver_ops.catalogs.motion import positions_at
        from lightcurver_ops.storage import frames as frame_files

        wcs = frame_files.wcs_of(frame_files.read_header(self.lens.workdir / row.image_relpath))

        ra, dec, pmra, pmdec, ref_epoch = (
            star_column(chosen, name) for name in ("ra", "dec", "pmra", "pmdec", "ref_epoch")
        )
        ra, dec = positions_at(ra, dec, pmra, pmdec, ref_epoch, row.mjd)
        x, y = sky_to_pixel(wcs, ra, dec)  # NaN far outside the frame
        margin = self.config.cutouts.stamp_size_stars / 2
        inside = (x > margin) & (x < row.width - 1 - margin) & (y > margin) & (y < row.height - 1 - margin)
        return {chosen[i].gaia_id: (float(x[i]), float(y[i])) for i in np.flatnonzero(inside)}


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
