"""The starlet transform (isotropic undecimated wavelet, B3 spline) as small matrix products.

Starck, Fadili & Murtagh 2007 (IEEE Trans. Image Process. 16, 297): the image is smoothed by the separable
kernel [1, 4, 6, 4, 1]/16, dilated by 2^j at scale j, and the coefficients are the differences between successive
smoothings. Outside the image counts as zero, as in STARRED, whose transform this one reproduces. Smoothing is
separable, so that scale j is `S_j h S_j^T - S_(j+1) h S_(j+1)^T` with cumulative matrices S_j.
"""

from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

KERNEL = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0


def scale_count(size: int) -> int:
    """Number of scales, besides the coarsest, of an image of size x size pixels: floor(log2(size))."""
    return int(np.log2(size))


@lru_cache(maxsize=32)
def smoothing_matrices(size: int) -> np.ndarray:
    """Cumulative smoothing matrices S_0 = 1, S_1, ..., S_J of an image side.

    Args:
        size: pixels along the side.

    Returns:
        [J + 1, size, size] float64, read-only; J = scale_count(size).
    """
    matrices = [np.eye(size)]
    for scale in range(scale_count(size)):
        step = sum(weight * np.eye(size, k=(tap - 2) * 2**scale) for tap, weight in enumerate(KERNEL))
        matrices.append(step @ matrices[-1])
    result = np.stack(matrices)
    result.setflags(write=False)
    return result


def starlet(image: Any, xp: ModuleType = np) -> Any:
    """Starlet coefficients of square images.

    Args:
        image: [..., N, N].
        xp: the array module.

    Returns:
        [..., J + 1, N, N]: the details from fine to coarse, the smooth image last. They sum to the image.
    """
    matrices = smoothing_matrices(image.shape[-1])
    smooth = matrices @ image[..., None, :, :] @ matrices.swapaxes(-1, -2)
    return xp.concatenate([smooth[..., :-1, :, :] - smooth[..., 1:, :, :], smooth[..., -1:, :, :]], axis=-3)


def coefficient_sigma(variance: np.ndarray, blur: np.ndarray) -> np.ndarray:
    """Standard deviation of the starlet coefficients of blurred white noise, in closed form.

    Noise of the given variance per pixel, independent between pixels, is blurred by `blur` along both axes and
    transformed. Each coefficient is then a weighted sum of independent pixels, and its variance the sum of squared
    weights times variances; the square of a difference of separable kernels is a sum of three separable ones.

    Args:
        variance: [..., N, N].
        blur: [N, N], the 1-d blurring matrix.

    Returns:
        [..., J, N, N]: all scales but the coarsest.
    """
    matrices = smoothing_matrices(variance.shape[-1]) @ blur
    fine, coarse = matrices[:-1], matrices[1:]

    def spread(kernel: np.ndarray) -> np.ndarray:
        return kernel @ variance[..., None, :, :] @ kernel.swapaxes(-1, -2)

    return np.sqrt(np.maximum(spread(fine**2) - 2.0 * spread(fine * coarse) + spread(coarse**2), 0.0))
