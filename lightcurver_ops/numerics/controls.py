"""Control stars: how much constant stars scatter, measured as the lens is, over the errors that are quoted for them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import f as f_distribution

from lightcurver_ops.constants import MAD_TO_SIGMA, POGSON

Array = NDArray[np.float64]

FEWEST_EPOCHS = 5
"""Fewer say nothing about an error: the ratio of five is known to a third."""
CLIP = 5.0
"""Robust standard deviations beyond which an epoch is left out of the ratio; of Gaussian errors hardly any is."""
VARIABLE = 0.005
"""Probability by which a star scatters so much more than the quietest by chance: a smaller one, and it is variable."""
_MMAG = 1000 * POGSON


@dataclass(frozen=True)
class Trend:
    """A straight line through the magnitudes.

    Attributes:
        slope: mmag per unit of the quantity; NaN where it does not vary.
        uncertainty: 1 sigma, from the quoted errors times the star's ratio.
    """

    slope: float
    uncertainty: float


@dataclass(frozen=True)
class ControlScatter:
    """What a constant star says of the errors quoted for it.

    Attributes:
        epochs: measured.
        clipped: of them, those further than 5 robust standard deviations from the median.
        flux: inverse-variance mean of the others.
        scatter_mmag: standard deviation of the others, mmag.
        quoted_mmag: root mean square of their quoted errors, mmag.
        ratio: scatter over quoted error, the root of the others' reduced chi2 around the mean; 1 for honest errors.
        ratio_uncertainty: 1 sigma, ratio / sqrt(2 (E - 1)).
        robust_ratio: the same ratio from 1.4826 median absolute deviations of all epochs.
        chi2: reduced, of all epochs, clipped or not.
        with_time: change of the magnitude per 100 days.
        with_seeing: change of the magnitude per arcsec of seeing.
    """

    epochs: int
    clipped: int
    flux: float
    scatter_mmag: float
    quoted_mmag: float
    ratio: float
    ratio_uncertainty: float
    robust_ratio: float
    chi2: float
    with_time: Trend
    with_seeing: Trend


@dataclass(frozen=True)
class ErrorFactor:
    """The factor between quoted errors and scatter, of all control stars together.

    Attributes:
        value: 1 for honest errors.
        uncertainty: 1 sigma.
        agrees: for each star, whether it is behind the factor; the others scatter more than the quietest star by more
            than chance, hence vary, or are disturbed.
    """

    value: float
    uncertainty: float
    agrees: tuple[bool, ...]


def control_scatter(
    flux: ArrayLike, uncertainty: ArrayLike, mjd: ArrayLike, seeing: ArrayLike
) -> ControlScatter | None:
    """The scatter of a star that is taken to be constant.

    Args:
        flux: [E], any unit.
        uncertainty: [E], as quoted, same unit; an epoch whose flux or uncertainty is not finite, or whose uncertainty
            is not positive, counts as not measured.
        mjd: [E], days.
        seeing: [E], arcsec; may hold NaN.

    Returns:
        None where fewer than 5 epochs are measured, or their mean flux is not positive.

    Raises:
        ValueError: the shapes do not agree.
    """
    f, sigma, t, width = (np.asarray(a, dtype=np.float64) for a in (flux, uncertainty, mjd, seeing))
    if f.ndim != 1 or not f.shape == sigma.shape == t.shape == width.shape:
        raise ValueError(
            f"flux, uncertainty, mjd and seeing must all be [E], got {f.shape}, {sigma.shape}, {t.shape} and "
            f"{width.shape}"
        )
    measured = np.isfinite(f) & np.isfinite(sigma) & (sigma > 0)
    if measured.sum() < FEWEST_EPOCHS:
        return None
    f, sigma, t, width = (a[measured] for a in (f, sigma, t, width))
    robust = _robust_deviation((f - np.median(f)) / sigma)
    kept = np.abs((f - np.median(f)) / sigma) <= CLIP * robust
    if kept.sum() < FEWEST_EPOCHS:  # more than half of the fluxes are the same number
        kept[:] = True
    mean = _mean(f[kept], sigma[kept])
    if not mean > 0:
        return None
    ratio = float(np.sqrt(np.sum(((f - mean) / sigma)[kept] ** 2) / (kept.sum() - 1)))
    everyone = _mean(f, sigma)
    magnitude, error = -_MMAG * (f / mean - 1)[kept], _MMAG * ratio * sigma[kept] / mean
    return ControlScatter(
        epochs=len(f),
        clipped=int(np.sum(~kept)),
        flux=mean,
        scatter_mmag=float(_MMAG * np.std(f[kept], ddof=1) / mean),
        quoted_mmag=float(_MMAG * np.sqrt(np.mean(sigma[kept] ** 2)) / mean),
        ratio=ratio,
        ratio_uncertainty=ratio / float(np.sqrt(2 * (kept.sum() - 1))),
        robust_ratio=robust,
        chi2=float(np.sum(((f - everyone) / sigma) ** 2) / (len(f) - 1)),
        with_time=_trend(t[kept] / 100, magnitude, error),
        with_seeing=_trend(width[kept], magnitude, error),
    )


def error_factor(stars: Sequence[ControlScatter]) -> ErrorFactor | None:
    """The factor by which quoted errors must be multiplied to be those that the stars show.

    A star can scatter more than its errors because it varies, but hardly less: the stars that agree with the quietest
    one (F test of the variances, with E - 1 degrees of freedom each) are taken together, their squared ratios weighted
    by E - 1.

    Returns:
        None where there is no star.
    """
    if not stars:
        return None
    freedom = np.array([star.epochs - star.clipped - 1 for star in stars], dtype=np.float64)
    ratio = np.array([star.ratio for star in stars])
    quietest = int(np.argmin(ratio))
    agrees = ratio**2 <= ratio[quietest] ** 2 * f_distribution.isf(VARIABLE, freedom, freedom[quietest])
    total = float(freedom[agrees].sum())
    value = float(np.sqrt(np.sum((freedom * ratio**2)[agrees]) / total))
    return ErrorFactor(value, value / float(np.sqrt(2 * total)), tuple(agrees.tolist()))


def _mean(flux: Array, uncertainty: Array) -> float:
    return float(np.average(flux, weights=uncertainty**-2.0))


def _robust_deviation(values: Array) -> float:
    """1.4826 median absolute deviations, times n / (n - 0.8) for few values (Croux & Rousseeuw 1992)."""
    n = len(values)
    return float(MAD_TO_SIGMA * np.median(np.abs(values - np.median(values))) * n / (n - 0.8))


def _trend(x: Array, value: Array, error: Array) -> Trend:
    known = np.isfinite(x)
    if known.sum() < FEWEST_EPOCHS or not np.ptp(x[known]) > 0 or not np.all(error > 0):
        return Trend(float("nan"), float("nan"))
    x, value, weight = x[known], value[known], error[known] ** -2.0
    x = x - np.average(x, weights=weight)
    spread = float(np.sum(weight * x**2))
    return Trend(float(np.sum(weight * x * value)) / spread, float(1 / np.sqrt(spread)))
