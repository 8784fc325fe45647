"""The normal matrix of the background and of the positions, summed over epochs.

An epoch enters by `add` and leaves by `subtract`: with the matrix kept, a new night costs its own epochs only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi.block import Block
from lightcurver_ops.numerics.roi.epoch import Layout

Array = NDArray[np.float64]


@dataclass
class NormalMatrix:
    """Sums over epochs.

    Attributes:
        matrix: [G, G] float32, symmetric: curvature of half the chi2 with respect to positions (if free) and
            background, fluxes, translations and skies eliminated. Its rounding, 1e-7 of its largest values, changes
            how fast a solution is reached, not which: gradients are computed from the epochs. Until `complete` it may
            be on the device.
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

    def add(self, block: Block, at: Array, layout: Layout) -> None:
        """Add epochs linearised at the global parameters `at` [G]; `complete` must follow the last."""
        self._accumulate(block, at, layout, 1)

    def subtract(self, block: Block, at: Array, layout: Layout) -> None:
        """Take out epochs that were added with the same arguments; `complete` must follow the last."""
        self._accumulate(block, at, layout, -1)

    def complete(self) -> None:
        """Copy the lower triangle, where epochs are summed, to the upper one."""
        if not isinstance(self.matrix, np.ndarray):
            self.matrix = np.array(self.matrix)
        mirror_lower(self.matrix)

    def _accumulate(self, block: Block, at: Array, layout: Layout, sign: int) -> None:
        for piece in block.pieces():
            if self.rhs.size:
                self.matrix, product = piece.add_to(self.matrix, at, sign)
                self.rhs += sign * (piece.rhs() + product)
            response, weight = piece.flux_response()
            self.flux_response += sign * response
            self.flux_weight += sign * weight
            if layout.background:
                self.starlet_variance += sign * piece.starlet_variance()
        self.epochs += sign * block.place.count


def mirror_lower(matrix: NDArray, block: int = 512) -> None:
    """Copy the lower triangle of a square matrix to its upper one, in place, by blocks that stay in the cache."""
    for start in range(0, len(matrix), block):
        part = slice(start, start + block)
        square = matrix[part, part]
        square[:] = np.tril(square) + np.tril(square, -1).T
        matrix[part, start + block :] = matrix[start + block :, part].T
