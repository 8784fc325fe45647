"""Where each epoch's scene lies in its stamp, as far as the frame's stars tell.

A translation that each epoch finds for itself from a blended lens costs it much of what it knows of the fluxes: of two
images closer than the seeing, what one gains the other loses. The reference stars of a frame tell the same to a
hundredth of a pixel. How far the lens may be believed to move with the stars (their colours differ, and the air
refracts them differently) the lens shows itself: a fit with free translations is compared with what the stars say.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.numerics.roi.render import rotate
from lightcurver_ops.numerics.roi.state import Problem, State, Steps

Array = NDArray[np.float64]

LEAST = 0.003  # data pixels that lens and stars may always differ by
FEW, LEAST_OF_FEW = 8, 0.02
"""So many epochs tell the difference themselves; with fewer it may always be this."""


def believed(problem: Problem, state: State) -> Problem:
    """The problem of some epochs with translations expected where the stars say, as surely as these epochs confirm it.

    Args:
        problem: with wide priors.
        state: of a fit whose scene is nearly known.

    Returns:
        The same problem where the stars say nothing, or translations are fixed.
    """
    if problem.pointing is None or problem.layout.translation_sigma == 0:
        return problem
    kept = problem.kept
    offset, extra = _difference(problem.of(kept), state.of(kept))
    return expected_at(problem, offset, extra)


def expected_at(problem: Problem, offset: Array, extra: float) -> Problem:
    """With the scene at an offset [2] (data pixels, of a scene that is not turned) from where the stars say, and this
    standard deviation beside theirs."""
    assert problem.pointing is not None
    epochs = problem.epochs
    moved = epochs.translation + rotate(offset[None], epochs.angle)[:, 0]
    sigma = np.hypot(problem.pointing, extra)
    return replace(problem, epochs=epochs._replace(translation=moved, translation_sigma=sigma))


def _difference(problem: Problem, state: State) -> tuple[Array, float]:
    """Median offset of the fitted translations from the expected ones, and their scatter beyond both errors."""
    fixed = replace(problem, layout=replace(problem.layout, background=False, move_positions=False))
    steps = Steps(fixed)
    for block in fixed.blocks(state):
        steps.take(block)
    apart = rotate((state.locals.translation - problem.epochs.translation)[:, None], -problem.epochs.angle)[
        :, 0
    ]
    offset = np.median(apart, axis=0)
    spread = MAD_TO_SIGMA * np.median(np.abs(apart - offset))
    assert problem.pointing is not None
    known = np.median(steps.translation_variance) + np.median(problem.pointing**2)
    extra = np.sqrt(max(spread**2 - known, 0.0))
    return offset, max(float(extra), LEAST if problem.count >= FEW else LEAST_OF_FEW)


def as_in(problem: Problem, earlier: Problem, stays: list[int], before: list[int]) -> Problem:
    """The problem with the priors that an earlier one of the same lens came to.

    Args:
        problem: all epochs.
        earlier: some of them and others.
        stays, before: numbers of the common epochs in both.
    """
    if problem.pointing is None or not stays:
        return problem
    mine, its = problem.epochs, earlier.epochs
    moved = rotate((its.translation[before] - mine.translation[stays])[:, None], -mine.angle[stays])[:, 0]
    extra = np.sqrt(
        max(float(np.median(its.translation_sigma[before] ** 2 - problem.pointing[stays] ** 2)), LEAST**2)
    )
    return expected_at(problem, np.median(moved, axis=0), extra)
