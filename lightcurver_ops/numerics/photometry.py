"""Fluxes of stars of known PSF, in all frames at once (stage 7).

Each stamp has three unknowns, flux and position, and one more for a constant background. The flux and the background
are linear and the positions nearly so: a few Gauss-Newton steps on the masked pixels, weighted by the noise, end at
the least-squares solution, and the inverse of the same normal matrix gives the uncertainty.
"""

from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from lightcurver_ops.numerics.device import Device, device, padded_count
from lightcurver_ops.numerics.psf.operators import narrow_from_full, star_operator
from lightcurver_ops.numerics.psf.outliers import outlying_pixels
from lightcurver_ops.numerics.psf.prepare import start_positions

STAMPS_PER_BLOCK = 512  # on a CPU
WIDE_ARRAYS = 16  # of the size of a stamp, in double precision, that are in use at once
MAX_STEP = 0.5  # pixels per iteration
MAX_SHIFT = 2.0  # pixels from the start
POSITION_PRIOR = 1.0  # pixels: holds stars too faint to be centred near the start; nothing to the others
PSF_ERROR = 0.05  # of the model: what a pixel may be off before it counts as a cosmic
TOLERANCE = 1e-2  # in units of the uncertainty of the position


@dataclass(frozen=True)
class StarFluxes:
    """Fluxes of S stars in F frames. Where a star has no usable pixel, or its frame no PSF: NaN, not converged.

    Attributes:
        flux: [F, S], total flux in the unit of the data: with a PSF of unit total flux, whatever falls outside the
            stamp is included.
        flux_uncertainty: [F, S], 1 sigma from the normal matrix, marginalised over position (and background).
        x, y: [F, S], offset from the stamp's centre (n - 1)/2, pixels.
        background: [F, S], per pixel; zero unless fitted.
        chi2: [F, S], reduced: over good pixels minus parameters.
        n_good: [F, S], pixels used.
        converged: [F, S] bool.
    """

    flux: np.ndarray
    flux_uncertainty: np.ndarray
    x: np.ndarray
    y: np.ndarray
    background: np.ndarray
    chi2: np.ndarray
    n_good: np.ndarray
    converged: np.ndarray


def fit_star_fluxes(
    data: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    psf: np.ndarray,
    *,
    subsampling: int,
    uniform_background: bool = False,
    max_iter: int = 30,
) -> StarFluxes:
    """Flux, position and, if asked for, constant background of every star in every frame.

    Pixels far from the model (cosmics that were missed, neighbours) are rejected once and the fit repeated. A prior
    of 1 px around the start (the star's centroid, or for a faint one the median offset of its frame) keeps the
    position of a star that is lost in the noise, whose flux would else follow the noise peaks.

    Args:
        data, noise: [F, S, n, n], sky-subtracted. good: [F, S, n, n] bool; all False for an absent star.
        psf: [F, N, N], N = n * subsampling, `PsfFits.full_psf` (a frame without a PSF: NaN); or [F, S, N, N] where
            the PSF differs between the stars.
        subsampling: k, small pixels of the PSF per pixel.
        uniform_background: fit a constant to each stamp too.
        max_iter: limit of the Gauss-Newton iterations; the fit ends when it has converged.

    Returns:
        StarFluxes.
    """
    n_frames, n_stars = data.shape[:2]
    where = device()
    slots = padded_count(n_stars) if where.fixed else n_stars
    stamp = 8 * WIDE_ARRAYS * (data.shape[-1] * psf.shape[-1])
    per_block = max(1, where.batch(stamp, STAMPS_PER_BLOCK) // max(slots, 1))
    if where.fixed:
        per_block = min(per_block, padded_count(n_frames))
    blocks = []
    for start in range(0, n_frames, per_block):
        part = slice(start, start + per_block)
        count = len(data[part])
        missing = (per_block - count, slots - n_stars) if where.fixed else (0, 0)
        fit = _fit_block(
            _padded(data[part], missing),
            _padded(noise[part], missing),
            _padded(good[part], missing),
            _padded(psf[part], missing[: psf.ndim - 2]),
            subsampling,
            uniform_background,
            max_iter,
            where,
        )
        blocks.append([column[:count, :n_stars] for column in fit])
    return StarFluxes(*(np.concatenate(column) for column in zip(*blocks)))


def _padded(array: np.ndarray, missing: tuple[int, ...]) -> np.ndarray:
    """With so much more, of zeros, at the end of the first axes: stamps without a good pixel."""
    if not any(missing):
        return array
    return np.pad(array, [(0, more) for more in missing] + [(0, 0)] * (array.ndim - len(missing)))


def _fit_block(
    data: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    psf: np.ndarray,
    subsampling: int,
    uniform_background: bool,
    max_iter: int,
    where: Device,
) -> tuple[np.ndarray, ...]:
    has_psf = np.isfinite(psf).all(axis=(-2, -1))
    has_psf = has_psf[:, None] if psf.ndim == 3 else has_psf
    good = np.asarray(good, dtype=bool) & np.isfinite(data) & np.isfinite(noise) & (noise > 0)
    good &= has_psf[..., None, None]
    n_parameters = 4 if uniform_background else 3
    good &= (good.sum(axis=(2, 3)) > n_parameters)[..., None, None]
    data = np.where(good, data, 0.0).astype(np.float64)
    noise = np.where(good, noise, 1.0).astype(np.float64)
    narrow = narrow_from_full(np.nan_to_num(psf)) * subsampling**2
    narrow = narrow[:, None] if psf.ndim == 3 else narrow
    x, y = (np.nan_to_num(offset) for offset in start_positions(data, noise, good))
    solver = _Solver(data, noise, narrow, subsampling, n_parameters, where)
    fit = solver.run(good, x, y, max_iter)
    rejected = outlying_pixels(data, fit.model, noise, good, PSF_ERROR)
    if rejected.any():
        good = good & ~rejected
        fit = solver.run(good, fit.x, fit.y, max_iter)
    usable = good.any(axis=(2, 3))
    n_good = good.sum(axis=(2, 3))
    blank = np.where(usable, 0.0, np.nan)
    return (
        fit.flux + blank,
        np.sqrt(fit.variance) + blank,
        fit.x + blank,
        fit.y + blank,
        fit.background + blank,
        fit.chi2 / np.maximum(n_good - n_parameters, 1) + blank,
        n_good,
        fit.converged & usable,
    )


class _System(NamedTuple):
    """The least-squares problem at given positions; columns: unit flux, its x and y derivatives, background."""

    normal: Any  # [F, S, P, P], derivatives times the flux, prior included
    slope: Any  # [F, S, 2], descent of the cost along x and y
    linear: Any  # [F, S, 1 or 2], flux and background
    chi2: Any
    cost: Any  # chi2 plus the prior on the position


class _Stamps(NamedTuple):
    """What is fitted."""

    data: Any  # [F, S, n, n]
    weight: Any
    narrow: Any  # [F, S or 1, N, N]
    start: Any  # [F, S, 2] positions


class _State(NamedTuple):
    position: Any  # [F, S, 2]
    damping: Any
    converged: Any
    system: _System


class _Fit(NamedTuple):
    flux: np.ndarray
    variance: np.ndarray
    x: np.ndarray
    y: np.ndarray
    background: np.ndarray
    chi2: np.ndarray
    converged: np.ndarray
    model: np.ndarray


class _Solver:
    """Levenberg-Marquardt on the positions; flux and background are solved exactly at each position."""

    def __init__(
        self,
        data: np.ndarray,
        noise: np.ndarray,
        narrow: np.ndarray,
        subsampling: int,
        n_parameters: int,
        where: Device,
    ):
        self.data, self.noise, self.narrow = where.put(data), noise, where.put(narrow)
        self.static = {"subsampling": subsampling, "n_parameters": n_parameters}
        self.where = where

    def run(self, good: np.ndarray, x: np.ndarray, y: np.ndarray, max_iter: int) -> _Fit:
        call, host = self.where.call, self.where.host
        weight = np.where(good, 1.0 / self.noise**2, 0.0)
        stamps = _Stamps(self.data, self.where.put(weight), self.narrow, np.stack([x, y], axis=-1))
        system = call(_system, stamps, stamps.start, **self.static)
        state = _State(stamps.start, np.zeros(x.shape), ~good.any(axis=(2, 3)), system)
        for _ in range(max_iter):
            if host(state.converged).all():
                break
            state = call(_improved, stamps, state, **self.static)
        position = host(state.position)
        variance, background, model = (host(one) for one in call(_result, stamps, state, **self.static))
        return _Fit(
            host(state.system.linear)[..., 0],
            variance,
            position[..., 0],
            position[..., 1],
            background,
            host(state.system.chi2),
            host(state.converged),
            model,
        )


def _improved(
    stamps: _Stamps, state: _State, *, subsampling: int, n_parameters: int, xp: ModuleType
) -> _State:
    """One iteration; what has converged stays."""
    position, start, system = state.position, stamps.start, state.system
    step, sigma = _step(system, state.damping, n_parameters, xp)
    trial = xp.clip(position + step, start - MAX_SHIFT, start + MAX_SHIFT)
    tried = _system(stamps, trial, subsampling=subsampling, n_parameters=n_parameters, xp=xp)
    better = (tried.cost <= system.cost) & ~state.converged
    arrived = (xp.abs(trial - position) < TOLERANCE * sigma).all(axis=-1)
    taken = _System(
        *(
            xp.where(better.reshape(better.shape + (1,) * (old.ndim - 2)), new, old)
            for new, old in zip(tried, system)
        )
    )
    return _State(
        xp.where(better[..., None], trial, position),
        xp.where(better, state.damping / 5.0, xp.maximum(state.damping * 5.0, 0.1)),
        state.converged | arrived,
        taken,
    )


def _result(
    stamps: _Stamps, state: _State, *, subsampling: int, n_parameters: int, xp: ModuleType
) -> tuple[Any, Any, Any]:
    """Variance of the fluxes [F, S], backgrounds [F, S], and models [F, S, n, n]."""
    linear = state.system.linear
    variance = xp.linalg.inv(state.system.normal)[..., 0, 0]
    background = linear[..., 1] if n_parameters == 4 else xp.zeros(variance.shape)
    unit = _columns(stamps, state.position, subsampling, n_parameters, xp)[:, :, 0]
    return variance, background, linear[..., 0, None, None] * unit + background[..., None, None]


def _columns(stamps: _Stamps, position: Any, subsampling: int, n_parameters: int, xp: ModuleType) -> Any:
    """[F, S, P, n, n]."""
    size = stamps.data.shape[-1]
    across, across_slope = star_operator(position[..., 0], size, subsampling, xp)
    down, down_slope = star_operator(position[..., 1], size, subsampling, xp)
    half, half_slope = down @ stamps.narrow, down_slope @ stamps.narrow
    across, across_slope = across.swapaxes(-1, -2), across_slope.swapaxes(-1, -2)
    columns = [half @ across, half @ across_slope, half_slope @ across]
    if n_parameters == 4:
        columns.append(xp.ones_like(columns[0]))
    return xp.stack(columns, axis=2)


def _system(
    stamps: _Stamps, position: Any, *, subsampling: int, n_parameters: int, xp: ModuleType
) -> _System:
    shape = position.shape[:2]
    used = np.array([0, 3] if n_parameters == 4 else [0])  # the columns of the linear parameters
    columns = _columns(stamps, position, subsampling, n_parameters, xp).reshape(*shape, n_parameters, -1)
    weighted = columns * stamps.weight.reshape(*shape, 1, -1)
    normal = weighted @ columns.swapaxes(-1, -2) + 1e-30 * np.eye(n_parameters)
    right = (weighted @ stamps.data.reshape(*shape, -1, 1))[..., 0]
    block = normal[..., used, :][..., used]
    linear = xp.linalg.solve(block, right[..., used, None])[..., 0]
    chi2 = (stamps.weight * stamps.data**2).sum(axis=(2, 3)) - (linear * right[..., used]).sum(axis=-1)
    flux = linear[..., :1]
    pull = (position - stamps.start) / POSITION_PRIOR**2
    fitted = (normal[..., 1:3, :][..., used] @ linear[..., None])[..., 0]
    slope = flux * (right[..., 1:3] - fitted) - pull
    unit = xp.ones_like(flux)
    scale = xp.concatenate([unit, flux, flux, unit][:n_parameters], axis=-1)
    prior = np.diag([0.0, 1.0, 1.0, 0.0][:n_parameters]) / POSITION_PRIOR**2
    normal = normal * scale[..., None] * scale[..., None, :] + prior
    return _System(normal, slope, linear, chi2, chi2 + (pull * (position - stamps.start)).sum(axis=-1))


def _step(system: _System, damping: Any, n_parameters: int, xp: ModuleType) -> tuple[Any, Any]:
    """The move in x and y, and the uncertainty of both."""
    diagonal = xp.diagonal(system.normal, axis1=-2, axis2=-1)
    damped = system.normal + (diagonal * damping[..., None])[..., None] * np.eye(n_parameters)
    covariance = xp.linalg.inv(damped)[..., 1:3, 1:3]
    step = (covariance @ system.slope[..., None])[..., 0]
    spread = xp.sqrt(xp.diagonal(covariance, axis1=-2, axis2=-1))
    return xp.clip(step, -MAX_STEP, MAX_STEP), spread
