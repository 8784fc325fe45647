"""Models, residuals and uncertainties at the end of the iterations."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.numerics.roi import scene
from lightcurver_ops.numerics.roi.epoch import Linear
from lightcurver_ops.numerics.roi.points import position_matrix
from lightcurver_ops.numerics.roi.result import RoiFit
from lightcurver_ops.numerics.roi.state import Outcome, Problem

Array = NDArray[np.float64]


def finish(problem: Problem, outcome: Outcome, covariances: Sequence[Array | None] | None = None) -> RoiFit:
    """The result of a fit.

    Args:
        problem, outcome: what was asked, and where the iterations ended.
        covariances: of the fluxes of each epoch [J, J] where they are known already; None: computed.
    """
    layout, state = problem.layout, outcome.state
    sources, moved, size = layout.sources, layout.moved, layout.size
    shared, rows = _shared(problem, outcome)
    count = len(problem.epochs)
    model, background, residuals = (np.zeros((count, size, size)) for _ in range(3))
    covariance = np.zeros((count, sources, sources))
    chi2, loss = np.zeros(count), problem.prior.value(state.scene)
    for e, (epoch, linear) in enumerate(zip(problem.epochs, problem.linearise(state), strict=True)):
        model[e], background[e] = linear.model, linear.light
        used = epoch.weight > 0
        residuals[e] = np.where(used, (epoch.data - linear.model) * np.sqrt(epoch.weight), np.nan)
        chi2[e] = linear.chi2 / max(int(np.count_nonzero(used)), 1)
        loss += linear.loss
        known = None if covariances is None else covariances[e]
        covariance[e] = (
            _covariance(linear, shared, rows, moved, layout.background, sources) if known is None else known
        )
    if outcome.penalty is not None:
        loss += outcome.penalty.value(state.scene.structure)
    uncertainty = np.sqrt(np.einsum("ejj->ej", covariance))
    where = np.zeros((sources, 2))
    if shared is not None and moved:
        where = np.sqrt(np.diag(shared)[:moved]).reshape(-1, 2)
    return RoiFit(
        flux=np.where(np.isnan(uncertainty), np.nan, state.flux),
        flux_uncertainty=uncertainty,
        flux_covariance=covariance,
        positions=state.scene.positions,
        positions_uncertainty=where,
        translations=np.array([local.translation for local in state.locals]),
        sky=np.array([local.sky for local in state.locals]),
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
    )


def _shared(problem: Problem, outcome: Outcome) -> tuple[Array | None, Array]:
    """Covariance of what is common to all epochs, None if nothing is free, and the unpenalised directions in it."""
    moved, state = problem.layout.moved, outcome.state
    if outcome.normal is not None and outcome.penalty is not None:
        return scene.covariance(outcome.normal, state.scene, problem.prior, moved, outcome.penalty)
    if not moved:
        return None, np.zeros((0, 0))
    precision, _ = problem.prior.gradient(state.scene, moved)
    matrix = position_matrix(list(problem.linearise(state)), moved) + np.diag(precision)
    return np.asarray(np.linalg.pinv(matrix), dtype=np.float64), np.eye(moved)


def _covariance(
    linear: Linear, shared: Array | None, rows: Array, moved: int, background: bool, sources: int
) -> Array:
    """Of the fluxes of an epoch [J, J], its own other unknowns and what is common marginalised."""
    spread = np.eye(len(linear.r))
    if shared is not None:
        coupling = linear.coupling @ rows.T
        if background:
            coupling = np.concatenate([coupling, linear.coupling[:, moved:]], axis=1)
        spread = spread + coupling @ shared @ coupling.T
    back = linalg.solve_triangular(linear.r, np.eye(len(linear.r)))[:sources]
    covariance: Array = back @ spread @ back.T
    unseen = linear.unseen[:sources]
    covariance[unseen] = covariance[:, unseen] = np.nan
    return covariance
