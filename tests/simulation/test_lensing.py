"""The isothermal lens against closed forms, and the host against the images."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.simulation.lensing import DELAY, HostOptions, MassOptions, lensed_host

ROUND = MassOptions(
    einstein_radius_arcsec=0.9, axis_ratio=1.0, shear=0.0, source_arcsec=(0.3 * 0.6, 0.3 * 0.8)
)


def test_a_round_lens_has_the_two_images_of_the_isothermal_sphere():
    images = ROUND.images()
    direction = np.array([0.6, 0.8])
    np.testing.assert_allclose(images.places, [1.2 * direction, -0.6 * direction], atol=2e-3)
    np.testing.assert_allclose(images.magnification, [1 + 0.9 / 0.3, 1 - 0.9 / 0.3], rtol=5e-3)
    np.testing.assert_allclose(images.delay, [0.0, DELAY * 0.5 * (1.2**2 - 0.6**2)], rtol=5e-3)


@pytest.mark.parametrize("source", [(0.01, 0.02), (0.05, -0.04), (0.5, 0.2)])
def test_all_images_come_from_the_source(source):
    mass = MassOptions(source_arcsec=source)
    images = mass.images()
    assert len(images.places) == (4 if np.hypot(*source) < 0.1 else 2)
    np.testing.assert_allclose(
        np.transpose(mass.source_of(*images.places.T)), np.tile(source, (len(images.places), 1)), atol=1e-9
    )
    # The first to arrive is a minimum; as many saddles, of negative parity, as minima.
    assert images.magnification[0] > 0
    assert np.sign(images.magnification).sum() == 0
    assert np.all(np.diff(images.delay) > 0)


def test_images_arrive_when_the_light_travels_least():
    """Fermat: the time-delay function stands still at each image."""
    mass = MassOptions(source_arcsec=(0.05, -0.04))
    for place in mass.images().places:
        moved = place + 1e-4 * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]])
        arrival = mass._arrival(moved, np.array(mass.source_arcsec))
        assert np.abs(arrival - arrival[0]).max() < 1e-6


def test_mass_and_shear_stretch_along_their_position_angles():
    shear = MassOptions(einstein_radius_arcsec=1e-6, shear=0.1, shear_angle_deg=0.0)
    east, north = shear.source_of(np.array([1.0, 0.0]), np.array([0.0, 1.0]))
    np.testing.assert_allclose([east[0], north[1]], [1.1, 0.9], atol=1e-5)
    # An elongated mass has its images of a source in the middle farther out across its axis' ends.
    images = MassOptions(
        axis_ratio=0.6, position_angle_deg=0.0, shear=0.0, source_arcsec=(1e-4, 0.0)
    ).images()
    radius = np.hypot(*images.places.T)
    on_axis = np.abs(images.places[:, 1]) > np.abs(images.places[:, 0])
    assert np.all(images.magnification[on_axis] * images.magnification[~on_axis] < 0)
    assert abs(radius[on_axis].mean() - radius[~on_axis].mean()) > 0.02


def test_arcs_pass_through_the_images():
    mass, host = MassOptions(), HostOptions(effective_radius_arcsec=0.1)
    arcs = lensed_host(mass, host)
    assert arcs.flux == pytest.approx(1.0)
    images = mass.images().places
    here = [arcs.xValue(*place) for place in images]
    around = [arcs.xValue(*(1.3 * place)) for place in images]
    assert min(here) > 5 * max(around)
    # Lensing keeps surface brightness: at all images it is that of the middle of the host.
    assert max(here) / min(here) < 1.3


def test_a_host_behind_a_round_lens_is_a_ring():
    ring = lensed_host(replace(ROUND, source_arcsec=(0.0, 0.0)), HostOptions(axis_ratio=1.0))
    values = [ring.xValue(0.9 * np.sin(angle), 0.9 * np.cos(angle)) for angle in np.linspace(0, 6, 40)]
    assert np.ptp(values) < 0.1 * np.mean(values)
    assert ring.xValue(0.0, 0.2) < 0.1 * np.mean(values)
