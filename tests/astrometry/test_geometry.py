"""Plate scale, orientation and footprint of known plate models."""

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.wcs import WCS

from lightcurver_ops.astrometry.geometry import (
    angle_to_north,
    footprint_polygon,
    pixel_anisotropy,
    plate_scale,
    roi_in_footprint,
)  # fmt: skip
from lightcurver_ops.astrometry.tangent import from_plane, separation, to_plane

SHAPE = (500, 650)


def wcs_of(model):
    return WCS(model.to_header())


@pytest.mark.parametrize("centre", [(10.0, 0.0), (0.0, 60.0), (200.0, 89.9), (123.0, -89.95)])
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("angle", [0.0, 30.0, 90.0, 180.0, -135.0])
def test_angle_to_north(sim, centre, mirrored, angle):
    wcs = wcs_of(sim.camera(centre, 0.5, angle, mirrored))
    assert angle_to_north(wcs, SHAPE) == pytest.approx(angle, abs=1e-3)


def test_angle_to_north_is_where_astropy_puts_a_star_further_north(sim):
    wcs = wcs_of(sim.camera((33.0, 20.0), 0.5, 90.0))
    x, y = wcs.world_to_pixel(SkyCoord(33.0, 20.01, unit="deg"))
    assert x < 324.5 - 50  # 90 degrees: North to the left
    assert y == pytest.approx(249.5, abs=0.5)


def test_mirroring_the_image_changes_the_sign(sim):
    model = sim.camera((33.0, 20.0), 0.5, 40.0)
    flipped = type(model)(model.crpix, model.crval, model.cd @ np.diag([-1.0, 1.0]))
    assert angle_to_north(wcs_of(flipped), SHAPE) == pytest.approx(-40.0, abs=1e-6)


def test_plate_scale_and_anisotropy(sim):
    model = sim.camera((33.0, 85.0), 0.5, 25.0)
    stretched = wcs_of(type(model)(model.crpix, model.crval, model.cd @ np.diag([1.1, 0.9])))
    assert plate_scale(stretched, SHAPE) == pytest.approx(0.5 * np.sqrt(1.1 * 0.9), rel=1e-6)
    assert pixel_anisotropy(stretched, SHAPE) == pytest.approx(0.1, rel=1e-6)
    assert pixel_anisotropy(wcs_of(model), SHAPE) == pytest.approx(0.0, abs=1e-8)


def test_footprint_corners_are_the_outer_edges_of_the_pixels(sim):
    wcs = wcs_of(sim.camera((0.0, 10.0), 1.0, 0.0))
    polygon = footprint_polygon(wcs, SHAPE)
    assert polygon.shape == (4, 2)
    assert (polygon[:, 0] >= 0).all()
    assert (polygon[:, 0] < 360).all()
    x, y = wcs.all_world2pix(polygon[:, 0], polygon[:, 1], 0)
    np.testing.assert_allclose(x, [-0.5, 649.5, 649.5, -0.5], atol=1e-6)
    np.testing.assert_allclose(y, [-0.5, -0.5, 499.5, 499.5], atol=1e-6)


def test_footprint_of_a_distorted_frame_is_densified(sim):
    header = sim.camera((50.0, 10.0), 1.0, 0.0).to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["A_ORDER"], header["B_ORDER"], header["B_2_0"] = 2, 2, 5e-5
    wcs = WCS(header)
    polygon = footprint_polygon(wcs, SHAPE)
    assert len(polygon) == 64
    # The lower edge bows by B_2_0 u^2: 325^2 * 5e-5 = 5.3 px.
    middle = wcs.all_pix2world(324.5, 3.0, 0)
    outside = wcs.all_pix2world(324.5, -2.0, 0)
    assert roi_in_footprint(polygon, *map(float, middle))
    assert not roi_in_footprint(polygon, *map(float, outside))


@pytest.mark.parametrize("centre", [(0.0, 10.0), (359.98, -60.0), (15.0, 89.99), (190.0, -89.98)])
def test_roi_in_footprint(sim, centre):
    model = sim.camera(centre, 1.0, 20.0)
    polygon = footprint_polygon(wcs_of(model), SHAPE)
    for x, y, inside in ((0, 0, True), (649, 499, True), (-2, 250, False), (325, 502, False)):
        ra, dec = model.sky(x, y)
        assert roi_in_footprint(polygon, float(ra), float(dec)) is inside
    assert not roi_in_footprint(polygon, (centre[0] + 180) % 360, -centre[1])


def test_projection_agrees_with_wcslib_and_its_inverse(sim):
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-2e4, 2e4, (2, 200))
    for centre in ((0.1, 5.0), (280.0, 89.0), (5.0, -89.9)):
        model = sim.camera(centre, 3.0, 50.0)
        ra, dec = model.sky(x, y)
        true_ra, true_dec = wcs_of(model).all_pix2world(x, y, 0)
        assert separation(ra, dec, true_ra, true_dec).max() < 1e-10
        xi, eta = to_plane(ra, dec, *centre)
        back = from_plane(xi, eta, *centre)
        assert separation(*back, ra, dec).max() < 1e-10


def test_directions_behind_the_plane_are_not_projected():
    assert np.isnan(to_plane(190.0, 0.0, 10.0, 0.0)).all()
