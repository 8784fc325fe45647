"""What the atmosphere does to directions: hour angles, zenith distance, refraction by colour."""

from dataclasses import dataclass

import numpy as np

MEAN_COLOUR = 1.1  # BP - RP of the stars that a telescope is focused and pointed by
PRESSURE = 0.76  # of that at sea level: 2400 m
LARGEST_ZENITH_DISTANCE = 65.0  # degrees: below, one does not observe


@dataclass(frozen=True)
class Zenith:
    """Where the zenith is for a target.

    Attributes:
        distance_deg: zenith distance; airmass: its secant.
        position_angle_deg: of the zenith seen from the target, from north to east (the parallactic angle).
    """

    distance_deg: float
    position_angle_deg: float

    @property
    def airmass(self) -> float:
        return float(1 / np.cos(np.deg2rad(self.distance_deg)))

    @property
    def direction(self) -> tuple[float, float]:
        """Unit vector (east, north)."""
        angle = np.deg2rad(self.position_angle_deg)
        return float(np.sin(angle)), float(np.cos(angle))


def sidereal_time(mjd: float, longitude: float) -> float:
    """Local mean sidereal time, degrees (Meeus 1998, Astronomical Algorithms, eq. 12.4, its linear part)."""
    return 280.46061837 + 360.98564736629 * (mjd - 51544.5) + longitude


def zenith(ra: float, dec: float, mjd: float, latitude: float, longitude: float) -> Zenith:
    """The zenith of a target at a time (Meeus 1998, eq. 13.6 and 14.1); all angles in degrees."""
    hour_angle, delta, phi = np.deg2rad([sidereal_time(mjd, longitude) - ra, dec, latitude])
    up = np.sin(phi) * np.sin(delta) + np.cos(phi) * np.cos(delta) * np.cos(hour_angle)
    angle = np.arctan2(
        np.sin(hour_angle) * np.cos(phi),
        np.sin(phi) * np.cos(delta) - np.cos(phi) * np.sin(delta) * np.cos(hour_angle),
    )
    distance = np.rad2deg(np.arccos(np.clip(up, -1, 1)))
    return Zenith(float(min(distance, LARGEST_ZENITH_DISTANCE)), float(np.rad2deg(angle)))


def refraction(wavelength_nm: float, at: Zenith) -> float:
    """By how many arcsec light is lifted towards the zenith (Filippenko 1982, PASP 94, 715, eq. 1)."""
    inverse2 = (1000 / wavelength_nm) ** 2
    refractivity = 1e-6 * (64.328 + 29498.1 / (146 - inverse2) + 255.4 / (41 - inverse2))
    return float(3600 * np.rad2deg(PRESSURE * refractivity) * np.tan(np.deg2rad(at.distance_deg)))
