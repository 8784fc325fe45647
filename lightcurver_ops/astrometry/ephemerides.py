"""Where the target, the Moon and the Sun stood, without a network."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord, get_body
from astropy.time import Time
from astropy.utils import iers
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Ephemerides:
    """All in degrees, of the shape of mjd_mid, except airmass and moon_phase.

    Args:
        airmass: NaN where the target is below the horizon.
        altitude: of the target, geometric (no refraction). azimuth: from North to East.
        degrees_to_moon: between target and Moon as seen from the site.
        moon_phase: illuminated fraction of the Moon's disk, 0 new, 1 full.
        sun_altitude: of the Sun's centre.
    """

    airmass: FloatArray
    altitude: FloatArray
    azimuth: FloatArray
    degrees_to_moon: FloatArray
    moon_phase: FloatArray
    sun_altitude: FloatArray


def airmass(altitude: ArrayLike) -> FloatArray:
    """Airmass 1 / sin(h + 244 / (165 + 47 h^1.1)), h the altitude in degrees: finite at the horizon (about 38).

    Pickering 2002, DIO 12, 3. NaN below the horizon.
    """
    h = np.asarray(altitude, dtype=np.float64)
    up = np.where(h >= 0, h, np.nan)
    return 1.0 / np.sin(np.radians(up + 244.0 / (165.0 + 47.0 * up**1.1)))


@contextmanager
def _offline() -> Iterator[None]:
    """Process-wide settings of astropy, put back when done: only the tables that came with it."""
    offline = iers.conf.set_temp("auto_download", False)
    old_tables = iers.conf.set_temp("auto_max_age", None)
    degraded = iers.conf.set_temp("iers_degraded_accuracy", "ignore")
    with offline, old_tables, degraded, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*dubious year.*")
        warnings.filterwarnings("ignore", message=".*polar motions.*")
        yield


def heliocentric_mjd(
    ra: float, dec: float, mjd: ArrayLike, site: tuple[float, float, float] | None = None
) -> FloatArray:
    """Times as seen from the Sun's centre: mjd (UTC) and the light travel time along the line of sight.

    Args:
        ra, dec: ICRS degrees of the target.
        mjd: MJD (UTC) at the telescope, any shape.
        site: latitude, longitude (degrees, North and East positive), elevation (metres); None: the Earth's centre,
            less than 22 ms off.
    """
    with _offline():
        if site is None:
            place = EarthLocation.from_geocentric(0.0, 0.0, 0.0, unit=u.m)
        else:
            place = EarthLocation(lat=site[0] * u.deg, lon=site[1] * u.deg, height=site[2] * u.m)
        time = Time(np.asarray(mjd, dtype=np.float64), format="mjd", scale="utc", location=place)
        target = SkyCoord(ra * u.deg, dec * u.deg, frame="icrs")
        delay = time.light_travel_time(target, kind="heliocentric", ephemeris="builtin")
        return np.asarray((time + delay).mjd)


def ephemerides(
    ra: float, dec: float, mjd_mid: ArrayLike, latitude: float, longitude: float, elevation: float
) -> Ephemerides:
    """Ephemerides of a target at the middle of exposures.

    The tables that come with astropy are used, never newer ones from the network: for times beyond them UT1 - UTC
    is taken as zero, which moves a star by less than 15 arcsec.

    Args:
        ra, dec: ICRS degrees of the target.
        mjd_mid: MJD (UTC), any shape.
        latitude, longitude: degrees, North and East positive. elevation: metres.
    """
    with _offline():
        site = EarthLocation(lat=latitude * u.deg, lon=longitude * u.deg, height=elevation * u.m)
        time = Time(np.asarray(mjd_mid, dtype=np.float64), format="mjd", scale="utc")
        horizon = AltAz(obstime=time, location=site)
        target = SkyCoord(ra * u.deg, dec * u.deg, frame="icrs").transform_to(horizon)
        moon, sun = (
            get_body(b, time, site, ephemeris="builtin").transform_to(horizon) for b in ("moon", "sun")
        )
        elongation = moon.separation(sun).rad
        ratio = (sun.distance / moon.distance).to_value(u.dimensionless_unscaled)
        to_moon = moon.separation(target).deg
    # Angle Sun-Moon-observer of the plane triangle of the three.
    phase_angle = np.arctan2(ratio * np.sin(elongation), 1.0 - ratio * np.cos(elongation))
    return Ephemerides(
        airmass=airmass(target.alt.deg),
        altitude=np.asarray(target.alt.deg),
        azimuth=np.asarray(target.az.deg),
        degrees_to_moon=np.asarray(to_moon),
        moon_phase=np.asarray((1.0 + np.cos(phase_angle)) / 2.0),
        sun_altitude=np.asarray(sun.alt.deg),
    )
