"""How the PSF varies over the field, on stars that GalSim renders."""

from functools import lru_cache

import galsim
import numpy as np
import pytest

from lightcurver_ops.numerics.psf.distortion import full_psfs_at
from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.numerics.psf.variation import StarShapes, fit_variation

SIZE, SCALE, NOISE = 20, 0.25, 0.25
ACCURACY = galsim.GSParams(folding_threshold=2e-3)


@lru_cache
def turbulence_through_the_pupil(seeing):
    """An aberrated pupil's PSF in this seeing, drawn once: its Fourier transform takes half a second."""
    optics = galsim.OpticalPSF(lam=630, diam=2.6, obscuration=0.35, defocus=0.2, coma1=0.15, astig1=0.1)
    psf = galsim.Convolve(galsim.Kolmogorov(fwhm=seeing, gsparams=ACCURACY), optics, gsparams=ACCURACY)
    image = psf.drawImage(nx=400, ny=400, scale=0.05, method="no_pixel")
    return galsim.InterpolatedImage(image, flux=1.0, gsparams=ACCURACY)


def local_psf(place, strength, seeing):
    """Larger and sheared away from the middle of the field."""
    x, y = place
    g1, g2 = 0.6 * x * y + 0.4 * x, 0.5 * (x**2 - y**2) - 0.3 * y
    psf = turbulence_through_the_pupil(seeing).shear(g1=strength * g1, g2=strength * g2)
    return psf.dilate(1 + strength * (0.5 * x - 0.4 * y + 0.7 * (x**2 + y**2)))


def stars_of(seed, strength, n_stars=16, seeing=1.0):
    """data, noise, good [1, S, n, n], places [1, S, 2], and the true PSF at the origin, in pixels [n, n]."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1, 1, (n_stars, 2))
    flux = 10 ** rng.uniform(3.3, 4.8, n_stars)
    data = np.empty((1, n_stars, SIZE, SIZE))
    for s, place in enumerate(places):
        stamp = galsim.ImageD(SIZE, SIZE, scale=SCALE)
        centre = galsim.PositionD(*(stamp.true_center.x + rng.uniform(-0.5, 0.5, 2)))
        local_psf(place, strength, seeing).withFlux(flux[s]).drawImage(stamp, center=centre)
        data[0, s] = stamp.array
    noise = np.sqrt(NOISE**2 + np.maximum(data, 0) / 300)
    data = data + noise * rng.standard_normal(data.shape)
    middle = galsim.ImageD(SIZE, SIZE, scale=SCALE)
    local_psf((0.0, 0.0), strength, seeing).drawImage(middle)
    return data, noise, np.ones(data.shape, dtype=bool), places[None], middle.array


def error_at_origin(fits, truth):
    """Of the PSF at the origin: size, from the width of the light in both."""
    k = 2
    seen = fits.full_psf[0].reshape(SIZE, k, SIZE, k).sum(axis=(1, 3))
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    window = np.exp(-0.5 * (axis[:, None] ** 2 + axis**2) / 3.0**2)

    def width(image):
        light = image * window
        return np.sqrt((light * (axis[:, None] ** 2 + axis**2)).sum() / light.sum())

    return width(seen) / width(truth) - 1


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_varying_psf_is_that_of_the_place(seed):
    data, noise, good, places, truth = stars_of(seed, 0.04)
    found = fit_psfs(data, noise, good, field_distortion="auto", stamp_coordinates=places)
    constant = fit_psfs(data, noise, good)
    assert found.variation[0].order > 0
    assert found.variation[0].evidence > 4
    # The constant PSF's error at the origin depends on where the stars are: its misfit does not.
    assert found.chi2[0] < 0.5 * constant.chi2[0]
    assert abs(error_at_origin(found, truth)) < 0.006


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_constant_psf_stays_constant(seed):
    data, noise, good, places, _ = stars_of(seed, 0.0)
    found = fit_psfs(data, noise, good, field_distortion="auto", stamp_coordinates=places)
    assert found.variation[0].order == 0
    assert not found.distortion.any()
    np.testing.assert_array_equal(found.narrow_psf, fit_psfs(data, noise, good).narrow_psf)


def test_each_star_is_seen_with_the_psf_of_its_place():
    data, noise, good, places, _ = stars_of(7, 0.04)
    found = fit_psfs(data, noise, good, field_distortion="auto", stamp_coordinates=places)
    local = full_psfs_at(found.narrow_psf, found.distortion, places)[0]
    for s, place in enumerate(places[0]):
        seen = local[s].reshape(SIZE, 2, SIZE, 2).sum(axis=(1, 3))
        # Coma moves the light; where the origin of the PSF lies in it is not what is compared.
        stamp = galsim.ImageD(SIZE, SIZE, scale=SCALE)
        centre = stamp.true_center
        for _ in range(3):
            local_psf(place, 0.04, 1.0).drawImage(stamp, center=centre)
            apart = (
                galsim.ImageD(seen).FindAdaptiveMom().moments_centroid
                - stamp.FindAdaptiveMom().moments_centroid
            )
            centre += apart
        common = found.full_psf[0].reshape(SIZE, 2, SIZE, 2).sum(axis=(1, 3))
        assert np.abs(seen - stamp.array).max() < 0.03 * stamp.array.max()
        if np.hypot(*place) > 1:
            assert np.abs(seen - stamp.array).max() < np.abs(common - stamp.array).max()


def test_a_frame_is_the_same_beside_one_that_varies():
    one, other = stars_of(1, 0.0), stars_of(2, 0.04)
    data, noise, good, places = (np.concatenate(pair) for pair in zip(one[:4], other[:4]))
    together = fit_psfs(data, noise, good, field_distortion="auto", stamp_coordinates=places)
    assert [variation.order > 0 for variation in together.variation] == [False, True]
    for f, single in enumerate((one, other)):
        alone = fit_psfs(*single[:3], field_distortion="auto", stamp_coordinates=single[3])
        np.testing.assert_array_equal(together.narrow_psf[f], alone.narrow_psf[0])
        np.testing.assert_array_equal(together.residuals[f], alone.residuals[0])
        np.testing.assert_array_equal(together.distortion[f], alone.distortion[0])


def test_the_polynomial_is_found():
    rng = np.random.default_rng(3)
    places = rng.uniform(-1, 1, (30, 2))
    terms = np.array(
        [[0.01, 0.02, -0.01, 0.02, 0.0, 0.02], [0, 0.01, 0, 0, 0.02, 0], [0, 0, -0.008, 0.02, 0, -0.02]]
    )
    x, y = places.T
    design = np.stack([np.ones(len(x)), x, y, x**2, x * y, y**2])
    value = (terms @ design).T + 0.002 * rng.standard_normal((30, 3))
    value[4] += 0.2  # a galaxy
    found = fit_variation(StarShapes(value, np.full((30, 3), 0.002**2)), places)
    assert found.order == 2
    np.testing.assert_allclose(found.constant, terms[:, 0], atol=0.003)
    np.testing.assert_allclose(found.terms, terms[:, 1:], atol=0.006)


def test_noise_is_no_variation_but_for_who_wants_it():
    chosen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        places = rng.uniform(-1, 1, (16, 2))
        sigma = 10 ** rng.uniform(-2.7, -1.5, (16, 3))
        shapes = StarShapes(sigma * rng.standard_normal((16, 3)), sigma**2)
        chosen += fit_variation(shapes, places).order > 0
        assert fit_variation(shapes, places, always=True).order > 0
        assert np.abs(fit_variation(shapes, places, always=True).terms).max() < 0.05
    assert chosen <= 2


def test_few_stars_say_nothing():
    rng = np.random.default_rng(1)
    shapes = StarShapes(0.1 * rng.standard_normal((5, 3)), np.full((5, 3), 1e-6))
    assert fit_variation(shapes, rng.uniform(-1, 1, (5, 2)), always=True).order == 0
