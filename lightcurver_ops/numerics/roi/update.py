"""The daily update: what a fit knows is kept, and a new night costs its own epochs and little more.

The normal matrix of the background is a sum over epochs (`normal`). New epochs are added to it, removed and changed
ones subtracted, and a few outer iterations from the last solution follow. The matrix decides how fast these converge;
where they converge to is decided by gradients that every epoch contributes anew, so that the result is, within the
tolerance, that of a fit from scratch. A fit from scratch is made when the epochs have changed by more than `GROWTH`
since the last one: then a better start, or a galaxy that was too faint before, may be found; and when none has changed:
then an earlier run was interrupted, and its result should come out as it would have.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi import scene
from lightcurver_ops.numerics.roi.finish import finish
from lightcurver_ops.numerics.roi.iterate import everything, solve
from lightcurver_ops.numerics.roi.judge import judged
from lightcurver_ops.numerics.roi.lights import same_shapes
from lightcurver_ops.numerics.roi.normal import NormalMatrix
from lightcurver_ops.numerics.roi.pointing import as_in
from lightcurver_ops.numerics.roi.points import points_only
from lightcurver_ops.numerics.roi.result import RoiFit
from lightcurver_ops.numerics.roi.screen import screened
from lightcurver_ops.numerics.roi.state import Outcome, Problem, State

log = logging.getLogger(__name__)

Array = NDArray[np.float64]

GROWTH = 0.2
FEWEST = 50  # epochs; fewer are fitted from scratch, in seconds, and to the last digit whatever came before


@dataclass(frozen=True)
class Memory:
    """What a fit of E epochs knows, for the next one.

    Attributes:
        keys: [E] what each epoch was made from; an epoch whose key changes is taken out and added anew.
        problem: the epochs and what is asked of them, outlying pixels without weight.
        state: the solution.
        normal: the sum over the epochs; its modes are those of the epochs of the last fit from scratch.
        covariances: [E, J, J] of the fluxes, independent, see `RoiFit`.
        since: epochs that came, went or changed since the last fit from scratch.
        scratch: epochs of that fit.
    """

    keys: tuple[str, ...]
    problem: Problem
    state: State
    normal: NormalMatrix
    covariances: Array
    since: int
    scratch: int

    def serves(self, problem: Problem, state: State, keys: Sequence[str]) -> bool:
        """Whether an update leads from here to a problem and its start: the same model, and most epochs known."""
        mine = self.problem
        same = (
            mine.layout == problem.layout
            and mine.options == problem.options
            and mine.with_galaxy == problem.with_galaxy
            and mine.margin == problem.margin
            and mine.prior.precision == problem.prior.precision
            and np.array_equal(mine.prior.positions, problem.prior.positions)
            and np.array_equal(self.state.scene.mean, state.scene.mean)
            and (problem.with_galaxy or same_shapes(self.state.scene.lights, state.scene.lights))
        )
        finite = all(np.isfinite(one).all() for one in (self.state.scene.background, self.normal.matrix))
        enough = self.scratch >= FEWEST
        changed = self.changed(keys)
        return same and finite and enough and changed > 0 and self.since + changed <= GROWTH * self.scratch

    def changed(self, keys: Sequence[str]) -> int:
        """How many epochs came, went or changed."""
        return max(len(set(keys) - set(self.keys)), len(set(self.keys) - set(keys)))


def fit_and_remember(
    problem: Problem, state: State, keys: Sequence[str], memory: Memory | None = None
) -> tuple[RoiFit, Memory]:
    """Fit all epochs, from the memory of an earlier fit if that serves.

    Args:
        problem, state: from `fit.set_up`.
        keys: [E], one per epoch, all different.
        memory: of an earlier fit; its normal matrix is changed in place.

    Raises:
        ValueError: two epochs have the same key, or there are more keys than epochs.
    """
    keys = tuple(keys)
    if len(set(keys)) != problem.count or len(keys) != problem.count:
        raise ValueError(f"{problem.count} epochs need as many different keys, not {len(set(keys))}")
    if memory is not None and memory.serves(problem, state, keys):
        changed = memory.changed(keys)
        try:
            updated, outcome = _update(problem, state, keys, memory)
            fit = replace(finish(updated, outcome, _known_covariances(memory, keys)), updated=True)
        except np.linalg.LinAlgError as error:
            log.warning("the update failed (%s): fitting from scratch", error)
        else:
            if fit.converged and np.isfinite(fit.loss):
                return fit, _remember(keys, updated, outcome, fit, memory.since + changed, memory.scratch)
            log.warning("the update ended %s: fitting from scratch", fit.status)
    problem, outcome = solve(problem, state)
    fit = finish(problem, outcome)
    return fit, _remember(keys, problem, outcome, fit, 0, len(keys))


def _known_covariances(memory: Memory, keys: tuple[str, ...]) -> list[Array | None]:
    """Of the epochs that the memory has; None where they are to be computed."""
    known = {
        key: covariance
        for key, covariance, aside in zip(
            memory.keys, memory.covariances, memory.problem.trust.aside, strict=True
        )
        if np.isfinite(covariance).all() and not aside  # that of an epoch set aside has its misfit in it
    }
    return [known.get(key) for key in keys]


def _remember(
    keys: tuple[str, ...], problem: Problem, outcome: Outcome, fit: RoiFit, since: int, scratch: int
) -> Memory:
    assert outcome.normal is not None
    return Memory(keys, problem, outcome.state, outcome.normal, fit.flux_covariance, since, scratch)


def _update(problem: Problem, state: State, keys: tuple[str, ...], memory: Memory) -> tuple[Problem, Outcome]:
    """The solution for these epochs, starting from the memory's."""
    place = {key: e for e, key in enumerate(memory.keys)}
    new = [e for e, key in enumerate(keys) if key not in place]
    gone = [e for e, key in enumerate(memory.keys) if key not in set(keys)]
    log.debug("update: %d epochs, %d new, %d gone", len(keys), len(new), len(gone))
    common, normal, layout = memory.state.scene, memory.normal, problem.layout
    problem = replace(problem, modes=normal.modes)
    at = scene.absolute(common, layout.moved)

    gone = [e for e in gone if not memory.problem.trust.aside[e]]
    for block in memory.problem.of(gone).blocks(memory.state.of(gone)):
        normal.subtract(block, at, layout)

    stays = [e for e, key in enumerate(keys) if key in place]
    before = [place[keys[e]] for e in stays]
    state = state.with_locals_of(State(common, memory.state.locals.of(before)), stays)
    problem = as_in(problem, memory.problem, stays, before)
    # Of the known epochs today's pixels, which a coefficient may have scaled a little, without those that were left
    # out before: what the matrix has of them must not change under it.
    mine = _as_before(screened(problem) if problem.options.reject else problem, memory, stays, before)
    fixed = replace(mine, layout=replace(layout, background=False, move_positions=False))
    found = points_only(fixed.of(new), state.of(new)).state
    state = state.with_locals_of(found, new)
    if problem.options.reject:
        problem, state = judged(mine, state)
        mine = _as_before(problem, memory, stays, before)
    added = [e for e in new if not mine.trust.aside[e]]
    for block in mine.of(added).blocks(state.of(added)):
        normal.add(block, at, layout)
    normal.complete()
    outcome = everything(mine.of(mine.kept), state.of(mine.kept), normal=normal, known=True)
    return mine, replace(outcome, state=state.with_locals_of(outcome.state, mine.kept))


def _as_before(problem: Problem, memory: Memory, stays: list[int], before: list[int]) -> Problem:
    """The problem with what the memory decided of the epochs `stays`, its `before`."""
    scale, aside = problem.trust.scale.copy(), problem.trust.aside.copy()
    scale[stays], aside[stays] = memory.problem.trust.scale[before], memory.problem.trust.aside[before]
    trust = problem.trust._replace(scale=scale, aside=aside)
    weight = problem.epochs.weight.copy()
    weight[stays] = np.where(memory.problem.epochs.weight[before] > 0, trust.weight[stays], 0.0)
    return replace(problem, epochs=problem.epochs._replace(weight=weight), trust=trust)
