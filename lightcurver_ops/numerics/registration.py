"""Where a place of the sky lies in a frame, from the measured places of the frame's stars."""

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.constants import MAD_TO_SIGMA

Array = NDArray[np.float64]

FLOOR = 0.02  # pixels: of a star's catalogue position, and of what the plane does not follow
CENTROID = 0.6  # of FWHM over signal to noise: the error of a star's place (King 1983, PASP 95, 163)
FEWEST, FEWEST_FOR_PLANE = 4, 8
CLIP = 4.0
ROUNDS = 5


def offset_at(
    measured: Array, expected: Array, snr: Array, place: Array, fwhm: float
) -> tuple[Array, float] | None:
    """How far a place lies from where the plate solution says.

    The differences of the stars are fitted by a constant and, with enough stars, by its change over the frame.

    Args:
        measured, expected: [S, 2], x and y of the stars, pixels: in the frame, and by its plate solution.
        snr: [S], signal to noise of the stars.
        place: [2], x and y, pixels.
        fwhm: of the PSF, pixels.

    Returns:
        The offset [2] there and its standard deviation along either axis, pixels; None with fewer than four stars.
    """
    known = np.isfinite(measured).all(axis=1) & np.isfinite(expected).all(axis=1) & (snr > 0)
    if known.sum() < FEWEST:
        return None
    apart, away = (measured - expected)[known], (expected[known] - place) / 1000.0
    sigma = np.hypot(CENTROID * fwhm / snr[known], FLOOR)
    used = np.ones(len(apart), dtype=bool)
    for _ in range(ROUNDS):
        plane = used.sum() >= FEWEST_FOR_PLANE
        design = np.column_stack([np.ones(len(apart)), away]) if plane else np.ones((len(apart), 1))
        weighted = design[used] / sigma[used, None]
        covariance = np.linalg.pinv(weighted.T @ weighted)
        fitted = covariance @ weighted.T @ (apart[used] / sigma[used, None])
        pull = (apart - design @ fitted) / sigma[:, None]
        scatter = max(1.0, float(MAD_TO_SIGMA * np.median(np.abs(pull[used]))))
        kept = np.abs(pull).max(axis=1) < CLIP * scatter
        if (kept == used).all() or kept.sum() < FEWEST:
            break
        used = kept
    return fitted[0], float(np.sqrt(covariance[0, 0]) * scatter)
