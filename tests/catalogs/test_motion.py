"""Proper motion."""

import numpy as np
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.time import Time

from lightcurver_ops.catalogs.motion import positions_at
from lightcurver_ops.catalogs.regions import separation_deg

MJD_2016 = 51544.5 + 16 * 365.25


def test_against_astropy_space_motion():
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(0, 360, 50), np.degrees(np.arcsin(rng.uniform(-1, 1, 50)))
    pmra, pmdec = rng.normal(0, 500, (2, 50))
    mjd = MJD_2016 + np.array([-9000.0, 0.0, 4000.0])
    moved_ra, moved_dec = positions_at(ra, dec, pmra, pmdec, 2016.0, mjd)
    assert moved_ra.shape == (50, 3)
    # a distance that keeps the stars slower than light in erfa's eyes; radial velocity is zero
    stars = SkyCoord(
        ra * u.deg,
        dec * u.deg,
        distance=100 * u.pc,
        pm_ra_cosdec=pmra * u.mas / u.yr,
        pm_dec=pmdec * u.mas / u.yr,
        radial_velocity=0 * u.km / u.s,
        obstime=Time(2016.0, format="jyear", scale="tcb"),
    )
    for k, epoch in enumerate(mjd):
        expected = stars.apply_space_motion(new_obstime=Time(epoch, format="mjd", scale="tcb"))
        off = SkyCoord(moved_ra[:, k], moved_dec[:, k], unit="deg").separation(expected)
        assert off.to_value("mas").max() < 0.02


def test_near_and_over_the_pole():
    """0.1 arcsec from the pole, moving 1 arcsec a year towards it: after a year, 0.9 arcsec beyond it."""
    ra, dec = positions_at(40.0, 90.0 - 0.1 / 3600, 0.0, 1000.0, 2016.0, MJD_2016 + 365.25)
    assert abs((90.0 - dec) * 3600 - 0.9) < 1e-6
    assert abs(ra - 220.0) < 1e-6


def test_motion_in_ra_is_on_the_sky_and_wraps():
    ra, dec = positions_at([359.9999], [60.0], [1000.0], [0.0], [2016.0], MJD_2016 + 3652.5)
    assert abs(separation_deg(ra, dec, 359.9999, 60.0)[0] * 3600 - 10.0) < 1e-5
    assert 0.0 < ra[0] < 0.01


def test_unknown_motion_is_none_and_epochs_differ_by_star():
    pm = np.ma.masked_array([0.0, np.nan, 1000.0, 1000.0], mask=[True, False, False, False])
    _, dec = positions_at([10.0] * 4, [0.0] * 4, [0.0] * 4, pm, [2016.0, 2016.0, 2016.0, 2000.0], MJD_2016)
    np.testing.assert_allclose(dec * 3600, [0, 0, 0, 16.0], atol=1e-6)


def test_shapes():
    for mjd, shape in [
        (58000.0, (2,)),
        ([58000.0, 58001.0, 58002.0], (2, 3)),
        (np.full((3, 4), 58000.0), (2, 3, 4)),
    ]:
        ra, dec = positions_at([1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0], 2016.0, mjd)
        assert ra.shape == dec.shape == shape
