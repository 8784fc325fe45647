"""Fluxes of stars of known PSF, in all frames at once (stage 7).

Each stamp has three unknowns, flux and position, and one more for a constant background. The flux and the background
are linear and the positions nearly so: a few Gauss-Newton steps on the masked pixels, weighted by the noise, end at
the least-squares solution, and the inverse of the same normal matrix gives the uncertainty.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lightcurver_ops.numerics.psf.operators import narrow_from_full, star_operator
from lightcurver_ops.numerics.psf.outliers import outlying_pixels
from lightcurver_ops.numerics.psf.prepare import start_positions

STAMPS_PER_BLOCK = 512
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
    per_block = max(1, STAMPS_PER_BLOCK // n_stars)
    blocks = []
    for start in range(0, n_frames, per_block):
        part = slice(start, start + per_block)
        blocks.append(
            _fit_block(
                data[part], noise[part], good[part], psf[part], subsampling, uniform_background, max_iter
            )
        )
    return StarFluxes(*(np.concatenate(column) for column in zip(*blocks)))


def _fit_block(
    data: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    psf: np.ndarray,
    subsampling: int,
    uniform_background: bool,
    max_iter: int,
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
    solver = _Solver(data, noise, narrow, subsampling, n_parameters)
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

    normal: np.ndarray  # [F, S, P, P], derivatives times the flux, prior included
    slope: np.ndarray  # [F, S, 2], descent of the cost along x and y
    linear: np.ndarray  # [F, S, 1 or 2], flux and background
    chi2: np.ndarray
    cost: np.ndarray  # chi2 plus the prior on the position


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
        self, data: np.ndarray, noise: np.ndarray, narrow: np.ndarray, subsampling: int, n_parameters: int
    ):
        self.data, self.noise, self.narrow = data, noise, narrow
        self.subsampling, self.n_parameters = subsampling, n_parameters
        self.linear = [0, 3] if n_parameters == 4 else [0]

    def run(self, good: np.ndarray, x: np.ndarray, y: np.ndarray, max_iter: int) -> _Fit:
        weight = np.where(good, 1.0 / self.noise**2, 0.0)
        start = np.stack([x, y], axis=-1)
        position, damping = start, np.zeros(x.shape)
        system = self._system(weight, position, start)
        converged: np.ndarray = np.asarray(~good.any(axis=(2, 3)))
        for _ in range(max_iter):
            if converged.all():
                break
            step, sigma = self._step(system, damping)
            trial = np.clip(position + step, start - MAX_SHIFT, start + MAX_SHIFT)
            tried = self._system(weight, trial, start)
            better = (tried.cost <= system.cost) & ~converged
            converged = converged | (np.abs(trial - position) < TOLERANCE * sigma).all(axis=-1)
            position = np.where(better[..., None], trial, position)
            system = _System(
                *(
                    np.where(better.reshape(better.shape + (1,) * (old.ndim - 2)), new, old)
                    for new, old in zip(tried, system)
                )
            )
            damping = np.where(better, damping / 5.0, np.maximum(damping * 5.0, 0.1))
        variance = np.linalg.inv(system.normal)[..., 0, 0]
        background = system.linear[..., 1] if self.n_parameters == 4 else np.zeros(x.shape)
        model = (
            system.linear[..., 0, None, None] * self._columns(position)[:, :, 0] + background[..., None, None]
        )
        return _Fit(
            system.linear[..., 0],
            variance,
            position[..., 0],
            position[..., 1],
            background,
            system.chi2,
            converged,
            model,
        )

    def _columns(self, position: np.ndarray) -> np.ndarray:
        """[F, S, P, n, n]."""
        size = self.data.shape[-1]
        across, across_slope = star_operator(position[..., 0], size, self.subsampling)
        down, down_slope = star_operator(position[..., 1], size, self.subsampling)
        half, half_slope = down @ self.narrow, down_slope @ self.narrow
        across, across_slope = across.swapaxes(-1, -2), across_slope.swapaxes(-1, -2)
        columns = [half @ across, half @ across_slope, half_slope @ across]
        if self.n_parameters == 4:
            columns.append(np.ones_like(columns[0]))
        return np.stack(columns, axis=2)

    def _system(self, weight: np.ndarray, position: np.ndarray, start: np.ndarray) -> _System:
        stamps = position.shape[:2]
        columns = self._columns(position).reshape(*stamps, self.n_parameters, -1)
        weighted = columns * weight.reshape(*stamps, 1, -1)
        normal = weighted @ columns.swapaxes(-1, -2) + 1e-30 * np.eye(self.n_parameters)
        right = (weighted @ self.data.reshape(*stamps, -1, 1))[..., 0]
        block = normal[..., self.linear, :][..., self.linear]
        linear = np.linalg.solve(block, right[..., self.linear, None])[..., 0]
        chi2 = (weight * self.data**2).sum(axis=(2, 3)) - (linear * right[..., self.linear]).sum(axis=-1)
        flux = linear[..., :1]
        pull = (position - start) / POSITION_PRIOR**2
        fitted = (normal[..., 1:3, :][..., self.linear] @ linear[..., None])[..., 0]
        slope = flux * (right[..., 1:3] - fitted) - pull
        unit = np.ones_like(flux)
        scale = np.concatenate([unit, flux, flux, unit][: self.n_parameters], axis=-1)
        prior = np.diag([0.0, 1.0, 1.0, 0.0][: self.n_parameters]) / POSITION_PRIOR**2
        normal = normal * scale[..., None] * scale[..., None, :] + prior
        return _System(normal, slope, linear, chi2, chi2 + (pull * (position - start)).sum(axis=-1))

    def _step(self, system: _System, damping: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The move in x and y, and the uncertainty of both."""
        diagonal = np.einsum("fspp->fsp", system.normal)
        damped = system.normal + (diagonal * damping[..., None])[..., None] * np.eye(self.n_parameters)
        covariance = np.linalg.inv(damped)[..., 1:3, 1:3]
        step = (covariance @ system.slope[..., None])[..., 0]
        return np.clip(step, -MAX_STEP, MAX_STEP), np.sqrt(np.einsum("fspp->fsp", covariance))
