"""Models, residuals and uncertainties at the end of the iterations."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.device import device
from lightcurver_ops.numerics.roi import scene
from lightcurver_ops.numerics.roi.judge import NO_MEASUREMENT, misfit, notes
from lightcurver_ops.numerics.roi.result import RoiFit
from lightcurver_ops.numerics.roi.state import Outcome, Problem, State

Array = NDArray[np.float64]


def finish(problem: Problem, outcome: Outcome, covariances: Sequence[Array | None] | None = None) -> RoiFit:
    """The result of a fit.

    Args:
        problem, outcome: what was asked, and where the iterations ended.
        covariances: independent ones of the fluxes of each epoch [J, J], where they are known already; None: computed.
    """
    layout, state = problem.layout, outcome.state
    sources, moved, size = layout.sources, layout.moved, layout.size
    count = problem.count
    model, background = (np.zeros((count, size, size)) for _ in range(2))
    chi2, loss = np.zeros(count), problem.prior.value(state.scene)
    for block in problem.blocks(state):
        chosen = block.place.chosen
        model[chosen], background[chosen], chi2[chosen] = block.model, block.light, block.chi2
        loss += block.losses[~problem.trust.aside[chosen]].sum()
    used = problem.epochs.weight > 0
    residuals = np.where(used, (problem.epochs.data - model) * np.sqrt(problem.epochs.weight), np.nan)
    chi2 = chi2 / np.maximum(used.sum(axis=(1, 2)), 1)
    shared, rows = _shared(problem, outcome)
    mean = _mean_response(problem, outcome, rows)
    covariance = _covariances(problem, state, shared, rows, mean, covariances or [None] * count)
    common = np.zeros((sources, sources)) if shared is None else mean @ shared @ mean.T
    if outcome.penalty is not None:
        loss += outcome.penalty.value(state.scene.structure)
    found = misfit(problem, state)
    # What of an epoch that does not fit is orthogonal to its fluxes is seen; what went into them may be as much.
    covariance[problem.trust.aside] *= (1.0 + found.excess[problem.trust.aside])[:, None, None]
    covariance[problem.trust.aside & ((found.wrong > NO_MEASUREMENT) | found.absent)] = np.nan
    uncertainty = np.sqrt(np.einsum("ejj->ej", covariance))
    where = np.zeros((sources, 2))
    if shared is not None and moved:
        where = np.sqrt(np.diag(shared)[:moved]).reshape(-1, 2)
    return RoiFit(
        flux=np.where(np.isnan(uncertainty), np.nan, state.locals.flux),
        flux_uncertainty=uncertainty,
        flux_covariance=covariance,
        common_flux_covariance=common,
        positions=state.scene.positions,
        positions_uncertainty=where,
        translations=state.locals.translation,
        sky=state.locals.sky,
        background=state.scene.background,
        model=model,
        background_model=background,
        residuals=residuals,
        chi2=chi2,
        loss=float(loss),
        loss_history=np.array(outcome.history),
        converged=outcome.converged,
        n_iter=len(outcome.history),
        status=outcome.status,
        translation_sigma=problem.epochs.translation_sigma,
        left_out_pixels=found.left_out,
        aside=problem.trust.aside.copy(),
        epoch_note=notes(problem, found),
        last_move=outcome.last_move,
    )


def _shared(problem: Problem, outcome: Outcome) -> tuple[Array | None, Array]:
    """Covariance [Y, Y] of what is common to all epochs, None if nothing is free, and its directions [Y, G]."""
    moved, state = problem.layout.moved, outcome.state
    if outcome.normal is not None and outcome.penalty is not None:
        return scene.covariance(outcome.normal, state.scene, problem.prior, moved, outcome.penalty)
    if not moved:
        return None, np.zeros((0, 0))
    precision, _ = problem.prior.gradient(state.scene, moved)
    matrix = sum((block.position_matrix() for block in problem.blocks(state)), np.diag(precision))
    return np.asarray(np.linalg.pinv(matrix), dtype=np.float64), np.eye(moved)


def _mean_response(problem: Problem, outcome: Outcome, rows: Array) -> Array:
    """Inverse-variance weighted mean over the epochs of `d flux / d (what is common)`, [J, Y]."""
    layout, normal = problem.layout, outcome.normal
    if normal is not None:
        response, weight = normal.flux_response, normal.flux_weight
    else:
        size = rows.shape[1]
        response, weight = np.zeros((layout.sources, size)), np.zeros(layout.sources)
        for block in problem.blocks(outcome.state) if size else ():
            more, precision = block.flux_response()
            response, weight = response + more, weight + precision
    return np.asarray(response / np.maximum(weight, 1e-300)[:, None] @ rows.T)


def _covariances(
    problem: Problem,
    state: State,
    shared: Array | None,
    rows: Array,
    mean: Array,
    known: Sequence[Array | None],
) -> Array:
    """Independent ones of the fluxes of all epochs [E, J, J]; computed where none is known [E]."""
    sources = problem.layout.sources
    result = np.array([np.full((sources, sources), np.nan) if one is None else one for one in known])
    missing = np.array([e for e, one in enumerate(known) if one is None], dtype=int)
    where = device()
    held = None if shared is None else where.put(shared)
    directions, middle = where.put(rows), where.put(mean)
    for block in problem.of(missing).blocks(state.of(missing)):
        result[missing[block.place.chosen]] = block.flux_covariance(held, directions, middle)
    return result
