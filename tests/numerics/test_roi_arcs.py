"""The lensed host's light along the ring of the images, on lenses that GalSim renders."""

import galsim
import numpy as np
import pytest

from lightcurver_ops.numerics.psf.operators import narrow_from_full
from lightcurver_ops.numerics.resampling import Grid, resampled
from lightcurver_ops.numerics.roi import arcs
from lightcurver_ops.numerics.roi.fit import fit_roi
from lightcurver_ops.numerics.roi.galaxy import Frame

K, SIZE, SKY = 2, 20, 60.0
IMAGES = np.array([[-2.9, -3.2], [0.6, -4.3], [2.6, 2.4], [-3.3, 2.6]])
FLUX = np.array([20000.0, 15000.0, 7000.0, 4000.0])
GALAXY, ARCS = 8000.0, 2500.0


def test_ridge_of_an_isothermal_lens():
    """A singular isothermal sphere shows a point of its source at r = theta_E + b cos(phi - phi_0)."""
    angle = np.radians([20.0, 200.0, 95.0, 310.0])
    radius = 6.0 + 1.5 * np.cos(angle - 0.4)
    offsets = radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    mean, cos, sin, *second = arcs.ridge_of(offsets)
    np.testing.assert_allclose([mean, cos, sin], [6.0, 1.5 * np.cos(0.4), 1.5 * np.sin(0.4)], atol=0.03)
    np.testing.assert_allclose(second, 0.0, atol=0.03)


@pytest.mark.parametrize("offsets", [[[4.0, 1.0], [-2.0, -1.5]], [[3.0, 0.0], [0.0, 4.0], [-5.0, 0.0]]])
def test_ridge_passes_by_the_images(offsets):
    offsets = np.array(offsets)
    angle = np.arctan2(offsets[:, 1], offsets[:, 0])
    series = arcs._series(arcs.ridge_of(offsets), angle)
    np.testing.assert_allclose(series, np.hypot(*offsets.T), rtol=0.01)


def test_templates_are_light_on_the_ring():
    frame = Frame.of(40)
    centre = np.array([0.5, -1.0])
    images = centre + 8.0 * np.array([[1.0, 0.0], [-0.6, 0.8], [-0.6, -0.8]])
    light = arcs.templates(images, centre, frame)
    assert light.shape == (len(arcs.expected()), 40, 40)
    axis = np.arange(40) - 19.5
    x, y = np.meshgrid(axis - centre[0], axis - centre[1])
    assert light[0].sum() == pytest.approx(1.0, abs=1e-3)
    # The mean of r over a Gaussian of width w across the ring and 2 pi r along it: R + w^2 / R.
    assert (light[0] * np.hypot(x, y)).sum() == pytest.approx(8.0 * (1 + arcs.WIDTH**2), rel=0.01)
    # Harmonics take from one side what they give to the other; the last ones move the ring.
    for wave in light[1 : 2 * len(arcs.ALONG) - 1]:
        assert abs(wave.sum()) < 2e-3
    across = light[2 * len(arcs.ALONG) - 1]
    assert ((light[0] + 0.3 * across) * np.hypot(x, y)).sum() > 8.25


def test_width_of_the_prior_is_that_of_the_light():
    """What the data say, by amplitudes whose errors are known: the width follows them, and is small where none is."""
    rng = np.random.default_rng(1)
    relative = arcs.expected()
    error, found = 0.003, {}
    for flux in (0.0, 0.1):
        amplitude = flux * relative * rng.standard_normal(len(relative))
        seen = amplitude + error * rng.standard_normal(len(relative))
        found[flux] = arcs.prior_width(np.eye(len(relative)) / error**2, seen / error**2, 1.0)
    assert found[0.0] < 0.005
    assert 0.05 < found[0.1] < 0.2


def galaxy_and_host():
    """Each of flux 1."""
    galaxy = galsim.DeVaucouleurs(half_light_radius=3.0, trunc=20.0).shear(g1=0.1, g2=0.05)
    radius = np.hypot(*IMAGES.T).mean()
    axis = np.arange(161) * 0.1 - 8.0
    x, y = np.meshgrid(axis, axis)
    ring = np.exp(-0.5 * ((np.hypot(x, y) - radius) / 0.5) ** 2) * (1.5 + np.cos(np.arctan2(y, x) - 2.0))
    return galaxy, galsim.InterpolatedImage(galsim.Image(ring, scale=0.1), flux=1.0)


def stamps(seed, arc_flux, epochs=10):
    """A quad around a de Vaucouleurs galaxy; the arcs are a ring through the images, brighter on one side."""
    rng = np.random.default_rng(seed)
    data, sigma, psfs, fluxes, shifts = [], [], [], [], []
    galaxy, host = galaxy_and_host()
    for _ in range(epochs):
        psf = galsim.Kolmogorov(fwhm=rng.uniform(3.2, 4.4)).shear(g1=rng.normal(0, 0.02))
        shift, flux = rng.normal(0, 0.2, 2), FLUX * (1 + 0.1 * rng.normal(size=4))
        image = galsim.ImageD(SIZE, SIZE, scale=1.0)

        def at(place, middle=image.true_center, shift=shift):
            return middle + galsim.PositionD(*(place + shift))

        for one, place in zip(flux, IMAGES, strict=True):
            psf.withFlux(one).drawImage(image, center=at(place), add_to_image=True)
        for extended, light in ((galaxy, GALAXY), (host, arc_flux)):
            if light:
                seen = galsim.Convolve(extended, psf).withFlux(light)
                seen.drawImage(image, center=at(np.zeros(2)), add_to_image=True)
        sigma.append(np.sqrt(image.array + SKY))
        data.append(image.array + sigma[-1] * rng.standard_normal(image.array.shape))
        small = galsim.ImageD(K * SIZE, K * SIZE, scale=1 / K)
        psf.drawImage(small)
        psfs.append(small.array)
        fluxes.append(flux)
        shifts.append(shift)
    good = np.ones((epochs, SIZE, SIZE), dtype=bool)
    return tuple(np.array(one) for one in (data, sigma, good, psfs, fluxes, shifts))


def fitted(seed, arc_flux, **more):
    data, sigma, good, psf, flux, shifts = stamps(seed, arc_flux)
    errors = np.full(len(data), 0.01)
    fit = fit_roi(
        data,
        sigma,
        good,
        psf,
        subsampling=K,
        positions=IMAGES,
        translations=shifts,
        translation_errors=errors,
        fix_astrometry=0.02,
        narrow_psf=narrow_from_full(psf),
        **more,
    )
    return fit, np.mean(fit.flux - flux, axis=0) / fit.common_flux_uncertainty


@pytest.mark.parametrize("arc_flux", [0.0, ARCS])
def test_arcs_through_the_images_are_not_their_light(arc_flux):
    fit, bias = fitted(3, arc_flux)
    assert fit.converged
    assert np.all(np.abs(bias) < 2.5)
    # Of the bright ones two per cent at most, of the faint ones less than a third of the arcs' flux.
    assert np.all(fit.common_flux_uncertainty < [0.02 * FLUX[0], 0.02 * FLUX[1], 800.0, 800.0])


def test_a_sharp_image_of_the_lens_tells_its_light_from_the_images():
    """In another unit, a third of a small pixel aside, without the arcs' pattern being known to the model."""
    scale, side = 0.125, 256
    galaxy, host = galaxy_and_host()
    sharp = galsim.ImageD(side, side, scale=scale)
    for one, flux in ((galaxy, GALAXY), (host, ARCS)):
        seen = galsim.Convolve(one, galsim.Gaussian(fwhm=0.3)).withFlux(7.0 * flux)
        seen.drawImage(sharp, center=sharp.true_center + galsim.PositionD(1.3, 0.0), add_to_image=True)
    small = (np.arange(K * SIZE) - (K * SIZE - 1) / 2) / K / scale + (side - 1) / 2
    x, y = np.meshgrid(small, small)
    image = resampled(sharp.array, Grid(x, y, 1 / K / scale))
    given, bias = fitted(3, ARCS, background=image, background_scaled=True)
    found, _ = fitted(3, ARCS)
    assert given.converged
    assert np.all(np.abs(bias) < 2.5)
    assert np.all(given.common_flux_uncertainty < 0.7 * found.common_flux_uncertainty)
    assert given.background.sum() == pytest.approx(image.sum() / 7.0, rel=0.05)


@pytest.mark.parametrize("more", [{}, {"background": np.ones((40, 40)), "optimise_background": False}])
def test_only_a_background_that_is_optimised_is_scaled(more):
    with pytest.raises(ValueError, match="background_scaled needs a background that is optimised"):
        fitted(3, 0.0, background_scaled=True, **more)


def test_an_empty_image_has_no_shape():
    with pytest.raises(ValueError, match="the image of the lens is empty"):
        fitted(3, 0.0, background=np.zeros((40, 40)), background_scaled=True)
