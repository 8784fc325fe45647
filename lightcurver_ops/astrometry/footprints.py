"""Footprints of many frames together: what all of them see, what any of them sees, which point elsewhere.

Everything happens on the plane that touches the sky at the ROI: there great circles are straight, and neither RA 0 nor
the poles are special.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import ArrayLike, NDArray
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry

from lightcurver_ops.astrometry.tangent import from_plane, separation, to_plane
from lightcurver_ops.constants import MAD_TO_SIGMA

FloatArray = NDArray[np.float64]
FURTHEST_DEG = 60.0  # of a vertex from the ROI; beyond, the plane stretches too much, and no frame reaches
ROBUST_SIGMAS = 5.0
LITTLE_OVERLAP = 0.5  # of the field's size


@dataclass(frozen=True)
class SkyRegion:
    """A region of the sky, empty, of one piece or of several, with or without holes.

    Args:
        polygons: per piece its rings, the outline first, then holes; each ring (N, 2) ra, dec in ICRS degrees, its
            first vertex repeated at the end; edges are great circles.
        tangent_point: (ra, dec) of the plane on which it was made.
        area_deg2: square degrees on the sphere.
    """

    polygons: tuple[tuple[FloatArray, ...], ...]
    tangent_point: tuple[float, float]
    area_deg2: float

    @property
    def is_empty(self) -> bool:
        """Whether nothing is inside."""
        return not self.polygons

    def contains(self, ra: ArrayLike, dec: ArrayLike) -> NDArray[np.bool_]:
        """Whether directions (degrees, any shape) lie inside."""
        xi, eta = to_plane(ra, dec, *self.tangent_point)
        inside = np.isfinite(xi)
        return inside & shapely.contains_xy(
            _to_geometry(self), np.where(inside, xi, 0), np.where(inside, eta, 0)
        )


@dataclass(frozen=True)
class CombinedFootprint:
    """Intersection and union of the footprints of a lens.

    Args:
        common: seen by all frames; empty where they do not overlap.
        largest: seen by at least one frame.
        n_frames: footprints that went in.
        message: why common is empty, else "".
    """

    common: SkyRegion
    largest: SkyRegion
    n_frames: int
    message: str = ""


def combine_footprints(polygons: Sequence[FloatArray], roi_ra: float, roi_dec: float) -> CombinedFootprint:
    """Intersection and union of footprints.

    A footprint with a vertex further than 60 degrees from the ROI counts as seeing nothing near it: common is empty
    then, and largest leaves it out.

    Args:
        polygons: per frame (N, 2) ra, dec in degrees, as footprint_polygon gives them.
        roi_ra, roi_dec: degrees.
    """
    roi = (float(roi_ra), float(roi_dec))
    near, far = [], []
    for index, polygon in enumerate(polygons):
        distance = separation(polygon[:, 0], polygon[:, 1], *roi)
        if np.all(distance < FURTHEST_DEG):
            near.append(shapely.make_valid(Polygon(_on_plane(polygon, roi))))
        else:  # NaN included
            far.append(index)
    largest = _to_region(shapely.union_all(near), roi)
    common_geometry = shapely.intersection_all(near) if near and not far else MultiPolygon()
    common = _to_region(common_geometry, roi)
    message = ""
    if not polygons:
        message = "there are no footprints"
    elif far:
        message = f"{len(far)} of {len(polygons)} footprints lie more than {FURTHEST_DEG:g} deg from the ROI"
    elif common.is_empty:
        message = (
            f"the {len(polygons)} footprints have no common area; eliminate the frames that point elsewhere"
        )
    return CombinedFootprint(common, largest, len(polygons), message)


def bad_pointings(
    centre_ra: ArrayLike, centre_dec: ArrayLike, roi_ra: float, roi_dec: float, field_size_deg: float
) -> NDArray[np.bool_]:
    """Frames that point elsewhere than the others.

    Two rules, either suffices:

    * the distance of the centre from the ROI is more than the mean plus 5 standard deviations of all frames. With n
      frames no value exceeds the mean by more than sqrt(n - 1) standard deviations, so this cannot fire below 27
      frames;
    * the distance of the centre from the median centre is more than the median plus 5 x 1.4826 MAD of
      these distances, and more than half the field's size. From 3 frames on this finds a frame that shares less
      than about half of its field with the majority, and spares dithers, however regular the others are.

    Args:
        centre_ra, centre_dec: (N,) degrees of the centres of the frames.
        roi_ra, roi_dec: degrees.
        field_size_deg: shorter side of a frame.

    Returns:
        (N,) True where the pointing is bad; also where a centre is not finite.
    """
    ra, dec = np.atleast_1d(np.asarray(centre_ra, float)), np.atleast_1d(np.asarray(centre_dec, float))
    bad = ~(np.isfinite(ra) & np.isfinite(dec))
    good = ~bad
    if not good.any():
        return bad
    distance = separation(ra[good], dec[good], roi_ra, roi_dec)
    far = distance > distance.mean() + 5.0 * distance.std()
    # The median of the centres as unit vectors knows neither RA 0 nor poles.
    lon, lat = np.radians(ra[good]), np.radians(dec[good])
    x, y, z = (np.median(v) for v in (np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)))
    middle = np.degrees(np.arctan2(y, x)), np.degrees(np.arctan2(z, np.hypot(x, y)))
    offset = separation(ra[good], dec[good], *middle)
    spread = MAD_TO_SIGMA * np.median(np.abs(offset - np.median(offset)))
    limit = max(np.median(offset) + ROBUST_SIGMAS * spread, LITTLE_OVERLAP * field_size_deg)
    bad[good] = far | ((offset > limit) & (np.count_nonzero(good) >= 3))
    return bad


def is_mirrored(polygon: FloatArray) -> bool:
    """Whether East lies to the right where North is up, from a footprint (N, 2) of `geometry.footprint_polygon`."""
    plane = np.column_stack(to_plane(polygon[:, 0], polygon[:, 1], *polygon[0]))
    return bool(shapely.LinearRing(plane).is_ccw)  # counter-clockwise in pixels, as in (east, north)


def polygon_to_text(polygon: FloatArray) -> str:
    """A footprint, (N, 2) ra, dec in degrees, as a GeoJSON Polygon (its ring closed)."""
    ring = np.vstack([polygon, polygon[:1]])
    return json.dumps({"type": "Polygon", "coordinates": [ring.tolist()]})


def polygon_from_text(text: str) -> FloatArray:
    """Inverse of polygon_to_text."""
    return np.array(json.loads(text)["coordinates"][0][:-1], dtype=np.float64)


def region_to_text(region: SkyRegion) -> str:
    """A region as a GeoJSON MultiPolygon in ra, dec with two more members: tangent_point and area_deg2."""
    rings = [[ring.tolist() for ring in piece] for piece in region.polygons]
    return json.dumps(
        {
            "type": "MultiPolygon",
            "coordinates": rings,
            "tangent_point": list(region.tangent_point),
            "area_deg2": region.area_deg2,
        }
    )


def region_from_text(text: str) -> SkyRegion:
    """Inverse of region_to_text."""
    content = json.loads(text)
    polygons = tuple(tuple(np.array(r, dtype=np.float64) for r in piece) for piece in content["coordinates"])
    ra, dec = content["tangent_point"]
    return SkyRegion(polygons, (ra, dec), content["area_deg2"])


def _on_plane(points: FloatArray, roi: tuple[float, float]) -> FloatArray:
    return np.column_stack(to_plane(points[:, 0], points[:, 1], *roi))


def _on_sky(points: FloatArray, roi: tuple[float, float]) -> FloatArray:
    return np.column_stack(from_plane(points[:, 0], points[:, 1], *roi))


def _pieces(geometry: BaseGeometry) -> list[Polygon]:
    """Its polygons: points and lines, where footprints merely touch, are left out."""
    return [
        p for p in shapely.get_parts(shapely.get_parts(geometry)) if isinstance(p, Polygon) and p.area > 0
    ]


def _to_region(geometry: BaseGeometry, roi: tuple[float, float]) -> SkyRegion:
    pieces = _pieces(geometry)
    polygons = tuple(
        tuple(_on_sky(np.asarray(r.coords), roi) for r in (p.exterior, *p.interiors)) for p in pieces
    )
    return SkyRegion(polygons, roi, float(sum(_sphere_area(p) for p in pieces)))


def _to_geometry(region: SkyRegion) -> MultiPolygon:
    rings = [[_on_plane(r, region.tangent_point) for r in p] for p in region.polygons]
    return MultiPolygon([Polygon(outline, holes) for outline, *holes in rings])


def _sphere_area(piece: Polygon) -> float:
    """Square degrees on the sphere of a polygon on the tangent plane: through the azimuthal equal-area projection
    (Calabretta & Greisen 2002, section 5.1.7), on which straight edges are cut into short pieces."""

    def equal_area(points: FloatArray) -> FloatArray:
        radius = np.radians(np.hypot(*points.T))
        theta = np.arctan(radius)
        factor = np.where(radius > 0, 2 * np.sin(theta / 2) / np.where(radius > 0, radius, 1.0), 1.0)
        return points * factor[:, None]

    edge = max(np.sqrt(piece.area), 1e-6)
    return float(shapely.transform(shapely.segmentize(piece, edge / 20), equal_area).area)
