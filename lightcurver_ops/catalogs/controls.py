"""Which reference stars become control stars: sound ones, about as bright as the lens, not far from it."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.catalogs.merit import Array, Candidates, soundness

FAR = 2.0
"""Mag: by how much a star must be better than one of the nearest third. Of a disk that reaches the corners of square
frames these lie within eight tenths of the way to their sides, hence in every frame that points at the ROI."""
STAMP = 1.5
"""Sides of the ROI's stamp within which neighbours count: the wings of a bright one reach in from outside."""
SOUND = 0.5
"""Soundness from which a star decides how faint control stars are, where the lens's brightness is not known."""


def lens_magnitude(gmag: ArrayLike, distance_arcsec: ArrayLike, roi_size_arcsec: float) -> float | None:
    """Brightness of one image of the lens: the median G of the catalogue's sources inside the ROI.

    Args:
        gmag: [N], NaN where unknown.
        distance_arcsec: [N], from the ROI.
        roi_size_arcsec: sources up to this distance belong to the lens.

    Returns:
        None where the catalogue has none.
    """
    g = np.asarray(gmag, dtype=np.float64)
    inside = g[(np.asarray(distance_arcsec, dtype=np.float64) <= roi_size_arcsec) & np.isfinite(g)]
    return float(np.median(inside)) if len(inside) else None


def control_ranking(stars: Candidates, magnitude: float | None) -> NDArray[np.intp]:
    """The order in which stars become control stars, best first: indices of those of known magnitude.

    The cost of a star, in magnitudes: its difference in brightness to the lens, minus 2.5 log10 of its soundness, plus
    2 where it is not among the third of the stars nearest to the ROI. It depends on the stars alone; ties go to the
    earlier one.

    Args:
        stars: those that may be chosen.
        magnitude: G of the lens; None: as faint as the faintest sound star.
    """
    known = np.flatnonzero(np.isfinite(stars.gmag))
    if not len(known):
        return known
    sound = soundness(stars)
    if magnitude is None:
        magnitude = _faintest(stars.gmag[known], sound[known])
    distance = np.hypot(stars.east, stars.north)
    far = distance > np.percentile(distance, 100 / 3) * (1 + 1e-9)
    with np.errstate(divide="ignore"):
        cost = np.abs(stars.gmag - magnitude) - 2.5 * np.log10(sound) + FAR * far
    return known[np.argsort(cost[known], kind="stable")]


def _faintest(gmag: Array, sound: Array) -> float:
    good = gmag[sound >= SOUND]
    return float((good if len(good) else gmag).max())
