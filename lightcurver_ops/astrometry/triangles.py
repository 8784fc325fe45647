"""Hypotheses for the transformation between two point patterns, from similar triangles.

A triangle is described by the ratios of its sides, which rotation, scale, shift and mirroring do not change
(Groth 1986, AJ 91, 1244; Valdes et al. 1995, PASP 107, 1119).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

FloatArray = NDArray[np.float64]
CODE_TOLERANCE = 0.01  # a pixel in a side of a hundred


@dataclass(frozen=True)
class Triangles:
    """Triangles of a point pattern.

    Args:
        vertices: (T, 3) indices of the points, opposite to the shortest, middle and longest side.
        codes: (T, 2) middle/longest and shortest/longest side.
        longest: (T,) longest side.
        orientation: (T,) +1 where the vertices run counter-clockwise, else -1.
    """

    vertices: NDArray[np.int64]
    codes: FloatArray
    longest: FloatArray
    orientation: FloatArray


@dataclass(frozen=True)
class Similarities:
    """Hypotheses z = a w + b, in complex numbers; w = x - iy where mirrored, else x + iy.

    Args:
        a, b: (H,) complex. mirrored: (H,) bool.
    """

    a: NDArray[np.complex128]
    b: NDArray[np.complex128]
    mirrored: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.a)

    def subset(self, index: NDArray) -> Similarities:
        """The hypotheses that an index array or boolean mask selects."""
        return Similarities(self.a[index], self.b[index], self.mirrored[index])

    def apply(self, points: FloatArray) -> NDArray[np.complex128]:
        """(H, N) images of (N, 2) points."""
        w = points[:, 0] + 1j * points[:, 1]
        return self.a[:, None] * np.where(self.mirrored[:, None], w.conj(), w) + self.b[:, None]


@lru_cache(maxsize=8)  # the same few numbers of points, for every position that is tried
def _triples(n: int) -> NDArray[np.int64]:
    return np.array(list(combinations(range(n), 3)), dtype=np.int64).reshape(-1, 3)


def triangles(points: FloatArray, shortest: float, longest: float) -> Triangles:
    """All triangles of (N, 2) points with a longest side up to `longest`, and no side below `shortest`; flat ones
    (the shortest side below a tenth of the longest) are left out."""
    index = _triples(len(points))
    corners = points[index]
    sides = np.linalg.norm(np.roll(corners, -1, axis=1) - np.roll(corners, -2, axis=1), axis=2)
    order = np.argsort(sides, axis=1)
    sides = np.take_along_axis(sides, order, axis=1)
    good = (sides[:, 0] > np.maximum(shortest, 0.1 * sides[:, 2])) & (sides[:, 2] < longest)
    index, sides = np.take_along_axis(index, order, axis=1)[good], sides[good]
    u, v = points[index[:, 1]] - points[index[:, 0]], points[index[:, 2]] - points[index[:, 0]]
    turn = np.where(u[:, 0] * v[:, 1] - u[:, 1] * v[:, 0] > 0, 1.0, -1.0)
    return Triangles(index, sides[:, 1::-1] / sides[:, 2:], sides[:, 2], turn)


def similarities(
    sources: FloatArray,
    source_triangles: Triangles,
    stars: FloatArray,
    star_triangles: Triangles,
    scale_interval: tuple[float, float],
    tolerance: float,
) -> Similarities:
    """Transformations that lay a triangle of sources on a triangle of stars.

    Args:
        sources: (N, 2) and stars: (M, 2), with their triangles.
        scale_interval: least and largest stars' unit per sources' unit.
        tolerance: largest rms distance of the three corners after the fit, in the sources' unit.
    """
    if not len(source_triangles.codes) or not len(star_triangles.codes):
        return Similarities(np.empty(0, complex), np.empty(0, complex), np.empty(0, bool))
    tree = cKDTree(star_triangles.codes)
    found = tree.query_ball_point(source_triangles.codes, CODE_TOLERANCE, return_sorted=False)
    counts = np.array([len(f) for f in found])
    s = np.repeat(np.arange(len(found)), counts)
    c = np.concatenate([np.asarray(f, dtype=np.int64) for f in found])
    ratio = star_triangles.longest[c] / source_triangles.longest[s]
    keep = (ratio > 0.98 * scale_interval[0]) & (ratio < 1.02 * scale_interval[1])
    s, c = s[keep], c[keep]
    mirrored = source_triangles.orientation[s] != star_triangles.orientation[c]
    w = _complex(sources)[source_triangles.vertices[s]]
    w = np.where(mirrored[:, None], w.conj(), w)
    z = _complex(stars)[star_triangles.vertices[c]]
    dw = w - w.mean(axis=1, keepdims=True)
    a = np.sum(dw.conj() * z, axis=1) / np.sum(np.abs(dw) ** 2, axis=1)
    b = z.mean(axis=1) - a * w.mean(axis=1)
    rms = np.sqrt(np.mean(np.abs(a[:, None] * w + b[:, None] - z) ** 2, axis=1)) / np.abs(a)
    scale = np.abs(a)
    keep = (rms < tolerance) & (scale > 0.99 * scale_interval[0]) & (scale < 1.01 * scale_interval[1])
    return Similarities(a[keep], b[keep], mirrored[keep])


def _complex(points: FloatArray) -> NDArray[np.complex128]:
    return points[:, 0] + 1j * points[:, 1]
