"""Numbers that tell a trailed or double PSF from a good one."""

import numpy as np
from scipy.ndimage import map_coordinates, maximum_filter


def adaptive_moments(images: np.ndarray, iterations: int = 100) -> tuple[np.ndarray, np.ndarray]:
    """Second moments of images under a Gaussian window of matching shape (Bernstein & Jarvis 2002, AJ 123, 583).

    The window makes them finite on wings that fall as slowly as a Moffat's, and indifferent to noise far out.

    Args:
        images: [F, N, N].

    Returns:
        centre: [F, 2] (x, y) in pixels; covariance: [F, 2, 2] of the matching Gaussian, pixels squared.
    """
    n_frames, size = images.shape[:2]
    axis = np.arange(size, dtype=float)
    x, y = axis[None, None, :], axis[None, :, None]
    peak = np.maximum(images.max(axis=(1, 2)), 1e-300)
    area = np.maximum((images > 0.5 * peak[:, None, None]).sum(axis=(1, 2)), 2)
    centre = np.full((n_frames, 2), (size - 1) / 2)
    covariance = np.eye(2) * (area / np.pi / (2 * np.log(2)))[:, None, None]
    for _ in range(iterations):
        inverse = np.linalg.inv(covariance)[:, :, :, None, None]
        dx, dy = x - centre[:, 0, None, None], y - centre[:, 1, None, None]
        form = inverse[:, 0, 0] * dx**2 + inverse[:, 1, 1] * dy**2 + 2 * inverse[:, 0, 1] * dx * dy
        window = images * np.exp(-0.5 * form)
        total = window.sum(axis=(1, 2))
        total = np.where(np.abs(total) > 0, total, 1.0)
        shift = (
            np.stack([(window * dx).sum(axis=(1, 2)), (window * dy).sum(axis=(1, 2))], axis=1)
            / total[:, None]
        )
        centre = np.clip(centre + shift, 0, size - 1)
        xx, yy, xy = ((window * product).sum(axis=(1, 2)) / total for product in (dx * dx, dy * dy, dx * dy))
        seen = np.stack([np.stack([xx, xy], axis=1), np.stack([xy, yy], axis=1)], axis=1)
        # A Gaussian seen through an equal window has half its covariance.
        values, vectors = np.linalg.eigh(np.nan_to_num(2.0 * seen, nan=1.0))
        values = np.clip(values, 0.05, (size / 2) ** 2)
        fresh = vectors @ (values[:, :, None] * vectors.swapaxes(1, 2))
        done = np.allclose(fresh, covariance, rtol=1e-4)
        covariance = fresh
        if done:
            break
    return centre, covariance


def elongation(images: np.ndarray) -> np.ndarray:
    """Ratio a/b >= 1 of the axes of [F, N, N] images, from their adaptive moments."""
    values = np.linalg.eigvalsh(adaptive_moments(images)[1])
    return np.sqrt(values[:, 1] / values[:, 0])


def trail_length(fwhm: np.ndarray, elongation: np.ndarray) -> np.ndarray:
    """By how much a PSF is longer than wide, `sqrt(a^2 - b^2)` of its axes: widths add in quadrature.

    A trail of length l, seen through any seeing that is not much wider, has 0.7 l to 0.75 l.

    Args:
        fwhm: geometric mean of the FWHM along the two axes, any unit. elongation: a/b >= 1.

    Returns:
        In the unit of `fwhm`.
    """
    return fwhm * np.sqrt(np.maximum(elongation - 1 / elongation, 0.0))


def doubleness(image: np.ndarray) -> float:
    """How far a second peak rises above the way to the first, relative to the first; 0 without a second peak.

    The way is the straight line between the two. Peaks below 5 % of the first are noise.

    Args:
        image: [N, N], a well-sampled PSF.
    """
    peak = image.max()
    found = (image == maximum_filter(image, size=5)) & (image > 0.05 * peak)
    rows, columns = np.nonzero(found)
    first_row, first_column = np.unravel_index(np.argmax(image), image.shape)
    rise = 0.0
    for row, column in zip(rows, columns):
        way = np.linspace(0.0, 1.0, 2 * max(image.shape))
        line = map_coordinates(
            image,
            [first_row + way * (row - first_row), first_column + way * (column - first_column)],
            order=1,
        )
        rise = max(rise, (image[row, column] - line.min()) / peak)
    return float(rise)
