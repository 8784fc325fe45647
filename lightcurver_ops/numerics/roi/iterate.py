"""The outer iterations of the joint model: linearise every epoch, sum, solve for what is common, repeat."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.numerics.roi import galaxy, scene
from lightcurver_ops.numerics.roi.admm import Solver
from lightcurver_ops.numerics.roi.epoch import Epoch, Layout, Linear, Local, linearise
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty
from lightcurver_ops.numerics.roi.result import RoiFit, RoiOptions
from lightcurver_ops.numerics.roi.scene import Prior, Scene

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

POINT_STEPS = 40
LARGEST_STEP = 0.5  # data pixels, of a position or a translation in one iteration
RELINEARISE = 0.1  # data pixels moved since the normal matrix was made
COARSEST_TOLERANCE = 0.03  # of a flux's uncertainty, in the inner iterations
LOSS_TOLERANCE = 0.1  # of the loss, half a chi2, between outer iterations
HOLD = 0.05  # data pixels: sigma that keeps the positions near their start until the background is known


@dataclass(frozen=True)
class State:
    """All unknowns: what is common, and each epoch's own."""

    scene: Scene
    locals: tuple[Local, ...]

    @property
    def flux(self) -> Array:
        """[E, J]."""
        return np.array([local.flux for local in self.locals])


@dataclass(frozen=True)
class Problem:
    """What stays fixed during a fit.

    Attributes:
        epochs, layout, prior, options: data, what is free, what is expected, settings.
        margin: small pixels around the background's grid within which the galaxy's light is followed.
        resolution: makes the blurring matrix of the background's resolution for a grid side; None for the sky's.
        with_galaxy: whether a galaxy's profile is looked for.
    """

    epochs: tuple[Epoch, ...]
    layout: Layout
    prior: Prior
    options: RoiOptions
    margin: int
    resolution: Callable[[int], Array] | None
    with_galaxy: bool

    def linearise(self, state: State) -> "list[Callable[[], Linear]]":
        """For each epoch, a function that linearises it around a state."""
        background = state.scene.background
        wide = self._outside(state.scene)

        def one(epoch: Epoch, local: Local) -> Linear:
            outside = None if wide is None else wide(epoch.angle)
            return linearise(epoch, local, state.scene.positions, background, self.layout, outside)

        return [
            lambda epoch=epoch, local=local: one(epoch, local)  # type: ignore[misc]
            for epoch, local in zip(self.epochs, state.locals, strict=True)
        ]

    def _outside(self, state: Scene) -> Callable[[float], Array] | None:
        """The galaxy's light beyond the grid, for an angle of the scene."""
        if state.theta is None or self.margin == 0:
            return None
        theta, known = state.theta, {}
        side = self.layout.fine + 2 * self.margin
        frame = galaxy.Frame.of(side, None if self.resolution is None else self.resolution(side))

        def light(angle: float) -> Array:
            if angle not in known:
                image = galaxy.profile(galaxy.turned(theta, angle), frame)
                image[self.margin : -self.margin, self.margin : -self.margin] = 0.0
                known[angle] = image
            return known[angle]

        return light


@dataclass(frozen=True)
class Outcome:
    """Where the iterations ended."""

    state: State
    history: list[float]
    converged: bool
    status: str
    normal: NormalMatrix | None = None
    penalty: Penalty | None = None


def points_only(problem: Problem, state: State) -> Outcome:
    """Fluxes, translations and positions by Gauss-Newton with the background held fixed.

    Where the background is to be fitted afterwards, the positions stay: before it is known, they would move towards it.
    """
    free = problem.layout.move_positions and not problem.layout.background
    layout = replace(problem.layout, background=False, move_positions=free)
    inner = replace(problem, layout=layout)
    history: list[float] = []
    largest = np.inf
    for _ in range(POINT_STEPS):
        linear = [make() for make in inner.linearise(state)]
        history.append(sum(li.loss for li in linear) + problem.prior.value(state.scene))
        if largest < problem.options.flux_tolerance:
            break
        step = np.zeros(layout.moved)
        if layout.moved:
            matrix = _position_matrix(linear, layout.moved)
            precision, pull = problem.prior.gradient(state.scene, layout.moved)
            matrix[np.diag_indices_from(matrix)] += precision + 1e-9 * matrix.max() + 1e-30
            step = np.linalg.solve(matrix, np.sum([li.rhs() for li in linear], axis=0) + pull)
            step *= min(1.0, LARGEST_STEP / max(float(np.abs(step).max()), 1e-30))
        moved = [_moved_by(local, li, step, layout) for local, li in zip(state.locals, linear, strict=True)]
        largest = max([change for _, change in moved], default=0.0)
        positions = state.scene.positions + step.reshape(-1, 2) if layout.moved else state.scene.positions
        state = State(replace(state.scene, positions=positions), tuple(local for local, _ in moved))
    converged = largest < problem.options.flux_tolerance
    return Outcome(state, history, converged, _status(converged, len(history), largest))


def _position_matrix(linear: list[Linear], moved: int) -> Array:
    return np.sum([li.projected.T.astype(float) @ li.projected for li in linear], axis=0).reshape(
        moved, moved
    )


def _moved_by(local: Local, linear: Linear, step: Array, layout: Layout) -> tuple[Local, float]:
    """Local unknowns after a step of the global ones, and the largest move of a flux in standard deviations."""
    change = linear.local_step(step)
    j = layout.sources
    largest = float(np.max(np.abs(change[:j]) / np.sqrt(linear.flux_variance(j)), initial=0.0))
    if layout.translation_sigma > 0:
        change[j : j + 2] = np.clip(change[j : j + 2], -LARGEST_STEP, LARGEST_STEP)
    return local.moved_by(change, layout), largest


def _status(converged: bool, iterations: int, largest: float) -> str:
    how = "converged" if converged else "NOT converged"
    return f"{how} after {iterations} iterations; the last moved the fluxes by at most {largest:.2g} sigma"


def everything(problem: Problem, state: State) -> Outcome:
    """Background, positions, fluxes and translations together."""
    layout, options = problem.layout, problem.options
    moved = layout.moved
    held = replace(
        problem.prior, positions=state.scene.positions, precision=max(problem.prior.precision, HOLD**-2)
    )
    normal, penalty, solver, anchor = NormalMatrix.empty(layout), None, None, state
    history: list[float] = []
    largest, inner_converged = np.inf, True
    previous, damping = np.inf, 1.0
    nothing = np.zeros(moved + layout.fine**2)
    for outer in range(options.max_relinearisations + 1):
        # The first matrix was made without the galaxy in the derivatives.
        rebuild = outer < 2 or _distance(anchor, state) > RELINEARISE
        if rebuild:
            normal, anchor = NormalMatrix.empty(layout), state
        at = scene.absolute(state.scene, moved)
        rhs = np.zeros(at.size)
        loss, largest, after, responses = 0.0, 0.0, [], []
        rows = scene.unpenalised(state.scene, moved)
        for epoch, make, local in zip(problem.epochs, problem.linearise(state), state.locals, strict=True):
            linear = make()
            if rebuild:
                normal.add(epoch, linear, at, layout)
            rhs += linear.rhs()
            loss += linear.loss
            new, change = _moved_by(local, linear, nothing, layout)
            after.append(new)
            responses.append(linear.local_response(rows))
            largest = max(largest, change)
        prior = held if outer < 2 else problem.prior
        if rebuild:
            penalty = _penalty(normal, options)
            solver = Solver(normal.matrix[moved:, moved:].copy(), penalty, solver)
        assert penalty is not None
        assert solver is not None
        history.append(loss + prior.value(state.scene) + penalty.value(state.scene.structure))
        log.debug("outer %d rebuild %s loss %.2f flux moved %.3g sigma", outer, rebuild, history[-1], largest)
        state = State(state.scene, tuple(after))
        settled = outer > 2 and abs(history[-1] - history[-2]) < LOSS_TOLERANCE
        done = settled and inner_converged and largest < options.flux_tolerance and not rebuild
        if done or outer == options.max_relinearisations:
            break
        if outer == 0 and problem.with_galaxy:
            found = scene.fit_galaxy(normal, state.scene, prior, moved)
            rhs -= normal.matrix @ (scene.absolute(found, moved) - at)
            state = State(found, state.locals)
            rows = scene.unpenalised(found, moved)
            responses = [np.zeros((r.shape[0], len(rows))) for r in responses]
        # While the fluxes still move, the inner problem need not be solved better than that.
        unsettled = largest if outer else np.inf
        precise = min(max(0.1 * options.flux_tolerance, 0.01 * unsettled), COARSEST_TOLERANCE)
        tolerance = precise * np.sqrt(normal.epochs / np.maximum(normal.flux_weight, 1e-300))
        common, step, iterations, inner_converged = scene.step(
            normal,
            rhs,
            state.scene,
            prior,
            moved,
            solver,
            tolerance,
            0.01 * np.clip(unsettled, 1.0, 100.0),
            options.max_iterations,
        )
        log.debug("inner iterations %d converged %s theta %s", iterations, inner_converged, common.theta)
        # On a matrix that is not made anew the steps may overshoot and swing to and fro: then they are shortened.
        swings = outer > 3 and not rebuild and largest > 0.7 * previous
        damping = max(0.6 * damping, 0.3) if swings else damping
        previous = largest
        followed = [
            lo.moved_by(damping * (r @ step), layout) for lo, r in zip(state.locals, responses, strict=True)
        ]
        state = State(scene.between(state.scene, common, damping), tuple(followed))
    return Outcome(state, history, done, _status(done, len(history), largest), normal, penalty)


def gather(problem: Problem, outcome: Outcome) -> Outcome:
    """The same outcome with the normal matrix at its end, from which the uncertainties follow."""
    normal = NormalMatrix.empty(problem.layout)
    at = scene.absolute(outcome.state.scene, problem.layout.moved)
    for epoch, make in zip(problem.epochs, problem.linearise(outcome.state), strict=True):
        normal.add(epoch, make(), at, problem.layout)
    return replace(outcome, normal=normal, penalty=_penalty(normal, problem.options))


def _distance(a: State, b: State) -> float:
    """Largest move of a position or a translation between two states, data pixels."""
    shifts = [np.abs(x.translation - y.translation).max() for x, y in zip(a.locals, b.locals, strict=True)]
    return float(max(np.abs(a.scene.positions - b.scene.positions).max(initial=0.0), *shifts))


def _penalty(normal: NormalMatrix, options: RoiOptions) -> Penalty:
    strength = np.full(len(normal.starlet_variance), options.strength)
    strength[0] = options.strength_finest
    return Penalty(strength[:, None, None] * np.sqrt(normal.starlet_variance), options.positive)


def finish(problem: Problem, outcome: Outcome) -> RoiFit:
    """Models, residuals and uncertainties at the end of the iterations."""
    layout, state = problem.layout, outcome.state
    sources, moved, size = layout.sources, layout.moved, layout.size
    shared: Array | None = None
    rows = np.zeros((moved, moved))
    if outcome.normal is not None and outcome.penalty is not None:
        shared, rows = scene.covariance(outcome.normal, state.scene, problem.prior, moved, outcome.penalty)
    makers = problem.linearise(state)
    if shared is None and moved:
        precision, _ = problem.prior.gradient(state.scene, moved)
        matrix = _position_matrix([make() for make in makers], moved) + np.diag(precision)
        shared = np.asarray(np.linalg.pinv(matrix), dtype=np.float64)
        rows = np.eye(moved)
    count = len(problem.epochs)
    model, background, residuals = (np.zeros((count, size, size)) for _ in range(3))
    covariance = np.zeros((count, sources, sources))
    chi2, loss = np.zeros(count), problem.prior.value(state.scene)
    for e, (epoch, make) in enumerate(zip(problem.epochs, makers, strict=True)):
        linear = make()
        model[e], background[e] = linear.model, linear.background
        used = epoch.weight > 0
        residuals[e] = np.where(used, (epoch.data - linear.model) * np.sqrt(epoch.weight), np.nan)
        chi2[e] = linear.chi2 / max(int(np.count_nonzero(used)), 1)
        loss += linear.loss
        spread = np.eye(len(linear.r))
        if shared is not None:
            coupling = linear.coupling @ rows.T
            if layout.background:
                coupling = np.concatenate([coupling, linear.coupling[:, moved:]], axis=1)
            spread = spread + coupling @ shared @ coupling.T
        back = linalg.solve_triangular(linear.r, np.eye(len(linear.r)))[:sources]
        covariance[e] = back @ spread @ back.T
        unseen = linear.unseen[:sources]
        covariance[e][unseen] = covariance[e][:, unseen] = np.nan
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
