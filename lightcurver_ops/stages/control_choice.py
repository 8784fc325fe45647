"""Which candidates are the control stars of a filter, by their own normalized fluxes."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from lightcurver_ops.bookkeeping import photometry, stars
from lightcurver_ops.config import LensConfig
from lightcurver_ops.stages.control_stars import candidates_of_lens, choose


@dataclass(frozen=True)
class ControlChoice:
    """The candidates of a filter: which are chosen, what speaks against each, and what to tell of it."""

    candidates: list[sa.Row]
    chosen: set[str]
    faults: dict[str, str]
    notes: list[str]

    def rows(self, made: dict[str, Any]) -> list[dict[str, Any]]:
        """Of the table of control stars."""
        return [
            {
                "star_gaia_id": star.gaia_id,
                "chosen": star.gaia_id in self.chosen,
                "fault": self.faults.get(star.gaia_id),
                **made,
            }
            for star in self.candidates
        ]


def choose_controls(
    connection: sa.Connection,
    config: LensConfig,
    selection: str,
    filter_name: str,
    frames: list[sa.Row],
    normalization: Any,
) -> ControlChoice:
    """Judge the candidates by their fluxes in the normalized frames, and choose.

    A star that was chosen before stays until the case against it is clear.

    Args:
        connection, config, selection: of the lens.
        filter_name, frames, normalization: what was normalized: a `numerics.normalization.Normalization`.
    """
    from lightcurver_ops.numerics.control_choice import CHOOSE, KEEP, fault, squared_misfit, star_history

    candidates = candidates_of_lens(connection, config, selection).stars
    if not candidates:
        return ControlChoice([], set(), {}, [])
    measured = _measured(photometry.fluxes_of(connection, config.name, selection), frames)
    misfits = [squared_misfit(*_misfit_inputs(star))[0] for star in measured.values()]
    known = [misfit for misfit in misfits if np.isfinite(misfit)]
    usual = float(np.median(known)) if known else 0.0
    scatter = normalization.star_excess[np.isfinite(normalization.star_excess)]
    before = {
        row.star_gaia_id
        for row in stars.control_choice_of(connection, config.name, selection)
        if row.filter == filter_name and row.chosen
    }
    faults = {}
    for star in candidates:
        flux, uncertainty, chi2, n_pixels = measured.get(star.gaia_id, np.full((4, len(frames)), np.nan))
        history = star_history(
            flux,
            uncertainty,
            chi2,
            n_pixels,
            normalization.coefficient,
            normalization.standard_error,
            float(np.median(scatter)) if len(scatter) else 0.0,
            usual,
        )
        reason = fault(history, KEEP if star.gaia_id in before else CHOOSE)
        if reason is not None:
            faults[star.gaia_id] = reason
    use = config.stars.stars_to_use_control
    names = [star.gaia_id for star in candidates]
    chosen = set(names) if isinstance(use, list) else set(choose(names, before, set(faults), use))
    notes = [
        f"{filter_name}: {star.name} is no control star any more: {faults[star.gaia_id]}"
        for star in candidates
        if star.gaia_id in before - chosen and star.gaia_id in faults
    ]
    return ControlChoice(candidates, chosen, faults, notes)


def _measured(fluxes: list[sa.Row], frames: list[sa.Row]) -> dict[str, NDArray[np.float64]]:
    """By gaia id flux, uncertainty, chi2 and number of pixels, [4, E]; NaN where the fit did not converge."""
    column = {row.id: e for e, row in enumerate(frames)}
    result: dict[str, NDArray[np.float64]] = {}
    for row in fluxes:
        if row.frame_id in column and row.converged and row.flux > 0:
            values = result.setdefault(row.star_gaia_id, np.full((4, len(frames)), np.nan))
            values[:, column[row.frame_id]] = row.flux, row.flux_uncertainty, row.chi2, row.n_pixels
    return result


def _misfit_inputs(star: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """chi2, number of pixels, signal to noise, of the frames in which a star is measured."""
    flux, uncertainty, chi2, n_pixels = star[:, np.isfinite(star[0])]
    return chi2, n_pixels, flux / uncertainty
