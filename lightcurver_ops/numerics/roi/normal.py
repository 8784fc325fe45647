"""The normal matrix of the background and of the positions, summed over epochs.

An epoch enters by `add` and leaves by `subtract`: with the matrix kept, a new night costs its own epochs only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.numerics.roi.block import Block
from lightcurver_ops.numerics.roi.epoch import Layout
from lightcurver_ops.numerics.roi.modes import UNSEEN_FACTOR, Modes

Array = NDArray[np.float64]


@dataclass
class NormalMatrix:
    """Sums over epochs.

    Its approximations, patterns that are not seen and rounding to 1e-7 of its largest values, change how fast a
    solution is reached, not which: gradients are computed from the epochs.

    Attributes:
        matrix: [moved + K, moved + K] float32, symmetric: curvature of half the chi2 with respect to positions (if
            free) and the seen patterns of the background, fluxes, translations and skies eliminated. Until `complete`
            it may be on the device.
        rhs: [G] such that the best parameters solve `times(g) = rhs` (absolute, not a step); G: positions and pixels.
        flux_response: [J, G] inverse-variance weighted sum of `d flux / d g`.
        flux_weight: [J] the sum of these weights, 1 / flux^2.
        starlet_variance: [S, N, N] variance of the starlet coefficients of the back-projected noise.
        weight: of the pixels, summed over the epochs the mean over all places.
        modes: the patterns; None without a background.
        epochs: how many are in it.
    """

    matrix: NDArray[np.float32]
    rhs: Array
    flux_response: Array
    flux_weight: Array
    starlet_variance: Array
    modes: Modes | None
    weight: float = 0.0
    epochs: int = 0

    @classmethod
    def empty(cls, layout: Layout, modes: Modes | None) -> NormalMatrix:
        """Of no epoch."""
        fine = layout.fine if layout.background else 0
        size = layout.moved + (0 if modes is None else len(modes.seen))
        scales = int(np.log2(fine)) if fine else 0
        return cls(
            np.zeros((size, size), dtype=np.float32),
            np.zeros(layout.moved + fine**2),
            np.zeros((layout.sources, layout.moved + fine**2)),
            np.zeros(layout.sources),
            np.zeros((scales, fine, fine)),
            modes,
        )

    @property
    def moved(self) -> int:
        """The number of free coordinates of positions."""
        return len(self.matrix) - (0 if self.modes is None else len(self.modes.seen))

    @property
    def unseen_curvature(self) -> Array:
        """[N^2 - K] of the patterns that are not seen."""
        assert self.modes is not None
        return UNSEEN_FACTOR * self.weight * self.modes.curvature[self.modes.unseen]

    def times(self, vectors: Array) -> Array:
        """The matrix times vectors [..., G] of positions and pixels of the background."""
        if self.modes is None:
            return np.asarray(vectors @ self.matrix, dtype=np.float64)
        moved, seen, unseen = self.moved, self.modes.seen, self.modes.unseen
        patterns = self.modes.coefficients(vectors[..., moved:])
        known = np.concatenate([vectors[..., :moved], patterns[..., seen]], axis=-1) @ self.matrix
        patterns[..., seen] = known[..., moved:]
        patterns[..., unseen] *= self.unseen_curvature
        return np.concatenate([known[..., :moved], self.modes.images(patterns)], axis=-1)

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
        moved = layout.moved
        patterns = np.zeros(0) if self.modes is None else self.modes.coefficients(at[moved:])
        seen = at if self.modes is None else np.concatenate([at[:moved], patterns[self.modes.seen]])
        for piece in block.pieces():
            if self.rhs.size:
                self.matrix, product = piece.add_to(self.matrix, seen, sign, self.modes)
                self.rhs += sign * piece.rhs()
                self.rhs[:moved] += sign * product[:moved]
                if self.modes is not None:
                    weight = piece.mean_weight
                    self.weight += sign * weight
                    unseen = self.modes.unseen
                    answer = np.zeros_like(patterns)
                    answer[self.modes.seen] = product[moved:]
                    answer[unseen] = UNSEEN_FACTOR * weight * self.modes.curvature[unseen] * patterns[unseen]
                    self.rhs[moved:] += sign * self.modes.images(answer)
            response, precision = piece.flux_response()
            self.flux_response += sign * response
            self.flux_weight += sign * precision
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
