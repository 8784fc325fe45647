"""Seeing of a frame from the widths of its sources."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from lightcurver_ops.errors import BadFrame

_BIN = 0.05  # px
_FEW = 10


def seeing_pixels(
    fwhm: NDArray,
    ellipticity: NDArray | None = None,
    flag: NDArray | None = None,
    flux: NDArray | None = None,
) -> float:
    """Mode of the FWHM of point-like sources: galaxies are wider and cosmics narrower, neither piles up.

    A smoothed histogram (kernel width of Silverman 1986, eq. 3.31) has its peak at the stars; the result is the median
    of the sources within 1 px of the peak, or within a quarter of it where the PSF is undersampled.

    Args:
        fwhm: [n] pixels; non-finite and non-positive entries are ignored.
        ellipticity: [n] 1 - b/a; sources above 0.5 (trails, blends) are left aside.
        flag: [n] flags of the extraction; only unflagged sources are used.
            Both cuts apply only if they leave at least 10 sources.
        flux: [n] any unit; a source counts `1 + ln(flux / faintest)` times. Cosmics are all of nearly one width, where
            the widths of stars grow with their flux, and may outnumber them; but they are faint.

    Returns:
        The seeing in pixels; for fewer than 10 sources, their median.

    Raises:
        BadFrame: not a single source.
    """
    fwhm = np.asarray(fwhm, dtype=np.float64)
    valid = np.isfinite(fwhm) & (fwhm > 0)
    if not valid.any():
        raise BadFrame("no source to measure the seeing from: clouds, a closed dome, or too high a threshold")
    clean = valid.copy()
    if ellipticity is not None:
        clean &= np.asarray(ellipticity) < 0.5
    if flag is not None:
        clean &= np.asarray(flag) == 0
    chosen = clean if clean.sum() >= _FEW else valid
    widths = fwhm[chosen]
    if len(widths) < _FEW:
        return float(np.median(widths))
    weight = np.ones(len(widths))
    if flux is not None:
        light = np.asarray(flux, dtype=np.float64)[chosen]
        weight = 1 + np.log(light / light.min())

    quartiles = np.percentile(widths, [25, 75])
    spread = min(np.std(widths), (quartiles[1] - quartiles[0]) / 1.34)
    kernel = max(0.9 * spread * len(widths) ** -0.2, 2 * _BIN)
    # Widths beyond this are no seeing, and would only lengthen the histogram.
    near = widths <= 10 * np.median(widths)
    widths, weight = widths[near], weight[near]
    edges = np.arange(-3 * kernel, widths.max() + 3 * kernel + _BIN, _BIN)
    counts, _ = np.histogram(widths, edges, weights=weight)
    density = gaussian_filter1d(counts, kernel / _BIN, mode="constant")
    peak = edges[np.argmax(density)] + _BIN / 2
    return float(np.median(widths[np.abs(widths - peak) <= min(1.0, peak / 4)]))
