"""How a point source at a sub-pixel position is seen by the pixels: small separable matrices.

The model is STARRED's (Michalewicz et al. 2023, JOSS 8, 5340; Millon et al. 2024, AJ 168, 55): the PSF is a *narrow*
PSF, sampled k times finer than the data, convolved with a Gaussian of FWHM 2 small pixels. The Gaussian carries the
position of a star, so that a star never needs interpolation: `stamp = A(y) narrow A(x)^T`, with `A` (n x N, N = n k)
the shifted Gaussian averaged over the k small pixels of each pixel. Both grids share their centre, (n - 1)/2 in
pixels of the stamp and (N - 1)/2 on the fine grid, whether N is even or odd.

The functions take numpy or jax arrays: `xp` is the array module.
"""

import math
from types import ModuleType
from typing import Any

import numpy as np

GAUSSIAN_FWHM = 2.0  # small pixels
SIGMA = GAUSSIAN_FWHM / (2.0 * math.sqrt(2.0 * math.log(2.0)))


def star_operator(
    position: Any,
    size: int,
    subsampling: int,
    xp: ModuleType = np,
    derivatives: int = 1,
    side: int | None = None,
) -> tuple[Any, ...]:
    """The matrices A of stars along one axis, and their derivatives with respect to the position.

    Args:
        position: [...] offsets of the stars from the centre of their stamps, in pixels of the data.
        size: n, the side of a stamp in pixels.
        subsampling: k, small pixels per pixel.
        xp: numpy or jax.numpy.
        derivatives: how many derivatives, at most two.
        side: N, of the narrow PSF; default n k.

    Returns:
        A, dA/dposition, d2A/dposition2, all [..., n, N]. A row of A sums to one: a pixel is the mean of its small
        pixels.
    """
    fine = size * subsampling
    side = fine if side is None else side
    # An element depends on the distance k p - j alone: exponentials for the distances, then a lookup.
    offset = np.arange(1 - side, fine)
    distance = (offset - subsampling * position[..., None] + (side - fine) / 2) / SIGMA
    gauss = xp.exp(-0.5 * distance**2) / (math.sqrt(2.0 * math.pi) * SIGMA)
    rate = subsampling / SIGMA
    factors = (None, rate * distance, rate**2 * (distance**2 - 1.0))[: derivatives + 1]
    place = subsampling * np.arange(size)[:, None] - np.arange(side)[None, :] + side - 1

    def binned(values: Any) -> Any:
        n_sums = fine + side - subsampling
        sums = sum(values[..., small : small + n_sums] for small in range(subsampling))
        return xp.take(sums / subsampling, place, axis=-1)

    return tuple(binned(gauss if factor is None else gauss * factor) for factor in factors)


def blur_matrix(fine: int) -> np.ndarray:
    """The centred Gaussian on the fine grid: `full PSF = G narrow G^T`, [fine, fine]."""
    return star_operator(np.zeros(()), fine, 1, derivatives=0)[0]


def narrow_from_full(full_psf: np.ndarray) -> np.ndarray:
    """Invert the Gaussian: the narrow PSF [..., N, N] of full PSFs [..., N, N].

    The matrix has a condition number near 40, so this is exact to rounding in float64. It is what makes the
    photometry use the very model that the PSF was fitted with, instead of an interpolation of it.
    """
    inverse = np.linalg.inv(blur_matrix(full_psf.shape[-1]))
    return inverse @ np.asarray(full_psf, dtype=np.float64) @ inverse.T
