"""What of each epoch a scene does not explain: pixels are left out, and epochs set aside, or taken in again.

The scene is held fixed, each epoch's own fluxes, translation and sky are fitted, and the residuals decide, with an
allowance for the error of the PSF where the model is bright. Everything is judged from the weights as given, so that
what was left out before comes back where it fits now.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.numerics.photometry import PSF_ERROR
from lightcurver_ops.numerics.psf.outliers import GRID_ERROR, PEAK_ERROR, PIXEL_SIGMA
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.state import Problem, State, Steps

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST = 3  # epochs: with fewer, none can be out of line with the others
PASSES = 3
STEPS = 10  # of the own unknowns
HUBER = 1.5  # sigma: beyond, a pixel's weight falls with its residual
HUBER_STEPS = 12
NOISE_STEP = 0.1  # of the logarithm of a corrected noise
DOUBTFUL = 0.01  # of an epoch's pixels outlying: then least squares is no start for it
MASKED = 0.05  # of an epoch's pixels masked before the fit: worth a note, more than a cosmic
GROWN_FROM = 3  # connected outlying pixels: less is a cosmic's, whose neighbours are as good as any
GROWN_SIGMA = 1.2  # of the mean of 3 x 3 pixels: what belongs to such a group
MOST_LEFT_OUT = 0.5  # of an epoch's pixels, or of the light of its images
CHI2_SPREAD, CHI2_FACTOR = 5.0, 2.0  # robust sigma, and a factor, above the median of the epochs
MISFIT_FACTOR, LEAST_MISFIT = 2.0, 0.02  # the same for the residual relative to the light
FADED = 0.3  # of their median in other epochs: all images, in an epoch that does not fit either
ABSENT = 0.5  # of the background's light is missing
NO_MEASUREMENT = 0.5  # of the light is misfit: such an epoch's fluxes mean nothing


@dataclass(frozen=True)
class Misfit:
    """How epochs differ from their models.

    Attributes:
        chi2: [E] of the pixels used, per pixel.
        relative: [E] root mean square of what noise does not explain in them, weighted, relative to the model's.
        excess: [E] what chi2 of all given pixels is above their number.
        wrong: [E] as `relative`, of all given pixels.
        left_out: [E] good pixels that are not used.
        absent: [E] the scene's background is not there: a frame of another place, however little its noise says of it.
        light_lost: [E] share of the images' light, squared and weighted, in them.
    """

    chi2: Array
    relative: Array
    excess: Array
    wrong: Array
    left_out: NDArray[np.int_]
    light_lost: Array
    absent: Mask


def judged(problem: Problem, state: State) -> tuple[Problem, State]:
    """Judge all epochs by a scene.

    Args:
        problem: with the weights that have been used so far.
        state: the scene, and where the epochs' own unknowns start.

    Returns:
        The problem with new weights, noise scales and epochs set aside, and the state with the own unknowns of all.
    """
    problem, state = _fitted(problem, state)
    model = _models(problem, state)[0]
    problem = _noise_refined(problem, model)
    doubtful = _outlying(problem, model).sum(axis=(1, 2)) > DOUBTFUL * problem.trust.given[0].size
    chosen = np.flatnonzero(doubtful | problem.trust.aside)
    if len(chosen):
        state = state.with_locals_of(_reweighted(problem.of(chosen), state.of(chosen)), chosen)
    for _ in range(PASSES):
        model = _models(problem, state)[0]
        bad = _outlying(problem, model)
        weight = np.where(bad, 0.0, problem.trust.weight)
        if np.array_equal(weight, problem.epochs.weight) and not len(chosen):
            break
        chosen = np.zeros(0, dtype=int)
        problem, state = _fitted(replace(problem, epochs=problem.epochs._replace(weight=weight)), state)
    aside = _out_of_line(problem, state, misfit(problem, state))
    return replace(problem, trust=problem.trust._replace(aside=aside)), state


def misfit(problem: Problem, state: State) -> Misfit:
    """How all epochs differ from their models."""
    model, light = _models(problem, state)
    given, weight = problem.trust.weight, problem.epochs.weight
    squares = (problem.epochs.data - model) ** 2
    used = weight > 0
    count = np.maximum(used.sum(axis=(1, 2)), 1)
    chi2 = (weight * squares).sum(axis=(1, 2)) / count
    power = np.maximum((weight * model**2).sum(axis=(1, 2)), 1e-300)
    left_out = (given > 0) & ~used
    images = given * (model - light - state.locals.sky[:, None, None]) ** 2
    excess = np.maximum((given * squares).sum(axis=(1, 2)) - (given > 0).sum(axis=(1, 2)), 0.0)
    return Misfit(
        chi2=chi2,
        relative=np.sqrt(np.maximum(chi2 - 1.0, 0.0) * count / power),
        excess=excess,
        wrong=np.sqrt(excess / np.maximum((given * model**2).sum(axis=(1, 2)), 1e-300)),
        left_out=left_out.sum(axis=(1, 2)),
        absent=_absent(problem, state, light),
        light_lost=(left_out * images).sum(axis=(1, 2)) / np.maximum(images.sum(axis=(1, 2)), 1e-300),
    )


def _absent(problem: Problem, state: State, light: Array) -> Mask:
    """Epochs [E] that show far less than the background; images add to what they show, and never take from it."""
    given = problem.trust.weight
    power = (given * light**2).sum(axis=(1, 2))
    above = (given * light * (problem.epochs.data - state.locals.sky[:, None, None])).sum(axis=(1, 2))
    missing = 1.0 - above / np.maximum(power, 1e-300)
    return (missing > ABSENT) & (missing * np.sqrt(power) > PIXEL_SIGMA)


def _fitted(problem: Problem, state: State) -> tuple[Problem, State]:
    """With the own unknowns of all epochs at their best."""
    layout = replace(problem.layout, move_positions=False, background=False)
    return problem, points_only(replace(problem, layout=layout), state, STEPS).state


def _models(problem: Problem, state: State) -> tuple[Array, Array]:
    """Models and their parts without images and sky, [E, n, n]."""
    model, light = (np.zeros_like(problem.epochs.data) for _ in range(2))
    for block in problem.blocks(state):
        model[block.place.chosen], light[block.place.chosen] = block.model, block.light
    return model, light


def _pull(problem: Problem, model: Array) -> Array:
    """Residuals [E, n, n] over noise and what the PSF's error allows; 0 in bad pixels."""
    given = problem.trust.weight
    good = given > 0
    variance = np.where(good, 1.0 / np.where(good, given, 1.0), 1.0)
    peak = np.abs(model).max(axis=(1, 2), keepdims=True)
    variance = variance + (PSF_ERROR * model) ** 2 + (PEAK_ERROR * PSF_ERROR / GRID_ERROR * peak) ** 2
    return np.where(good, (problem.epochs.data - model) / np.sqrt(variance), 0.0)


def _outlying(problem: Problem, model: Array) -> Mask:
    """Pixels [E, n, n] that the model does not explain, and what belongs to the groups that they make."""
    pull = _pull(problem, model)
    outlying = np.abs(pull) > PIXEL_SIGMA
    for e in np.flatnonzero(outlying.sum(axis=(1, 2)) >= GROWN_FROM):
        groups, _ = ndimage.label(outlying[e], np.ones((3, 3)))
        large = np.flatnonzero(np.bincount(groups.ravel())[1:] >= GROWN_FROM) + 1
        if not len(large):
            continue
        seeds = np.isin(groups, large)
        smooth = np.abs(ndimage.uniform_filter(pull[e], 3)) > GROWN_SIGMA
        outlying[e] |= ndimage.binary_propagation(seeds, np.ones((3, 3)), smooth | seeds)
    return outlying & (problem.trust.given > 0)


def _noise_refined(problem: Problem, model: Array) -> Problem:
    """Noise maps that were put right by a rough number are put right by the residuals."""
    trust = problem.trust
    rough = np.flatnonzero(trust.scale != 1.0)
    if not len(rough):
        return problem
    pull, scale = np.abs(problem.epochs.data - model) * np.sqrt(trust.given), trust.scale.copy()
    for e in rough:
        seen = MAD_TO_SIGMA * np.median(pull[e][trust.given[e] > 0])
        # In steps: it is known no better, and a fit that comes from elsewhere must find the same.
        step = NOISE_STEP * np.round(np.log(max(seen, 1e-30)) / NOISE_STEP)
        scale[e] = np.clip(np.exp(step), 0.5 * scale[e], 2.0 * scale[e])
    changed = (trust.scale / scale)[:, None, None] ** 2
    epochs = problem.epochs._replace(weight=problem.epochs.weight * changed)
    return replace(problem, epochs=epochs, trust=trust._replace(scale=scale))


def _reweighted(problem: Problem, state: State) -> State:
    """Own unknowns by iteratively reweighted least squares (Huber): a start that outlying pixels move little."""
    layout = replace(problem.layout, move_positions=False, background=False)
    held = replace(problem, layout=layout)
    for _ in range(HUBER_STEPS):
        pull = np.abs(_pull(problem, _models(held, state)[0]))
        weight = problem.trust.weight * (HUBER / np.maximum(pull, HUBER))
        held = replace(held, epochs=held.epochs._replace(weight=weight))
        steps = Steps(held)
        for block in held.blocks(state):
            steps.take(block)
        state = replace(state, locals=steps.applied(state.locals)[0])
    return state


def _out_of_line(problem: Problem, state: State, found: Misfit) -> Mask:
    """Epochs [E] to be set aside: at most half, the worst first; none of fewer than three."""
    count = problem.count
    if count < FEWEST:
        return np.zeros(count, dtype=bool)
    pixels = np.maximum((problem.trust.given > 0).sum(axis=(1, 2)), 1)
    middle = np.median(found.chi2)
    spread = MAD_TO_SIGMA * np.median(np.abs(found.chi2 - middle)) + 0.05 * middle
    high = (found.chi2 > middle + CHI2_SPREAD * spread) & (found.chi2 > CHI2_FACTOR * middle)
    misfits = found.relative > max(MISFIT_FACTOR * float(np.median(found.relative)), LEAST_MISFIT)
    much = (found.left_out > MOST_LEFT_OUT * pixels) | (found.light_lost > MOST_LEFT_OUT)
    faded = np.zeros(count, dtype=bool)
    if problem.layout.sources:
        faded = np.all(state.locals.flux < FADED * np.median(state.locals.flux, axis=0), axis=1)
        faded &= high | (found.left_out > DOUBTFUL * pixels)
    wanted = np.flatnonzero((high & misfits) | much | faded | found.absent)
    worst = wanted[np.argsort(-found.excess[wanted] / pixels[wanted])][: count // 2]
    aside = np.zeros(count, dtype=bool)
    aside[worst] = True
    return aside


def notes(problem: Problem, found: Misfit) -> tuple[str, ...]:
    """For each epoch what was left out of it or changed, and why; empty where nothing was that matters."""
    usual = float(np.median(found.chi2))
    result = []
    for e in range(problem.count):
        left, given = int(found.left_out[e]), int((problem.trust.given[e] > 0).sum())
        scale, said = float(problem.trust.scale[e]), []
        if problem.trust.aside[e]:
            said.append(
                f"set aside: it does not fit what the other epochs have in common (reduced chi2 {found.chi2[e]:.3g}, "
                f"their median {usual:.3g}; {found.light_lost[e]:.0%} of the images' light in pixels left out)"
            )
        masked = problem.trust.given[e].size - given
        if masked > MASKED * problem.trust.given[e].size:
            said.append(
                f"{masked} of {masked + given} pixels masked before: trails, cosmics, saturation, defects"
            )
        if left > DOUBTFUL * given:
            said.append(f"{left} of {given} pixels left out: no model of the scene explains them")
        if scale != 1.0:
            how = f"{scale:.3g} times too small" if scale > 1 else f"{1 / scale:.3g} times too large"
            said.append(f"the noise map was {how}, and was corrected")
        result.append("; ".join(said))
    return tuple(result)
