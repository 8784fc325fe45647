import numpy as np
import pytest

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.background import measure_rms, subtract_background

NY, NX = 400, 600


def sky_with_gradient(level=1000.0, slope=0.02):
    y, x = np.mgrid[:NY, :NX]
    return level + slope * x + 0.5 * slope * y


def stars(rng, n, fwhm=4.0):
    y, x = np.mgrid[-12:13, -12:13]
    image = np.zeros((NY, NX))
    for _ in range(n):
        cx, cy = rng.integers(13, NX - 13), rng.integers(13, NY - 13)
        image[cy - 12 : cy + 13, cx - 12 : cx + 13] += 10 ** rng.uniform(1, 3.5) * np.exp(
            -4 * np.log(2) * (x**2 + y**2) / fwhm**2
        )
    return image


@pytest.mark.parametrize("sigma", [0.02, 5.0])
def test_empty_sky_and_its_noise(sigma):
    rng = np.random.default_rng(1)
    truth = sky_with_gradient()
    found = subtract_background(truth + sigma * rng.standard_normal(truth.shape), 8, False, 3.0)
    assert np.abs(found.level - truth)[50:-50, 50:-50].max() < 0.3 * max(sigma, 1)
    np.testing.assert_allclose(found.sky_level, np.median(truth), atol=0.05 * sigma + 0.02)
    if sigma > 1:
        np.testing.assert_allclose(found.rms, sigma, rtol=0.01)


def test_noise_of_coarsely_digitised_counts():
    rng = np.random.default_rng(2)
    adu = np.round(350 + 1.1 * rng.standard_normal((NY, NX)))
    np.testing.assert_allclose(subtract_background(adu, 8, False, 3.0).rms, np.std(adu), rtol=0.015)


def test_masking_sources_makes_the_sky_less_biased():
    rng = np.random.default_rng(3)
    sky, sigma = sky_with_gradient(100.0), 3.0
    image = sky + stars(rng, 900) + sigma * rng.standard_normal(sky.shape)
    bias = {
        masked: np.median(subtract_background(image, 8, masked, 3.0).level - sky) for masked in (False, True)
    }
    assert abs(bias[True]) < 0.5 * abs(bias[False])
    assert abs(bias[True]) < 0.1 * sigma
    np.testing.assert_allclose(subtract_background(image, 8, True, 3.0).rms, sigma, rtol=0.04)


def test_unusable_pixels_do_not_matter():
    rng = np.random.default_rng(4)
    image = 50 + rng.standard_normal((NY, NX))
    clean = subtract_background(image, 4, True, 3.0)
    spoilt, good = image.copy(), np.ones(image.shape, dtype=bool)
    spoilt[200:220, :] = 1e6
    spoilt[:, 100:104] = np.nan
    good[200:220, :] = False
    found = subtract_background(spoilt, 4, True, 3.0, good)
    assert np.abs(found.level - clean.level).max() < 0.3
    assert np.isnan(found.image[:, 100:104]).all()
    np.testing.assert_allclose(found.rms, clean.rms, rtol=0.02)


def test_noise_of_a_subtracted_image():
    rng = np.random.default_rng(5)
    image = stars(rng, 100) + 2.0 * rng.standard_normal((NY, NX))
    np.testing.assert_allclose(measure_rms(image), 2.0, rtol=0.03)


def test_more_boxes_than_the_image_can_hold():
    rng = np.random.default_rng(6)
    found = subtract_background(10 + rng.standard_normal((40, 50)), 30, True, 3.0)
    np.testing.assert_allclose(found.sky_level, 10, atol=0.1)


@pytest.mark.parametrize("image", [np.full((50, 50), np.nan), np.full((50, 50), 7.0)])
def test_an_image_without_sky_is_refused(image):
    with pytest.raises(BadFrame, match=r"no usable pixel|no noise"):
        subtract_background(image, 4, True, 3.0)
