"""Stage 8: the relative throughput of the frames of each filter, from all their star fluxes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from lightcurver_ops.bookkeeping import ledger, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.bookkeeping.tables import normalization_coefficients, star_normalization
from lightcurver_ops.errors import QualityGate
from lightcurver_ops.stages.base import Run, Stage
from lightcurver_ops.stages.control_choice import ControlChoice, choose_controls
from lightcurver_ops.stages.control_stars import candidates_of_lens
from lightcurver_ops.stages.reference_stars import ranking_of_lens, stars_per_frame
from lightcurver_ops.stages.star_photometry import StarPhotometry
from lightcurver_ops.stages.usage import chi2_interval, usage_up_to_photometry, used_frames

# The coefficient is 1 in the median of this many first frames: new nights leave the scale of earlier ones alone,
# and it depends on which frames there are, never on the order in which they came.
_REFERENCE_FRAMES = 50


@dataclass(frozen=True)
class FluxTable:
    """Star fluxes of the frames of one filter; NaN where a star was not measured, or not well."""

    frames: list[sa.Row]
    star_ids: list[str]
    flux: NDArray[np.float64]
    """[S, E] e-/s"""
    uncertainty: NDArray[np.float64]
    """[S, E] e-/s"""


def flux_tables(connection: sa.Connection, lens: Any) -> dict[str, FluxTable]:
    """filter: fluxes of the stars of the normalization in the frames whose fluxes may be used."""
    config = lens.config
    selection = stars.current_selection(connection, lens.name)
    if selection is None:
        return {}
    by_filter = used_frames(usage_up_to_photometry(connection, config))
    every = [row for rows in by_filter.values() for row in rows]
    wanted = {
        (frame_id, star.gaia_id)
        for frame_id, chosen in stars_per_frame(connection, config, "norm", every).items()
        for star in chosen
    }
    order = [star.gaia_id for star in stars.stars_of(connection, lens.name, selection)]
    measured = [
        row
        for row in photometry.fluxes_of(connection, lens.name, selection)
        if (row.frame_id, row.star_gaia_id) in wanted
    ]
    low, high = chi2_interval(
        [row.chi2 for row in measured], config.normalization.fluxes_fit_exclude_strategy
    )
    good = [row for row in measured if low <= row.chi2 <= high and row.converged and row.flux > 0]
    tables = {}
    for filter_name, rows in by_filter.items():
        column = {row.id: e for e, row in enumerate(rows)}
        here = [row for row in good if row.frame_id in column]
        seen = {row.star_gaia_id for row in here}
        star_ids = [star for star in order if star in seen]
        line = {star: s for s, star in enumerate(star_ids)}
        flux = np.full((len(star_ids), len(rows)), np.nan)
        uncertainty = flux.copy()
        for row in here:
            flux[line[row.star_gaia_id], column[row.frame_id]] = row.flux
            uncertainty[line[row.star_gaia_id], column[row.frame_id]] = row.flux_uncertainty
        tables[filter_name] = FluxTable(rows, star_ids, flux, uncertainty)
    return tables


def flux_inputs(connection: sa.Connection, lens: Any, stage: Stage) -> dict[str, str]:
    """filter: hash of all fluxes that the joint stages of this filter read."""
    measured = ledger.done_hashes(connection, lens.name, StarPhotometry.name)
    by_filter = used_frames(usage_up_to_photometry(connection, lens.config))
    selection = stars.current_selection(connection, lens.name)
    ranked = ranking_of_lens(connection, lens.config, "norm", selection) if selection else []
    return {
        filter_name: stage.hash_inputs(
            [(row.image_relpath, measured[row.image_relpath]) for row in rows],
            [star.gaia_id for star in ranked],
        )
        for filter_name, rows in by_filter.items()
    }


class CalculateNormalizationCoefficient(Stage):
    """One coefficient per frame; then the choice of control stars, by their normalized fluxes."""

    name = "calculate_normalization_coefficient"
    title = "Normalization coefficients"
    depends_on = ("star_photometry",)
    config_keys = (
        "stars.stars_to_use_norm",
        "stars.stars_to_exclude_norm",
        "psf.max_elongation",
        "psf.max_trail",
        "psf.max_doubleness",
        "psf.max_misfit",
        "star_photometry.psf_fit_exclude_strategy",
        "normalization",
    )
    version = 3

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        inputs = flux_inputs(connection, self.lens, self)
        selection = stars.current_selection(connection, self.lens.name)
        candidates = candidates_of_lens(connection, self.config, selection).stars if selection else []
        if not candidates:
            return inputs
        names = [star.gaia_id for star in candidates], self.config.stars.stars_to_use_control
        return {filter_name: self.hash_inputs(known, *names) for filter_name, known in inputs.items()}

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.numerics.normalization import anchored, variable_stars
        from lightcurver_ops.numerics.normalization import normalization_coefficients as normalize

        with reading(self.lens.engine) as connection:
            tables = flux_tables(connection, self.lens)
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            named = {
                star.gaia_id: star.name for star in stars.stars_of(connection, self.lens.name, selection)
            }
        for filter_name, inputs_hash in units.items():
            table = tables[filter_name]
            if not table.star_ids:
                raise QualityGate(
                    f"{self.lens.name}: no star of the normalization is measured well in any frame of filter "
                    f"{filter_name}; look at the chi2 in star_flux_in_frame, loosen "
                    "normalization.fluxes_fit_exclude_strategy, or choose other stars with stars.stars_to_use_norm",
                    n_frames=len(table.frames),
                )
            result = anchored(normalize(table.flux, table.uncertainty), _REFERENCE_FRAMES)
            variable = variable_stars(table.flux, table.uncertainty, result)
            names = [named[star] for star in table.star_ids]
            run.note(f"{filter_name}: {len(table.star_ids)} stars, {len(table.frames)} frames")
            for s in map(int, np.flatnonzero(variable)):
                run.note(
                    f"{filter_name}: star {names[s]} {_variation(table, result, s)}: consider `lcops stars exclude`"
                )
            with reading(self.lens.engine) as connection:
                controls = choose_controls(
                    connection, self.config, selection, filter_name, table.frames, result
                )
            for note in controls.notes:
                run.note(note)
            if self.config.compute.diagnostics:
                self._plot(filter_name, table, result, variable, names, selection)
            self._save(filter_name, table, result, variable, controls, selection, inputs_hash, run)

    def _plot(
        self,
        filter_name: str,
        table: FluxTable,
        result: Any,
        variable: NDArray[np.bool_],
        names: list[str],
        selection: str,
    ) -> None:
        from lightcurver_ops.diagnostics.normalization import plot_normalization
        from lightcurver_ops.stages.figures import draw_stars

        plot_normalization(
            self.lens.workdir / f"diagnostics/normalization_{filter_part(filter_name)}.png",
            mjd=np.array([row.mjd for row in table.frames]),
            names=names,
            normalized=table.flux / result.star_scale[:, None],
            uncertainty=table.uncertainty / result.star_scale[:, None],
            coefficient=result.coefficient,
            coefficient_uncertainty=result.coefficient_uncertainty,
            scatter=result.star_scatter,
            variable=variable,
        )
        draw_stars(self.lens, table.frames, table.star_ids, selection)

    def _save(
        self,
        filter_name: str,
        table: FluxTable,
        result: Any,
        variable: NDArray[np.bool_],
        controls: ControlChoice,
        selection: str,
        inputs_hash: str,
        run: Run,
    ) -> None:
        made = ledger.provenance(inputs_hash)
        rows = [
            {
                "frame_id": row.id,
                "combined_footprint_hash": selection,
                "coefficient": float(result.coefficient[e]),
                "coefficient_uncertainty": float(result.coefficient_uncertainty[e]),
                "standard_error": float(result.standard_error[e]),
                "n_stars": int(result.n_stars[e]),
                **made,
            }
            for e, row in enumerate(table.frames)
            if np.isfinite(result.coefficient[e])
        ]
        star_rows = [
            {
                "lens": self.lens.name,
                "combined_footprint_hash": selection,
                "filter": filter_name,
                "star_gaia_id": star,
                "scale": finite(result.star_scale[s]),
                "scatter": finite(result.star_scatter[s]),
                "weight": finite(result.star_weight[s]),
                "excess": finite(result.star_excess[s]),
                "chi2": finite(result.star_chi2[s]),
                "variable": bool(variable[s]),
                **made,
            }
            for s, star in enumerate(table.star_ids)
        ]

        def write(connection: sa.Connection) -> None:
            frame_ids = list(frame_ids_of_filter(connection, self.lens.name, filter_name))
            photometry.replace_rows(connection, normalization_coefficients, rows, frame_ids, selection)
            connection.execute(
                sa.delete(star_normalization).where(
                    star_normalization.c.lens == self.lens.name,
                    star_normalization.c.combined_footprint_hash == selection,
                    star_normalization.c.filter == filter_name,
                )
            )
            ledger.upsert(connection, star_normalization, star_rows)
            rows_of_controls = controls.rows(made)
            stars.save_control_choice(connection, self.lens.name, selection, filter_name, rows_of_controls)

        run.done(filter_name, inputs_hash, write)


def _variation(table: FluxTable, result: Any, s: int) -> str:
    """What a variable star does, in words."""
    measured = np.isfinite(table.flux[s])
    off = int(np.sum(measured & ~result.used[s]))
    rare = off > 0 and result.star_excess[s] < 2 * np.median(result.star_excess)
    return (
        f"is far off in {off} of {measured.sum()} frames"
        if rare
        else f"varies by {100 * result.star_excess[s]:.1f} %"
    )


def frame_ids_of_filter(connection: sa.Connection, lens: str, filter_name: str) -> list[int]:
    """All frames of a filter, used or not: rows of frames that fell out must go, too."""
    from lightcurver_ops.bookkeeping.frames import all_frames

    return [row.id for row in all_frames(connection, lens) if row.filter == filter_name]


def finite(value: float) -> float | None:
    """A number for the database; None where it is not known."""
    return float(value) if np.isfinite(value) else None


def safe(name: str) -> str:
    """A label as part of a file name; others may become the same."""
    return "".join(character if character.isalnum() or character in "+-." else "_" for character in name)


def filter_part(name: str) -> str:
    """A filter as part of a file name, which no other filter has: SDSS_r as it is, 'SDSS r' as SDSS_r~ and a hash."""
    plain = "".join(one if (one.isascii() and one.isalnum()) or one in "+-._" else "_" for one in name)
    return plain if plain == name else f"{plain}~{hash_of(name)[:6]}"


def prepared_path(config: Any, filter_name: str, suffix: str = ".h5") -> Path:
    """The products of a filter: <workdir>/prepared_roi_cutouts/<roi>_<filter><suffix>."""
    from lightcurver_ops.storage.tables import product_path

    return product_path(config.workdir, f"{safe(config.roi_name)}_{filter_part(filter_name)}", suffix)
