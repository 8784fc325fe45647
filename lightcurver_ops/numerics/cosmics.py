"""Which pixels can be trusted: cosmics, bad rows and columns, saturated and non-finite pixels are not."""

from collections.abc import Sequence

import astroscrappy
import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import label, maximum_position

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.numerics.cutouts import cutout
from lightcurver_ops.numerics.device import one_thread

# The filters of L.A.Cosmic leave the outermost pixels unexamined: stamps are examined with this much around.
_MARGIN = 8
_LINE_SIGMA = 7.0
_CLIP = 3.0
# A line offset by less than this part of a pixel's noise changes no flux that matters.
_LINE_OFFSET = 0.5


def good_pixels(
    data: NDArray,
    noise: NDArray,
    *,
    sigclip: float = 4.5,
    sigfrac: float = 0.3,
    objlim: float = 5.0,
    clean_cosmics: bool = True,
    mask_bad_rows_and_columns: bool = True,
    saturated: NDArray[np.bool_] | None = None,
    fwhm: float | None = None,
) -> NDArray[np.bool_]:
    """Find the trustworthy pixels of a frame, or of a piece of one.

    Cosmics by L.A.Cosmic (van Dokkum 2001, PASP 113, 1420) as implemented by astroscrappy, with the noise map
    squared as variance. The full median filter is used, not the faster separable one, which masks the cores of
    undersampled stars; it takes about 4 s per megapixel, so large frames are better examined by `good_stamps`.

    Args:
        data, noise: [ny, nx] sky-subtracted image and its noise, any common unit.
        sigclip, sigfrac, objlim: parameters of L.A.Cosmic: Laplacian to noise, its fraction for neighbours of a
            hit, contrast between Laplacian and fine structure.
        clean_cosmics: look for cosmics.
        mask_bad_rows_and_columns: look for `bad_rows_and_columns`.
        saturated: [ny, nx], True where saturated.
        fwhm: seeing in pixels, if known: hits that are hardly sharper than such a PSF are stars, not cosmics.

    Returns:
        [ny, nx], True where the pixel can be used.
    """
    good = np.isfinite(data) & np.isfinite(noise) & (noise > 0)
    if saturated is not None:
        good &= ~saturated
    if mask_bad_rows_and_columns:
        good &= ~bad_rows_and_columns(data, noise)
    if clean_cosmics and good.any():
        good &= ~_cosmics(data, noise, good, sigclip, sigfrac, objlim, fwhm)
    return good


def good_stamps(
    image: NDArray,
    noise: NDArray,
    origins: Sequence[tuple[int, int]],
    size: int,
    *,
    sigclip: float = 4.5,
    sigfrac: float = 0.3,
    objlim: float = 5.0,
    clean_cosmics: bool = True,
    mask_bad_rows_and_columns: bool = True,
    saturated: NDArray[np.bool_] | None = None,
    fwhm: float | None = None,
) -> NDArray[np.bool_]:
    """`good_pixels` of stamps: bad lines are sought in the whole frame, cosmics around each stamp.

    Args:
        image, noise: [ny, nx] the whole frame and its noise.
        origins: S times (x0, y0), the first pixel of each stamp, as returned by `cutout`.
        size: side n of the stamps, pixels.
        sigclip, sigfrac, objlim, clean_cosmics, mask_bad_rows_and_columns, saturated, fwhm: as `good_pixels`.

    Returns:
        [S, n, n], True where the pixel can be used; False outside of the frame.
    """
    unusable = np.zeros(image.shape, dtype=bool) if saturated is None else saturated.copy()
    if mask_bad_rows_and_columns:
        unusable |= bad_rows_and_columns(image, noise)
    stamps = np.empty((len(origins), size, size), dtype=bool)
    with one_thread():  # a stamp is too small to share it
        for stamp, (x0, y0) in zip(stamps, origins, strict=True):
            wide = size + 2 * _MARGIN
            centre = (x0 + (size - 1) / 2, y0 + (size - 1) / 2, wide)
            stamp[:] = good_pixels(
                cutout(image, *centre)[0],
                cutout(noise, *centre)[0],
                sigclip=sigclip,
                sigfrac=sigfrac,
                objlim=objlim,
                clean_cosmics=clean_cosmics,
                mask_bad_rows_and_columns=False,
                saturated=cutout(unusable, *centre, fill=True)[0],
                fwhm=fwhm,
            )[_MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
    return stamps


def bad_rows_and_columns(data: NDArray, noise: NDArray) -> NDArray[np.bool_]:
    """Find full rows and columns that are hot, dead or stuck at one value.

    A line is bad where its mean (of values clipped to 3 sigma) differs from those of the lines two to three away on
    both sides, by more than 7 sigma of such differences and half of a pixel's noise; or where it hardly varies
    from pixel to pixel.

    Args:
        data, noise: [ny, nx] sky-subtracted image and its noise. Large pieces are judged better than stamps, where
            one star fills much of a line.

    Returns:
        [ny, nx], True in bad rows and columns.
    """
    finite = np.isfinite(data) & np.isfinite(noise) & (noise > 0)
    if not finite.any():
        return ~finite
    relative = np.where(finite, data, np.nan) / np.median(noise[finite])
    return _bad_rows(relative)[:, None] | _bad_rows(relative.T)[None, :]


def _bad_rows(relative: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Indices [n] of bad rows of an image [n, m] in units of its noise, NaN where unknown."""
    known: NDArray[np.bool_] = np.any(np.isfinite(relative), axis=1)
    bad = np.logical_not(known)
    if known.sum() < 7:
        return bad
    rows = relative[known]
    # Not the median: of coarsely digitised noise it jumps by a whole ADU from row to row.
    level = np.nanmean(np.clip(rows, -_CLIP, _CLIP), axis=1)
    padded = np.pad(level, 3, mode="reflect")
    around = np.stack([padded[3 + step : 3 + step + len(level)] for step in (-3, -2, 2, 3)])
    # Between its neighbours' extremes a row only follows a gradient, or a star.
    offset = level - np.clip(level, around.min(axis=0), around.max(axis=0))
    centred = level - np.median(around, axis=0)
    count = np.isfinite(rows).sum(axis=1)
    scatter = np.maximum(MAD_TO_SIGMA * np.median(np.abs(centred)), 1 / np.sqrt(count))
    steps = np.abs(np.diff(rows, axis=1))
    varied = np.isfinite(steps).any(axis=1)
    variation = np.full(len(rows), np.inf)
    variation[varied] = np.nanmean(steps[varied], axis=1)
    stuck = variation < 0.1 * np.median(variation)
    bad[known] = (np.abs(offset) > np.maximum(_LINE_SIGMA * scatter, _LINE_OFFSET)) | stuck
    return bad


def _cosmics(
    data: NDArray,
    noise: NDArray,
    good: NDArray[np.bool_],
    sigclip: float,
    sigfrac: float,
    objlim: float,
    fwhm: float | None,
) -> NDArray[np.bool_]:
    # Only ratios to the noise matter, and they must not under- or overflow single precision.
    unit = float(np.median(noise[good]))
    scaled = np.where(good, data / unit, 0.0)
    hits, _ = astroscrappy.detect_cosmics(
        scaled.astype(np.float32),
        inmask=~good,
        invar=np.where(good, (noise / unit) ** 2, 1.0).astype(np.float32),
        sigclip=sigclip,
        sigfrac=sigfrac,
        objlim=objlim,
        gain=1.0,
        readnoise=0.0,
        satlevel=np.inf,
        sepmed=False,
    )
    return hits if fwhm is None else _sharper_than_stars(hits, scaled, good, fwhm)


def _sharper_than_stars(
    hits: NDArray[np.bool_], data: NDArray[np.float64], good: NDArray[np.bool_], fwhm: float
) -> NDArray[np.bool_]:
    """Drop the hits whose peak falls off, in every direction, no steeper than the PSF does.

    Around the brightest pixel of a star, the mean of two opposite neighbours at distance r is at least
    `exp(-4 ln 2 r^2 / fwhm^2)` of it (a Gaussian centred on the pixel); a cosmic falls short of that across
    its track. A quarter is left for noise and for the error of the seeing.
    """
    groups, n_groups = label(hits, structure=np.ones((3, 3)))
    kept = hits.copy()
    peaks = maximum_position(np.where(good, data, -np.inf), groups, range(1, n_groups + 1))
    around = np.pad(data, 1)
    for index, (y, x) in enumerate(peaks, start=1):
        box = around[y : y + 3, x : x + 3] / data[y, x]
        pairs = np.array(
            [box[1, 0] + box[1, 2], box[0, 1] + box[2, 1], box[0, 0] + box[2, 2], box[0, 2] + box[2, 0]]
        )
        least = 0.75 * np.exp(-4 * np.log(2) * np.array([1, 1, 2, 2]) / fwhm**2)
        if data[y, x] > 0 and np.all(pairs / 2 >= least):
            kept[groups == index] = False
    return kept
