"""Zero points: the magnitude of a source of 1 e-/s, from stars of known magnitude."""

from dataclasses import dataclass

import numpy as np
from astropy.stats import mad_std
from numpy.typing import ArrayLike

NOMINAL_SCATTER = 0.03
"""Mag: uncertainty of a catalogue magnitude in another system's band, where the stars cannot tell it."""


@dataclass(frozen=True)
class ZeroPoints:
    """Of E frames; NaN where a frame has no star.

    Args:
        zeropoint: [E], mag: m = zeropoint - 2.5 log10(flux in e-/s).
        zeropoint_uncertainty: [E], mag: robust scatter (1.48 MAD) of the stars, the nominal one below 3 stars.
        n_stars: [E].
        star_offset: [S], mag: median of a star's own zero points minus its frames'. It is constant for a star whose
            catalogue magnitude is off, or whose colour the band's relation does not cover.
    """

    zeropoint: np.ndarray
    zeropoint_uncertainty: np.ndarray
    n_stars: np.ndarray
    star_offset: np.ndarray


@dataclass(frozen=True)
class GlobalZeroPoint:
    """Of all frames once divided by their coefficients.

    Args:
        zeropoint: mag, median over the frames.
        scatter: mag, robust scatter between the frames after normalization.
        scatter_before: mag, the same before.
        uncertainty: mag: how well the stars fix it: the median of the frames' uncertainties, NaN if not given.
        normalization_reduced_scatter: False warns of coefficients that do not follow the frames' throughput; None
            with fewer than 3 frames, which cannot tell.
        n_frames: frames that have both a zero point and a coefficient.
    """

    zeropoint: float
    scatter: float
    scatter_before: float
    uncertainty: float
    normalization_reduced_scatter: bool | None
    n_frames: int


def zero_points(
    flux: ArrayLike, catalogue_magnitude: ArrayLike, *, nominal_scatter: float = NOMINAL_SCATTER
) -> ZeroPoints:
    """Zero point of each frame: median over its stars of m_catalogue + 2.5 log10(flux).

    Args:
        flux: [S, E], e-/s; NaN: missing; zero or less is not used.
        catalogue_magnitude: [S], in the band of the frames; NaN: not used.
        nominal_scatter: mag, see `ZeroPoints`.

    Raises:
        ValueError: shapes that do not fit.
    """
    flux = np.asarray(flux, dtype=np.float64)
    magnitude = np.ma.filled(np.ma.asarray(catalogue_magnitude, dtype=np.float64), np.nan)
    if flux.ndim != 2 or magnitude.shape != flux.shape[:1]:
        raise ValueError(
            f"flux must be [S, E] and catalogue_magnitude [S], not {flux.shape} and {magnitude.shape}"
        )
    positive = np.where(flux > 0, flux, np.nan)
    of_stars = magnitude[:, None] + 2.5 * np.log10(positive)
    n_stars = np.isfinite(of_stars).sum(axis=0)

    zeropoint = np.full(flux.shape[1], np.nan)
    some = n_stars > 0
    zeropoint[some] = np.nanmedian(of_stars[:, some], axis=0)
    uncertainty = np.where(some, nominal_scatter, np.nan)
    several = n_stars > 2
    uncertainty[several] = mad_std(of_stars[:, several], axis=0, ignore_nan=True)

    offset = np.full(len(flux), np.nan)
    used = np.isfinite(of_stars).any(axis=1)
    offset[used] = np.nanmedian((of_stars - zeropoint)[used], axis=1)
    return ZeroPoints(zeropoint, uncertainty, n_stars, offset)


def global_zero_point(
    zeropoint: ArrayLike, coefficient: ArrayLike, zeropoint_uncertainty: ArrayLike | None = None
) -> GlobalZeroPoint:
    """Zero point of fluxes divided by the normalization coefficients: median of zeropoint - 2.5 log10(coefficient).

    Args:
        zeropoint: [E], mag, of the frames as observed; NaN: missing.
        coefficient: [E]; NaN, zero or less: missing.
        zeropoint_uncertainty: [E], mag; None: unknown.

    Returns:
        see `GlobalZeroPoint`; all NaN where no frame has both.

    Raises:
        ValueError: shapes that do not fit.
    """
    before, c = np.asarray(zeropoint, dtype=np.float64), np.asarray(coefficient, dtype=np.float64)
    given = np.full(before.shape, np.nan) if zeropoint_uncertainty is None else zeropoint_uncertainty
    uncertainty = np.asarray(given, dtype=np.float64)
    if before.ndim != 1 or not before.shape == c.shape == uncertainty.shape:
        raise ValueError(f"all must be [E], not {before.shape}, {c.shape} and {uncertainty.shape}")
    good = np.isfinite(before) & (c > 0)
    if not good.any():
        return GlobalZeroPoint(np.nan, np.nan, np.nan, np.nan, None, 0)
    known = uncertainty[good & np.isfinite(uncertainty)]
    after = before[good] - 2.5 * np.log10(c[good])
    scatter, scatter_before = float(mad_std(after)), float(mad_std(before[good]))
    return GlobalZeroPoint(
        zeropoint=float(np.median(after)),
        scatter=scatter,
        scatter_before=scatter_before,
        uncertainty=float(np.median(known)) if len(known) else np.nan,
        normalization_reduced_scatter=scatter < scatter_before if good.sum() > 2 else None,
        n_frames=int(good.sum()),
    )
