"""What the pixels of one epoch see of a point source and of the background.

The PSF is STARRED's (Michalewicz et al. 2023, JOSS 8, 5340; Millon et al. 2024, AJ 168, 55): a *narrow* PSF on a grid
k times finer than the data, convolved with a Gaussian of FWHM 2 small pixels that carries the sub-pixel position. All
grids share their centre, (n-1)/2 in data pixels, (N-1)/2 on the background's grid (N = n k), (P-1)/2 on the PSF's,
for even and odd sides alike. A data pixel is the *sum* of its k x k small pixels: fluxes are total fluxes.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, sparse

from lightcurver_ops.numerics.psf.operators import SIGMA

Array = NDArray[np.float64]

DERIVATIVE_STEP = 0.05  # small pixels


def rotate(positions: Array, angle: float) -> Array:
    """Positions [J, 2] (x, y) turned counter-clockwise (x towards y) by an angle in radians about the stamp centre."""
    c, s = np.cos(angle), np.sin(angle)
    return positions @ np.array([[c, s], [-s, c]])


def point_images(narrow: Array, positions: Array, size: int, subsampling: int) -> tuple[Array, Array, Array]:
    """Images of point sources of unit flux and their derivatives with respect to x and y.

    Args:
        narrow: narrow PSF [P, P], flux per small pixel.
        positions: [J, 2] (x, y) in data pixels from the stamp centre, in the frame of this epoch.
        size: n, side of the stamp in data pixels.
        subsampling: k.

    Returns:
        Three arrays [J, n, n]: image, d image / dx, d image / dy (per data pixel).
    """
    fine = np.arange(size * subsampling) - (size * subsampling - 1) / 2
    kernel = np.arange(narrow.shape[0]) - (narrow.shape[0] - 1) / 2
    distance = fine[:, None] - kernel[None, :] - subsampling * positions[:, :, None, None]
    gauss = np.exp(-0.5 * (distance / SIGMA) ** 2) / (np.sqrt(2 * np.pi) * SIGMA)
    binned = (len(positions), 2, size, subsampling, len(kernel))
    value = gauss.reshape(binned).sum(axis=3)
    slope = (gauss * distance * (subsampling / SIGMA**2)).reshape(binned).sum(axis=3)
    along_y, along_x = value[:, 1], value[:, 0].swapaxes(-1, -2)
    right = narrow @ along_x
    return along_y @ right, along_y @ (narrow @ slope[:, 0].swapaxes(-1, -2)), slope[:, 1] @ right


def background_operator(psf: Array, shift: Array, size: int, subsampling: int) -> NDArray[np.float32]:
    """The matrix from the (already turned) background to the pixels of an epoch: shift, convolve, bin.

    Args:
        psf: PSF of the background [P, P] on the fine grid.
        shift: (dx, dy) of the epoch in data pixels.
        size, subsampling: n and k.

    Returns:
        [n^2, N^2] float32; rows are the pixels of the stamp, columns those of the background, row-major.
    """
    fine = size * subsampling
    kernel = background_kernel(psf, shift, fine, subsampling)
    row, column = kernel.strides
    view = np.lib.stride_tricks.as_strided(
        kernel[fine - 1 :, fine - 1 :],
        (size, size, fine, fine),
        (subsampling * row, subsampling * column, -row, -column),
        writeable=False,
    )
    return view.reshape(size * size, fine * fine)


def background_images(psf: Array, shift: Array, light: Array, size: int, subsampling: int) -> Array:
    """The image of the background and its derivatives with respect to the shift, [3, n, n]: image, d/dx, d/dy.

    Args:
        psf, shift, size, subsampling: as in `background_operator`.
        light: [N + 2 m, N + 2 m] flux per small pixel in the frame of the epoch, on the background's grid or on a wider
            one with the same centre, whose margin holds what shines in from outside.
    """
    side = psf.shape[0] + 3 - psf.shape[0] % 2
    spline = _spline(psf)
    moves = np.array([[0.0, 0.0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * DERIVATIVE_STEP
    value, right, left, up, down = (
        _shifted_kernel(spline, subsampling * shift + move, side) for move in moves
    )
    # Per data pixel: the shift of k small pixels.
    slope = subsampling / (2 * DERIVATIVE_STEP)
    kernels = np.stack([value, slope * (right - left), slope * (up - down)])
    margin = (light.shape[0] - size * subsampling) // 2
    first = margin + side // 2
    length = fft.next_fast_len(light.shape[0] + side - 1, real=True)
    product = fft.rfft2(kernels, (length, length)) * fft.rfft2(light, (length, length))
    last = first + size * subsampling
    seen = fft.irfft2(product, (length, length))[:, first:last, first:last]
    return seen.reshape(3, size, subsampling, size, subsampling).sum(axis=(2, 4))


def high_resolution_sources(positions: Array, flux: Array, size: int, subsampling: int) -> Array:
    """Point sources at the background's resolution: Gaussians of FWHM 2 small pixels, [N, N] flux per small pixel.

    Args:
        positions: [J, 2] (x, y) from the centre, data pixels.
        flux: [J].
        size, subsampling: n and k.
    """
    grid = np.arange(size * subsampling) - (size * subsampling - 1) / 2
    gauss = np.exp(-0.5 * ((grid - subsampling * positions[:, :, None]) / SIGMA) ** 2) / (
        np.sqrt(2 * np.pi) * SIGMA
    )
    return np.einsum("j,ju,jv->uv", np.asarray(flux, dtype=float), gauss[:, 1], gauss[:, 0])


def background_kernel(psf: Array, shift: Array, fine: int, subsampling: int) -> NDArray[np.float32]:
    """What data pixel i receives from small pixel u stands at index [N - 1 + k i - u], of 2 N - k per axis."""
    kernel = _shifted_kernel(_spline(psf), subsampling * shift, 2 * fine - 1)
    for _ in range(2):
        kernel = np.lib.stride_tricks.sliding_window_view(kernel, subsampling, axis=0).sum(axis=-1).T
    return np.ascontiguousarray(kernel, dtype=np.float32)


def _spline(psf: Array) -> tuple[Array, float]:
    """Coefficients of the quintic spline through a PSF on an odd side, and how far its centre is off the middle."""
    even = 1 - psf.shape[0] % 2
    padded = np.pad(psf, (1, 1 + even))
    return ndimage.spline_filter(padded, order=5, mode="grid-constant"), 0.5 * even


def _shifted_kernel(spline: tuple[Array, float], shift: Array, side: int) -> Array:
    """The PSF of a spline moved by (dx, dy) small pixels, its centre on the middle pixel of an odd side."""
    coefficients, half = spline
    kernel = ndimage.shift(
        coefficients, (shift[1] + half, shift[0] + half), order=5, mode="grid-constant", prefilter=False
    )
    cut = max(0, (kernel.shape[0] - side) // 2)
    kernel = kernel[cut : kernel.shape[0] - cut, cut : kernel.shape[0] - cut]
    pad: int = (side - kernel.shape[0]) // 2
    return np.pad(kernel, pad)


@lru_cache(maxsize=64)
def rotation_operator(angle: float, fine: int) -> sparse.csr_matrix:
    """Turn the background by an angle (radians, x towards y) about the centre of its grid.

    Each small pixel's flux goes to the 16 pixels around its new place, by the cubic kernel of Keys 1981 (IEEE Trans.
    ASSP 29, 1153), which keeps flux and place. By a multiple of 90 degrees, a permutation. What leaves the
    grid is lost.

    Returns:
        [N^2, N^2] sparse.
    """
    centre = (fine - 1) / 2
    v, u = np.meshgrid(np.arange(fine) - centre, np.arange(fine) - centre)
    new = rotate(np.stack([v.ravel(), u.ravel()], axis=1), angle) + centre
    base = np.floor(new + 1e-9).astype(int)
    offset = new - base
    taps = np.arange(-1, 3)
    distance = np.abs(offset[:, :, None] - taps)
    weight = np.where(
        distance < 1,
        (1.5 * distance - 2.5) * distance**2 + 1,
        np.where(distance < 2, ((-0.5 * distance + 2.5) * distance - 4) * distance + 2, 0.0),
    )
    column = base[:, 0, None, None] + taps[None, None, :]
    row = base[:, 1, None, None] + taps[None, :, None]
    value = weight[:, 1, :, None] * weight[:, 0, None, :]
    column, row = np.broadcast_arrays(column, row)
    source = np.broadcast_to(np.arange(fine**2)[:, None, None], value.shape)
    inside = (column >= 0) & (column < fine) & (row >= 0) & (row < fine) & (np.abs(value) > 1e-7)
    return sparse.csr_matrix(
        (value[inside], (row[inside] * fine + column[inside], source[inside])), shape=(fine**2, fine**2)
    ).astype(np.float32)
