"""Aperture photometry of stars whose PSF and flux are known."""

import numpy as np
import pytest
from scipy.special import erf

from lightcurver_ops.numerics.aperture import aperture_fluxes, scatter_of_stars, star_images
from lightcurver_ops.numerics.psf.operators import GAUSSIAN_FWHM
from lightcurver_ops.numerics.roi.aperture import fit_in_aperture
from lightcurver_ops.simulation.stamps import star_stamps

SIZE = 24


def gaussian_stars(x, y, sigma):
    """Gaussians [F, S, n, n] of unit flux, integrated over the pixels."""
    edges = np.arange(SIZE + 1) - SIZE / 2

    def part(offset):
        return np.diff(0.5 * erf((edges - offset[..., None]) / (np.sqrt(2) * sigma)), axis=-1)

    return part(y)[..., :, None] * part(x)[..., None, :]


@pytest.fixture(scope="module")
def places():
    return np.random.default_rng(2).uniform(-0.5, 0.5, (2, 3, 6))


def measured(data, images, places, radius, noise=0.1, good=None):
    good = np.ones(data.shape, dtype=bool) if good is None else good
    return aperture_fluxes(data, np.full(data.shape, noise), good, images, *places, np.full(3, radius))


@pytest.mark.parametrize("radius", [1.5, 2.5, 4.0, 20.0])
def test_the_share_of_an_aperture_is_that_of_a_gaussian_and_the_flux_is_the_total(places, radius):
    images = gaussian_stars(*places, sigma=1.5)
    found = measured(300 * images, images, places, radius)
    # The light of a pixel is spread over all of it: a narrow circle holds a little less than of the Gaussian itself.
    expected = 1 - np.exp(-(radius**2) / (2 * (1.5**2 + 1 / 12)))
    np.testing.assert_allclose(found.share, expected, rtol=0.16 / radius**2 + 0.002)
    np.testing.assert_allclose(found.flux, 300, rtol=1e-9)


def test_the_error_is_that_of_the_pixels_inside(places):
    images = gaussian_stars(*places, sigma=1.0)
    found = measured(300 * images, images, places, 5.0)
    area = np.pi * 25
    assert np.all(found.flux_uncertainty * found.share < 0.1 * np.sqrt(area))
    np.testing.assert_allclose(found.flux_uncertainty * found.share, 0.1 * np.sqrt(area), rtol=0.06)
    rng = np.random.default_rng(3)
    fluxes = [
        measured(300 * images + rng.normal(0, 0.1, images.shape), images, places, 5.0).flux
        for _ in range(200)
    ]
    np.testing.assert_allclose(np.std(fluxes, axis=0).mean(), found.flux_uncertainty.mean(), rtol=0.05)


def test_masked_pixels_are_made_up_for_and_too_many_are_no_measurement(places):
    images = gaussian_stars(*places, sigma=1.5)
    data, good = 300 * images, np.ones(images.shape, dtype=bool)
    good[0, 0, 12, 12:15] = False
    good[1, 1] = False
    data = np.where(good, data, 1e9)
    found = measured(data, images, places, 4.0, good=good)
    assert found.flux[0, 0] == pytest.approx(300, rel=1e-9)
    assert found.share[0, 0] < 0.95 * found.share[0, 1]
    assert np.isnan(found.flux[1, 1])
    assert np.isfinite(found.flux).sum() == found.flux.size - 1


def test_a_star_without_a_place_is_not_measured(places):
    images = gaussian_stars(*places, sigma=1.5)
    lost = places.copy()
    lost[0, 2, 3] = np.nan
    found = measured(images, images, lost, 3.0)
    assert np.isnan(found.flux[2, 3])


def test_images_are_those_of_the_psf_in_its_place(places):
    k, sigma = 3, 2.0
    axis = np.arange(SIZE * k) - (SIZE * k - 1) / 2
    fine = np.exp(-0.5 * (axis / (k * sigma)) ** 2)
    psf = np.outer(fine, fine) / fine.sum() ** 2
    assert k * sigma > GAUSSIAN_FWHM
    images = star_images(np.repeat(psf[None], 3, axis=0), *places, k)
    np.testing.assert_allclose(images, gaussian_stars(*places, sigma), atol=4e-3 * images.max())


def test_the_least_scatter_is_that_of_the_aperture_with_the_least_noise(places):
    rng = np.random.default_rng(4)
    coefficient = rng.uniform(0.5, 1, 40)
    flux = 1000 * coefficient * (1 + 0.004 * rng.standard_normal((6, 40)))
    error = np.full(flux.shape, 2.0)
    assert scatter_of_stars(flux, error) == pytest.approx(0.004, rel=0.25)
    assert scatter_of_stars(flux[:1], error[:1]) == np.inf
    noisier = flux * (1 + 0.01 * rng.standard_normal(flux.shape))
    assert scatter_of_stars(noisier, error) > 2 * scatter_of_stars(flux, error)


@pytest.mark.parametrize("roi_size", [20, 32])
def test_a_single_star_has_the_form_of_the_joint_model(roi_size):
    stamps = star_stamps(5, n_frames=4, n_stars=3, size=20)
    edge = (roi_size - 20) // 2
    data = np.pad(stamps.data[:, 1], [(0, 0), (edge, edge), (edge, edge)])
    noise = np.pad(stamps.noise[:, 1], [(0, 0), (edge, edge), (edge, edge)], constant_values=1.0)
    place = np.column_stack([stamps.x[:, 1], stamps.y[:, 1]])
    fit = fit_in_aperture(
        data,
        noise,
        np.ones(data.shape, dtype=bool),
        stamps.psf,
        np.full(4, 5.0),
        subsampling=2,
        expected=place - [0.2, -0.1],
        rotation=np.zeros(4),
        uniform_background=False,
    )
    residual = (fit.flux[:, 0] - stamps.flux[:, 1]) / fit.flux_uncertainty[:, 0]
    assert np.abs(residual).max() < 4
    np.testing.assert_allclose(fit.positions, [[0.2, -0.1]], atol=0.1)
    assert fit.model.shape == data.shape
    assert fit.background.shape == (2 * roi_size, 2 * roi_size)
    assert np.all(fit.chi2 < 2)
    assert fit.converged
