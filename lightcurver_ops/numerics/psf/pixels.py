"""The pixel grid of the PSF: what the Moffat misses, sparse in starlets, for many frames at once.

Minimises STARRED's objective (Michalewicz et al. 2023, JOSS 8, 5340),
`1/2 sum w (d - a_s A(y_s) (M + h) A(x_s)^T)^2 + sum_j strength_j |starlet_j(h)|`, over the grid h, amplitudes and
positions. The backgrounds of the stars, constants with Gaussian priors, are solved for at every evaluation.
The absolute value is replaced by Huber's function, quadratic within a `delta` that
shrinks in steps, each started from the last: a smooth problem that L-BFGS solves, at last so close to the true one that
the objective differs by less than the tolerance. Delta is dimensionless: the contribution of a coefficient to the
objective at which the function turns linear. All frames advance together; each has its own step length, delta and end.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from lightcurver_ops.numerics.psf.distortion import distort
from lightcurver_ops.numerics.psf.lbfgs import minimise
from lightcurver_ops.numerics.psf.operators import star_operator
from lightcurver_ops.numerics.starlet import smoothing_matrices

MAX_MOVE = 0.3  # small pixels that a star moves in one fit
MAX_GAIN = 0.2  # relative change of an amplitude in one fit
DELTAS = (2e-2, 4e-3, 6e-4)


class PixelFit(NamedTuple):
    """grid [F, N, N], amplitude, x, y [F, S], background [F, S], history [F, max_iter] (the true objective, constant
    after the end), loss, converged, n_iter [F]."""

    grid: Array
    amplitude: Array
    x: Array
    y: Array
    background: Array
    history: Array
    loss: Array
    converged: Array
    n_iter: Array


def star_images(narrow: Array, star: Array, subsampling: int) -> Array:
    """Stars as seen: narrow [F, N, N] or, one for each star, [F, S, N, N]; star [F, S, 3] (amplitude, x, y)."""
    size = narrow.shape[-1] // subsampling
    across, down = (star_operator(star[..., axis], size, subsampling, jnp, 0)[0] for axis in (1, 2))
    return star[..., 0, None, None] * _seen(narrow, across, down)


def _seen(narrow: Array, across: Array, down: Array) -> Array:
    half = jnp.einsum("fspi,fij->fspj" if narrow.ndim == 3 else "fspi,fsij->fspj", down, narrow)
    return jnp.einsum("fspj,fsqj->fspq", half, across)


def _details(grid: Array) -> Array:
    smooth = jnp.asarray(smoothing_matrices(grid.shape[-1])[1:], dtype=grid.dtype)
    half = jnp.einsum("jab,fbc->fjac", smooth, grid)
    levels = jnp.concatenate([grid[:, None], jnp.einsum("fjac,jdc->fjad", half, smooth)], axis=1)
    return levels[:, :-1] - levels[:, 1:]


def _scales(weight: Array, analytic: Array, star: Array, subsampling: int) -> tuple[Array, Array]:
    """Steps of grid [F] and stars [F, S, 3] that change the objective by order one."""
    unit = star_images(analytic, star.at[..., 0].set(1.0), subsampling)
    bright = jnp.sum(weight * unit**2, axis=(2, 3))
    shifted = star_images(
        analytic, star.at[..., 0].set(1.0) + jnp.array([0.0, 0.1, 0.0], star.dtype), subsampling
    )
    moved = jnp.sum(weight * ((shifted - unit) * 10 * star[..., 0, None, None]) ** 2, axis=(2, 3))
    curvature = jnp.stack([bright, moved, moved], axis=-1)
    stars = jnp.where(curvature > 0, 1.0 / jnp.sqrt(jnp.maximum(curvature, 1e-30)), 0.0)
    # A small pixel is seen through the Gaussian, which halves its variance along each axis.
    dose = jnp.sum(star[..., 0, None, None] ** 2 * weight, axis=1).mean(axis=(1, 2)) / (4.0 * subsampling**2)
    grid = 1.0 / jnp.sqrt(jnp.maximum(dose, 1e-30))
    return grid, stars


@partial(jax.jit, static_argnames=("subsampling", "max_iter", "distorted"))
def fit_pixels(
    data: Array,
    weight: Array,
    analytic: Array,
    strength: Array,
    grid: Array,
    star: Array,
    distortion: Array,
    coordinates: Array,
    sky_prior: tuple[Array, Array] | None,
    *,
    subsampling: int,
    max_iter: int,
    wanted: Array,
    stages: tuple[Array, int],
    tolerance: float = 1e-5,
    distorted: bool = False,
) -> PixelFit:
    """Fit the grids of F frames.

    Args:
        data, weight: [F, S, n, n]; weight is 1/sigma^2, zero where a pixel is not used.
        analytic: [F, N, N], the Moffat with its amplitude. strength: [F, J, N, N], of the penalty per coefficient.
        grid: [F, N, N], star: [F, S, 3]: the start. distortion: [F, 15], coordinates: [F, S, 2], see `distort`.
        sky_prior: as in `fit_moffat`.
        wanted: [F] bool, frames to fit; the others keep the start, and their loss is not evaluated.
        stages: first [F] and last of DELTAS to go through. tolerance: each ends when the objective decreases by less
            than this fraction over 10 iterations.
        distorted: apply the distortion.
    """
    n_frames, n_stars = star.shape[:2]
    n_grid = grid.shape[-1] ** 2
    of_grid, of_star = _scales(weight, analytic, star, subsampling)
    sky_weight = jnp.sum(weight, axis=(2, 3))
    # Positions move by hundredths of a pixel: the operators follow to second order, without new exponentials, and
    # the moves are held where that is good to half a percent. Amplitudes are held near those of the Moffat: for faint
    # stars the objective has a second, absurd minimum where they are huge and the grid cancels the Moffat.
    room = jnp.full(star.shape[:2], MAX_MOVE / subsampling, star.dtype)
    reach = jnp.stack([jnp.maximum(MAX_GAIN * jnp.abs(star[..., 0]), 1e-6), room, room], axis=-1)
    operators = [star_operator(star[..., axis], data.shape[-1], subsampling, jnp, 2) for axis in (1, 2)]

    def unpack(point: Array) -> tuple[Array, Array]:
        h = grid + of_grid[:, None, None] * point[:, :n_grid].reshape(grid.shape)
        moves = of_star * point[:, n_grid : n_grid + 3 * n_stars].reshape(star.shape)
        return h, star + reach * jnp.tanh(moves / reach)

    def misfit(point: Array) -> Array:
        """Residuals, the backgrounds still in them."""
        h, stars = unpack(point)
        narrow = analytic + h
        seen = distort(narrow, distortion, coordinates) if distorted else narrow
        moves = (stars - star)[..., 1:, None, None]
        across, down = (
            operator + moves[:, :, axis] * (slope + 0.5 * moves[:, :, axis] * bend)
            for axis, (operator, slope, bend) in enumerate(operators)
        )
        residual = data - stars[..., 0, None, None] * _seen(seen, across, down)
        return residual

    def skies(residual: Array) -> tuple[Array, Array]:
        """The best backgrounds [F, S] for residuals without them, and their part of the objective [F]."""
        if sky_prior is None:
            return jnp.zeros(residual.shape[:2], residual.dtype), jnp.zeros(len(residual), residual.dtype)
        of_star, of_frame = sky_prior
        pull = jnp.sum(weight * residual, axis=(2, 3))
        share = of_star / (sky_weight + of_star)
        level = jnp.sum(share * pull, axis=1) / (jnp.sum(share * sky_weight, axis=1) + of_frame)
        sky = (pull + of_star * level[:, None]) / (sky_weight + of_star)
        apart = sky - level[:, None]
        return sky, 0.5 * (jnp.sum(of_star * apart**2, axis=1) + of_frame * level**2)

    def objective(point: Array, delta: Array) -> tuple[Array, Array]:
        h, _ = unpack(point)
        residual = misfit(point)
        # At their best values the objective does not depend on the backgrounds: no gradient through them.
        sky, sky_part = jax.lax.stop_gradient(skies(residual))
        residual = residual - sky[..., None, None]
        half_chi2 = 0.5 * jnp.sum(weight * residual**2, axis=(1, 2, 3)) + sky_part
        size = jnp.abs(strength * _details(h))
        width = delta[:, None, None, None]
        huber = jnp.where(size < width, size**2 / (2 * width), size - width / 2)
        return half_chi2 + jnp.sum(huber, axis=(1, 2, 3)), half_chi2 + jnp.sum(size, axis=(1, 2, 3))

    end = minimise(
        objective,
        jnp.zeros((n_frames, n_grid + 3 * n_stars), dtype=data.dtype),
        jnp.asarray(DELTAS, dtype=data.dtype),
        stages,
        ~wanted,
        max_iter=max_iter,
        tolerance=tolerance,
    )
    h, stars = unpack(end.point)
    amplitude, x, y = jnp.moveaxis(stars, -1, 0)
    sky, _ = skies(misfit(end.point))
    return PixelFit(h, amplitude, x, y, sky, end.history, end.loss, end.converged, end.n_iter)
