"""Does a WCS put the sources of a frame on catalogue stars, and could that be chance?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree
from scipy.stats import binom

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale, sky_to_pixel
from lightcurver_ops.astrometry.tangent import to_plane

FloatArray = NDArray[np.float64]
CLIP_SIGMA = 4.0
MAX_STARS = 400  # on either side; more do not make the answer surer


@dataclass(frozen=True)
class Verification:
    """How well a WCS agrees with a catalogue.

    Args:
        n_matched: mutual nearest pairs of source and star within the tolerance, and within 4 sigma of the scatter
            (at least 0.7 px).
        rms_arcsec, rms_pixels: two-dimensional rms distance of the pairs (NaN without any).
        n_sources, n_catalogue: sources compared, and catalogue stars within the circle around the frame.
        n_inside: of these, the stars inside the frame.
        log10_chance: log10 of the probability that so many pairs arise where the two lists have nothing in common.
    """

    n_matched: int
    rms_arcsec: float
    rms_pixels: float
    n_sources: int
    n_catalogue: int
    n_inside: int
    log10_chance: float


def mutual_matches(a: FloatArray, b: FloatArray, radius: float) -> tuple[NDArray, NDArray]:
    """Pairs of points of a (N, 2) and b (M, 2) that are each other's nearest within radius: two index arrays."""
    if not len(a) or not len(b):
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    distance, nearest = cKDTree(b).query(a, distance_upper_bound=radius)
    i = np.flatnonzero(np.isfinite(distance))
    j = nearest[i]
    _, back = cKDTree(a).query(b[j])
    return i[back == i], j[back == i]


def clip_radius(distances: FloatArray, largest: float) -> float:
    """4 sigma of the (N,) distances of pairs, in pixels, between 0.7 and `largest`.

    From the median (1.18 sigma for a Rayleigh variate): a few wrong pairs must not keep it wide.
    """
    return float(np.clip(CLIP_SIGMA * np.median(distances) / 1.18, 0.7, largest))


def log10_chance(sources: FloatArray, stars: FloatArray, radius: float, n_matched: int, free: float) -> float:
    """log10 of the probability of n_matched pairs by chance.

    The probability that one source has a star within radius is the share of the area that the stars' circles
    cover or, where both lists are clumped (a cluster), what is measured after moving the sources by
    a few radii in eight directions, whichever is larger. The pairs that the fit itself can always make (`free`:
    parameters / 2) do not count. The rest follows the binomial distribution.

    Args:
        sources: (N, 2) and stars: (M, 2), in the same plane and unit as radius.
        radius: of the match.
        n_matched: pairs found.
        free: pairs that the fit made for itself.
    """
    if n_matched <= free or not len(stars):
        return 0.0
    tree = cKDTree(stars)
    area = np.prod(np.ptp(np.vstack([sources, stars]), axis=0))
    uniform = min(1.0, len(stars) * np.pi * radius**2 / max(area, np.pi * radius**2))
    angles = np.arange(8) * np.pi / 4
    moved = 0
    for step, angle in zip((4, 6, 8, 10) * 2, angles):
        shift = step * radius * np.array([np.cos(angle), np.sin(angle)])
        moved += int(
            np.count_nonzero(np.isfinite(tree.query(sources + shift, distance_upper_bound=radius)[0]))
        )
    p = min(max(uniform, moved / (8 * len(sources))), 1.0)
    return float(binom.logsf(n_matched - free - 1, max(len(sources) - free, 1), p) / np.log(10))


def verify(
    wcs: WCS,
    shape: tuple[int, int],
    x: ArrayLike,
    y: ArrayLike,
    catalogue: Catalogue,
    tolerance_px: float = 2.0,
) -> Verification:
    """Compare the sources of a frame with a catalogue through a WCS (distortions included).

    Args:
        wcs: celestial WCS of the frame.
        shape: (ny, nx) of the frame.
        x, y: (N,) 0-based pixel positions of the sources, brightest first.
        catalogue: stars of the field.
        tolerance_px: largest distance of a pair, pixels.
    """
    ra0, dec0 = frame_centre(wcs, shape)
    scale = plate_scale(wcs, shape)
    x, y = (np.asarray(a, dtype=np.float64)[:MAX_STARS] for a in (x, y))
    source_ra, source_dec = wcs.all_pix2world(x, y, 0)
    sources = np.column_stack(to_plane(source_ra, source_dec, ra0, dec0)) * 3600.0 / scale
    stars = np.column_stack(to_plane(catalogue.ra, catalogue.dec, ra0, dec0)) * 3600.0 / scale
    sources = sources[np.isfinite(sources).all(axis=1)]
    near = np.flatnonzero(np.hypot(*stars.T) < 0.55 * np.hypot(*shape))[: 2 * MAX_STARS]
    stars = stars[near]
    star_x, star_y = sky_to_pixel(wcs, catalogue.ra[near], catalogue.dec[near])
    ny, nx = shape
    inside = (star_x > -0.5) & (star_x < nx - 0.5) & (star_y > -0.5) & (star_y < ny - 0.5)
    i, j = mutual_matches(sources, stars, tolerance_px)
    if len(i):
        tolerance_px = clip_radius(np.hypot(*(sources[i] - stars[j]).T), tolerance_px)
        i, j = mutual_matches(sources, stars, tolerance_px)
    rms = float(np.sqrt(np.mean(np.sum((sources[i] - stars[j]) ** 2, axis=1)))) if len(i) else float("nan")
    return Verification(
        n_matched=len(i),
        rms_arcsec=rms * scale,
        rms_pixels=rms,
        n_sources=len(sources),
        n_catalogue=len(stars),
        n_inside=int(np.count_nonzero(inside)),
        log10_chance=log10_chance(sources, stars, tolerance_px, len(i), free=0) if len(i) else 0.0,
    )
