"""Plate scale, anisotropy, orientation and footprint of a frame, from its WCS.

In all functions `wcs` is a celestial astropy WCS in ICRS degrees, and `shape` the (ny, nx) of the image.
"""

from __future__ import annotations

import numpy as np
from astropy.wcs import WCS
from numpy.typing import ArrayLike, NDArray
from shapely import Point, Polygon

from lightcurver_ops.astrometry.tangent import separation, to_plane

FloatArray = NDArray[np.float64]


def frame_centre(wcs: WCS, shape: tuple[int, int]) -> tuple[float, float]:
    """(ra, dec) in degrees of the centre of the image."""
    ra, dec = wcs.all_pix2world((shape[1] - 1) / 2, (shape[0] - 1) / 2, 0)
    return float(ra) % 360.0, float(dec)


def pixel_jacobian(wcs: WCS, shape: tuple[int, int]) -> FloatArray:
    """(2, 2) matrix d(East, North)/d(x, y) at the centre of the image in degrees per pixel, distortion included."""
    xc, yc = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra0, dec0 = frame_centre(wcs, shape)
    ra, dec = wcs.all_pix2world(xc + np.array([0.5, -0.5, 0, 0]), yc + np.array([0, 0, 0.5, -0.5]), 0)
    xi, eta = to_plane(ra, dec, ra0, dec0)
    return np.array([[xi[0] - xi[1], xi[2] - xi[3]], [eta[0] - eta[1], eta[2] - eta[3]]])


def pixel_scales(wcs: WCS, shape: tuple[int, int]) -> tuple[float, float]:
    """Lengths (psx, psy) on the sky of a step of one pixel along x and along y, arcsec."""
    jacobian = pixel_jacobian(wcs, shape)
    psx, psy = np.hypot(*jacobian) * 3600.0
    return float(psx), float(psy)


def plate_scale(wcs: WCS, shape: tuple[int, int]) -> float:
    """Geometric mean of the two pixel scales at the centre of the image, arcsec/pixel."""
    psx, psy = pixel_scales(wcs, shape)
    return float(np.sqrt(psx * psy))


def pixel_anisotropy(wcs: WCS, shape: tuple[int, int]) -> float:
    """|psx - psy| / (psx + psy): 0 for square pixels."""
    psx, psy = pixel_scales(wcs, shape)
    return abs(psx - psy) / (psx + psy)


def angle_to_north(wcs: WCS, shape: tuple[int, int]) -> float:
    """Direction of celestial North in the image, degrees in (-180, 180].

    Measured at the centre of the image from the +y axis (up) towards the -x axis (left), that is
    counter-clockwise when the image is shown with x to the right and y up: 0 is North up, 90 North left,
    -90 North right. The parity of the image (East to the left or to the right of North) plays no role: mirroring an
    image in x changes the sign of the angle.
    """
    vx, vy = np.linalg.solve(pixel_jacobian(wcs, shape), [0.0, 1.0])
    angle = float(np.degrees(np.arctan2(-vx, vy)))
    return 180.0 if angle == -180.0 else angle


def footprint_polygon(wcs: WCS, shape: tuple[int, int], points_per_edge: int | None = None) -> FloatArray:
    """Outline of the image on the sky, along the outer edges of the edge pixels.

    Args:
        points_per_edge: vertices per side; by default 1 (the corners), or 16 where the WCS has distortions.

    Returns:
        (N, 2) ra, dec in degrees, in the order of the pixels (0, 0), (nx, 0), (nx, ny), (0, ny), not closed.
    """
    if points_per_edge is None:
        # TAN maps straight lines to great circles: there the corners say everything.
        plain = not wcs.has_distortion and all(t.endswith("-TAN") for t in wcs.wcs.ctype)
        points_per_edge = 1 if plain else 16
    t = np.arange(points_per_edge) / points_per_edge
    x = np.concatenate([t, np.ones_like(t), 1 - t, np.zeros_like(t)]) * shape[1] - 0.5
    y = np.concatenate([np.zeros_like(t), t, np.ones_like(t), 1 - t]) * shape[0] - 0.5
    ra, dec = wcs.all_pix2world(x, y, 0)
    return np.column_stack([ra % 360.0, dec])


def roi_in_footprint(polygon: FloatArray, roi_ra: float, roi_dec: float) -> bool:
    """Whether a direction lies inside a footprint, (N, 2) ra, dec in degrees. Right across RA 0 and at the poles."""
    plane = np.column_stack(to_plane(polygon[:, 0], polygon[:, 1], roi_ra, roi_dec))
    return bool(np.isfinite(plane).all() and Polygon(plane).contains(Point(0.0, 0.0)))


def sky_to_pixel(wcs: WCS, ra: ArrayLike, dec: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """0-based pixels of directions, distortion included; NaN where the WCS does not reach.

    A distortion polynomial has an inverse around the frame only: far outside it astropy's iteration raises an error,
    or ends somewhere that is not the direction asked for. Such directions get NaN.

    Args:
        ra, dec: (N,) ICRS degrees.
    """
    ra, dec = (
        np.atleast_1d(np.asarray(ra, dtype=np.float64)),
        np.atleast_1d(np.asarray(dec, dtype=np.float64)),
    )
    if not len(ra):
        return np.empty(0), np.empty(0)
    if not wcs.has_distortion:
        x, y = wcs.wcs_world2pix(ra, dec, 0)
        return np.asarray(x), np.asarray(y)
    with np.errstate(all="ignore"):
        x, y = wcs.all_world2pix(ra, dec, 0, quiet=True, tolerance=1e-6, detect_divergence=True)
        back_ra, back_dec = wcs.all_pix2world(x, y, 0)
        # A hundredth of a pixel of the plain matrix: far above the iteration's tolerance, far below another branch.
        allowed = 0.01 * np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix)))
        reached = separation(back_ra, back_dec, ra, dec) < allowed
    return np.where(reached, x, np.nan), np.where(reached, y, np.nan)
