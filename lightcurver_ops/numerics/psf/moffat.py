"""The analytic part of the PSF: an elliptical Moffat, fitted to all stars of many frames at once.

The profile is `(1 + q)^-beta` (Moffat 1969, A&A 3, 455) with `q = 4 (2^(1/beta) - 1) v^T exp(-(s + E)) v`, where
`exp(s)` is the square of the FWHM and E the symmetric traceless matrix (e1, e2; e2, -e1): positive for every value,
smooth at zero ellipticity, and the axis ratio is `exp(|e|)`. It is sampled at the centres of the small pixels.
Each star has an amplitude and a position of its own, and if asked for a constant background; where the PSF varies over
the field, a given difference of its shape from the common one.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lightcurver_ops.numerics.psf.operators import star_operator

jax.config.update("jax_enable_x64", True)

BETA_RANGE = (1.3, 30.0)
MAX_ELLIPTICITY = 1.6  # |e|: an axis ratio of five
MAX_STEP = 0.7  # of shape parameters, and of positions in pixels
TOLERANCE = 1e-7  # relative decrease of chi2 below which a step counts as converged


class MoffatFit(NamedTuple):
    """shape [F, 4] = (log fwhm^2, e1, e2, log beta), sky [F] (level of backgrounds), star [F, S, 4] = (amplitude, x, y,
    background), chi2 [F] (sum, with the priors), converged, n_iter [F]."""

    shape: Array
    sky: Array
    star: Array
    chi2: Array
    converged: Array
    n_iter: Array


def moffat(shape: Array, size: int, subsampling: int) -> Array:
    """The profile, 1 at its centre, on the fine grid [N, N], for shape [4] (lengths in pixels of the data)."""
    fine = size * subsampling
    axis = (jnp.arange(fine) - (fine - 1) / 2) / subsampling
    return (1.0 + quadratic_form(shape, axis[None, :], axis[:, None])) ** -jnp.exp(shape[3])


def quadratic_form(shape: Array, x: Array, y: Array) -> Array:
    """q of the profile at offsets x, y from its centre, in pixels of the data."""
    log_area, e1, e2, log_beta = shape
    # exp(-E) = cosh|e| - E sinh|e|/|e|, the quotient by its series in |e|^2 so that its slope exists at zero.
    square = e1**2 + e2**2
    small = square < 1e-8
    length = jnp.sqrt(jnp.where(small, 1e-8, square))
    even = jnp.where(small, 1.0 + square / 2, jnp.cosh(length))
    odd = jnp.where(small, 1.0 + square / 6, jnp.sinh(length) / length)
    scale = 4.0 * (2.0 ** jnp.exp(-log_beta) - 1.0) * jnp.exp(-log_area)
    return scale * ((even - odd * e1) * x**2 + (even + odd * e1) * y**2 - 2.0 * odd * e2 * x * y)


def _bounded(shape: Array, size: int, subsampling: int) -> Array:
    log_area = jnp.clip(shape[:, 0], 2 * np.log(0.6 / subsampling), 2 * np.log(float(size)))
    length = jnp.sqrt(shape[:, 1] ** 2 + shape[:, 2] ** 2)
    shrink = jnp.minimum(1.0, MAX_ELLIPTICITY / jnp.maximum(length, 1e-9))
    log_beta = jnp.clip(shape[:, 3], np.log(BETA_RANGE[0]), np.log(BETA_RANGE[1]))
    return jnp.stack([log_area, shape[:, 1] * shrink, shape[:, 2] * shrink, log_beta], axis=1)


def _normal_equations(
    data: Array,
    weight: Array,
    offsets: Array | None,
    sky_prior: tuple[Array, Array] | None,
    common: Array,
    star: Array,
    subsampling: int,
) -> tuple[Array, ...]:
    """chi2, and gradient and Gauss-Newton matrix split into common, star and mixed blocks.

    The common parameters [F, G] are the shape and, with `sky_prior`, the level of the backgrounds.
    """
    size = data.shape[-1]
    profile = partial(moffat, size=size, subsampling=subsampling)
    stack = jax.vmap(
        lambda one: jnp.concatenate([profile(one)[None], jnp.moveaxis(jax.jacfwd(profile)(one), -1, 0)])
    )
    across, across_slope = star_operator(star[..., 1], size, subsampling, jnp)
    down, down_slope = star_operator(star[..., 2], size, subsampling, jnp)
    amplitude = star[..., 0, None, None]
    if offsets is None:
        images = stack(common[:, :4])
        half = jnp.einsum("fspi,fcij->fscpj", down, images)
        half_slope = jnp.einsum("fspi,fij->fspj", down_slope, images[:, 0])
    else:
        images = jax.vmap(stack)(common[:, None, :4] + offsets)
        half = jnp.einsum("fspi,fscij->fscpj", down, images)
        half_slope = jnp.einsum("fspi,fsij->fspj", down_slope, images[:, :, 0])
    seen = jnp.einsum("fscpj,fsqj->fscpq", half, across)
    unit, by_shape = seen[:, :, 0], amplitude[:, :, None] * seen[:, :, 1:]
    by_x = amplitude * jnp.einsum("fspj,fsqj->fspq", half[:, :, 0], across_slope)
    by_y = amplitude * jnp.einsum("fspj,fsqj->fspq", half_slope, across)
    by_star = [unit, by_x, by_y]
    residual = data - amplitude * unit
    if sky_prior is not None:
        by_star.append(jnp.ones_like(unit))
        residual = residual - star[..., 3, None, None]
    by_star = jnp.stack(by_star, axis=2)
    weighted_star, weighted_shape = weight[:, :, None] * by_star, weight[:, :, None] * by_shape
    chi2 = jnp.sum(weight * residual**2, axis=(1, 2, 3))
    gradient_star = jnp.einsum("fscpq,fspq->fsc", weighted_star, residual)
    gradient_shape = jnp.einsum("fscpq,fspq->fsc", weighted_shape, residual)
    block_star = jnp.einsum("fscpq,fsdpq->fscd", weighted_star, by_star)
    block_mixed = jnp.einsum("fscpq,fsdpq->fscd", weighted_star, by_shape)
    block_shape = jnp.einsum("fscpq,fsdpq->fscd", weighted_shape, by_shape)
    gradient_shape, block_shape = gradient_shape.sum(axis=1), block_shape.sum(axis=1)
    system = chi2, gradient_shape, gradient_star, block_shape, block_star, block_mixed
    return system if sky_prior is None else _with_sky_level(system, common[:, -1], star[..., 3], sky_prior)


def _with_sky_level(
    system: tuple[Array, ...], level: Array, sky: Array, sky_prior: tuple[Array, Array]
) -> tuple[Array, ...]:
    """The prior on the backgrounds [F, S], and their level [F], known from them alone, as the last common parameter."""
    chi2, gradient, gradient_star, block, block_star, mixed = system
    of_star, of_frame = sky_prior
    apart = sky - level[:, None]
    chi2 = chi2 + (of_star * apart**2).sum(axis=1) + of_frame * level**2
    of_level = (of_star * apart).sum(axis=1) - of_frame * level
    gradient = jnp.concatenate([gradient, of_level[:, None]], axis=1)
    gradient_star = gradient_star.at[..., 3].add(-of_star * apart)
    block = jnp.pad(block, ((0, 0), (0, 1), (0, 1))).at[:, -1, -1].set(of_star.sum(axis=1) + of_frame)
    block_star = block_star.at[..., 3, 3].add(of_star)
    mixed = jnp.pad(mixed, ((0, 0), (0, 0), (0, 0), (0, 1))).at[..., 3, -1].set(-of_star)
    return chi2, gradient, gradient_star, block, block_star, mixed


@partial(jax.jit, static_argnames=("subsampling", "max_iter"))
def fit_moffat(
    data: Array,
    weight: Array,
    shape: Array,
    star: Array,
    *,
    offsets: Array | None,
    sky: Array,
    sky_prior: tuple[Array, Array] | None,
    subsampling: int,
    max_iter: int,
) -> MoffatFit:
    """Levenberg-Marquardt on all parameters; those of the stars are eliminated from each step (Schur).

    Args:
        data: [F, S, n, n]. weight: [F, S, n, n], 1/sigma^2, zero where a pixel is not used.
        shape: [F, 4], start. star: [F, S, 4], start of amplitude, x, y (pixels from the stamp's centre), and
            background per pixel.
        offsets: [F, S, 4], of each star's shape from the common one, see `distortion.shape_offsets`; None: none.
        sky: [F], start of the level that the backgrounds scatter about. sky_prior: 1/sigma^2 of the Gaussian priors on
            the backgrounds about that level [F, S] and on the level about zero [F], or None to fit no background.

    Returns:
        MoffatFit; a frame without weight keeps its start.
    """
    size, n_frames = data.shape[-1], data.shape[0]
    equations = partial(_normal_equations, data, weight, offsets, sky_prior, subsampling=subsampling)
    common = shape if sky_prior is None else jnp.concatenate([shape, sky[:, None]], axis=1)
    constant, star = star[..., 3:], star if sky_prior is not None else star[..., :3]
    n_common, n_columns = common.shape[1], star.shape[-1]

    def bounded(common: Array) -> Array:
        return jnp.concatenate([_bounded(common[:, :4], size, subsampling), common[:, 4:]], axis=1)

    def propose(common: Array, star: Array, damping: Array, system: tuple[Array, ...]) -> tuple[Array, Array]:
        _, gradient_shape, gradient_star, block_shape, block_star, mixed = system
        diagonal = jnp.einsum("fscc->fsc", block_star)
        floor = 1e-12 + 1e-12 * diagonal.max(axis=(1, 2))[:, None, None]
        stars = block_star + jnp.eye(n_columns) * (diagonal * damping[:, None, None] + floor)[..., None]
        diagonal = jnp.einsum("fcc->fc", block_shape)
        shapes = block_shape + jnp.eye(n_common) * (diagonal * damping[:, None] + 1e-9)[..., None]
        solved = jnp.linalg.solve(stars, jnp.concatenate([mixed, gradient_star[..., None]], axis=-1))
        by_common, alone = solved[..., :n_common], solved[..., n_common]
        schur = shapes - jnp.einsum("fscd,fsce->fde", mixed, by_common)
        right = gradient_shape - jnp.einsum("fscd,fsc->fd", mixed, alone)
        step_common = jnp.linalg.solve(schur, right[..., None])[..., 0]
        step_common = jnp.clip(jnp.nan_to_num(step_common), -MAX_STEP, MAX_STEP)
        step_star = jnp.nan_to_num(alone - jnp.einsum("fscd,fd->fsc", by_common, step_common))
        moves = jnp.clip(step_star[..., 1:3], -MAX_STEP, MAX_STEP)
        places = jnp.clip(star[..., 1:3] + moves, -size / 3, size / 3)
        linear = star + step_star
        moved = jnp.concatenate([linear[..., :1], places, linear[..., 3:]], axis=-1)
        return bounded(common + step_common), moved

    def body(state: tuple) -> tuple:
        common, star, damping, system, done, count, iteration = state
        new_common, new_star = propose(common, star, damping, system)
        new = equations(common=new_common, star=new_star)
        better = (new[0] < system[0]) & ~done

        def take(fresh: Array, old: Array) -> Array:
            return jnp.where(better.reshape((-1,) + (1,) * (old.ndim - 1)), fresh, old)

        small = better & (system[0] - new[0] <= TOLERANCE * new[0])
        stuck = ~better & (damping > 1e6)
        damping = jnp.where(better, jnp.maximum(damping * 0.2, 1e-7), damping * 5.0)
        system = tuple(take(fresh, old) for fresh, old in zip(new, system))
        count = count + ~done
        return (
            take(new_common, common),
            take(new_star, star),
            damping,
            system,
            done | small | stuck,
            count,
            iteration + 1,
        )

    def running(state: tuple) -> Array:
        return (state[6] < max_iter) & ~jnp.all(state[4])

    # Nothing evaluated yet: the first step has length zero and is taken.
    n_stars = data.shape[1]
    nothing = (
        jnp.full(n_frames, jnp.inf),
        jnp.zeros((n_frames, n_common)),
        jnp.zeros((n_frames, n_stars, n_columns)),
        jnp.zeros((n_frames, n_common, n_common)),
        jnp.zeros((n_frames, n_stars, n_columns, n_columns)),
        jnp.zeros((n_frames, n_stars, n_columns, n_common)),
    )
    empty = jnp.sum(weight, axis=(1, 2, 3)) <= 0
    start = (
        bounded(common),
        star,
        jnp.full(n_frames, 1e-2),
        nothing,
        empty,
        jnp.zeros(n_frames, dtype=int),
        jnp.zeros((), dtype=int),
    )
    common, star, _, system, done, count, _ = jax.lax.while_loop(running, body, start)
    if sky_prior is not None:
        sky = common[:, -1]
    else:
        star = jnp.concatenate([star, constant], axis=-1)
    return MoffatFit(common[:, :4], sky, star, system[0], done & ~empty, count)
