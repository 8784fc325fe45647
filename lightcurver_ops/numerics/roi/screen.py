"""A first look at all epochs, before anything is known of the scene: what does not agree with the other epochs.

Each epoch is brought to one resolution, place and angle. There it is the median of all epochs plus what it may have of
its own: other fluxes of the point sources, a sky, a small translation. What is left over is a trail, a cosmic, a hot
column, a frame of another place. Least squares would divide it among all epochs, and not find back from there.
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.numerics.roi.state import Problem

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

FEWEST = 3  # epochs: of two that disagree, none is known to be right
MARGIN = 6  # data pixels around a stamp, so that the transforms do not carry one edge to the other
BROADER = 1.25  # the common resolution against that of the broad PSFs
LARGEST_GAIN = 3.0  # of a spatial frequency: a PSF that is wrong must not amplify noise
OUTLYING = 6.0  # sigma
GROWN = 2.0  # sigma: what touches such pixels and lies above this belongs to them
LOCAL_ERROR, PEAK_ERROR = 0.04, 0.004  # of the median image and of its peak: what matching the PSFs leaves
ROUNDS = 6
HUBER = 1.5
TOO_MANY = 0.4  # of an epoch's pixels, or half of its light
LEAST_LIGHT = 0.3  # of what the others show: with less, the frame may be of another place
NOISE_FACTOR = 2.0  # a noise map counts as wrong where it is off by more, compared with the other epochs


def screened(problem: Problem) -> Problem:
    """The problem with the noise maps put right, and without the pixels and epochs that disagree with the others."""
    trust = problem.trust._replace(scale=noise_scale(problem.epochs.data, problem.trust.given))
    weight = trust.weight
    if problem.count >= FEWEST:
        bad, aside = _disagreeing(problem, weight)
        weight = np.where(bad, 0.0, weight)
        trust = trust._replace(aside=aside)
    return replace(problem, epochs=problem.epochs._replace(weight=weight), trust=trust)


def noise_scale(data: Array, weight: Array) -> Array:
    """Noise found over noise given [E], where it is far from that of the other epochs; else 1.

    Found is the scatter of second differences along both axes, which no smooth light reaches, in the fainter half of
    a stamp. What all epochs have in common (correlated noise, light after all) is no fault of one of them.
    """
    kernel = np.outer([1.0, -2.0, 1.0], [1.0, -2.0, 1.0])
    found = np.full(len(data), np.nan)
    for e in range(len(data)):
        good = weight[e] > 0
        inside = ndimage.binary_erosion(good, np.ones((3, 3)))
        if inside.sum() < 20:
            continue
        faint = inside & (data[e] <= np.median(data[e][inside]))
        variance = np.where(good, 1.0 / np.where(good, weight[e], 1.0), 0.0)
        expected = np.sqrt(ndimage.convolve(variance, kernel**2))[faint]
        found[e] = MAD_TO_SIGMA * np.median(np.abs(ndimage.convolve(data[e], kernel)[faint]) / expected)
    known = found[np.isfinite(found)]
    usual = np.median(known) if len(known) >= FEWEST else 1.0
    ratio = np.where(np.isfinite(found), found / max(usual, 1e-300), 1.0)
    wrong = (ratio > NOISE_FACTOR) | (ratio < 1.0 / NOISE_FACTOR)
    return np.where(wrong & (ratio > 0), ratio, 1.0)


def _disagreeing(problem: Problem, weight: Array) -> tuple[Mask, Mask]:
    """Pixels [E, n, n] and epochs [E] that do not agree with the others."""
    images, variance, usable, sources = _matched(problem, weight)
    count, size = len(images), images.shape[-1]
    median = _median(images, usable)
    own = np.zeros_like(images)
    for turn in range(ROUNDS):
        slopes = np.gradient(median)
        columns = np.stack([*sources, np.ones_like(median), *slopes]).reshape(-1, size**2)
        held = np.zeros(len(columns))
        held[-2:] = (
            1.0 / problem.options.translation_sigma**2 if problem.options.translation_sigma > 0 else 1e12
        )
        error = _error(median, variance)
        for e in range(count):
            own[e] = _own_part(
                columns, held, images[e] - median, own[e], error[e], usable[e], turn > ROUNDS // 2
            )
        median = _median(images - own, usable)
    pull = np.where(usable, (images - own - median) / _error(median, variance), 0.0)
    outlying = np.array([_grown(_filled(one, ok)) for one, ok in zip(np.abs(pull), usable, strict=True)])
    light = np.where(usable, median**2, 0.0)
    share = (outlying * light).sum(axis=(1, 2)) / np.maximum(light.sum(axis=(1, 2)), 1e-300)
    part = (outlying & usable).sum(axis=(1, 2)) / np.maximum(usable.sum(axis=(1, 2)), 1)
    seen = (images * np.where(usable, median, 0.0)).sum(axis=(1, 2))
    lost = seen < LEAST_LIGHT * light.sum(axis=(1, 2))
    aside = (part > TOO_MANY) | (share > 0.5) | lost
    bad = np.array([_in_stamp(one, problem, e) for e, one in enumerate(outlying)])
    bad[aside] = False
    return bad, aside & (np.cumsum(aside) <= count // 2)


def _grown(pull: Array) -> Mask:
    seeds = pull > OUTLYING
    return np.asarray(ndimage.binary_propagation(seeds, np.ones((3, 3)), pull > GROWN))


def _error(median: Array, variance: Array) -> Array:
    return np.sqrt(variance + (LOCAL_ERROR * median) ** 2 + (PEAK_ERROR * np.abs(median).max()) ** 2)


def _median(images: Array, usable: Mask) -> Array:
    """Over epochs [n, n]; 0 where none is usable."""
    seen = np.where(usable.any(axis=0), usable, True)
    return np.nan_to_num(np.nanmedian(np.where(seen, images, np.nan), axis=0))


def _own_part(
    columns: Array, held: Array, image: Array, start: Array, error: Array, usable: Mask, strict: bool
) -> Array:
    """What an epoch has of its own [n, n], by iteratively reweighted least squares from an earlier answer."""
    result = start
    for _ in range(3):
        pull = np.abs(image - result) / error
        trusted = pull < OUTLYING if strict else HUBER / np.maximum(pull, HUBER)
        weight = (usable * trusted / error**2).ravel()
        matrix = (columns * weight) @ columns.T
        matrix[np.diag_indices_from(matrix)] += held + 1e-9 * np.trace(matrix) + 1e-30
        result = (np.linalg.solve(matrix, columns @ (weight * image.ravel())) @ columns).reshape(image.shape)
    return np.asarray(result)


def _matched(problem: Problem, weight: Array) -> tuple[Array, Array, Mask, Array]:
    """Images [E, n, n] of one resolution, place and angle, variances, where usable, and point sources [J, n, n]."""
    epochs, layout = problem.epochs, problem.layout
    n, k = layout.size, layout.subsampling
    side = n + 2 * MARGIN
    fx, fy = fft.rfftfreq(side), fft.fftfreq(side)
    psf = epochs.narrow if epochs.narrow.ndim == 3 else epochs.narrow.mean(axis=1)
    at = (np.arange(psf.shape[-1]) - (psf.shape[-1] - 1) / 2) / k
    rows, cols = (np.exp(-2j * np.pi * f[:, None] * at) for f in (fy, fx))
    transfer = rows @ psf @ cols.T
    area = np.array([np.count_nonzero(one > 0.5 * one.max()) for one in psf])
    width = BROADER * np.percentile(2.0 * np.sqrt(area / np.pi) / k, 80) / np.sqrt(8 * np.log(2))
    target = np.exp(-2 * (np.pi * width) ** 2 * (fy[:, None] ** 2 + fx**2))
    gain = (
        target * np.conj(transfer) / np.maximum(np.abs(transfer) ** 2, (target / LARGEST_GAIN) ** 2 + 1e-20)
    )
    images, variance, usable = np.empty((3, problem.count, n, n))
    for e in range(problem.count):
        good = weight[e] > 0
        dx, dy = epochs.translation[e]
        back = np.exp(2j * np.pi * (fy[:, None] * dy + fx * dx))
        kernel = fft.irfft2(gain[e] * back, (side, side))
        noise = np.where(good, 1.0 / np.where(good, weight[e], 1.0), 0.0)
        for one, map_, multiplier in (
            (images, _filled(epochs.data[e], good), gain[e] * back),
            (variance, noise, fft.rfft2(kernel**2)),
            (usable, good.astype(float), target * back),
        ):
            wide = np.pad(map_, MARGIN, mode="constant" if one is usable else "edge")
            moved = fft.irfft2(fft.rfft2(wide) * multiplier, (side, side))[MARGIN:-MARGIN, MARGIN:-MARGIN]
            one[e] = _turned(moved, epochs.angle[e])
    centre = (n - 1) / 2 + MARGIN
    seen = target * np.sinc(fy)[:, None] * np.sinc(fx)
    sources = [
        fft.irfft2(
            seen * np.exp(-2j * np.pi * (fy[:, None] * (centre + y) + fx * (centre + x))), (side, side)
        )
        for x, y in problem.prior.positions
    ]
    points = np.array(sources).reshape(-1, side, side)[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    return images, np.maximum(variance, 1e-300), usable > 0.8, points


def _filled(data: Array, good: Mask) -> Array:
    """Bad pixels filled from their neighbours."""
    if good.all() or not good.any():
        return np.where(good, data, 0.0)
    nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
    return np.asarray(data[tuple(nearest)])


def _turned(image: Array, angle: float, *, order: int = 3) -> Array:
    """An epoch's image in the frame that the scene is turned against by an angle, radians, x towards y."""
    if angle == 0:
        return image
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, s], [-s, c]])
    middle = (np.array(image.shape) - 1) / 2
    return np.asarray(
        ndimage.affine_transform(image, matrix, middle - matrix @ middle, order=order, cval=0.0)
    )


def _in_stamp(outlying: Mask, problem: Problem, e: int) -> Mask:
    """Pixels of the common frame in those of an epoch."""
    turned = _turned(outlying.astype(float), -float(problem.epochs.angle[e]), order=1)
    dx, dy = problem.epochs.translation[e]
    return np.asarray(ndimage.shift(turned, (dy, dx), order=1, cval=0.0) > 0.3)
