"""The relative throughput of frames from the fluxes of their reference stars.

Model: f[s,e] = c_e F_s, the coefficient of the frame times the star's flux at coefficient 1, observed with
variance sigma[s,e]^2 + (c_e F_s tau_s)^2. sigma is the measurement's own uncertainty, tau_s a relative scatter
proper to each star (variability, PSF mismatch), estimated along with the rest, so that a variable star weighs little
and is reported. Measurements far from the other stars of their frame lose
their weight, the further the more, and entirely from a limit on.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightcurver_ops.constants import MAD_TO_SIGMA

ONE_STAR_UNCERTAINTY = 0.1
"""Relative uncertainty of a coefficient that rests on one star."""
SCALE_TUNING, SCALE_EXPECTATION, RHO_SIGMA = 2.937, 0.25, 0.265
"""Tukey's rho with this constant has this mean, and standard deviation, for a Gaussian: a robust scatter that stands a
quarter of outliers (Rousseeuw and Yohai 1984) and, unlike a median, moves smoothly, so that the iteration converges."""
PRIOR_FRAMES = 5.0
"""A star's own scatter counts as many frames of evidence against this many of the typical star's: with few
frames, an estimate from one star alone can come out near zero and give that star all the weight."""
VARIABLE_SIGMA = 5.0
VARIABLE_EXCESS, VARIABLE_RATIO = 0.005, 3.0
"""A star is called variable where its scatter stands out by so many sigma, is so large, and so much larger than that of
the others: below, its smaller weight is all that it needs."""
OUTLYING_FRACTION, OUTLYING_NUMBER, OUTLYING_RATIO = 0.04, 4, 4.0
"""The same for a star that is constant but now and then (an eclipse): the fraction of its measurements that carry no
weight, their number, and the fraction relative to that of the others."""


@dataclass(frozen=True)
class Normalization:
    """Coefficients of E frames and what S stars say about them. NaN where there is nothing to say.

    Args:
        coefficient: [E], relative flux of the frame. Without a reference, the median over the frames is 1.
        coefficient_uncertainty: [E], scatter of the stars in the frame (of one measurement, not of the mean); never
            below the standard error; 10 % of the coefficient where it rests on one star.
        standard_error: [E], of the coefficient itself, enlarged where the stars disagree by more than chance.
        chi2: [E], of the used stars around the coefficient, per degree of freedom; NaN for one star.
        n_stars: [E], measurements used.
        star_scale: [S], F_s: the star's flux in a frame of coefficient 1, e-/s.
        star_scatter: [S], robust relative scatter of f / (c F), measurement noise included.
        star_excess: [S], tau_s: what of it the uncertainties do not explain; the same for both of two stars.
        star_weight: [S], mean share of the star in the coefficients of the frames in which it was measured.
        star_chi2: [S], mean of (residual / uncertainty)^2 over all its measurements, outliers included: large for a
            variable star, also for one that is constant most of the time.
        used: [S, E], measurements that carry weight.
        weight: [S, E], relative weights, summing to 1 over the stars of a frame.
        connected: [E], False: no star links the frame to the others, so that it has no coefficient.
        reduced_chi2: of all used measurements, tau_s included in the variance.
        iterations, converged: of the iteration.
    """

    coefficient: np.ndarray
    coefficient_uncertainty: np.ndarray
    standard_error: np.ndarray
    chi2: np.ndarray
    n_stars: np.ndarray
    star_scale: np.ndarray
    star_scatter: np.ndarray
    star_excess: np.ndarray
    star_weight: np.ndarray
    star_chi2: np.ndarray
    used: np.ndarray
    weight: np.ndarray
    connected: np.ndarray
    reduced_chi2: float
    iterations: int
    converged: bool


def normalization_coefficients(
    flux: ArrayLike,
    flux_uncertainty: ArrayLike,
    *,
    reference_scale: ArrayLike | None = None,
    clip_sigma: float = 6.0,
    max_iterations: int = 1000,
    tolerance: float = 1e-5,
) -> Normalization:
    """Coefficients of all frames from the fluxes of all stars.

    The flux scale is a convention: c -> k c, F -> F / k fits as well. Without a reference the median coefficient is 1,
    which moves when frames are added. To add a night without moving the earlier coefficients, give the `star_scale` of
    the normalization that set the convention as `reference_scale`: the scale is then the one at which the stars keep
    their fluxes, each weighted by how well it is known, and earlier coefficients move by the noise of the new frames
    alone.

    Args:
        flux: [S, E], e-/s; NaN: missing.
        flux_uncertainty: [S, E], 1 sigma, e-/s; NaN or not positive: missing.
        reference_scale: [S], e-/s, NaN for a star that is new.
        clip_sigma: a measurement this many sigma from the others of its frame carries no weight; from half of it
            on, less weight.
        max_iterations: at most so many.
        tolerance: stop when no coefficient moves by more than this fraction of its standard error, with a floor of
            1e-10 of itself.

    Returns:
        see `Normalization`; `converged` is False where the iterations did not suffice.

    Raises:
        ValueError: shapes that do not fit, or a reference scale that shares no star with the fluxes.
    """
    f, sigma = np.array(flux, dtype=np.float64), np.array(flux_uncertainty, dtype=np.float64)
    if f.ndim != 2 or f.shape != sigma.shape or not f.size:
        raise ValueError(f"flux and flux_uncertainty must be [S, E] alike, not {f.shape} and {sigma.shape}")
    good = np.isfinite(f) & np.isfinite(sigma) & (sigma > 0)
    good &= (_nanmedian(np.where(good, f, np.nan), axis=1) > 0)[:, None]
    good, connected = _largest_linked_part(good)
    f, sigma = np.where(good, f, np.nan), np.where(good, sigma, np.nan)

    reference = None if reference_scale is None else np.asarray(reference_scale, dtype=np.float64)
    c, scale = _start(f)
    excess2, trust = _first_weights(f, sigma, c, scale, clip_sigma)
    converged, iteration = not good.any(), 0
    while not converged and iteration < max_iterations:
        iteration += 1
        weight = _weights(trust, _variance(sigma, scale, excess2, c))
        previous, c = c, np.nansum(weight * f / scale[:, None], axis=0) / _total(weight)
        variance = _variance(sigma, scale, excess2, c)
        z = _standardised(f / scale[:, None] - c, variance, weight)
        trust = _trust(z, clip_sigma)
        excess2 = _updated_excess(excess2, z, variance / c**2)
        scale = _star_scales(f, sigma, c, scale, excess2, trust)
        moved = np.abs(c - previous) / np.maximum(tolerance / np.sqrt(_total(weight)), 1e-10 * np.abs(c))
        gauge = _gauge(c, scale, np.nansum(weight, axis=1), reference)
        c, scale = c / gauge, scale * gauge
        # The first steps build the weights up: they say nothing about convergence.
        converged = iteration > 2 and bool(np.all(moved[np.isfinite(c)] < 1.0))
    return _report(f, sigma, c, scale, excess2, trust, connected, iteration, converged)


def variable_stars(flux: ArrayLike, flux_uncertainty: ArrayLike, result: Normalization) -> np.ndarray:
    """Which stars vary more than the others, [S] bool.

    The residuals of a star from the mean of the frame's other stars are compared with its uncertainties and the
    typical excess of the other stars (their median). The star is variable if their robust scale, as in the
    normalization itself, is above 1 by `VARIABLE_SIGMA` of its standard error for Gaussian residuals, and its excess
    above both `VARIABLE_EXCESS` and `VARIABLE_RATIO` times the typical one; or if measurements that lost all weight are
    too many, see `OUTLYING_FRACTION`. Fewer than three stars do not tell which of them varies.

    Args:
        flux, flux_uncertainty: [S, E], what was normalized.
        result: its normalization.
    """
    f, sigma = np.asarray(flux, dtype=np.float64), np.asarray(flux_uncertainty, dtype=np.float64)
    good = (
        np.isfinite(f)
        & np.isfinite(sigma)
        & (sigma > 0)
        & result.connected
        & np.isfinite(result.star_scale)[:, None]
    )
    n = good.sum(axis=1)
    variable = np.zeros(len(f), dtype=bool)
    if np.sum(n > 0) < 3:
        return variable
    f, sigma, c, scale = (
        np.where(good, f, np.nan),
        np.where(good, sigma, np.nan),
        result.coefficient,
        result.star_scale,
    )
    weight = np.where(
        result.used, _weights(np.ones_like(f), _variance(sigma, scale, result.star_excess**2, c)), 0.0
    )
    lost = good & ~result.used
    for s in np.flatnonzero(n > 1):
        others = np.flatnonzero((n > 0) & (np.arange(len(f)) != s))
        typical = float(np.median(result.star_excess[others]))
        excess2 = np.where(np.arange(len(f)) == s, typical, result.star_excess) ** 2
        z = _standardised(f / scale[:, None] - c, _variance(sigma, scale, excess2, c), weight)[s]
        rho = _rho(z[np.isfinite(z)])
        if not len(rho):
            continue
        above = float(rho.mean()) * n[s] / (n[s] - 1) - SCALE_EXPECTATION
        scatters = above > VARIABLE_SIGMA * RHO_SIGMA / np.sqrt(len(rho))
        excess = float(result.star_excess[s])
        fraction, usual = lost[s].sum() / n[s], lost[others].sum() / n[others].sum()
        variable[s] = (scatters and excess > max(VARIABLE_EXCESS, VARIABLE_RATIO * typical)) or (
            lost[s].sum() >= OUTLYING_NUMBER and fraction >= max(OUTLYING_FRACTION, OUTLYING_RATIO * usual)
        )
    return variable


def _largest_linked_part(good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Measurements, and frames, of the largest set of frames that stars link to each other."""
    n_stars, n_frames = good.shape
    star, frame = np.nonzero(good)
    if not len(star):
        return good, np.zeros(n_frames, dtype=bool)
    size = n_stars + n_frames
    links = coo_array((np.ones(len(star)), (star, frame + n_stars)), shape=(size, size))
    label = connected_components(links, directed=False)[1]
    of_frame = np.where(good.any(axis=0), label[n_stars:], -1)
    largest = np.bincount(of_frame[of_frame >= 0]).argmax()
    connected = of_frame == largest
    return good & connected, connected


def _start(f: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients [E] and star scales [S] by medians alone, which no outlier moves far."""
    c = np.where(np.isfinite(f).any(axis=0), 1.0, np.nan)
    scale = np.full(len(f), np.nan)
    for _ in range(10):
        scale = _nanmedian(f / c, axis=1)
        scale = np.where(scale > 0, scale, np.nan)
        # Not weighted: a star that holds most of the weight would be the median, outliers and all.
        new_c = _nanmedian(f / scale[:, None], axis=0)
        new_c = new_c / _nanmedian(new_c[None], axis=1)
        # A coefficient of zero or less (all stars lost in cloud) must not be divided by.
        c = np.where(new_c > 0, new_c, np.where(np.isfinite(new_c), 1e-3, np.nan))
    return c, scale


def _first_weights(
    f: np.ndarray, sigma: np.ndarray, c: np.ndarray, scale: np.ndarray, clip_sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Excess variance [S] and trust [S, E] from the medians' residuals.

    Without these the first mean would carry the outliers, and with three stars an outlier makes the other two look
    just as bad.
    """
    excess2 = np.zeros(len(f))
    residual = f / scale[:, None] - c
    n = np.maximum(np.isfinite(residual).sum(axis=0), 1)
    for _ in range(5):
        variance = _variance(sigma, scale, excess2, c)
        # the variance of the median itself
        z = residual / np.sqrt(variance + 0.5 * np.pi * _nanmedian(variance, axis=0) / n)
        excess2 = _updated_excess(excess2, z, variance / c**2)
    return excess2, _trust(z, clip_sigma)


def _variance(sigma: np.ndarray, scale: np.ndarray, excess2: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Variance [S, E] of f / F."""
    return (sigma / scale[:, None]) ** 2 + excess2[:, None] * c**2


def _weights(trust: np.ndarray, variance: np.ndarray) -> np.ndarray:
    return np.nan_to_num(trust / variance)


def _total(weight: np.ndarray) -> np.ndarray:
    """Sum over the stars, NaN instead of zero."""
    total = weight.sum(axis=0)
    return np.where(total > 0, total, np.nan)


def _standardised(residual: np.ndarray, variance: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Residuals [S, E] from the mean of the frame's OTHER stars, in units of their standard deviation.

    From the mean of all, a star of large weight would be compared with itself. NaN where there is no other star.
    """
    total = weight.sum(axis=0)
    others = total - weight
    others = np.where(others > 1e-12 * total, others, np.nan)
    return residual * (total / others) / np.sqrt(variance + 1.0 / others)


def _trust(z: np.ndarray, clip_sigma: float) -> np.ndarray:
    """Factor 0 to 1 on each weight: 1 up to half of `clip_sigma`, falling smoothly to 0 there; NaN z: 1.

    One that has no other star to compare with keeps its weight, and so do all of a frame in which all would lose it:
    such stars contradict each other, and the frame's scatter says so.
    """
    beyond = np.clip(2.0 * np.abs(z) / clip_sigma - 1.0, 0.0, 1.0)
    trust = np.where(np.isfinite(z), (1.0 - beyond**2) ** 2, 1.0)
    return np.where(trust.sum(axis=0) > 0, trust, 1.0)


def _rho(z: np.ndarray) -> np.ndarray:
    return np.where(np.abs(z) < SCALE_TUNING, 1.0 - (1.0 - (z / SCALE_TUNING) ** 2) ** 3, 1.0)


def _updated_excess(excess2: np.ndarray, z: np.ndarray, relative_variance: np.ndarray) -> np.ndarray:
    """Excess variance [S] that brings the robust scatter of each star's z nearer to 1."""
    n = np.isfinite(z).sum(axis=1)
    # The star's own scale is fitted to its n frames.
    freedom = n / np.maximum(n - 1, 1)
    ratio = freedom * _nanmean(np.where(np.isfinite(z), _rho(z), np.nan), axis=1) / SCALE_EXPECTATION
    own = np.maximum(0.0, excess2 + (ratio - 1.0) * _nanmedian(relative_variance, axis=1))
    typical = np.nan_to_num(_nanmedian(own[None], axis=1)[0])
    if np.sum(n > 0) < 3:
        return np.full(len(n), typical)  # two stars do not tell which of them scatters
    return (n * np.nan_to_num(own) + PRIOR_FRAMES * typical) / (n + PRIOR_FRAMES)


def _star_scales(
    f: np.ndarray,
    sigma: np.ndarray,
    c: np.ndarray,
    scale: np.ndarray,
    excess2: np.ndarray,
    trust: np.ndarray,
) -> np.ndarray:
    """Weighted least squares for F [S] at given coefficients; a star without weight keeps its scale."""
    weight = _weights(trust, sigma**2 + excess2[:, None] * (c * scale[:, None]) ** 2)
    numerator, denominator = np.nansum(weight * f * c, axis=1), np.nansum(weight * c**2, axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        fitted = numerator / denominator
    return np.where(fitted > 0, fitted, scale)


def _gauge(c: np.ndarray, scale: np.ndarray, star_weight: np.ndarray, reference: np.ndarray | None) -> float:
    """The factor by which coefficients are divided, and star scales multiplied, to meet the convention."""
    if reference is None:
        return float(np.nanmedian(c))
    common = np.isfinite(reference) & (reference > 0) & np.isfinite(scale) & (star_weight > 0)
    if not common.any():
        raise ValueError("no star of the reference scale has a flux: normalize without reference_scale")
    log_ratio = np.log(reference[common] / scale[common])
    return float(np.exp(np.average(log_ratio, weights=star_weight[common])))


def _report(
    f: np.ndarray,
    sigma: np.ndarray,
    c: np.ndarray,
    scale: np.ndarray,
    excess2: np.ndarray,
    trust: np.ndarray,
    connected: np.ndarray,
    iterations: int,
    converged: bool,
) -> Normalization:
    good = np.isfinite(f) & np.isfinite(scale)[:, None]
    trust = np.where(good, trust, 0.0)
    variance = _variance(sigma, scale, excess2, c)
    weight = _weights(trust, variance)
    total = _total(weight)
    share = np.nan_to_num(weight / total)
    residual = f / scale[:, None] - c
    z = _standardised(residual, variance, weight)
    used = trust > 0
    n_stars = used.sum(axis=0)

    compared = np.where(np.isfinite(z), trust, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        chi2 = np.nansum(compared * z**2, axis=0) / compared.sum(axis=0)
        reduced_chi2 = float(np.nansum(compared * z**2) / compared.sum())
        # unbiased for weights that say how reliable each value is
        scatter = np.sqrt(np.nansum(share * residual**2, axis=0) / (1.0 - np.sum(share**2, axis=0)))
    formal = np.sqrt(np.nansum(trust * weight, axis=0)) / total
    # Enlarged only beyond what chance allows: always taking the larger of the two would overstate the typical error.
    by_chance = 1.0 + 3.0 * np.sqrt(2.0 / np.maximum(n_stars - 1, 1))
    standard_error = formal * np.where(chi2 > by_chance, np.sqrt(chi2), 1.0)
    uncertainty = np.where(n_stars == 1, ONE_STAR_UNCERTAINTY * c, np.fmax(scatter, standard_error))

    n = np.maximum(np.isfinite(z).sum(axis=1), 2)
    relative = z * np.sqrt(variance) / c * np.sqrt(n / (n - 1))[:, None]
    star_chi2 = _nanmean((relative * c * scale[:, None] / sigma) ** 2, axis=1)
    observed = good.any(axis=1)
    return Normalization(
        coefficient=c,
        coefficient_uncertainty=np.where(np.isfinite(c), uncertainty, np.nan),
        standard_error=standard_error,
        chi2=chi2,
        n_stars=n_stars,
        star_scale=scale,
        star_scatter=MAD_TO_SIGMA * _nanmedian(np.abs(relative), axis=1),
        star_excess=np.where(observed, np.sqrt(excess2), np.nan),
        star_weight=_nanmean(np.where(good, share, np.nan), axis=1),
        star_chi2=star_chi2,
        used=used,
        weight=share,
        connected=connected,
        reduced_chi2=reduced_chi2,
        iterations=iterations,
        converged=converged,
    )


def _nanmedian(values: np.ndarray, axis: int) -> np.ndarray:
    """numpy's nanmedian without its warning where all is NaN."""
    empty = ~np.isfinite(values).any(axis=axis, keepdims=True)
    result: np.ndarray = np.nanmedian(np.where(empty, 0.0, values), axis=axis)
    return np.where(np.squeeze(empty, axis=axis), np.nan, result)


def _nanmean(values: np.ndarray, axis: int) -> np.ndarray:
    known = np.isfinite(values)
    n = known.sum(axis=axis)
    return np.where(n > 0, np.where(known, values, 0.0).sum(axis=axis) / np.maximum(n, 1), np.nan)


def anchored(normalization: Normalization, n_reference: int) -> Normalization:
    """The same normalization, its scale set by the first frames alone.

    Coefficients (and their errors) are divided, star scales multiplied, by the median coefficient of the first
    ``n_reference`` frames that have one; frames are in the order of time.
    """
    known = normalization.coefficient[np.isfinite(normalization.coefficient)]
    if not len(known):
        return normalization
    scale = float(np.median(known[:n_reference]))
    return replace(
        normalization,
        coefficient=normalization.coefficient / scale,
        coefficient_uncertainty=normalization.coefficient_uncertainty / scale,
        standard_error=normalization.standard_error / scale,
        star_scale=normalization.star_scale * scale,
    )
