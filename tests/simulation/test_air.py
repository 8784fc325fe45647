"""Zenith distance, parallactic angle and refraction against astropy and tables."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import AltAz, EarthLocation, SkyCoord
from astropy.time import Time

from lightcurver_ops.simulation.air import PRESSURE, Zenith, refraction, zenith


@pytest.mark.parametrize("latitude", [-29.26, 42.0])
@pytest.mark.parametrize("hours", [-2.5, 0.4, 2.0])
def test_zenith_is_where_astropy_has_it(latitude, hours):
    ra, dec, longitude = 70.5, -4.0, -70.73
    # The sidereal time of this day brings the target to the meridian, more or less.
    mjd = 60300.0 + 0.15 + hours / 24
    found = zenith(ra, dec, mjd, latitude, longitude)
    site = EarthLocation(lat=latitude * u.deg, lon=longitude * u.deg, height=0 * u.m)
    frame = AltAz(obstime=Time(mjd, format="mjd"), location=site)
    target = SkyCoord(ra * u.deg, dec * u.deg)
    there = target.transform_to(frame)
    assert found.distance_deg == pytest.approx(90 - there.alt.deg, abs=0.4)  # precession since 2000
    up = SkyCoord(az=there.az, alt=there.alt + 0.1 * u.deg, frame=frame).transform_to("icrs")
    expected = target.position_angle(up).deg
    assert (found.position_angle_deg - expected + 180) % 360 - 180 == pytest.approx(0, abs=1.5)


def test_blue_light_is_lifted_more_by_the_refractive_indices_of_air():
    """1.00028276 at 400 nm and 1.00027897 at 500 nm, at sea level (Edlen 1953)."""
    at = Zenith(float(np.rad2deg(np.arccos(1 / 1.5))), 0.0)
    assert at.airmass == pytest.approx(1.5)
    difference = refraction(400.0, at) - refraction(500.0, at)
    expected = PRESSURE * (2.8276e-4 - 2.7897e-4) * 206265 * np.sqrt(1.5**2 - 1)
    assert difference == pytest.approx(expected, rel=0.01)
    assert refraction(500.0, Zenith(0.0, 0.0)) == 0.0


def test_direction_is_from_north_to_east():
    assert Zenith(30.0, 90.0).direction == pytest.approx((1.0, 0.0))
