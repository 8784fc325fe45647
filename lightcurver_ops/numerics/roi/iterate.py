"""The outer iterations of the joint model: linearise every epoch, sum, solve for what is common, repeat."""

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import scene
from lightcurver_ops.numerics.roi.admm import Solver
from lightcurver_ops.numerics.roi.block import follow
from lightcurver_ops.numerics.roi.judge import judged
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.penalty import Penalty
from lightcurver_ops.numerics.roi.pointing import believed
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.screen import screened
from lightcurver_ops.numerics.roi.state import LARGEST_STEP, Outcome, Problem, State, Steps, status

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

RELINEARISE = 0.25  # data pixels moved since the normal matrix was made
COARSEST_TOLERANCE = 0.03  # of a flux's uncertainty, in the inner iterations
LOSS_TOLERANCE = 0.1  # of the loss, half a chi2, between outer iterations
HOLD = 0.05  # data pixels: sigma that keeps the positions near their start until the background is known
DIVERGED = 10.0  # times the smallest loss so far: the iterations will not come back from there
SKETCH = 12  # epochs that are enough to find the scene before all are asked
SKETCH_TOLERANCE = 0.1  # of a flux's uncertainty
SKETCH_LOSS_TOLERANCE = 2.0
SKETCH_CHI2 = 2.0  # per pixel
JUDGEMENTS = 3
SAME_PIXELS = 0.01  # of an epoch's: judgements that differ by less lead to the same scene


def solve(problem: Problem, state: State) -> tuple[Problem, Outcome]:
    """Everything, from nothing known; returns the problem without outlying pixels, too.

    With many epochs, the best few find the scene first: iterations on all are dear, and then few are needed. What does
    not agree with the other epochs is left out from the beginning, and judged again each time the scene is known
    better.
    """
    reject = problem.options.reject
    if reject:
        problem = screened(problem)
    few = len(problem.kept) <= SKETCH + 4
    state = points_only(problem, state).state
    if few and not reject:
        return problem, with_host(problem, everything(problem, state))
    chosen = problem.kept if few else most_informative(problem, state)
    state = state.with_locals_of(sketched(problem.of(chosen), state.of(chosen), known=False), chosen)
    if not reject:
        fixed = replace(problem, layout=replace(problem.layout, background=False, move_positions=False))
        return problem, with_host(problem, everything(problem, points_only(fixed, state).state, known=True))
    first = problem
    problem, state = judged(first, state)
    problem = believed(problem, state)
    if differs(first, problem):  # the sketch had in it what did not belong there
        chosen = problem.kept if few else most_informative(problem, state)
        state = state.with_locals_of(sketched(problem.of(chosen), state.of(chosen), known=True), chosen)
        problem, state = judged(problem, state)
    return until_agreed(problem, state, lambda p, s: with_host(p, everything(p, s, known=True)))


def with_host(problem: Problem, outcome: Outcome) -> Outcome:
    """The outcome with the arcs of the lensed host in the scene.

    They come last: before galaxy and epochs are known, what does not belong to the scene would find its place there.
    """
    state, normal = outcome.state, outcome.normal
    if not problem.with_galaxy or not outcome.converged or normal is None:
        return outcome
    images = state.scene.positions * problem.layout.subsampling
    flux = float(np.maximum(np.median(state.locals.flux, axis=0), 0.0).sum())
    found = scene.with_ring(normal, state.scene, problem.prior, problem.layout.moved, images, flux)
    if found.lights is None:
        return outcome
    again = everything(problem, State(found, state.locals), normal=normal, known=True)
    return replace(again, history=[*outcome.history, *again.history])


def sketched(problem: Problem, state: State, *, known: bool) -> State:
    """Roughly everything; given up early where it does not fit, as what is wrong then shows already."""
    options = replace(problem.options, flux_tolerance=SKETCH_TOLERANCE)
    worth = SKETCH_CHI2 * 0.5 * np.count_nonzero(problem.epochs.weight)
    return everything(
        replace(problem, options=options),
        state,
        known=known,
        loss_tolerance=SKETCH_LOSS_TOLERANCE,
        worth=worth,
    ).state


def until_agreed(
    problem: Problem, state: State, fit: Callable[[Problem, State], Outcome]
) -> tuple[Problem, Outcome]:
    """Fit the epochs that are kept, judge all by their scene, and repeat this where the judgement is another one.

    Args:
        problem, state: of all epochs, as they were judged last.
        fit: of the epochs that are kept.
    """
    for attempt in range(JUDGEMENTS):
        outcome = fit(problem.of(problem.kept), state.of(problem.kept))
        state = state.with_locals_of(outcome.state, problem.kept)
        again, state_again = judged(problem, state)
        if not differs(problem, again) or attempt == JUDGEMENTS - 1:
            # The fluxes of epochs that are set aside follow the final scene.
            aside = np.flatnonzero(problem.trust.aside)
            state = state.with_locals_of(state_again.of(aside), aside)
            break
        problem, state = again, state_again
        log.debug("judged again: %d epochs set aside", problem.trust.aside.sum())
    return problem, replace(outcome, state=state)


def differs(one: Problem, other: Problem) -> bool:
    """Whether two judgements differ by an epoch, or by more than a few pixels of one."""
    pixels = ((one.epochs.weight > 0) != (other.epochs.weight > 0))[~other.trust.aside]
    return bool(
        np.any(one.trust.aside != other.trust.aside)
        or np.any(pixels.sum(axis=(1, 2)) > SAME_PIXELS * one.layout.size**2)
    )


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
    precision = np.where(problem.trust.aside, -1.0, precision)
    return sorted(int(e) for e in np.argsort(-precision, kind="stable")[:SKETCH])


def everything(  # noqa: PLR0915 - one iteration, from top to bottom
    problem: Problem,
    state: State,
    *,
    normal: NormalMatrix | None = None,
    known: bool = False,
    loss_tolerance: float = LOSS_TOLERANCE,
    worth: float = np.inf,
) -> Outcome:
    """Background, positions, fluxes and translations together.

    Args:
        problem, state: what is given, and where to start.
        normal: of these epochs, from an earlier fit; None: made here.
        known: the start's scene is near the solution. Otherwise a galaxy is looked for, the positions are held until
            the background is known, and the matrix is made twice.
        loss_tolerance: what the loss may still fall by from one outer iteration to the next.
        worth: with a greater loss the iterations end as soon as the scene is roughly known.
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
    best = state
    done = False
    for outer in range(options.max_relinearisations + 1):
        # The first matrix may have been made without the galaxy in the derivatives.
        rebuild = normal is None or outer < early or _distance(anchor, state) > RELINEARISE
        if rebuild:
            normal, anchor = NormalMatrix.empty(layout, problem.modes), state
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
            solver = Solver(normal, penalty, solver)
        assert penalty is not None
        history.append(loss + prior.value(state.scene) + penalty.value(state.scene.structure))
        log.debug("outer %d rebuild %s loss %.2f flux moved %.3g sigma", outer, rebuild, history[-1], largest)
        state = State(state.scene, after)
        if outer > early and not history[-1] < DIVERGED * min(history):  # NaN neither
            state = best
            break
        if history[-1] <= min(history):
            best = state
        settled = outer > early and abs(history[-1] - history[-2]) < loss_tolerance
        done = settled and inner_converged and largest < options.flux_tolerance and not rebuild
        if outer > early and history[-1] > worth:
            break
        if done or outer == options.max_relinearisations:
            break
        if outer == 0 and search:
            found = scene.fit_galaxy(normal, state.scene, prior, moved)
            rhs -= normal.times(scene.absolute(found, moved) - at)
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
        far = float(np.abs(common.positions - state.scene.positions).max(initial=0.0))
        fresh = scene.between(state.scene, common, min(damping, LARGEST_STEP / max(far, 1e-30)))
        moves = (fresh.positions - state.scene.positions).ravel()[:moved]
        brighter = problem.lights(fresh.background - state.scene.background)
        followed = follow(followers, problem.epochs, moves, brighter, layout)
        state = State(fresh, state.locals.moved_by(followed, layout))
    return Outcome(state, history, done, status(done, len(history), largest), normal, penalty, largest)


def gather(problem: Problem, outcome: Outcome) -> Outcome:
    """The same outcome with the normal matrix at its end, from which the uncertainties follow."""
    normal = NormalMatrix.empty(problem.layout, problem.modes)
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
