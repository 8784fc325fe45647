"""Which of the stars that a frame offers its PSF is fitted to."""

import numpy as np

from lightcurver_ops.numerics.psf.shape import adaptive_moments

FWHM_OF_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
CENTRINGS = 3
STARS_OF_WIDTH = 8
WRONG_SEEING = 1.5

SMALLEST_CORE = 1.5
"""Pixels: radius of the core of an undersampled star."""
MIN_SNR = 20.0
"""In an aperture of one FWHM: a fainter star adds nothing beside others, and makes way for one that does."""
OTHER_CONCENTRATION = 0.12
"""Relative difference of a star's concentration from that of the frame's stars, from which on it is not one of them:
a galaxy, a blend, a star too bright for the detector. A PSF that varies by a tenth over the field is within it."""
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


def width_of_stars(
    data: np.ndarray, good: np.ndarray, whole: np.ndarray, snr: np.ndarray, seeing: np.ndarray
) -> np.ndarray:
    """FWHM of the stars of each frame, [F] pixels: the median of its brightest, by their adaptive moments.

    The seeing of a frame is measured from all that was detected on it, which on a frame of few stars may be cosmics;
    these are known to be stars.

    Args:
        data, good: [F, S, n, n]. whole, snr: [F, S], see `stamp_quality`.
        seeing: [F], pixels, returned where a frame has fewer than three bright stars, or they agree with it within a
            factor of 1.5; NaN: unknown.
    """
    width = np.array(seeing, dtype=np.float64)
    for frame in range(len(data)):
        bright = np.flatnonzero(whole[frame] & (snr[frame] >= MIN_SNR))
        if len(bright) < 3:
            continue
        best = bright[np.argsort(-snr[frame, bright], kind="stable")][:STARS_OF_WIDTH]
        covariance = adaptive_moments(np.where(good[frame, best], data[frame, best], 0.0))[1]
        measured = FWHM_OF_SIGMA * np.median(np.linalg.det(covariance) ** 0.25)
        if not WRONG_SEEING**-1 < measured / width[frame] < WRONG_SEEING:
            width[frame] = measured
    return width


def like_the_others(
    data: np.ndarray,
    good: np.ndarray,
    expected: np.ndarray,
    fwhm: np.ndarray,
    whole: np.ndarray,
    snr: np.ndarray,
) -> np.ndarray:
    """Whether the light of each star is concentrated as that of the median star of its frame, [F, S] bool.

    The concentration is the light under a Gaussian window of the seeing's width over that under one twice as wide, both
    at the star's centre. A star whose noise explains the difference is like the others, and so are all of a frame with
    fewer than four whole ones.

    Args:
        as `stamp_quality`; whole, snr: what it says.
    """
    axis = np.arange(data.shape[-1]) - (data.shape[-1] - 1) / 2
    light = np.where(good, data, 0.0)
    width = np.maximum(np.nan_to_num(np.asarray(fwhm, dtype=np.float64)), 2.0)[:, None] / FWHM_OF_SIGMA
    centre = np.array(expected, dtype=np.float64)

    def window(sigma: np.ndarray) -> np.ndarray:
        x = np.exp(-0.5 * ((axis - centre[..., 0, None]) / sigma[..., None]) ** 2)
        y = np.exp(-0.5 * ((axis - centre[..., 1, None]) / sigma[..., None]) ** 2)
        return y[..., :, None] * x[..., None, :]

    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(CENTRINGS):
            weighted = light * window(1.5 * width)
            total = weighted.sum(axis=(2, 3))
            moved = np.stack(
                [weighted.sum(axis=2) @ axis / total, weighted.sum(axis=3) @ axis / total], axis=-1
            )
            centre = np.where(np.isfinite(moved), np.clip(moved, axis[0], axis[-1]), centre)
        inner, outer = ((light * window(factor * width)).sum(axis=(2, 3)) for factor in (1.0, 2.0))
        concentration = inner / outer
        known = whole & np.isfinite(concentration) & (snr > 0)
        middle = np.array(
            [
                np.median(row[of]) if of.sum() >= 4 else np.nan
                for row, of in zip(concentration, known, strict=True)
            ]
        )[:, None]
        allowed = OTHER_CONCENTRATION + 5.0 / np.maximum(snr, 1.0)
        return np.asarray(~known | ~(np.abs(concentration / middle - 1) > allowed))


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
