"""The matrix form of the starlet transform, against STARRED's and against Monte Carlo."""

import numpy as np
import pytest
from starred.utils.jax_utils import decompose

from lightcurver_ops.numerics.psf.operators import blur_matrix
from lightcurver_ops.numerics.starlet import coefficient_sigma, scale_count, starlet


@pytest.mark.parametrize("size", [31, 48])
def test_same_coefficients_as_starred(size):
    image = np.random.default_rng(1).normal(size=(size, size))
    expected = np.asarray(decompose(image, scale_count(size)))
    np.testing.assert_allclose(starlet(image), expected, atol=1e-5)


def test_coefficients_sum_to_the_image():
    images = np.random.default_rng(2).normal(size=(3, 32, 32))
    np.testing.assert_allclose(starlet(images).sum(axis=1), images, atol=1e-12)


def test_noise_of_coefficients_agrees_with_monte_carlo():
    rng = np.random.default_rng(3)
    variance = rng.uniform(0.5, 4.0, size=(24, 24))
    blur = blur_matrix(24)
    draws = rng.normal(size=(4000, 24, 24)) * np.sqrt(variance)
    measured = starlet(blur @ draws @ blur.T)[:, :-1].std(axis=0)
    ratio = measured / coefficient_sigma(variance, blur)
    # The standard deviation of 4000 draws is known to 1/sqrt(8000) = 1.1 %.
    assert abs(ratio.mean() - 1) < 0.005
    assert ratio.std() < 0.015
