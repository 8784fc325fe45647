"""Fluxes, translations and positions with the background held fixed; and pixels that do not belong to the scene."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.photometry import PSF_ERROR
from lightcurver_ops.numerics.psf.outliers import outlying_pixels
from lightcurver_ops.numerics.roi.epoch import Linear
from lightcurver_ops.numerics.roi.state import LARGEST_STEP, Outcome, Problem, State, moved_by, status

Array = NDArray[np.float64]

STEPS = 40
MOST_REJECTED = 0.05  # of an epoch's pixels: more are no cosmics, but an epoch that does not fit


def points_only(problem: Problem, state: State) -> Outcome:
    """Fluxes, translations and positions by Gauss-Newton with the background held fixed.

    Where the background is to be fitted afterwards, the positions stay: before it is known, they would move towards it.
    """
    free = problem.layout.move_positions and not problem.layout.background
    layout = replace(problem.layout, background=False, move_positions=free)
    inner = replace(problem, layout=layout)
    history: list[float] = []
    largest = np.inf
    for _ in range(STEPS):
        linear = list(inner.linearise(state))
        history.append(sum(li.loss for li in linear) + problem.prior.value(state.scene))
        if largest < problem.options.flux_tolerance:
            break
        step = np.zeros(layout.moved)
        if layout.moved:
            matrix = position_matrix(linear, layout.moved)
            precision, pull = problem.prior.gradient(state.scene, layout.moved)
            matrix[np.diag_indices_from(matrix)] += precision + 1e-9 * matrix.max() + 1e-30
            step = np.linalg.solve(matrix, np.sum([li.rhs() for li in linear], axis=0) + pull)
            step *= min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-30))
        moved = [
            moved_by(local, li, step if layout.moved else None, layout)
            for local, li in zip(state.locals, linear, strict=True)
        ]
        largest = max([change for _, change in moved], default=0.0)
        positions = state.scene.positions + step.reshape(-1, 2) if layout.moved else state.scene.positions
        state = State(replace(state.scene, positions=positions), tuple(local for local, _ in moved))
    converged = largest < problem.options.flux_tolerance
    return Outcome(state, history, converged, status(converged, len(history), largest))


def position_matrix(linear: list[Linear], moved: int) -> Array:
    """Curvature of half the chi2 with respect to the positions, [moved, moved]."""
    total = np.zeros((moved, moved))
    for li in linear:
        projected = li.projected()
        total += projected.T.astype(float) @ projected
    return total


def without_outliers(problem: Problem, state: State) -> tuple[Problem, State]:
    """The problem without the pixels that no model of the scene explains, such as missed cosmics, fitted again.

    The background stays. An epoch in which very many pixels stand out is left as it is: its chi2 tells.
    """
    for _ in range(2):
        epochs, changed = [], False
        for epoch, linear in zip(problem.epochs, problem.linearise(state), strict=True):
            good = epoch.weight > 0
            noise = np.where(good, 1.0 / np.sqrt(np.where(good, epoch.weight, 1.0)), 1.0)
            data, model, sigma, mask = (
                array[None, None] for array in (epoch.data, linear.model, noise, good)
            )
            bad = outlying_pixels(data, model, sigma, mask, PSF_ERROR)[0, 0]
            if 0 < bad.sum() <= MOST_REJECTED * max(good.sum(), 1):
                epoch, changed = replace(epoch, weight=np.where(bad, 0.0, epoch.weight)), True  # noqa: PLW2901
            epochs.append(epoch)
        if not changed:
            break
        problem = replace(problem, epochs=tuple(epochs))
        held = replace(problem, layout=replace(problem.layout, move_positions=False, background=False))
        state = points_only(held, state).state
    return problem, state
