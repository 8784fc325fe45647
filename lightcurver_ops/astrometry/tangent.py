"""Gnomonic (TAN) projection of the sky onto a plane, and the linear plate model on it.

Formulas: Calabretta & Greisen 2002, A&A 395, 1077 (equations 12 to 15 and 54 to 55).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> FloatArray:
    """Cartesian unit vectors, shape (..., 3), of ICRS degrees."""
    lon, lat = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=-1)


def separation(ra1: ArrayLike, dec1: ArrayLike, ra2: ArrayLike, dec2: ArrayLike) -> FloatArray:
    """Angle between two directions in degrees, accurate at all distances (haversine)."""
    lat1, lat2 = np.radians(dec1), np.radians(dec2)
    dlon = np.radians(np.asarray(ra2) - np.asarray(ra1))
    h = np.sin((lat2 - lat1) / 2) ** 2 + np.cos(lat1) * np.cos(lat2) * np.sin(dlon / 2) ** 2
    return np.degrees(2 * np.arcsin(np.sqrt(np.clip(h, 0.0, 1.0))))


def to_plane(ra: ArrayLike, dec: ArrayLike, ra0: float, dec0: float) -> tuple[FloatArray, FloatArray]:
    """Sky (degrees) to the plane that touches it at (ra0, dec0): (xi, eta) in degrees, xi to the East, eta to
    the North. NaN for directions 89.9 degrees or further from the tangent point."""
    lat, lat0, dlon = np.radians(dec), np.radians(dec0), np.radians(np.asarray(ra) - ra0)
    cosine = np.sin(lat0) * np.sin(lat) + np.cos(lat0) * np.cos(lat) * np.cos(dlon)
    cosine = np.where(cosine > np.cos(np.radians(89.9)), cosine, np.nan)
    xi = np.cos(lat) * np.sin(dlon) / cosine
    eta = (np.cos(lat0) * np.sin(lat) - np.sin(lat0) * np.cos(lat) * np.cos(dlon)) / cosine
    return np.degrees(xi), np.degrees(eta)


def from_plane(xi: ArrayLike, eta: ArrayLike, ra0: float, dec0: float) -> tuple[FloatArray, FloatArray]:
    """Inverse of to_plane; ra in [0, 360)."""
    u, v, lat0 = np.radians(xi), np.radians(eta), np.radians(dec0)
    lon = np.arctan2(u, np.cos(lat0) - v * np.sin(lat0))
    # From the two components of the direction: accurate at the poles, and right beyond them.
    lat = np.arctan2(np.sin(lat0) + v * np.cos(lat0), np.hypot(u, np.cos(lat0) - v * np.sin(lat0)))
    return (ra0 + np.degrees(lon)) % 360.0, np.degrees(lat)


@dataclass(frozen=True)
class TanModel:
    """A TAN plate model without distortion.

    Args:
        crpix: (2,) reference pixel (x, y), 0-based.
        crval: (2,) ICRS degrees of the reference pixel.
        cd: (2, 2) degrees per pixel: (xi, eta) = cd @ (pixel - crpix).
    """

    crpix: FloatArray
    crval: FloatArray
    cd: FloatArray

    @property
    def scale(self) -> float:
        """Plate scale in arcsec/pixel: the root of the area of a pixel."""
        return float(np.sqrt(abs(np.linalg.det(self.cd))) * 3600.0)

    def plane(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pixels to (xi, eta) in degrees on the tangent plane at crval."""
        dx, dy = np.asarray(x) - self.crpix[0], np.asarray(y) - self.crpix[1]
        return self.cd[0, 0] * dx + self.cd[0, 1] * dy, self.cd[1, 0] * dx + self.cd[1, 1] * dy

    def sky(self, x: ArrayLike, y: ArrayLike) -> tuple[FloatArray, FloatArray]:
        """Pixels to ICRS degrees."""
        return from_plane(*self.plane(x, y), *self.crval)

    def to_header(self) -> fits.Header:
        """The FITS cards (1-based CRPIX)."""
        header = fits.Header()
        header["WCSAXES"] = 2
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
        header["CRPIX1"], header["CRPIX2"] = (float(c) + 1.0 for c in self.crpix)
        header["CRVAL1"], header["CRVAL2"] = (float(c) for c in self.crval)
        for i in (0, 1):
            for j in (0, 1):
                header[f"CD{i + 1}_{j + 1}"] = float(self.cd[i, j])
        header["RADESYS"] = "ICRS"
        return header
