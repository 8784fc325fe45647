"""One step of the global unknowns on the normal matrix: positions, galaxy, arcs of the host, and the structure left."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import galaxy
from lightcurver_ops.numerics.roi.admm import Solver
from lightcurver_ops.numerics.roi.arcs import FEWEST, prior_width, ring
from lightcurver_ops.numerics.roi.inverse import inverse_of
from lightcurver_ops.numerics.roi.lights import Lights
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty, gaussian_gram

Array = NDArray[np.float64]
Value = Callable[["Scene"], tuple[float, Array]]

FIRST_STEPS = 60
SIGNIFICANT = 15.0  # what the galaxy must gain in half chi2 for its seven parameters
# Of the scaled matrix of all unknowns, against its rounding; the first that makes it positive definite is taken.
RIDGES = (1e-10, 1e-8, 1e-6, 1e-4)
SLACK = 10.0  # loss tolerances by which a step may be worse: the solver ends within some of them
HALVINGS = 8  # of a step that is worse than none
LARGEST_STEP = np.array(
    [np.inf, 2.0, 2.0, 0.5, 0.5, 0.2, 0.2]
)  # of the profile's parameters in one iteration


@dataclass(frozen=True)
class Scene:
    """What is common to all epochs.

    Attributes:
        positions: [J, 2].
        mean: [N, N] what the background is expected to be: a given one, or zero.
        theta: the galaxy's profile, or None for no galaxy.
        structure: [N, N] what the background has beyond these.
        frame: the grid.
        lights: what has a known shape: the ring of the lensed host, or a given image; or None.
    """

    positions: Array
    mean: Array
    theta: Array | None
    structure: Array
    frame: galaxy.Frame
    lights: Lights | None = None

    @property
    def smooth(self) -> Array:
        """What the penalty does not see, [N, N]."""
        light = self.mean if self.theta is None else self.mean + galaxy.profile(self.theta, self.frame)
        return light if self.lights is None else light + self.lights.image

    @property
    def background(self) -> Array:
        """The background, [N, N]."""
        return self.smooth + self.structure


@dataclass(frozen=True)
class Prior:
    """Gaussian priors of the unpenalised parameters.

    Attributes:
        positions: [J, 2] centres.
        precision: 1 / sigma^2 of a coordinate, per squared data pixel.
        theta: centres of the galaxy's parameters.
    """

    positions: Array
    precision: float
    theta: Array

    def value(self, scene: Scene) -> float:
        """Half the chi2."""
        total = 0.5 * self.precision * float(np.sum((scene.positions - self.positions) ** 2))
        if scene.theta is not None:
            total += 0.5 * float(np.sum(((scene.theta - self.theta) / galaxy.PRIOR_SIGMA) ** 2))
        if scene.lights is not None:
            total += 0.5 * float(scene.lights.precision @ scene.lights.amplitude**2)
        return total

    def gradient(self, scene: Scene, moved: int) -> tuple[Array, Array]:
        """Precisions and pulls of the unpenalised parameters, [X] each."""
        precision = np.full(moved, self.precision)
        pull = (precision * (self.positions - scene.positions).ravel()) if moved else np.zeros(0)
        if scene.theta is not None:
            more = 1.0 / galaxy.PRIOR_SIGMA**2
            precision = np.concatenate([precision, more])
            pull = np.concatenate([pull, more * (self.theta - scene.theta)])
        if scene.lights is not None:
            precision = np.concatenate([precision, scene.lights.precision])
            pull = np.concatenate([pull, -scene.lights.precision * scene.lights.amplitude])
        return precision, pull


def unpenalised(scene: Scene, moved: int) -> Array:
    """The free parameters' directions in the space (positions, background), [X, G]."""
    shape = (1, scene.frame.fine**2)
    light = np.zeros((0, shape[1]))
    if scene.theta is not None:
        light = galaxy.jacobian(scene.theta, scene.frame).reshape(-1, shape[1])
    if scene.lights is not None:
        light = np.concatenate([light, scene.lights.templates.reshape(-1, shape[1])])
    rows = np.zeros((moved + len(light), moved + shape[1]))
    rows[:moved, :moved] = np.eye(moved)
    rows[moved:, moved:] = light
    return rows


def absolute(scene: Scene, moved: int) -> Array:
    """The scene as a vector (positions, background), [G]."""
    return np.concatenate([scene.positions.ravel()[:moved], scene.background.ravel()])


def _stepped(scene: Scene, step: Array, moved: int) -> Scene:
    """The scene after a step [X] of its unpenalised parameters, the galaxy's no longer than they may be."""
    positions = scene.positions + step[:moved].reshape(-1, 2) if moved else scene.positions
    theta, lights, at = scene.theta, scene.lights, moved
    if theta is not None:
        at = moved + len(theta)
        theta = galaxy.bounded(theta + np.clip(step[moved:at], -LARGEST_STEP, LARGEST_STEP))
    if lights is not None:
        lights = lights.moved_by(step[at:])
    return replace(scene, positions=positions, theta=theta, lights=lights)


def between(scene: Scene, other: Scene, fraction: float) -> Scene:
    """The scene this fraction of the way from one to the other."""
    if fraction == 1.0 or (scene.theta is None) != (other.theta is None):
        return other
    theta, lights = None, other.lights
    if scene.theta is not None and other.theta is not None:
        theta = scene.theta + fraction * (other.theta - scene.theta)
    if scene.lights is not None and lights is not None:
        lights = lights.moved_by((fraction - 1.0) * (lights.amplitude - scene.lights.amplitude))
    return replace(
        other,
        positions=scene.positions + fraction * (other.positions - scene.positions),
        theta=theta,
        lights=lights,
        structure=scene.structure + fraction * (other.structure - scene.structure),
    )


def fit_galaxy(normal: NormalMatrix, scene: Scene, prior: Prior, moved: int) -> Scene:
    """Positions and a galaxy's profile from the normal matrix (Levenberg-Marquardt), or no galaxy if none is there."""

    def value(s: Scene) -> tuple[float, Array]:
        g = absolute(s, moved)
        mg = normal.times(g)
        return float(0.5 * g @ mg - g @ normal.rhs) + prior.value(s), mg

    bare = replace(scene, theta=None)
    best, best_value = _lm(bare, prior, moved, normal, value)
    limit = best_value - SIGNIFICANT
    for log_radius in (prior.theta[3] - 0.7, prior.theta[3], prior.theta[3] + 0.7):
        start = prior.theta.copy()
        start[3] = log_radius
        found, reached = _lm(replace(bare, theta=start), prior, moved, normal, value)
        if reached < min(best_value, limit) and found.theta is not None and found.theta[0] > 0:
            best, best_value = found, reached
    return best


def with_ring(
    normal: NormalMatrix, scene: Scene, prior: Prior, moved: int, images: Array, flux: float
) -> Scene:
    """The scene with a ring of the lensed host whose prior is as wide as the data ask for, still dark.

    Args:
        normal: the matrix, of all that is common.
        scene, prior, moved: where, what is expected, how many coordinates of positions are free. A ring that is there
            goes.
        images: [J, 2] their positions in small pixels.
        flux: of all images, the mean.

    Returns:
        The scene; unchanged with too few images for a ring, or none that shine.
    """
    if len(images) < FEWEST or not flux > 0:
        return scene
    centre = images.mean(axis=0) if scene.theta is None else scene.theta[1:3]
    bare = replace(scene, lights=None)
    light = ring(images, centre, scene.frame)
    dark = replace(scene, lights=light)
    rows = unpenalised(dark, moved)
    precision, pull = prior.gradient(bare, moved)
    others = len(precision)
    hessian = rows @ normal.times(rows).T
    hessian[np.arange(others), np.arange(others)] += precision
    gradient = rows @ (normal.rhs - normal.times(absolute(dark, moved)))
    gradient[:others] += pull
    width = prior_width(hessian, gradient, flux)
    return replace(scene, lights=replace(light, precision=light.precision / width**2))


def _lm(scene: Scene, prior: Prior, moved: int, normal: NormalMatrix, value: Value) -> tuple[Scene, float]:
    damping = 1e-3
    now, mg = value(scene)
    for _ in range(FIRST_STEPS):
        rows = unpenalised(scene, moved)
        if not len(rows):
            break
        precision, pull = prior.gradient(scene, moved)
        hessian = rows @ normal.times(rows).T + np.diag(precision)
        gradient = rows @ (normal.rhs - mg) + pull
        while damping < 1e8:
            step = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian) + 1e-30), gradient)
            trial = _stepped(scene, np.asarray(step, dtype=np.float64), moved)
            then, mg_then = value(trial)
            if then <= now:
                break
            damping *= 8
        else:
            break
        gain, scene, now, mg = now - then, trial, then, mg_then
        damping = max(damping / 6, 1e-9)
        if gain < 1e-2:
            break
    return scene, now


def step(
    normal: NormalMatrix,
    rhs: Array,
    scene: Scene,
    prior: Prior,
    moved: int,
    solver: Solver,
    tolerance: Array,
    loss_tolerance: float,
    max_iterations: int,
) -> tuple[Scene, int, bool]:
    """Minimise the quadratic model plus penalty around a scene.

    Args:
        normal: the matrix.
        rhs: [G] gradient of the log likelihood at the scene (positions, background).
        scene, prior, moved: where, what is expected, how many coordinates of positions are free.
        solver: for the penalised part.
        tolerance: [J] how little the mean flux of an image may still move.
        loss_tolerance: the same for the loss.
        max_iterations: of the solver.

    Returns:
        The new scene, the solver's iterations and whether it converged.
    """
    rows = unpenalised(scene, moved)
    precision, pull = prior.gradient(scene, moved)
    through = normal.times(rows)
    free = through @ rows.T + np.diag(precision)
    # Around the scene without its structure, which is penalised by its size, not by its change.
    around = rhs + normal.times(np.concatenate([np.zeros(moved), scene.structure.ravel()]))
    rhs_free = rows @ around + pull
    scale = 1.0 / np.sqrt(np.maximum(np.diag(free), 1e-300))
    response = normal.flux_response / np.maximum(normal.flux_weight, 1e-300)[:, None]
    x, structure, iterations, converged = solver.solve(
        free * scale[:, None] * scale,
        through[:, moved:] * scale[:, None],
        rhs_free * scale,
        around[moved:],
        scene.structure,
        -np.maximum(scene.smooth, 0.0),
        np.concatenate([response @ (rows * scale[:, None]).T, response[:, moved:]], axis=1),
        tolerance,
        loss_tolerance,
        max_iterations,
    )
    there = replace(_stepped(scene, x * scale, moved), structure=structure)
    return (
        shortened(normal, rhs, scene, there, prior, moved, solver.penalty, loss_tolerance),
        iterations,
        converged,
    )


def shortened(
    normal: NormalMatrix,
    rhs: Array,
    scene: Scene,
    there: Scene,
    prior: Prior,
    moved: int,
    penalty: Penalty,
    loss_tolerance: float,
) -> Scene:
    """The scene that was stepped to, or one on the way there where the step is worse than none.

    The galaxy's parameters are not linear: where they are hardly known, a step of linear equations leaves what these
    hold for, and the next one leads on from there.
    """
    if scene.theta is None:
        return there

    def value(s: Scene) -> float:
        change = absolute(s, moved) - absolute(scene, moved)
        half = 0.5 * change @ normal.times(change) - rhs @ change
        return float(half) + prior.value(s) + penalty.value(s.structure)

    limit = value(scene) + SLACK * loss_tolerance
    for halvings in range(HALVINGS):
        if value(on_the_way := between(scene, there, 0.5**halvings)) < limit:
            return on_the_way
    return scene


def covariance(
    normal: NormalMatrix, scene: Scene, prior: Prior, moved: int, penalty: Penalty
) -> tuple[Array, Array]:
    """Posterior covariance of (unpenalised parameters, seen patterns of the structure), [X + K] squared.

    Also returned: their directions in the space (positions, background), [X + K, G].
    """
    assert normal.modes is not None
    rows = unpenalised(scene, moved)
    precision, _ = prior.gradient(scene, moved)
    x, seen = len(rows), normal.modes.seen
    through = normal.times(rows)
    full = np.empty((x + len(seen),) * 2)
    full[:x, :x] = through @ rows.T + np.diag(precision)
    full[:x, x:] = normal.modes.coefficients(through[:, moved:])[:, seen]
    full[x:, :x] = full[:x, x:].T
    patterns = normal.modes.patterns()
    full[x:, x:] = normal.matrix[moved:, moved:] + gaussian_gram(penalty, scene.structure, patterns)
    scale = 1.0 / np.sqrt(np.maximum(np.diag(full), 1e-300))
    full *= scale[:, None] * scale
    directions = np.concatenate([rows, np.pad(patterns, ((0, 0), (moved, 0)))])
    for ridge in RIDGES:
        held = full.copy()
        held[np.diag_indices_from(held)] += ridge
        with contextlib.suppress(np.linalg.LinAlgError):
            return inverse_of(held) * scale[:, None] * scale, directions
    raise np.linalg.LinAlgError("the normal matrix of all unknowns is not positive definite")
