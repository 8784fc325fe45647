"""The normal matrix of the background and of the positions, summed over epochs.

An epoch enters by `add` and leaves by `subtract`: with the matrix kept, a new night costs its own epochs only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from scipy.fft import irfft2, next_fast_len, rfft2

from lightcurver_ops.numerics.roi.epoch import Epoch, Layout, Linear
from lightcurver_ops.numerics.roi.render import BackgroundView
from lightcurver_ops.numerics.starlet import starlet

Array = NDArray[np.float64]


@dataclass
class NormalMatrix:
    """Sums over epochs.

    Attributes:
        matrix: [G, G] float32, symmetric: curvature of half the chi2 with respect to positions (if free) and
            background, fluxes, translations and skies eliminated. Its rounding, 1e-7 of its largest values, changes
            how fast a solution is reached, not which: gradients are computed from the epochs.
        rhs: [G] such that the best parameters solve `matrix @ g = rhs` (absolute, not a step).
        flux_response: [J, G] inverse-variance weighted sum of `d flux / d g`.
        flux_weight: [J] the sum of these weights, 1 / flux^2.
        starlet_variance: [S, N, N] variance of the starlet coefficients of the back-projected noise.
        epochs: how many are in it.
    """

    matrix: NDArray[np.float32]
    rhs: Array
    flux_response: Array
    flux_weight: Array
    starlet_variance: Array
    epochs: int = 0

    @classmethod
    def empty(cls, layout: Layout) -> NormalMatrix:
        """Of no epoch."""
        fine = layout.fine if layout.background else 0
        size = layout.moved + fine**2
        scales = int(np.log2(fine)) if fine else 0
        return cls(
            np.zeros((size, size), dtype=np.float32),
            np.zeros(size),
            np.zeros((layout.sources, size)),
            np.zeros(layout.sources),
            np.zeros((scales, fine, fine)),
        )

    def add(self, epoch: Epoch, linear: Linear, at: Array, layout: Layout) -> None:
        """Add an epoch linearised at the global parameters `at` [G]; `complete` must follow the last."""
        self._accumulate(epoch, linear, at, layout, 1)

    def subtract(self, epoch: Epoch, linear: Linear, at: Array, layout: Layout) -> None:
        """Take out an epoch that was added with the same arguments; `complete` must follow the last."""
        self._accumulate(epoch, linear, at, layout, -1)

    def complete(self) -> None:
        """Copy the lower triangle, where epochs are summed, to the upper one."""
        mirror_lower(self.matrix)

    def _accumulate(self, epoch: Epoch, linear: Linear, at: Array, layout: Layout, sign: int) -> None:
        projected = linear.projected()
        if projected.shape[1]:
            add_gram(self.matrix, projected, sign)
            self.rhs += sign * (linear.rhs() + projected.T @ (projected @ at.astype(np.float32)))
        precision = 1.0 / linear.flux_variance(layout.sources)
        self.flux_response += sign * precision[:, None] * linear.local_response()[: layout.sources]
        self.flux_weight += sign * precision
        if layout.background:
            self.starlet_variance += sign * back_projected_variance(epoch, layout)
        self.epochs += sign


def add_gram(matrix: NDArray[np.float32], rows: NDArray[np.float32], sign: int) -> None:
    """`matrix += sign rows^T rows` in the lower triangle, in place."""
    # To BLAS, which counts columns first, our lower triangle is the upper one of the transpose.
    result = linalg.blas.ssyrk(float(sign), rows.T, beta=1.0, c=matrix.T, overwrite_c=1, lower=0)
    assert np.shares_memory(result, matrix)


def mirror_lower(matrix: NDArray, block: int = 512) -> None:
    """Copy the lower triangle of a square matrix to its upper one, in place, by blocks that stay in the cache."""
    for start in range(0, len(matrix), block):
        part = slice(start, start + block)
        square = matrix[part, part]
        square[:] = np.tril(square) + np.tril(square, -1).T
        matrix[part, start + block :] = matrix[start + block :, part].T


def back_projected_variance(epoch: Epoch, layout: Layout) -> Array:
    """Variance [S, N, N] of the starlet coefficients of `A^T W noise` of one epoch, in closed form.

    For independent noise it is the weight map, set on the fine grid, convolved with the squared starlet transform
    of the kernel from a data pixel back to the background. The rotation of the scene is not followed.
    """
    n, k, fine = layout.size, layout.subsampling, layout.fine
    view = BackgroundView(epoch.background_psf, np.zeros(2), n, k)
    kernel = view.kernel().astype(np.float64)[::-1, ::-1]
    side = kernel.shape[0]
    squared = starlet(kernel)[: int(np.log2(fine))] ** 2
    points = np.zeros((fine, fine))
    points[::k, ::k] = epoch.weight.reshape(n, n)
    length = next_fast_len(side + fine, real=True)
    spread = irfft2(rfft2(squared, (length, length)) * rfft2(points, (length, length)), (length, length))
    # kernel[m] is the step from pixel k i to small pixel u = k i + m - (side - fine)
    start = side - fine
    return np.maximum(spread[:, start : start + fine, start : start + fine], 0.0)
