"""What a candidate's own fluxes say for and against it as a control star: constant, single, measured."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import chi2 as chi2_distribution

from lightcurver_ops.numerics.controls import FEWEST_EPOCHS, control_scatter

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Limits:
    """From where on a star is no control star.

    Attributes:
        measured: part of the frames in which it is measured, at least.
        chance: probability of its scatter by its errors alone, at least.
        ratio: of its scatter to its errors, at most; smaller ones do no harm, however sure.
        sigma: how sure a misfit must be, standard deviations.
        misfit: what the PSF leaves of its light, at most.
    """

    measured: float
    chance: float
    ratio: float
    sigma: float
    misfit: float


CHOOSE = Limits(measured=0.8, chance=1e-3, ratio=1.2, sigma=5.0, misfit=0.03)
KEEP = Limits(measured=0.5, chance=1e-6, ratio=1.5, sigma=8.0, misfit=0.05)
"""A star that is a control star already stays one until the case against it is clear: its light curve would begin
anew."""
OUTLYING_NUMBER, OUTLYING_FRACTION = 4, 0.04
"""A star that is far off in so many of its epochs, and so large a part of them, varies now and then (an eclipse)."""
MISFIT_RATIO = 2.0
"""A misfit counts where it exceeds that of the median star by this factor: all share the error of the PSF."""


@dataclass(frozen=True)
class History:
    """A star in the frames of a filter.

    Attributes:
        epochs: frames in which it is measured; frames: all.
        ratio: scatter of its normalized flux over its errors; NaN with fewer than 5 epochs.
        chance: probability of at least this scatter.
        outliers: epochs beyond 5 robust standard deviations.
        misfit: what the PSF leaves of its light, relative; usual: the same of the median star.
        misfit_sigma: of how many standard deviations the misfit is above the usual one.
    """

    epochs: int
    frames: int
    ratio: float
    chance: float
    outliers: int
    misfit: float
    usual: float
    misfit_sigma: float


def star_history(
    flux: ArrayLike,
    uncertainty: ArrayLike,
    chi2: ArrayLike,
    n_pixels: ArrayLike,
    coefficient: ArrayLike,
    coefficient_error: ArrayLike,
    scatter_of_others: float,
    misfit_of_others: float,
) -> History:
    """How a star behaves after normalization.

    Args:
        flux, uncertainty: [E], e-/s; NaN where it was not measured.
        chi2, n_pixels: [E], of the fit of the PSF to its stamp, reduced, and what took part.
        coefficient, coefficient_error: [E], of the frames, with their standard errors.
        scatter_of_others: relative scatter that the errors of the typical star do not explain; the star may have it.
        misfit_of_others: `squared_misfit` of the typical star.
    """
    f, sigma, c, c_error = (
        np.asarray(values, dtype=np.float64) for values in (flux, uncertainty, coefficient, coefficient_error)
    )
    measured = np.isfinite(f) & (sigma > 0) & np.isfinite(c) & (c > 0)
    f, sigma, c, c_error = f[measured], sigma[measured], c[measured], c_error[measured]
    normalized, level = f / c, float(np.median(f / c)) if len(f) else np.nan
    error = np.hypot(sigma / c, level * np.hypot(c_error / c, scatter_of_others))
    nothing = np.full(len(f), np.nan)
    scatter = control_scatter(normalized, error, nothing, nothing)
    ratio, chance, outliers = np.nan, 1.0, 0
    if scatter is not None:
        freedom = scatter.epochs - scatter.clipped - 1
        ratio, outliers = scatter.ratio, scatter.clipped
        chance = float(chi2_distribution.sf(freedom * ratio**2, freedom))
    squared, noise = squared_misfit(
        np.asarray(chi2, dtype=np.float64)[measured],
        np.asarray(n_pixels, dtype=np.float64)[measured],
        f / sigma,
    )
    known = len(f) >= FEWEST_EPOCHS
    return History(
        epochs=int(measured.sum()),
        frames=len(measured),
        ratio=float(ratio),
        chance=chance,
        outliers=outliers,
        misfit=float(np.sqrt(max(squared, 0.0))),
        usual=float(np.sqrt(max(misfit_of_others, 0.0))),
        misfit_sigma=(squared - misfit_of_others) / noise if known and noise > 0 else 0.0,
    )


def squared_misfit(chi2: Array, n_pixels: Array, snr: Array) -> tuple[float, float]:
    """The square of what the PSF leaves of a star's light, over its epochs, and the noise of that square.

    `sum_e n (chi2 - 1) / sum_e snr^2`: a relative error of the model, as that of a neighbour or of a galaxy, adds its
    square times that of the signal to noise to the sum of squared residuals.

    Args:
        chi2, n_pixels, snr: [E], see `numerics.quality.frame_misfit`.

    Returns:
        Both NaN without an epoch. The first is negative where the noise is overestimated.
    """
    light = float(np.sum(snr**2))
    if not light > 0:
        return np.nan, np.nan
    return float(np.sum(n_pixels * (chi2 - 1))) / light, float(np.sqrt(2 * np.sum(n_pixels))) / light


def fault(history: History, limits: Limits) -> str | None:
    """Why a star with this history is no control star, in words; None: nothing speaks against it."""
    if history.frames and history.epochs < limits.measured * history.frames:
        return f"measured in {history.epochs} of {history.frames} frames only"
    if history.outliers >= max(OUTLYING_NUMBER, OUTLYING_FRACTION * history.epochs):
        return f"far off in {history.outliers} of {history.epochs} frames"
    if history.chance < limits.chance and history.ratio > limits.ratio:
        return f"varies: scatters by {history.ratio:.2f} times its errors"
    if history.misfit_sigma > limits.sigma and history.misfit > max(
        limits.misfit, MISFIT_RATIO * history.usual
    ):
        return f"blended, or no star: the PSF leaves {100 * history.misfit:.1f} % of its light"
    return None
