"""Positions around a hint where a frame may lie, the nearest first, each with the catalogue stars around it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.tangent import unit_vectors

FloatArray = NDArray[np.float64]
Tile = tuple[float, float, Catalogue]  # ra, dec of its centre, and the stars around
STEP = 0.7  # between positions, in diagonals of the frame: no frame is further than half a diagonal from one
REACH = 0.75  # radius of the stars of a position, in diagonals


def tiles(
    stars: Catalogue, hint: tuple[float, float], radius_deg: float, diagonal_deg: float, min_stars: int
) -> Iterator[Tile]:
    """Rings around the hint; positions with fewer than min_stars stars are left out."""
    step = STEP * diagonal_deg
    tree = cKDTree(unit_vectors(stars.ra, stars.dec))
    chord = 2 * np.sin(np.radians(min(REACH * diagonal_deg, 180.0)) / 2)
    for ring in range(int(np.ceil(min(radius_deg, 180.0) / step)) + 1):
        ra, dec = _ring(hint, min(ring * step, 180.0), step)
        places = unit_vectors(ra, dec)
        counts = tree.query_ball_point(places, chord, return_length=True)
        for k in np.flatnonzero(counts >= min_stars):
            inside = np.sort(tree.query_ball_point(places[k], chord))
            yield float(ra[k]), float(dec[k]), stars.subset(inside)


def _ring(hint: tuple[float, float], distance_deg: float, step_deg: float) -> tuple[FloatArray, FloatArray]:
    """Directions at one distance from the hint, step_deg apart."""
    distance, lat = np.radians(distance_deg), np.radians(hint[1])
    count = max(1, int(np.ceil(2 * np.pi * np.sin(distance) / np.radians(step_deg))))
    angle = 2 * np.pi * np.arange(count) / count
    sine = np.sin(lat) * np.cos(distance) + np.cos(lat) * np.sin(distance) * np.cos(angle)
    dlon = np.arctan2(np.sin(angle) * np.sin(distance) * np.cos(lat), np.cos(distance) - np.sin(lat) * sine)
    return (hint[0] + np.degrees(dlon)) % 360.0, np.degrees(np.arcsin(np.clip(sine, -1.0, 1.0)))
