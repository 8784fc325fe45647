"""Which of the stars that a frame offers its PSF is fitted to."""

import numpy as np

SMALLEST_CORE = 1.5
"""Pixels: radius of the core of an undersampled star."""
MIN_SNR = 20.0
"""In an aperture of one FWHM: a fainter star adds nothing beside others, and makes way for one that does."""
DOUBLENESS_OF_NOISE = 25.0
"""Over the signal to noise of all stars of a frame: the doubleness that noise gives single PSFs stays below."""


def stamp_quality(
    data: np.ndarray, noise: np.ndarray, good: np.ndarray, expected: np.ndarray, fwhm: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the core of each star is whole, and its signal to noise.

    Args:
        data, noise: [F, S, n, n], sky subtracted. good: [F, S, n, n] bool; all False for an absent star.
        expected: [F, S, 2], x, y of the star from the stamp's centre (n - 1)/2, pixels.
        fwhm: [F], pixels; NaN: unknown.

    Returns:
        whole: [F, S] bool, no pixel within half a FWHM (1.5 px at least) is masked: neither saturated nor hit.
        snr: [F, S], of the good pixels within one FWHM.
    """
    axis = np.arange(data.shape[-1]) - (data.shape[-1] - 1) / 2
    dx = axis - expected[..., 0, None, None]
    dy = axis[:, None] - expected[..., 1, None, None]
    radius = np.hypot(dx, dy)
    half = np.maximum(np.nan_to_num(np.asarray(fwhm, dtype=np.float64)) / 2, SMALLEST_CORE)[
        :, None, None, None
    ]
    whole = np.asarray(good.any(axis=(2, 3)) & ~((radius <= half) & ~good).any(axis=(2, 3)))
    aperture = good & (radius <= 2 * half)
    light = np.where(aperture, data, 0.0).sum(axis=(2, 3))
    error = np.sqrt(np.where(aperture, noise**2, 0.0).sum(axis=(2, 3)))
    return whole, light / np.where(error > 0, error, np.inf)


def best_candidates(whole: np.ndarray, snr: np.ndarray, number: int) -> np.ndarray:
    """Indices of at most `number` of a frame's candidates, which come best first.

    Stars that are whole and bright enough come first; then whole but faint ones, brightest first, so that a frame
    under clouds is fitted to what it has; damaged ones only where there is no other.

    Args:
        whole, snr: [S], of one frame, see `stamp_quality`.
        number: how many at most.
    """
    usable = np.flatnonzero(whole & (snr >= MIN_SNR))
    faint = np.flatnonzero(whole & ~(snr >= MIN_SNR))
    faint = faint[np.argsort(-snr[faint], kind="stable")]
    found = np.concatenate([usable, faint])
    return (found if len(found) else np.arange(len(whole)))[:number]


def doubleness_beyond_noise(doubleness: float, snr: float) -> float:
    """What of a PSF's doubleness (`shape.doubleness`) its noise does not explain, 0 or more.

    The PSF of a frame under clouds has peaks of noise. In simulated frames they gave up to 0.2, 0.5 and 1.2 at a
    signal to noise of 90, 40 and 16.

    Args:
        doubleness: of the PSF; snr: signal to noise of all its stars together.
    """
    return max(0.0, doubleness - DOUBLENESS_OF_NOISE / snr) if snr > 0 else 0.0
