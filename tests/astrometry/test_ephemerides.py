"""Against almanac values, without a network."""

import socket

import numpy as np
import pytest
from astropy.time import Time
from astropy.utils import iers

from lightcurver_ops.astrometry.ephemerides import airmass, ephemerides

PARANAL = (-24.6275, -70.4044, 2635.0)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def test_airmass():
    assert airmass(90.0) == pytest.approx(1.0, abs=1e-5)
    assert airmass(30.0) == pytest.approx(2.0, rel=0.005)  # sec z less the curvature of the atmosphere
    assert airmass(0.0) == pytest.approx(38.75, rel=0.01)  # Pickering 2002
    assert np.isnan(airmass(-0.1))
    assert np.all(np.diff(airmass(np.linspace(0, 90, 200))) < 0)


def test_full_and_new_moon():
    # Total lunar eclipse of 2019-01-21 05:12 UT, total solar eclipse of 2017-08-21 18:26 UT.
    moments = Time(["2019-01-21T05:12:00", "2017-08-21T18:26:00"]).mjd
    phases = ephemerides(10.0, -30.0, moments, *PARANAL).moon_phase
    assert phases[0] > 0.999
    assert phases[1] < 0.001


def test_quarter_moon():
    # First quarter of 2019-01-14 06:46 UT: the elongation is 90 degrees.
    phase = ephemerides(10.0, -30.0, Time("2019-01-14T06:46:00").mjd, *PARANAL).moon_phase
    assert phase == pytest.approx(0.5, abs=0.02)


def test_sun_at_equinox_noon_and_the_pole_star():
    # March equinox 2020-03-20 03:50 UT: at Greenwich on the equator the Sun passes the zenith near 12:07 UT.
    result = ephemerides(37.95, 89.264, Time("2020-03-20T12:07:25").mjd, 0.0, 0.0, 0.0)
    assert result.sun_altitude == pytest.approx(90.0, abs=0.3)
    there = ephemerides(37.95, 89.264, Time("2020-03-20T22:00:00").mjd, 45.0, 7.0, 100.0)
    assert there.altitude == pytest.approx(45.0, abs=0.8)
    assert min(there.azimuth, 360 - there.azimuth) < 1.2


def test_culmination_and_moon_distance():
    # A star culminates at hour angle 0 with altitude 90 - |latitude - declination|.
    moments = 58849.0 + np.linspace(0, 1, 1441)
    result = ephemerides(95.0, -20.0, moments, *PARANAL)
    assert result.altitude.shape == moments.shape
    assert result.altitude.max() == pytest.approx(90 - abs(-24.6275 + 20.0), abs=0.15)
    assert np.isnan(result.airmass[result.altitude < 0]).all()
    assert np.isfinite(result.airmass[result.altitude >= 0]).all()
    # The Moon moves 12 to 15 degrees a day.
    assert 8 < abs(result.degrees_to_moon[-1] - result.degrees_to_moon[0]) < 16


def test_hatp32_telescope_altitude():
    # The telescope's own header of the first frame: altitude 62.592, azimuth 47.949.
    result = ephemerides(31.312099, 46.769087, Time("2017-12-20T01:33:43").mjd, 31.68, -110.88, 1268.0)
    assert result.altitude == pytest.approx(62.592, abs=0.3)
    assert result.azimuth == pytest.approx(47.949, abs=0.3)


def test_far_beyond_the_tables_and_settings_are_put_back():
    before = iers.conf.auto_download, iers.conf.auto_max_age, iers.conf.iers_degraded_accuracy
    result = ephemerides(10.0, -30.0, np.array([50000.0, 64000.0, 69000.0]), *PARANAL)
    assert np.isfinite(result.altitude).all()
    assert (iers.conf.auto_download, iers.conf.auto_max_age, iers.conf.iers_degraded_accuracy) == before
