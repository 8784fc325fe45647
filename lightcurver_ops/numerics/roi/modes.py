"""The patterns of the background that pixels can tell apart; all finer ones the PSF has removed.

Patterns are products of cosines (the discrete cosine transform II: Strang 1999, SIAM Rev. 41, 135), which end at the
edges of the grid without a step. Of those that the data see, a normal matrix holds every coupling; of the others it
needs no more than how little the data say of each. That makes it smaller by the square of how much finer the grid is
than the seeing. Gradients know nothing of this: they decide the result, the matrix decides how fast it is reached.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SEEN = 1e-4
"""Of the largest curvature: patterns with more are seen. Their couplings with the others are at most its root."""
UNSEEN_FACTOR = 2.0  # on the curvature of the others, for these couplings


@lru_cache(maxsize=16)
def cosines(fine: int) -> Array:
    """The orthonormal cosine transform of a side: [N, N], pattern by pixel, read-only."""
    order, pixel = np.arange(fine)[:, None], np.arange(fine)
    waves = np.sqrt(2.0 / fine) * np.cos(np.pi * order * (pixel + 0.5) / fine)
    waves[0] /= np.sqrt(2.0)
    waves.setflags(write=False)
    return waves


@dataclass(frozen=True)
class Modes:
    """Which patterns of an N x N background are seen.

    Attributes:
        curvature: [N^2] of half the chi2 along each pattern (row frequency, then column frequency), for pixels of
            weight 1.
        seen: [K] the places of those that count, ascending.
    """

    curvature: Array
    seen: NDArray[np.int_]

    @classmethod
    def of(cls, psf: Array, weight: Array, fine: int, subsampling: int) -> "Modes":
        """What epochs see whose background has these PSFs [E, P, P]; weight: [E] how much each tells."""
        frequency = np.arange(fine) / (2.0 * fine)  # cycles per small pixel
        radius = np.hypot(frequency[:, None], frequency).ravel()
        share = weight / max(float(weight.sum()), 1e-300)
        power = sum(
            part * _largest_response(one, radius) for part, one in zip(share, psf, strict=True) if part > 0
        )
        phase = np.pi * frequency
        box = np.where(
            phase > 0, np.sin(subsampling * phase) / np.maximum(subsampling * np.sin(phase), 1e-300), 1.0
        )
        curvature = subsampling**2 * np.asarray(power) * np.maximum(np.outer(box, box).ravel() ** 2, 0.0)
        return cls(curvature, np.flatnonzero(curvature >= SEEN * curvature.max()))

    @property
    def fine(self) -> int:
        """N."""
        return round(self.curvature.size**0.5)

    @property
    def unseen(self) -> NDArray[np.int_]:
        """[N^2 - K] the others."""
        return np.setdiff1d(np.arange(self.curvature.size), self.seen, assume_unique=True)

    @property
    def products(self) -> tuple[Array, NDArray[np.int_]]:
        """Cosines [M, N] whose products have the seen patterns among them, and their places [K] in the M^2."""
        row, column = np.divmod(self.seen, self.fine)
        side = int(max(row.max(), column.max())) + 1
        return cosines(self.fine)[:side], row * side + column

    def patterns(self) -> Array:
        """The images [K, N^2] of the seen patterns."""
        waves, fine = cosines(self.fine), self.fine
        row, column = np.divmod(self.seen, fine)
        return (waves[row][:, :, None] * waves[column][:, None, :]).reshape(len(row), fine**2)

    def coefficients(self, images: Array) -> Array:
        """Of images [..., N^2], all patterns: [..., N^2]."""
        fine = self.fine
        waves = cosines(fine)
        square = images.reshape(*images.shape[:-1], fine, fine)
        return (waves @ square @ waves.T).reshape(images.shape)

    def images(self, coefficients: Array) -> Array:
        """The images [..., N^2] of coefficients [..., N^2]."""
        fine = self.fine
        waves = cosines(fine)
        square = coefficients.reshape(*coefficients.shape[:-1], fine, fine)
        return (waves.T @ square @ waves).reshape(coefficients.shape)


def _largest_response(psf: Array, radius: Array) -> Array:
    """The squared modulus of a PSF's transfer function at frequencies [...] of any direction: the largest there."""
    side = 4 * psf.shape[-1]
    power = np.abs(np.fft.rfft2(psf, (side, side))) ** 2
    at = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)) * side
    rings = np.zeros(int(np.ceil(at.max())) + 2)
    np.maximum.at(rings, np.rint(at).astype(int), power)
    return np.interp(radius * side, np.arange(rings.size), rings)
