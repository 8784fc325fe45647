"""What the pixels of one epoch see of a point source and of the background.

The PSF is STARRED's (Michalewicz et al. 2023, JOSS 8, 5340; Millon et al. 2024, AJ 168, 55): a *narrow* PSF on a grid
k times finer than the data, convolved with a Gaussian of FWHM 2 small pixels that carries the sub-pixel position. All
grids share their centre, (n-1)/2 in data pixels, (N-1)/2 on the background's grid (N = n k), (P-1)/2 on the PSF's,
for even and odd sides alike. A data pixel is the *sum* of its k x k small pixels: fluxes are total fluxes.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, sparse

from lightcurver_ops.numerics.psf.operators import SIGMA

Array = NDArray[np.float64]


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


@dataclass(frozen=True)
class BackgroundView:
    """How the pixels of one epoch see the (already turned) background: shifted, convolved with its PSF, binned.

    Attributes:
        psf: PSF of the background [P, P] on the fine grid.
        shift: (dx, dy) of the epoch in data pixels.
        size, subsampling: n and k.
    """

    psf: Array
    shift: Array
    size: int
    subsampling: int

    @property
    def fine(self) -> int:
        """N, small pixels along a side."""
        return self.size * self.subsampling

    def images(self, light: Array) -> Array:
        """The image of the background and its derivatives with respect to the shift, [3, n, n]: image, d/dx, d/dy.

        Args:
            light: [N + 2 m, N + 2 m] flux per small pixel in the frame of the epoch, on the background's grid or on a
                wider one with the same centre, whose margin holds what shines in from outside.
        """
        n, k = self.size, self.subsampling
        margin = (light.shape[0] - self.fine) // 2
        length = _odd_length(light.shape[0] + self.psf.shape[0])
        spectrum = _centred_spectrum(self.psf, _small(self.shift, k), length)
        spectrum = spectrum * fft.rfft2(light, (length, length))
        by_x, by_y = _slopes(length)
        moved = np.stack([spectrum, k * by_x * spectrum, k * by_y * spectrum])
        seen = fft.irfft2(moved, (length, length))[
            :, margin : margin + self.fine, margin : margin + self.fine
        ]
        return seen.reshape(3, n, k, n, k).sum(axis=(2, 4))

    def image(self, light: Array) -> Array:
        """The image of the background alone, [n, n]; `light` [N, N]."""
        n, k = self.size, self.subsampling
        length = _odd_length(self.fine + self.psf.shape[0])
        spectrum = _centred_spectrum(self.psf, _small(self.shift, k), length)
        seen = fft.irfft2(spectrum * fft.rfft2(light, (length, length)), (length, length))
        binned: Array = seen[: self.fine, : self.fine].reshape(n, k, n, k).sum(axis=(1, 3))
        return binned

    def back(self, images: Array) -> Array:
        """The adjoint of `image`: [M, n, n] to [M, N, N]."""
        k = self.subsampling
        length = _odd_length(self.fine + self.psf.shape[0])
        spectrum = np.conj(_centred_spectrum(self.psf, _small(self.shift, k), length))
        wide = np.repeat(np.repeat(images, k, axis=1), k, axis=2)
        seen = fft.irfft2(spectrum * fft.rfft2(wide, (length, length)), (length, length))
        result: Array = seen[:, : self.fine, : self.fine]
        return result

    def kernel(self) -> NDArray[np.float32]:
        """What data pixel i receives from small pixel u stands at index [N - 1 + k i - u], of 2 N - k per axis."""
        k, reach = self.subsampling, self.fine - 1
        length = _odd_length(max(2 * self.fine, self.psf.shape[0]) + self.psf.shape[0])
        seen = fft.irfft2(_centred_spectrum(self.psf, _small(self.shift, k), length), (length, length))
        kernel = np.roll(seen, (reach, reach), axis=(0, 1))[: 2 * reach + 1, : 2 * reach + 1]
        for _ in range(2):
            kernel = np.lib.stride_tricks.sliding_window_view(kernel, k, axis=0).sum(axis=-1).T
        return np.ascontiguousarray(kernel, dtype=np.float32)

    def matrix(self) -> NDArray[np.float32]:
        """The matrix of `image`, [n^2, N^2]: rows are the pixels of the stamp, columns the background's."""
        n, k, fine = self.size, self.subsampling, self.fine
        kernel = self.kernel()
        row, column = kernel.strides
        view = np.lib.stride_tricks.as_strided(
            kernel[fine - 1 :, fine - 1 :],
            (n, n, fine, fine),
            (k * row, k * column, -row, -column),
            writeable=False,
        )
        return view.reshape(n * n, fine * fine)


def _small(shift: Array, subsampling: int) -> tuple[float, float]:
    """(dx, dy) in small pixels."""
    return float(subsampling * shift[0]), float(subsampling * shift[1])


def _odd_length(least: int) -> int:
    """The smallest odd length from here on that a Fourier transform is fast at; odd: no Nyquist frequency."""
    length = least | 1
    while _largest_factor(length) > 7:
        length += 2
    return length


@lru_cache(maxsize=512)
def _largest_factor(number: int) -> int:
    for factor in (3, 5, 7):
        while number % factor == 0:
            number //= factor
    return max(number, 1)


@lru_cache(maxsize=32)
def _slopes(length: int) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Multipliers for minus the derivatives along x and y: what a shift does."""
    return -2j * np.pi * fft.rfftfreq(length)[None, :], -2j * np.pi * fft.fftfreq(length)[:, None]


def _centred_spectrum(psf: Array, shift: tuple[float, float], length: int) -> NDArray[np.complex128]:
    """Transform of a PSF whose centre, (P - 1)/2, is moved to the pixel (0, 0) and by (dx, dy) small pixels."""
    by_x, by_y = _slopes(length)
    centre = (psf.shape[0] - 1) / 2
    phase = np.exp(by_x * (shift[0] - centre)) * np.exp(by_y * (shift[1] - centre))
    return fft.rfft2(psf, (length, length)) * phase


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
