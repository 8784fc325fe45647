"""L-BFGS on many independent problems at once, through a sequence of ever sharper objectives.

All problems advance in the same compiled loop, and each has its own step length, stage and end: one evaluation of all
objectives per iteration, whether a problem uses it for a new step or to shorten the last one.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

MEMORY = 10  # pairs of steps and gradient changes
WINDOW = 10  # iterations over which the decrease is judged
ARMIJO = 1e-4
SHORTEN = 0.3
SHORTEST = 1e-6

Objective = Callable[[Array, Array], tuple[Array, Array]]
"""(points [F, P], sharpness [F]) -> (values to minimise [F], values to report [F])."""


class Minimum(NamedTuple):
    """point [F, P]; history [F, max_iter] of the reported values, constant after the end; loss, converged, n_iter."""

    point: Array
    history: Array
    loss: Array
    converged: Array
    n_iter: Array


class _State(NamedTuple):
    point: Array  # [F, P]
    value: Array  # [F], and so on
    reported: Array
    gradient: Array
    direction: Array
    slope: Array
    length: Array
    steps: Array  # [MEMORY, F, P], a ring: the pair of an iteration lies at its number modulo MEMORY
    changes: Array
    inverse_curvature: Array  # [MEMORY, F]; zero where there is no pair
    gamma: Array  # [F], the inverse curvature that the last pair suggests for all directions
    stage: Array
    recent: (
        Array  # [WINDOW + 1, F] values after the last steps of this stage, the newest first; infinite before
    )
    history: Array
    count: Array
    converged: Array
    iteration: Array


def _dot(one: Array, other: Array) -> Array:
    return jnp.sum(one * other, axis=-1)


def _pick(condition: Array, fresh: Array, old: Array) -> Array:
    return jnp.where(condition.reshape(condition.shape + (1,) * (old.ndim - 1)), fresh, old)


def _direction(state: _State) -> tuple[Array, Array, Array]:
    """Direction of descent, its slope and first step length (Nocedal & Wright, Numerical Optimization, alg. 7.4).

    A pair that was not stored has zero inverse curvature and changes nothing.
    """
    slots = [(state.iteration - back) % MEMORY for back in range(MEMORY)]
    q, alphas = state.gradient, []
    for slot in slots:
        alphas.append(state.inverse_curvature[slot] * _dot(state.steps[slot], q))
        q = q - alphas[-1][:, None] * state.changes[slot]
    q = q * state.gamma[:, None]
    for slot, alpha in zip(reversed(slots), reversed(alphas)):
        beta = state.inverse_curvature[slot] * _dot(state.changes[slot], q)
        q = q + (alpha - beta)[:, None] * state.steps[slot]
    slope = -_dot(q, state.gradient)
    norm = jnp.sqrt(_dot(state.gradient, state.gradient))
    steepest = ~(slope < 0) | jnp.all(state.inverse_curvature == 0, axis=0)
    direction = jnp.where(steepest[:, None], -state.gradient, -q)
    length = jnp.where(steepest, jnp.minimum(1.0, 1.0 / jnp.maximum(norm, 1e-30)), 1.0)
    return direction, jnp.where(steepest, -(norm**2), slope), length


def minimise(
    objective: Objective,
    point: Array,
    sharpness: Array,
    stages: tuple[Array, Array | int],
    done: Array,
    *,
    max_iter: int,
    tolerance: Array | float,
) -> Minimum:
    """Minimise the objectives of F problems from the stage `sharpness[stages[0]]` [F] to the stage `stages[1]`.

    A stage ends when the value fell by less than `tolerance` (relative) over the last iterations, or when no step
    length decreases it further; the last stage's end is convergence. Problems that are `done` [F] from the start are
    left alone. Variables should be scaled to curvatures of order one.
    """
    n_frames = len(point)
    first_stage, last_stage = stages
    rounding = 8 * jnp.finfo(point.dtype).eps

    def total(at: Array, stage: Array) -> tuple[Array, tuple[Array, Array]]:
        value, reported = objective(at, sharpness[stage])
        return jnp.sum(value), (value, reported)

    differentiate = jax.grad(total, has_aux=True)

    def advance(state: _State) -> tuple[_State, Array]:
        """Evaluate the proposed points and take those that decrease enough."""
        trial = state.point + state.length[:, None] * state.direction
        gradient, (value, reported) = differentiate(trial, state.stage)
        wanted = state.value + ARMIJO * state.length * state.slope + rounding * jnp.abs(state.value)
        taken = ~state.converged & (value <= wanted)
        step, change = trial - state.point, gradient - state.gradient
        curvature, square = _dot(step, change), _dot(change, change)
        store = taken & (curvature > 1e-10 * square)
        slot = state.iteration % MEMORY
        kept = store[:, None]
        state = state._replace(
            steps=state.steps.at[slot].set(jnp.where(kept, step, 0.0)),
            changes=state.changes.at[slot].set(jnp.where(kept, change, 0.0)),
            inverse_curvature=state.inverse_curvature.at[slot].set(
                jnp.where(store, 1.0 / jnp.where(store, curvature, 1.0), 0.0)
            ),
            gamma=jnp.where(store, curvature / jnp.where(store, square, 1.0), state.gamma),
            point=_pick(taken, trial, state.point),
            value=jnp.where(taken, value, state.value),
            reported=jnp.where(taken, reported, state.reported),
            gradient=_pick(taken, gradient, state.gradient),
        )
        return state, taken

    def body(state: _State) -> _State:
        active = ~state.converged
        state, taken = advance(state)
        place = state.iteration % WINDOW
        still = state.recent[place] - state.value <= tolerance * jnp.abs(state.value)
        ended = active & (still | (~taken & (state.length < SHORTEST)))
        final = ended & (state.stage == last_stage)
        climbing = ended & ~final
        direction, slope, length = _direction(state)
        # The next stage is another function: evaluate it where we are (a step of length zero), and forget the rest.
        return state._replace(
            direction=_pick(taken, direction, state.direction),
            slope=jnp.where(climbing, 0.0, jnp.where(taken, slope, state.slope)),
            length=jnp.where(climbing, 0.0, jnp.where(taken, length, state.length * SHORTEN)),
            value=jnp.where(climbing, jnp.inf, state.value),
            inverse_curvature=jnp.where(climbing[None], 0.0, state.inverse_curvature),
            recent=jnp.where(climbing[None], jnp.inf, state.recent.at[place].set(state.value)),
            stage=state.stage + climbing,
            history=state.history.at[state.iteration].set(state.reported),
            count=state.count + active,
            converged=state.converged | final,
            iteration=state.iteration + 1,
        )

    none = jnp.zeros(n_frames, dtype=point.dtype)
    memory = jnp.zeros((MEMORY, *point.shape), dtype=point.dtype)
    state = _State(
        point=point,
        value=none + jnp.inf,
        reported=none + jnp.inf,
        gradient=jnp.zeros_like(point),
        direction=jnp.zeros_like(point),
        slope=none,
        length=none,
        steps=memory,
        changes=memory,
        inverse_curvature=jnp.zeros((MEMORY, n_frames), dtype=point.dtype),
        gamma=none + 1.0,
        stage=first_stage,
        recent=jnp.full((WINDOW, n_frames), jnp.inf, dtype=point.dtype),
        history=jnp.zeros((max_iter, n_frames), dtype=point.dtype),
        count=jnp.zeros(n_frames, dtype=int),
        converged=done,
        iteration=jnp.zeros((), dtype=int),
    )
    state = jax.lax.while_loop(lambda s: (s.iteration < max_iter) & ~jnp.all(s.converged), body, state)
    written = (jnp.arange(max_iter) < state.iteration)[:, None]
    history = jnp.where(written, state.history, state.reported[None]).T
    return Minimum(state.point, history, state.reported, state.converged & ~done, state.count)
