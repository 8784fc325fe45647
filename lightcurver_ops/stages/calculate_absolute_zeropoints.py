"""Stage 9: the absolute calibration of each frame from catalogue magnitudes of its reference stars."""

from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import absolute_zeropoints, catalog_star_photometry
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import Run, Stage, joined
from lightcurver_ops.stages.calculate_normalization_coefficient import (
    CalculateNormalizationCoefficient,
    FluxTable,
    flux_inputs,
    flux_tables,
    frame_ids_of_filter,
)
from lightcurver_ops.stages.catalogs import (
    catalog_identity,
    lacks_catalog,
    panstarrs_of,
    uses_panstarrs,
)
from lightcurver_ops.stages.star_columns import star_column


class CalculateAbsoluteZeropoints(Stage):
    """One zero point per frame."""

    name = "calculate_absolute_zeropoints"
    title = "Absolute zero points"
    depends_on = ("star_photometry",)
    config_keys = (*CalculateNormalizationCoefficient.config_keys, "zero_points")

    def lacks_a_file(self) -> bool:
        return lacks_catalog(self.config)

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        catalogue = catalog_identity(self.config)
        return {
            filter_name: self.hash_inputs(inputs, *self._catalogues(filter_name, catalogue))
            for filter_name, inputs in flux_inputs(connection, self.lens, self).items()
        }

    def _catalogues(self, filter_name: str, stars: str) -> list[str]:
        """What decides the magnitudes of a filter's stars."""
        band = self.config.band_of(filter_name)
        return [stars, panstarrs_of(self.config).identity()] if band and uses_panstarrs(band) else [stars]

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.numerics.zeropoints import zero_points

        with reading(self.lens.engine) as connection:
            tables = flux_tables(connection, self.lens)
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            known = {star.gaia_id: star for star in stars.stars_of(connection, self.lens.name, selection)}
        for filter_name, inputs_hash in units.items():
            table = tables[filter_name]
            band = self.config.band_of(filter_name)
            if band is None:
                raise ConfigurationError(
                    f"zero_points.photometric_band has no entry for the filter {filter_name}; the frames have "
                    f"{joined(tables)}: write photometric_band: {{{filter_name}: r_sdss}}, or one band for all"
                )
            magnitude, error = self._magnitudes([known[star] for star in table.star_ids], band)
            result = zero_points(table.flux, magnitude)
            if not np.isfinite(magnitude).any():
                run.note(
                    f"{filter_name}: no star has a {band} magnitude, the light curve stays without zero point"
                )
            self._save(filter_name, band, table, (magnitude, error), result, selection, inputs_hash, run)

    def _magnitudes(self, chosen: list[sa.Row], band: str) -> tuple[np.ndarray, np.ndarray]:
        from lightcurver_ops.numerics.synthetic_magnitudes import magnitudes_in_band

        if uses_panstarrs(band):
            from lightcurver_ops.stages.panstarrs import panstarrs_magnitudes

            return panstarrs_magnitudes(self.config, chosen, band)

        gmag = star_column(chosen, "gmag")
        colour = star_column(chosen, "bmag") - star_column(chosen, "rmag")
        return magnitudes_in_band(band, gmag, colour)

    def _save(
        self,
        filter_name: str,
        band: str,
        table: FluxTable,
        magnitudes: tuple[np.ndarray, np.ndarray],
        result: Any,
        selection: str,
        inputs_hash: str,
        run: Run,
    ) -> None:
        made = ledger.provenance(inputs_hash)
        catalog = "panstarrs" if uses_panstarrs(band) else self.config.stars.gaia_provider
        star_rows = [
            {
                "lens": self.lens.name,
                "combined_footprint_hash": selection,
                "catalog": catalog,
                "band": band,
                "star_gaia_id": star,
                "mag": float(mag),
                "mag_err": float(error) if np.isfinite(error) else None,
                **made,
            }
            for star, mag, error in zip(table.star_ids, *magnitudes, strict=True)
            if np.isfinite(mag)
        ]
        rows = [
            {
                "frame_id": row.id,
                "combined_footprint_hash": selection,
                "source_catalog": catalog,
                "zeropoint": float(result.zeropoint[e]),
                "zeropoint_uncertainty": float(result.zeropoint_uncertainty[e]),
                "n_stars": int(result.n_stars[e]),
                **made,
            }
            for e, row in enumerate(table.frames)
            if np.isfinite(result.zeropoint[e])
        ]

        def write(connection: sa.Connection) -> None:
            ledger.upsert(connection, catalog_star_photometry, star_rows)
            frame_ids = frame_ids_of_filter(connection, self.lens.name, filter_name)
            photometry.replace_rows(connection, absolute_zeropoints, rows, frame_ids, selection)

        run.done(filter_name, inputs_hash, write)
