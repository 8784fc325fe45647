"""Stamps made ready for a PSF fit: bad pixels, neighbours, and where to start."""

from dataclasses import dataclass

import numpy as np
import sep
from scipy.ndimage import binary_dilation, shift

from lightcurver_ops.numerics.psf.operators import blur_matrix
from lightcurver_ops.numerics.starlet import coefficient_sigma

MAX_MASKED_FRACTION = 0.4
NEIGHBOUR_SIGMA = 3.0
TWIN_FLUX = 0.3  # of the star: the second image of a double exposure is no faint neighbour
TWIN_TOLERANCE = 1.5  # pixels
MAX_WANDER = 3.0  # pixels between a star and the centre of its stamp


@dataclass(frozen=True)
class Prepared:
    """Stamps in units of `normalisation`, with everything a fit starts from. Shapes as in `fit_psfs`."""

    data: np.ndarray
    noise: np.ndarray
    good: np.ndarray
    used: np.ndarray  # [F, S]
    normalisation: np.ndarray  # [F]
    x: np.ndarray  # [F, S]
    y: np.ndarray
    flux: np.ndarray  # [F, S] sum of the good pixels
    fwhm: np.ndarray  # [F] pixels


def prepare_stamps(
    data: np.ndarray, noise: np.ndarray, good: np.ndarray, fwhm_guess: float | np.ndarray | None
) -> Prepared:
    """Mask what is not the star, normalise by the 99th percentile of each frame, and guess positions and FWHM."""
    data, noise = np.asarray(data, dtype=np.float64), np.asarray(noise, dtype=np.float64)
    good = np.asarray(good & np.isfinite(data) & np.isfinite(noise) & (noise > 0), dtype=bool)
    present = np.asarray(good.any(axis=(2, 3)))
    data, noise = np.where(good, data, 0.0), np.where(good, noise, 1.0)
    x, y = start_positions(data, noise, good)
    good = good & ~neighbour_masks(data, noise, good, x, y)
    used = np.asarray(present & (1.0 - good.mean(axis=(2, 3)) <= MAX_MASKED_FRACTION))
    values = np.where(good & used[:, :, None, None], data, np.nan).reshape(len(data), -1)
    normalisation = np.ones(len(data))
    for frame, row in enumerate(values):
        finite = row[np.isfinite(row)]
        level = np.percentile(finite, 99.0) if finite.size else 0.0
        normalisation[frame] = level if level > 0 else 1.0
    data, noise = data / normalisation[:, None, None, None], noise / normalisation[:, None, None, None]
    x, y = start_positions(data, noise, good)
    fwhm = (
        guess_fwhm(data, good, used, x, y) if fwhm_guess is None else np.broadcast_to(fwhm_guess, len(data))
    )
    flux = np.where(good, data, 0.0).sum(axis=(2, 3))
    return Prepared(data, noise, good, used, normalisation, x, y, flux, np.asarray(fwhm, dtype=np.float64))


def start_positions(data: np.ndarray, noise: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets from the stamp's centre by windowed centroids, [F, S]; NaN for an absent star.

    The pointing error is common to a frame: a star that strays more than 1.5 px from the median of its frame (a
    neighbour, a cosmic, noise) starts at the median instead.
    """
    size = data.shape[-1]
    axis = np.arange(size) - (size - 1) / 2
    grid_x, grid_y = axis[None, None, None, :], axis[None, None, :, None]
    light = np.where(good, data, 0.0)
    present = np.asarray(good.any(axis=(2, 3)))
    x, y = np.zeros(data.shape[:2]), np.zeros(data.shape[:2])
    # A wide window finds the star, a narrower one centres on it without its neighbours.
    for width in np.repeat([max(2.5, size / 8), 2.0], [6, 8]):
        window = light * np.exp(
            -0.5 * ((grid_x - x[..., None, None]) ** 2 + (grid_y - y[..., None, None]) ** 2) / width**2
        )
        total = window.sum(axis=(2, 3))
        total = np.where(total > 0, total, np.inf)
        # Twice the step: a window of the star's own width sees half of the offset.
        x = np.clip(
            x + 1.5 * ((window * (grid_x - x[..., None, None])).sum(axis=(2, 3)) / total),
            -MAX_WANDER,
            MAX_WANDER,
        )
        y = np.clip(
            y + 1.5 * ((window * (grid_y - y[..., None, None])).sum(axis=(2, 3)) / total),
            -MAX_WANDER,
            MAX_WANDER,
        )
    snr = np.where(
        present,
        light.sum(axis=(2, 3)) / np.sqrt((np.where(good, noise, 0.0) ** 2).sum(axis=(2, 3)) + 1e-300),
        0,
    )
    trusted = np.asarray(present & (snr > 5))
    for frame in range(len(data)):
        reference = trusted[frame] if trusted[frame].any() else present[frame]
        if not reference.any():
            continue
        middle_x, middle_y = np.median(x[frame, reference]), np.median(y[frame, reference])
        astray = ~trusted[frame] | (np.hypot(x[frame] - middle_x, y[frame] - middle_y) > 1.5)
        x[frame, astray], y[frame, astray] = middle_x, middle_y
    return np.where(present, x, np.nan), np.where(present, y, np.nan)


def neighbour_masks(
    data: np.ndarray, noise: np.ndarray, good: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """True on pixels of other objects than the star in the middle: [F, S, n, n].

    What more than half of at least three stars of a frame show at the same place belongs to the PSF (a spike, the
    second image of a double exposure), and is kept. So is what so many show at the same distance from their middle,
    whichever of the two images of a double exposure was taken for that.
    """
    masks = np.zeros(data.shape, dtype=bool)
    size = data.shape[-1]
    cross = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], dtype=bool)
    twins: dict[int, dict[int, np.ndarray]] = {}
    for frame, star in zip(*np.nonzero(good.any(axis=(2, 3)))):
        objects, labels = sep.extract(
            np.ascontiguousarray(data[frame, star]),
            NEIGHBOUR_SIGMA,
            err=np.ascontiguousarray(noise[frame, star]),
            mask=np.ascontiguousarray(~good[frame, star]),
            minarea=3,
            deblend_cont=0.01,
            segmentation_map=True,
        )
        if len(objects) < 2:
            continue
        column, row = x[frame, star] + (size - 1) / 2, y[frame, star] + (size - 1) / 2
        distance = np.hypot(objects["x"] - column, objects["y"] - row)
        central = labels[round(float(row)), round(float(column))] or 1 + int(np.argmin(distance))
        others = (labels > 0) & (labels != central)
        masks[frame, star] = binary_dilation(others, cross) & (labels != central)
        middle = objects[central - 1]
        bright = (objects["flux"] > TWIN_FLUX * middle["flux"]) & (np.arange(len(objects)) != central - 1)
        offset = np.stack([objects["x"] - middle["x"], objects["y"] - middle["y"]], axis=1)[bright]
        twins.setdefault(frame, {})[star] = np.where(offset[:, :1] < 0, -offset, offset)
    present = good.any(axis=(2, 3)).sum(axis=1)
    shared = masks.sum(axis=1) > 0.5 * present[:, None, None]
    double = np.array([_is_double(twins.get(frame, {}), count) for frame, count in enumerate(present)])
    return masks & ~((shared | double[:, None, None]) & (present >= 3)[:, None, None])[:, None]


def _is_double(twins: dict[int, np.ndarray], n_stars: int) -> bool:
    """Whether more than half of the stars of a frame have a second object at one offset, [n, 2] for each star."""
    offsets = [offset for of_star in twins.values() for offset in of_star]
    return any(
        sum(bool((np.hypot(*(of_star - offset).T) < TWIN_TOLERANCE).any()) for of_star in twins.values())
        > 0.5 * n_stars
        for offset in offsets
    )


def guess_fwhm(
    data: np.ndarray, good: np.ndarray, used: np.ndarray, x: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """FWHM in pixels from the median over stars of the area above half of the peak, [F]."""
    light = np.where(good, data, 0.0)
    peak = light.max(axis=(2, 3))
    size = data.shape[-1]
    axis = np.arange(size) - (size - 1) / 2
    near = np.hypot(axis - x[..., None, None], axis[:, None] - y[..., None, None]) < size / 3
    area = ((light > 0.5 * peak[..., None, None]) & near).sum(axis=(2, 3))
    fwhm = np.full(len(data), 3.0)
    for frame in range(len(data)):
        if used[frame].any():
            fwhm[frame] = np.clip(2 * np.sqrt(np.median(area[frame, used[frame]]) / np.pi), 1.2, size / 3)
    return fwhm


def penalty_strength(
    noise: np.ndarray, good: np.ndarray, used: np.ndarray, x: np.ndarray, y: np.ndarray, subsampling: int
) -> np.ndarray:
    """Strength of the starlet penalty per coefficient, `S/k^2 * W`, of one frame: [J, N, N].

    W is the noise of the coefficients when pixel noise, in units of its own variance, is projected to the fine grid
    and blurred by the Gaussian: STARRED's Monte-Carlo estimate in closed form, from the median noise map of the stars
    centred like the first of them.
    """
    selected = np.where(good[used], noise[used], np.nan)
    count = np.isfinite(selected).sum(axis=0)
    overall = np.nanmedian(selected)
    middle = np.full(noise.shape[-2:], overall)
    middle[count > 0] = np.nanmedian(selected[:, count > 0], axis=0)
    offset = (-float(np.median(y[used])), -float(np.median(x[used])))
    middle = shift(middle, offset, order=1, mode="constant", cval=overall)
    inverse_variance = np.kron(1.0 / middle**2, np.ones((subsampling, subsampling)))
    blur = blur_matrix(inverse_variance.shape[-1])
    return coefficient_sigma(inverse_variance, blur) * (used.sum() / subsampling**2)
