"""What the pixels of one epoch see of a point source and of the background.

The PSF is STARRED's (Michalewicz et al. 2023, JOSS 8, 5340; Millon et al. 2024, AJ 168, 55): a *narrow* PSF on a grid
k times finer than the data, convolved with a Gaussian of FWHM 2 small pixels that carries the sub-pixel position. All
grids share their centre, (n-1)/2 in data pixels, (N-1)/2 on the background's grid (N = n k), (P-1)/2 on the PSF's,
for even and odd sides alike. A data pixel is the *sum* of its k x k small pixels: fluxes are total fluxes.
"""

from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, sparse

from lightcurver_ops.numerics.psf.operators import SIGMA, narrow_from_full, star_operator

Array = NDArray[np.float64]

REACH = 6  # small pixels that an epoch may be shifted by: further, the light of one edge reaches the other


def rotate(positions: Any, angle: Any, xp: ModuleType = np) -> Any:
    """Positions (x, y) turned counter-clockwise (x towards y) by an angle in radians about the stamp centre.

    Args:
        positions: [J, 2], or [..., J, 2].
        angle: a number, or [...]: the result is [..., J, 2].
        xp: the array module.
    """
    angle = xp.asarray(angle)[..., None]
    c, s = xp.cos(angle), xp.sin(angle)
    x, y = positions[..., 0], positions[..., 1]
    return xp.stack([x * c - y * s, x * s + y * c], axis=-1)


def narrow_psfs(full: Array, slope: ArrayLike | None, positions: Array, rotation: Array) -> Array:
    """The narrow PSFs of point sources, each in its place where the PSF varies over the field.

    Args:
        full: [E, P, P] full PSFs at the stamp's centre.
        slope: [E, 2, P, P] what they change by per data pixel along x and y; None where they do not.
        positions: [J, 2] (x, y) of the sources from the stamp centre, data pixels.
        rotation: [E] of the scene, radians.

    Returns:
        [E, P, P], or with a slope [E, J, P, P].

    Raises:
        ValueError: `slope` is not finite or of another shape.
    """
    if slope is None:
        return narrow_from_full(full)
    each = np.asarray(slope, dtype=np.float64)
    if each.shape != (len(full), 2, *full.shape[1:]) or not np.all(np.isfinite(each)):
        raise ValueError(
            f"psf_slope must be finite and [E, 2, P, P] for a psf of {full.shape}, got {each.shape}"
        )
    changes = np.einsum("ejx,expq->ejpq", rotate(positions, rotation), each)
    return narrow_from_full(full[:, None] + changes)


def point_images(
    narrow: Any, positions: Any, size: int, subsampling: int, xp: ModuleType = np
) -> tuple[Any, Any, Any]:
    """Images of point sources of unit flux and their derivatives with respect to x and y.

    Args:
        narrow: narrow PSF [..., P, P], or one for each source [..., J, P, P]; flux per small pixel.
        positions: [..., J, 2] (x, y) in data pixels from the stamp centre, in the frame of this epoch.
        size: n, side of the stamp in data pixels.
        subsampling: k.
        xp: the array module.

    Returns:
        Three arrays [..., J, n, n]: image, d image / dx, d image / dy (per data pixel).
    """
    value, slope = star_operator(positions, size, subsampling, xp, side=narrow.shape[-1])
    each = narrow if narrow.ndim > positions.ndim else narrow[..., None, :, :]
    narrow = subsampling**2 * each  # the operator means over small pixels
    along_y, along_x = value[..., 1, :, :], value[..., 0, :, :].swapaxes(-1, -2)
    slope_y, slope_x = slope[..., 1, :, :], slope[..., 0, :, :].swapaxes(-1, -2)
    right = narrow @ along_x
    return along_y @ right, along_y @ (narrow @ slope_x), slope_y @ right


@dataclass(frozen=True)
class Light:
    """Light in the frame of an epoch, transformed once for all epochs that are turned alike.

    Attributes:
        spectrum: [L, L // 2 + 1] its Fourier transform; or [..., L, L // 2 + 1] of several.
        margin: small pixels on each side of the background's grid that it fills, too.
    """

    spectrum: Any
    margin: int

    @property
    def length(self) -> int:
        """L."""
        return int(self.spectrum.shape[-2])

    @classmethod
    def of(cls, background: Array, angle: float, psf_side: int, outside: Array | None = None) -> "Light":
        """Turn a background and transform it.

        Args:
            background: [N, N] flux per small pixel.
            angle: of the scene, radians.
            psf_side: P of the PSFs that it will be seen through.
            outside: [N + 2 m, N + 2 m] light around the background's grid (0 in it), turned already.
        """
        light, margin = background, 0
        if angle != 0:
            light = (rotation_operator(angle, len(light)) @ light.ravel()).reshape(light.shape)
        if outside is not None:
            margin = (len(outside) - len(light)) // 2
            light = np.pad(light, margin) + outside
        length = _convolved_length(len(background) + margin, psf_side, len(light))
        return cls(fft.rfft2(light, (length, length)), margin)


@dataclass(frozen=True)
class BackgroundView:
    """How the pixels of epochs see the (already turned) background: shifted, convolved with their PSFs, binned.

    Attributes:
        psf: PSF of the background [P, P] on the fine grid; or [..., P, P] of several epochs, whose results then have
            the same first axes.
        shift: (dx, dy) in data pixels, [2] or [..., 2].
        size, subsampling: n and k.
        xp: the array module.
    """

    psf: Any
    shift: Any
    size: int
    subsampling: int
    xp: ModuleType = np

    @property
    def fine(self) -> int:
        """N, small pixels along a side."""
        return self.size * self.subsampling

    def images(self, light: Light) -> Any:
        """The image of the background and its derivatives with respect to the shift, [..., 3, n, n]: it, d/dx, d/dy.

        Args:
            light: in the frame of the epoch.
        """
        rows, columns, steps_y, steps_x = self._pixels(light)
        half = self.xp.concatenate([rows, rows * steps_y], axis=-2) @ self._seen(light)
        n = self.size
        both = half[..., :n, :] @ self.xp.concatenate([columns, steps_x[:, None] * columns], axis=-1)
        by_y = half[..., n:, :] @ columns
        return self.xp.stack([both[..., :n].real, both[..., n:].real, by_y.real], axis=-3)

    def image(self, light: Light) -> Any:
        """The image of the background alone, [..., n, n]."""
        rows, columns, _, _ = self._pixels(light)
        return (rows @ self._seen(light) @ columns).real

    def _seen(self, light: Light) -> Any:
        """Spectrum of the light seen through the PSF, which is centred and moved by `_pixels`."""
        return self._transform(self.psf, light.length) * light.spectrum

    def _pixels(self, light: Light) -> tuple[Any, Any, Any, Any]:
        """The inverse transform to the data's pixels alone: from the left [..., n, L], right [..., L // 2 + 1, n].

        With them, what their derivatives with respect to the shift are to be multiplied by: [L] and [L // 2 + 1].
        """
        rows, columns = _to_pixels(light.length, light.margin, self.size, self.subsampling)
        phase_x, phase_y = self._phases(light.length)
        by_x, by_y = (self.subsampling * slope for slope in _slopes(light.length))
        return rows * phase_y[..., None, :], phase_x[..., None] * columns, by_y, by_x

    def _phases(self, length: int) -> tuple[Any, Any]:
        """Moves the PSF's centre to the pixel (0, 0), and by the shift: along x [..., L // 2 + 1], y [..., L]."""
        small = self.subsampling * self.xp.asarray(self.shift) - (self.psf.shape[-1] - 1) / 2
        by_x, by_y = _slopes(length)
        return self.xp.exp(by_x * small[..., 0, None]), self.xp.exp(by_y * small[..., 1, None])

    def _transform(self, images: Any, length: int) -> Any:
        return fourier(self.xp).rfft2(images, (length, length))

    def _spectrum(self, length: int) -> Any:
        """Transform of the PSF, centred and shifted, [..., L, L // 2 + 1]."""
        phase_x, phase_y = self._phases(length)
        return self._transform(self.psf, length) * phase_x[..., None, :] * phase_y[..., :, None]

    def back(self, images: Any) -> Any:
        """The adjoint of `image`: [..., M, n, n] to [..., M, N, N]."""
        k = self.subsampling
        length = _convolved_length(self.fine, self.psf.shape[-1], self.fine)
        spectrum = self._spectrum(length)[..., None, :, :].conj()
        wide = self.xp.repeat(self.xp.repeat(images, k, axis=-2), k, axis=-1)
        seen = fourier(self.xp).irfft2(spectrum * self._transform(wide, length), (length, length))
        return seen[..., : self.fine, : self.fine]

    def kernel(self) -> Any:
        """What data pixel i receives from small pixel u stands at index [N - 1 + k i - u], of 2 N - k per axis."""
        k, reach, xp = self.subsampling, self.fine - 1, self.xp
        length = _convolved_length(self.fine, self.psf.shape[-1], 2 * self.fine)
        kernel = fourier(xp).irfft2(self._spectrum(length), (length, length))
        kernel = xp.roll(kernel, (reach, reach), axis=(-2, -1))[..., : 2 * reach + 1, : 2 * reach + 1]
        side = 2 * reach + 2 - k
        kernel = sum(kernel[..., small : small + side, :] for small in range(k))
        kernel = sum(kernel[..., :, small : small + side] for small in range(k))
        return kernel.astype(np.float32)

    def matrix(self, waves: Any) -> Any:
        """The matrix of `image`, [..., n^2, M^2] float32: from patterns of the background to the stamp's pixels.

        Args:
            waves: [M, N] of which products make the patterns, along y and x.
        """
        n, k, fine, xp = self.size, self.subsampling, self.fine, self.xp
        waves = waves.astype(np.float32)
        # To data pixel i small pixel u now stands at [N - k - k i + u].
        turned = self.kernel()[..., ::-1, ::-1]
        first = [fine - k - k * i for i in range(n)]
        along_x = xp.stack([turned[..., at : at + fine] @ waves.T for at in first], axis=-2)
        flat = along_x.reshape(*along_x.shape[:-2], n * len(waves))
        both = xp.stack([waves @ flat[..., at : at + fine, :] for at in first], axis=-3)
        both = both.reshape(*both.shape[:-1], n, len(waves)).swapaxes(-3, -2)
        return both.reshape(*both.shape[:-4], n * n, len(waves) ** 2)


def fourier(xp: ModuleType) -> Any:
    """Of numpy's arrays scipy's transforms are faster."""
    return fft if xp is np else xp.fft


def _convolved_length(end: int, psf_side: int, filled: int) -> int:
    """The side of Fourier transforms that is enough for a convolution with a PSF to be right where it is looked at.

    Args:
        end: small pixels from where the light begins to the end of what is looked at.
        psf_side: P.
        filled: small pixels that the light fills, the margin beyond `end` included: what wraps around there, or in the
            PSF's other half, is not looked at.
    """
    return _odd_length(max(end + psf_side // 2 + REACH, filled, psf_side))


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
    """Multipliers for minus the derivatives along x [L // 2 + 1] and y [L]: what a shift does."""
    return -2j * np.pi * fft.rfftfreq(length), -2j * np.pi * fft.fftfreq(length)


@lru_cache(maxsize=16)
def _to_pixels(
    length: int, margin: int, size: int, subsampling: int
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """The inverse of a real transform of odd length, summed over the small pixels of each data pixel.

    An inverse transform of all small pixels is mostly thrown away: outside the stamp, and between the data's pixels.

    Returns:
        [n, L] and [L // 2 + 1, n]: `rows @ spectrum @ columns` has the image as its real part.
    """
    first = margin + subsampling * np.arange(size)

    def waves(frequency: Array) -> NDArray[np.complex128]:
        small = np.exp(2j * np.pi * frequency[:, None] * (first[:, None] + np.arange(subsampling)).ravel())
        return small.reshape(len(frequency), size, subsampling).sum(axis=2)

    columns = waves(fft.rfftfreq(length))
    columns[1:] *= 2  # the other half of the frequencies is their conjugate
    return waves(fft.fftfreq(length)).T / length, columns / length


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


class Turn(NamedTuple):
    """The adjoint of the rotation of the background as a sum over 16 neighbours, for arrays of jax.

    Attributes:
        place: [..., N^2, 16] the small pixels that the flux of each goes to; any where the weight is 0.
        weight: [..., N^2, 16] how much of it, float32.
    """

    place: Any
    weight: Any


@lru_cache(maxsize=64)
def rotation_weights(angle: float, fine: int) -> Turn:
    """Where the flux of each small pixel goes when the background turns by an angle (radians, x towards y).

    Each small pixel's flux goes to the 16 pixels around its new place, by the cubic kernel of Keys 1981 (IEEE Trans.
    ASSP 29, 1153), which keeps flux and place. By a multiple of 90 degrees, a permutation. What leaves the
    grid is lost.
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
    inside = (column >= 0) & (column < fine) & (row >= 0) & (row < fine) & (np.abs(value) > 1e-7)
    place = np.where(inside, row * fine + column, 0).reshape(fine**2, 16)
    return Turn(place.astype(np.int32), np.where(inside, value, 0.0).reshape(fine**2, 16).astype(np.float32))


@lru_cache(maxsize=64)
def rotation_operator(angle: float, fine: int) -> sparse.csr_matrix:
    """`rotation_weights` as a matrix [N^2, N^2] that turns the background about the centre of its grid."""
    turn = rotation_weights(angle, fine)
    source = np.broadcast_to(np.arange(fine**2)[:, None], turn.place.shape)
    used = turn.weight != 0
    return sparse.csr_matrix((turn.weight[used], (turn.place[used], source[used])), shape=(fine**2, fine**2))


def turned_back(images: Any, turn: Any, xp: ModuleType = np) -> Any:
    """The adjoint of the rotations of B epochs: of their images [B, M, N^2] each.

    Args:
        images: in the frames of the epochs.
        turn: None for no rotation; else with numpy B matrices from `rotation_operator`, with jax those of
            `rotation_weights` stacked, B or, where all are turned alike, 1.
        xp: the array module.
    """
    if turn is None:
        return images
    if xp is np:
        return np.stack([(one.T @ image.T).T for one, image in zip(turn, images, strict=True)])
    place, weight = turn
    return sum(
        weight[:, None, :, tap] * xp.take_along_axis(images, place[:, None, :, tap].astype(int), axis=-1)
        for tap in range(place.shape[-1])
    )
