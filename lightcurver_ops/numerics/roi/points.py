"""Fluxes, translations and positions with the background held fixed."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi.state import LARGEST_STEP, Outcome, Problem, State, Steps, status

Array = NDArray[np.float64]

STEPS = 40


def points_only(problem: Problem, state: State, steps: int = STEPS) -> Outcome:
    """Fluxes, translations and positions by Gauss-Newton with the background held fixed.

    Where the background is to be fitted afterwards, the positions stay: before it is known, they would move towards it.
    At most so many `steps`: an epoch that does not belong to the scene may never come to rest.
    """
    free = problem.layout.move_positions and not problem.layout.background
    layout = replace(problem.layout, background=False, move_positions=free)
    inner = replace(problem, layout=layout)
    history: list[float] = []
    largest = np.inf
    for _ in range(steps):
        gathered, loss = Steps(inner), 0.0
        matrix, rhs = np.zeros((layout.moved,) * 2), np.zeros(layout.moved)
        for block in inner.blocks(state):
            gathered.take(block)
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
        local, largest = gathered.applied(state.locals, step)
        state = State(replace(state.scene, positions=positions), local)
    converged = largest < problem.options.flux_tolerance
    return Outcome(state, history, converged, status(converged, len(history), largest), last_move=largest)
