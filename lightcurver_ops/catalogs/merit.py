"""Which stars serve best: the neighbours of each, what speaks for and against it, and an order of choice.

A star's quality is a product of factors between 0 and 1. Each is 1 for an ideal star and one half where its argument
equals a constant below; what a catalogue does not say counts neither for nor against a star.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from lightcurver_ops.constants import MAD_TO_SIGMA

Array = NDArray[np.float64]
Purpose = Literal["psf", "norm"]

CONTAMINATION = 0.03
"""Neighbours' flux in units of the star's: a tenth of it, which seeing brings in or out, is 3 millimagnitudes."""
EXCESS_NOISE = 1.0
"""Mas. Single stars of Gaia DR3 have a few tenths (Lindegren et al. 2021, A&A 649, A2), galaxies and doubles more."""
EXCESS_NOISE_SIGNIFICANCE = 2.0
"""Smaller ones are noise, by the description of astrometric_excess_noise_sig in the Gaia DR3 data model."""
COLOUR_SIGMA = 2.5
"""Distance from the median colour, in robust standard deviations of the stars' colours."""
SMALLEST_COLOUR_SPREAD = 0.15
"""Mag: stars of nearly one colour do not turn a small difference into a large one."""
FLUX_ERROR_EXCESS = 1.0
"""Error of the mean G flux relative to stars of the same brightness, minus 1: variable stars have large ones."""
DISTANCE = {"psf": 1.0, "norm": 2.0}
"""In units of the distance within which 9 of 10 stars lie: the PSF of a distant star is not the ROI's."""
ONE_SIDED = 0.5
"""By how much a star counts less if all chosen ones lie in its own direction from the ROI."""
NEIGHBOURS_IN_BRIGHTNESS = 15


@dataclass(frozen=True)
class Candidates:
    """What a catalogue says of S stars. NaN: not known.

    Args:
        gmag: [S], Gaia G.
        colour: [S], BP - RP.
        east, north: [S], arcsec from the ROI.
        contamination: [S], see `contamination`.
        excess_noise: [S], astrometric_excess_noise, mas; excess_noise_sig: [S], its significance.
        flux_over_error: [S], phot_g_mean_flux_over_error.
    """

    gmag: Array
    colour: Array
    east: Array
    north: Array
    contamination: Array
    excess_noise: Array
    excess_noise_sig: Array
    flux_over_error: Array


def contamination(ra: ArrayLike, dec: ArrayLike, gmag: ArrayLike, stamp_arcsec: float) -> Array:
    """Flux of the neighbours in the stamp of each star, in units of the star's own flux, [N].

    A neighbour at distance d counts with `exp(-8 (d / stamp)^2)`, a Gaussian of a quarter of the stamp's side, out to
    the stamp's corners. All stars are each other's neighbours; those of unknown magnitude disturb nobody.

    Args:
        ra, dec: [N], ICRS degrees, all at one epoch, of all that the catalogue has, also of what serves for nothing
            else.
        gmag: [N], NaN where unknown.
        stamp_arcsec: side of a stamp.

    Returns:
        [N], 0 for a star without neighbours, NaN where its own magnitude is not known.
    """
    ra, dec = np.radians(np.asarray(ra, dtype=np.float64)), np.radians(np.asarray(dec, dtype=np.float64))
    g = np.asarray(gmag, dtype=np.float64)
    total = np.where(np.isfinite(g), 0.0, np.nan)
    if not len(g):
        return total
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    reach = np.radians(stamp_arcsec / np.sqrt(2) / 3600.0)
    first, second = cKDTree(vectors).query_pairs(2.0 * np.sin(reach / 2.0), output_type="ndarray").T
    distance = np.degrees(np.linalg.norm(vectors[first] - vectors[second], axis=-1)) * 3600.0
    seen = np.exp(-8.0 * (distance / stamp_arcsec) ** 2)
    for star, neighbour in ((first, second), (second, first)):
        known = np.isfinite(g[neighbour])
        ratio = 10 ** (0.4 * (g[star[known]] - g[neighbour[known]]))
        np.add.at(total, star[known], seen[known] * ratio)
    return total


def offsets(ra: ArrayLike, dec: ArrayLike, roi_ra: float, roi_dec: float) -> tuple[Array, Array]:
    """How far stars lie to the east and to the north of the ROI, arcsec [S], along the great circle to each.

    Args:
        ra, dec: [S], ICRS degrees; roi_ra, roi_dec: of the ROI.
    """
    across = np.radians(np.asarray(ra, dtype=np.float64) - roi_ra)
    up, up0 = np.radians(np.asarray(dec, dtype=np.float64)), np.radians(roi_dec)
    east = np.cos(up) * np.sin(across)
    north = np.cos(up0) * np.sin(up) - np.sin(up0) * np.cos(up) * np.cos(across)
    sine = np.hypot(east, north)
    cosine = np.sin(up0) * np.sin(up) + np.cos(up0) * np.cos(up) * np.cos(across)
    stretch = np.degrees(np.arctan2(sine, cosine)) * 3600.0 / np.where(sine > 0, sine, 1.0)
    return east * stretch, north * stretch


def qualities(stars: Candidates, number: int, purpose: Purpose) -> Array:
    """The quality of each star, 0 to 1, [S].

    Args:
        stars: those that may be chosen; colour, variability and brightness are judged against the others.
        number: how many are wanted. It sets the brightness that counts one half: that of the star of this rank, so
            that brightness decides where stars are faint, and much brighter ones, which may saturate, gain little.
        purpose: for the PSF the distance to the ROI counts more; for the normalization also the variability.
    """
    if not len(stars.gmag):
        return np.zeros(0)
    quality = (
        _brightness(stars.gmag, number)
        * _half_at(stars.contamination, CONTAMINATION)
        * _colour(stars.colour)
        * _shape(stars.excess_noise, stars.excess_noise_sig)
        * _nearness(np.hypot(stars.east, stars.north), DISTANCE[purpose])
    )
    return quality * _constancy(stars.gmag, stars.flux_over_error) if purpose == "norm" else quality


def soundness(stars: Candidates) -> Array:
    """How far a star can be trusted to be isolated, single and constant, be it bright or near: 0 to 1, [S].

    Args: as `qualities`.
    """
    return (
        _half_at(stars.contamination, CONTAMINATION)
        * _shape(stars.excess_noise, stars.excess_noise_sig)
        * _constancy(stars.gmag, stars.flux_over_error)
    )


def ranking(
    stars: Candidates, number: int, purpose: Purpose, allowed: NDArray[np.bool_] | None = None
) -> NDArray[np.intp]:
    """The order in which stars are chosen, best first: indices of the allowed ones.

    One after the other, the star of the best quality, times `1 - ONE_SIDED * c`, where c is the projection of its
    direction from the ROI on the mean direction of those before it, or 0 where it lies on the other side. The order
    depends on the stars alone; ties go to the earlier one.

    Args:
        stars, number, purpose: as `qualities`.
        allowed: [S], the stars to choose from; None: all. The others still tell what is usual, so that the order of
            the better ones does not change when a star is taken out.
    """
    quality = qualities(stars, number, purpose)
    distance = np.hypot(stars.east, stars.north)
    direction = np.stack([stars.east, stars.north]) / np.where(distance > 0, distance, 1.0)
    left = np.ones(len(quality), dtype=bool) if allowed is None else np.array(allowed, dtype=bool)
    order, mean = [], np.zeros(2)
    for count in range(1, int(left.sum()) + 1):
        value = quality * (1.0 - ONE_SIDED * np.maximum(mean @ direction, 0.0))
        best = int(np.argmax(np.where(left, value, -1.0)))
        left[best] = False
        order.append(best)
        mean += (direction[:, best] - mean) / count
    return np.array(order, dtype=np.intp)


def _half_at(value: Array, half: float) -> Array:
    """1 at zero, falling to one half, and on; 1 where the value is not known."""
    return 1.0 / (1.0 + np.nan_to_num(value, nan=0.0) / half)


def _brightness(gmag: Array, number: int) -> Array:
    """Flux over flux plus that of the star of rank `number`; one of unknown magnitude is as faint as the faintest."""
    known = np.sort(gmag[np.isfinite(gmag)])
    if not len(known):
        return np.ones(len(gmag))
    flux = 10 ** (-0.4 * (np.nan_to_num(gmag, nan=known[-1]) - known[min(number, len(known)) - 1]))
    return np.asarray(flux / (1.0 + flux))


def _colour(colour: Array) -> Array:
    known = colour[np.isfinite(colour)]
    if not len(known):
        return np.ones(len(colour))
    middle = np.median(known)
    spread = max(MAD_TO_SIGMA * float(np.median(np.abs(known - middle))), SMALLEST_COLOUR_SPREAD)
    return _half_at(((colour - middle) / spread) ** 2, COLOUR_SIGMA**2)


def _shape(noise: Array, significance: Array) -> Array:
    real = ~(significance <= EXCESS_NOISE_SIGNIFICANCE)  # of unknown significance: real
    return _half_at(np.where(real, noise, 0.0) ** 2, EXCESS_NOISE**2)


def _nearness(distance: Array, half: float) -> Array:
    far = float(np.percentile(distance, 90))
    return _half_at((distance / max(far, 1e-6)) ** 2, half**2)


def _constancy(gmag: Array, flux_over_error: Array) -> Array:
    """Compares the error of each star's mean flux with that of the stars next to it in brightness."""
    known = np.flatnonzero(np.isfinite(gmag) & (flux_over_error > 0))
    factor = np.ones(len(gmag))
    if len(known) < 5:
        return factor
    known = known[np.argsort(gmag[known], kind="stable")]
    log_error = -np.log(flux_over_error[known])
    width = min(NEIGHBOURS_IN_BRIGHTNESS, len(known))
    starts = np.clip(np.arange(len(known)) - width // 2, 0, len(known) - width)
    windows = starts[:, None] + np.arange(width)
    # The slope with brightness would make the brightest and the faintest look odd.
    slope, _ = np.polyfit(gmag[known], log_error, 1) if np.ptp(gmag[known]) > 0 else (0.0, 0.0)
    flat = log_error - slope * gmag[known]
    excess = np.exp(flat - np.median(flat[windows], axis=1)) - 1.0
    factor[known] = _half_at(np.maximum(excess, 0.0) ** 2, FLUX_ERROR_EXCESS**2)
    return factor
