"""The outer iterations of the joint model: linearise every epoch, sum, solve for what is common, repeat."""

import logging
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import scene
from lightcurver_ops.numerics.roi.admm import Solver
from lightcurver_ops.numerics.roi.block import follow
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty
from lightcurver_ops.numerics.roi.points import points_only, without_outliers
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.state import Outcome, Problem, State, Steps, status

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

RELINEARISE = 0.25  # data pixels moved since the normal matrix was made
COARSEST_TOLERANCE = 0.03  # of a flux's uncertainty, in the inner iterations
LOSS_TOLERANCE = 0.1  # of the loss, half a chi2, between outer iterations
HOLD = 0.05  # data pixels: sigma that keeps the positions near their start until the background is known
SKETCH = 12  # epochs that are enough to find the scene before all are asked
SKETCH_TOLERANCE = 0.1  # of a flux's uncertainty
SKETCH_LOSS_TOLERANCE = 2.0


def solve(problem: Problem, state: State) -> tuple[Problem, Outcome]:
    """Everything, from nothing known; returns the problem without outlying pixels, too.

    With many epochs, the best few find the scene first: iterations on all are dear, and then few are needed.
    """
    state = points_only(problem, state).state
    few = problem.count <= SKETCH + 4
    if few and not problem.options.reject:
        return problem, everything(problem, state)
    chosen = list(range(problem.count)) if few else most_informative(problem, state)
    options = replace(problem.options, flux_tolerance=SKETCH_TOLERANCE)
    sketch = everything(
        replace(problem, options=options).of(chosen), state.of(chosen), loss_tolerance=SKETCH_LOSS_TOLERANCE
    ).state
    if few:
        state = sketch
    else:
        fixed = replace(problem, layout=replace(problem.layout, background=False, move_positions=False))
        state = points_only(fixed, replace(state, scene=sketch.scene)).state
    if problem.options.reject:
        problem, state = without_outliers(problem, state)
    return problem, everything(problem, state, known=True)


def most_informative(problem: Problem, state: State) -> list[int]:
    """The epochs that tell most about the fluxes, in their order."""
    sources = problem.layout.sources
    fixed = replace(problem, layout=replace(problem.layout, background=False, move_positions=False))
    precision = problem.epochs.weight.sum(axis=(1, 2))
    if sources:
        steps = Steps(fixed)
        for block in fixed.blocks(state):
            steps.take(block)
        precision = np.sum(1.0 / steps.variance, axis=1)
    return sorted(int(e) for e in np.argsort(-precision, kind="stable")[:SKETCH])


def everything(
    problem: Problem,
    state: State,
    *,
    normal: NormalMatrix | None = None,
    known: bool = False,
    loss_tolerance: float = LOSS_TOLERANCE,
) -> Outcome:
    """Background, positions, fluxes and translations together.

    Args:
        problem, state: what is given, and where to start.
        normal: of these epochs, from an earlier fit; None: made here.
        known: the start's scene is near the solution. Otherwise a galaxy is looked for, the positions are held until
            the background is known, and the matrix is made twice.
        loss_tolerance: what the loss may still fall by from one outer iteration to the next.
    """
    layout, options = problem.layout, problem.options
    moved = layout.moved
    held = replace(
        problem.prior, positions=state.scene.positions, precision=max(problem.prior.precision, HOLD**-2)
    )
    early, update = 0 if known else 2, normal is not None
    search = problem.with_galaxy and not update and state.scene.theta is None
    penalty, solver, anchor = None, None, state
    history: list[float] = []
    largest, inner_converged = np.inf, True
    previous, damping = np.inf, 1.0
    for outer in range(options.max_relinearisations + 1):
        # The first matrix may have been made without the galaxy in the derivatives.
        rebuild = normal is None or outer < early or _distance(anchor, state) > RELINEARISE
        if rebuild:
            normal, anchor = NormalMatrix.empty(layout), state
        assert normal is not None
        at = scene.absolute(state.scene, moved)
        rhs = np.zeros(at.size)
        loss, steps, followers = 0.0, Steps(problem), []
        for block in problem.blocks(state):
            if rebuild:
                normal.add(block, at, layout)
            rhs += block.rhs()
            loss += block.loss
            steps.take(block)
            followers.append(block.follower())
        after, largest = steps.applied(state.locals)
        prior = held if outer < early else problem.prior
        if rebuild:
            normal.complete()
        if rebuild or solver is None:
            penalty = penalty_of(normal, options)
            solver = Solver(normal.matrix[moved:, moved:], penalty, solver)
        assert penalty is not None
        history.append(loss + prior.value(state.scene) + penalty.value(state.scene.structure))
        log.debug("outer %d rebuild %s loss %.2f flux moved %.3g sigma", outer, rebuild, history[-1], largest)
        state = State(state.scene, after)
        settled = outer > early and abs(history[-1] - history[-2]) < loss_tolerance
        done = settled and inner_converged and largest < options.flux_tolerance and not rebuild
        if done or outer == options.max_relinearisations:
            break
        if outer == 0 and search:
            found = scene.fit_galaxy(normal, state.scene, prior, moved)
            rhs -= normal.matrix @ (scene.absolute(found, moved) - at)
            state = State(found, state.locals)
        # While the fluxes still move, the inner problem need not be solved better than that.
        unsettled = largest if outer or update else np.inf
        precise = min(max(0.1 * options.flux_tolerance, 0.01 * unsettled), COARSEST_TOLERANCE)
        tolerance = precise * np.sqrt(normal.epochs / np.maximum(normal.flux_weight, 1e-300))
        common, iterations, inner_converged = scene.step(
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
        swings = outer > early + 1 and not rebuild and largest > 0.7 * previous
        damping = max(0.6 * damping, 0.3) if swings else damping
        previous = largest
        fresh = scene.between(state.scene, common, damping)
        moves = (fresh.positions - state.scene.positions).ravel()[:moved]
        brighter = problem.lights(fresh.background - state.scene.background)
        followed = follow(followers, problem.epochs, moves, brighter, layout)
        state = State(fresh, state.locals.moved_by(followed, layout))
    return Outcome(state, history, done, status(done, len(history), largest), normal, penalty)


def gather(problem: Problem, outcome: Outcome) -> Outcome:
    """The same outcome with the normal matrix at its end, from which the uncertainties follow."""
    normal = NormalMatrix.empty(problem.layout)
    at = scene.absolute(outcome.state.scene, problem.layout.moved)
    for block in problem.blocks(outcome.state):
        normal.add(block, at, problem.layout)
    normal.complete()
    return replace(outcome, normal=normal, penalty=penalty_of(normal, problem.options))


def _distance(a: State, b: State) -> float:
    """Largest move of a position or a translation between two states, data pixels."""
    moves = (a.scene.positions - b.scene.positions, a.locals.translation - b.locals.translation)
    return float(max(np.abs(move).max(initial=0.0) for move in moves))


def penalty_of(normal: NormalMatrix, options: RoiOptions) -> Penalty:
    """The penalty whose weights are the noise that reaches each starlet coefficient."""
    strength = np.full(len(normal.starlet_variance), options.strength)
    strength[0] = options.strength_finest
    variance = np.maximum(normal.starlet_variance, 0.0)
    return Penalty(strength[:, None, None] * np.sqrt(variance), options.positive)
