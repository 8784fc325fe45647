"""Parts of the sky: disks and polygons, exact on the sphere (RA wrap and poles included)."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike

from lightcurver_ops.errors import ConfigurationError

IDENTITY_DECIMALS = 7
"""Degrees are rounded to this many decimals (0.4 mas) where a region is part of an identifier."""


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
    """Directions on the unit sphere. Shape [..., 3]; degrees in."""
    ra, dec = np.radians(np.asarray(ra, dtype=np.float64)), np.radians(np.asarray(dec, dtype=np.float64))
    return np.stack(
        np.broadcast_arrays(np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)), axis=-1
    )


def separation_deg(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> np.ndarray:
    """Angle between directions and (ra0, dec0), degrees; accurate from microarcseconds to the antipode."""
    vectors, centre = unit_vectors(ra, dec), unit_vectors(ra0, dec0)
    return np.degrees(
        np.arctan2(np.linalg.norm(np.cross(vectors, centre), axis=-1), np.sum(vectors * centre, axis=-1))
    )


@dataclass(frozen=True)
class Disk:
    """All directions within `radius_deg` of (ra, dec), ICRS degrees.

    Raises:
        ConfigurationError: a number out of range.
    """

    ra: float
    dec: float
    radius_deg: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.ra) and abs(self.dec) <= 90.0 and 0.0 < self.radius_deg <= 180.0):
            raise ConfigurationError(
                f"a disk on the sky needs ra and dec in degrees and a radius of 0 to 180 degrees, not {self}"
            )

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
        """Which directions (ICRS degrees, shape [...]) lie in the disk."""
        return separation_deg(ra, dec, self.ra, self.dec) <= self.radius_deg

    def bounding_disk(self) -> "Disk":
        """The disk itself."""
        return self

    def key(self) -> str:
        """Canonical text of the region."""
        numbers = [round(v, IDENTITY_DECIMALS) + 0.0 for v in (self.ra % 360.0, self.dec, self.radius_deg)]
        return json.dumps({"disk": numbers})


class Polygon:
    """The inside of a polygon whose edges are great circles, convex or not.

    Args:
        ra_dec: vertices [N, 2], ICRS degrees, in order, first not repeated (a repeated one is dropped).

    Raises:
        ConfigurationError: fewer than 3 vertices, a value that is no coordinate, edges that cross, or a polygon
            that does not fit in a hemisphere.
    """

    def __init__(self, ra_dec: ArrayLike | Iterable[tuple[float, float]]):
        vertices = np.array(ra_dec, dtype=np.float64)
        if vertices.ndim == 2 and len(vertices) > 1 and np.array_equal(vertices[0], vertices[-1]):
            vertices = vertices[:-1]
        if vertices.ndim != 2 or vertices.shape[1:] != (2,) or len(vertices) < 3:
            raise ConfigurationError(
                f"a polygon on the sky needs 3 or more [ra, dec] vertices, not an array of shape {vertices.shape}"
            )
        if not np.all(np.isfinite(vertices)) or np.any(np.abs(vertices[:, 1]) > 90.0):
            raise ConfigurationError(f"a polygon's vertices must be ICRS degrees, not {vertices.tolist()}")
        self.ra_dec = vertices
        self._vectors = unit_vectors(vertices[:, 0], vertices[:, 1])
        self._axis, self._east, self._north = _frame_at(self._vectors.sum(axis=0))
        if np.any(self._vectors @ self._axis < np.cos(np.radians(80.0))):
            raise ConfigurationError(
                "a polygon on the sky must lie within 80 degrees of its centre: use a disk for a larger region"
            )
        # Gnomonic: great circles become straight lines, hence exact.
        self._plane = shapely.Polygon(self._project(self._vectors))
        if not self._plane.is_valid:
            raise ConfigurationError(
                f"the polygon's edges cross ({shapely.is_valid_reason(self._plane)}): give its vertices in order"
            )
        shapely.prepare(self._plane)

    def _project(self, vectors: np.ndarray) -> np.ndarray:
        depth = vectors @ self._axis
        return np.stack([vectors @ self._east / depth, vectors @ self._north / depth], axis=-1)

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> np.ndarray:
        """Which directions (ICRS degrees, shape [...]) lie in the polygon, edges included."""
        vectors = unit_vectors(ra, dec)
        ahead = vectors @ self._axis > 0.0
        inside = np.zeros(ahead.shape, dtype=bool)
        projected = self._project(vectors[ahead])
        inside[ahead] = shapely.intersects_xy(self._plane, projected[..., 0], projected[..., 1])
        return inside

    def bounding_disk(self) -> Disk:
        """A disk around the polygon's centre that holds it all."""
        ra = np.degrees(np.arctan2(self._axis[1], self._axis[0])) % 360.0
        dec = np.degrees(np.arcsin(np.clip(self._axis[2], -1.0, 1.0)))
        furthest = separation_deg(self.ra_dec[:, 0], self.ra_dec[:, 1], ra, dec).max()
        return Disk(float(ra), float(dec), float(furthest) * (1 + 1e-9) + 1e-9)

    def key(self) -> str:
        """Canonical text of the region: independent of the first vertex and of the sense of rotation."""
        rounded = np.round(
            np.stack([self.ra_dec[:, 0] % 360.0, self.ra_dec[:, 1]], axis=-1), IDENTITY_DECIMALS
        )
        points = [(float(ra) % 360.0 + 0.0, float(dec) + 0.0) for ra, dec in rounded]
        start = points.index(min(points))
        forward = points[start:] + points[:start]
        backward = [forward[0], *reversed(forward[1:])]
        return json.dumps({"polygon": min(forward, backward)})

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Polygon) and self.key() == other.key()

    def __hash__(self) -> int:
        return hash(self.key())

    def __repr__(self) -> str:
        return f"Polygon({self.ra_dec.tolist()})"


Region = Disk | Polygon


def _frame_at(direction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Unit axis along `direction` and two unit vectors across it (any orientation)."""
    length = np.linalg.norm(direction)
    if length < 1e-9:
        raise ConfigurationError(
            "a polygon on the sky must fit in a hemisphere: use a disk for a larger region"
        )
    axis = direction / length
    across = np.cross(axis, np.eye(3)[np.argmin(np.abs(axis))])
    across /= np.linalg.norm(across)
    return axis, across, np.cross(axis, across)
