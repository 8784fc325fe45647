import galsim
import numpy as np
import pytest

from lightcurver_ops.simulation import GalaxyOptions, HostOptions, LensOptions
from lightcurver_ops.simulation.galaxies import add_extended, draw_extended, lens_galaxy, lens_light, sersic
from lightcurver_ops.simulation.psf import Psf

SHARP = galsim.Gaussian(sigma=0.3)
# 0.35"/px, north up, east left.
TO_PIXELS = np.diag([-1 / 0.35, 1 / 0.35])


def moments(image):
    rows, columns = np.indices(image.shape)
    return (image * columns).sum() / image.sum(), (image * rows).sum() / image.sum()


@pytest.mark.parametrize("index", [1.0, 2.5, 4.0])
def test_half_of_the_light_is_within_the_effective_radius(index):
    image = draw_extended((241, 241), sersic(index, 12.0, 1.0, 0.0), SHARP, 120.0, 120.0)
    rows, columns = np.indices(image.shape) - 120
    assert image[np.hypot(rows, columns) < 12.0].sum() == pytest.approx(0.5, abs=0.015)
    assert image.sum() == pytest.approx(1.0, abs=0.01)


def test_a_galaxy_has_its_flux_place_and_direction():
    galaxy = GalaxyOptions(offset_arcsec=(0.7, 0.35), magnitude=20.0, position_angle_deg=90.0, axis_ratio=0.5)
    one = lens_light(LensOptions(galaxy=galaxy), 25.0, TO_PIXELS, (np.zeros(2), np.zeros(2)))
    image = draw_extended((201, 201), one, Psf(3.0).at().profile(), 100.0, 100.0)
    assert image.sum() == pytest.approx(100.0, rel=0.01)
    # East is left: two pixels; the major axis is along x.
    assert moments(image[80:121, 80:121]) == pytest.approx((18.0, 21.0), abs=0.05)
    assert image[101, 92] > 1.3 * image[107, 98]


def test_a_disc_is_added_to_the_bulge():
    bulge = GalaxyOptions(sersic_index=4.0, effective_radius_arcsec=0.5)
    both = lens_galaxy(GalaxyOptions(sersic_index=4.0, effective_radius_arcsec=0.5, disc_fraction=0.6))
    assert both.flux == pytest.approx(1.0)
    assert both.xValue(0.0, 0.01) < lens_galaxy(bulge).xValue(0.0, 0.01)
    across = np.deg2rad(35.0)
    place = 1.5 * np.sin(across), 1.5 * np.cos(across)
    assert both.xValue(*place) > 1.5 * lens_galaxy(bulge).xValue(*place)


def test_arcs_have_their_flux_and_a_lens_may_have_neither():
    nothing = np.zeros(2), np.zeros(2)
    lens = LensOptions(galaxy=None, host=HostOptions(magnitude=20.0))
    assert lens_light(lens, 25.0, TO_PIXELS, nothing).flux == pytest.approx(100.0)
    assert lens_light(LensOptions(galaxy=None), 25.0, TO_PIXELS, nothing) is None


def test_a_galaxy_at_the_edge_is_cut():
    whole, cut = np.zeros((80, 80)), np.zeros((30, 40))
    one = sersic(1.0, 2.0, 0.7, 20.0)
    add_extended(whole, one, SHARP, 41.3, 39.8, 12)
    add_extended(cut, one, SHARP, 1.3, -0.2, 12)
    add_extended(cut, one, SHARP, 100.0, 0.0, 12)
    np.testing.assert_allclose(cut, whole[40:70, 40:], atol=1e-9)
    assert cut.sum() > 0.2
