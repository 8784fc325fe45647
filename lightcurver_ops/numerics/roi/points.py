"""Fluxes, translations and positions with the background held fixed; and pixels that do not belong to the scene."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.photometry import PSF_ERROR
from lightcurver_ops.numerics.psf.outliers import outlying_pixels
from lightcurver_ops.numerics.roi.state import LARGEST_STEP, Outcome, Problem, State, Steps, status

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
        steps, loss = Steps(inner), 0.0
        matrix, rhs = np.zeros((layout.moved,) * 2), np.zeros(layout.moved)
        for block in inner.blocks(state):
            steps.take(block)
            loss += block.loss
            if layout.moved:
                matrix += block.position_matrix()
                rhs += block.rhs()
        history.append(loss + problem.prior.value(state.scene))
        if largest < problem.options.flux_tolerance:
            break
        step, positions = None, state.scene.positions
        if layout.moved:
            precision, pull = problem.prior.gradient(state.scene, layout.moved)
            matrix[np.diag_indices_from(matrix)] += precision + 1e-9 * matrix.max() + 1e-30
            step = np.asarray(np.linalg.solve(matrix, rhs + pull), dtype=np.float64)
            step *= min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-30))
            positions = positions + step.reshape(-1, 2)
        local, largest = steps.applied(state.locals, step)
        state = State(replace(state.scene, positions=positions), local)
    converged = largest < problem.options.flux_tolerance
    return Outcome(state, history, converged, status(converged, len(history), largest))


def without_outliers(problem: Problem, state: State) -> tuple[Problem, State]:
    """The problem without the pixels that no model of the scene explains, such as missed cosmics, fitted again.

    The background stays. An epoch in which very many pixels stand out is left as it is: its chi2 tells.
    """
    for _ in range(2):
        weight = problem.epochs.weight.copy()
        for block in problem.blocks(state):
            good = block.epochs.weight > 0
            noise = np.where(good, 1.0 / np.sqrt(np.where(good, block.epochs.weight, 1.0)), 1.0)
            data, model, sigma, mask = (
                one[: block.place.count, None] for one in (block.epochs.data, block.model, noise, good)
            )
            bad = outlying_pixels(data, model, sigma, mask, PSF_ERROR)[:, 0]
            most = MOST_REJECTED * np.maximum(good[: block.place.count].sum(axis=(1, 2)), 1)
            bad &= (bad.sum(axis=(1, 2)) <= most)[:, None, None]
            weight[block.place.chosen] = np.where(bad, 0.0, weight[block.place.chosen])
        if np.array_equal(weight, problem.epochs.weight):
            break
        problem = replace(problem, epochs=problem.epochs._replace(weight=weight))
        held = replace(problem, layout=replace(problem.layout, move_positions=False, background=False))
        state = points_only(held, state).state
    return problem, state
