"""A sharp image on a coarser grid: Gaussians stay Gaussians, and no light is lost."""

import numpy as np
import pytest

from lightcurver_ops.numerics.psf.operators import SIGMA
from lightcurver_ops.numerics.resampling import Grid, resampled


def gaussian(side, x0, y0, sigma):
    y, x = np.mgrid[:side, :side]
    return np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / sigma**2) / (2 * np.pi * sigma**2)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_a_gaussian_of_the_image_is_one_on_the_grid(angle):
    scale, side = 2.5, 32
    image = gaussian(160, 84.0, 76.5, 6.0)
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    at = scale * np.einsum("ij,jyx->iyx", turn, [x, y]) + np.array([80.0, 80.0])[:, None, None]
    laid = resampled(image, Grid(at[0], at[1], scale))
    wide = np.hypot(6.0, SIGMA * scale)
    expected = np.exp(-0.5 * ((at[0] - 84.0) ** 2 + (at[1] - 76.5) ** 2) / wide**2)
    expected *= scale**2 / (2 * np.pi * wide**2)
    np.testing.assert_allclose(laid, expected, atol=2e-3 * expected.max())
    assert laid.sum() == pytest.approx(1.0, abs=1e-3)


def test_beyond_the_image_there_is_nothing():
    y, x = np.mgrid[:10, :10]
    laid = resampled(np.ones((20, 20)), Grid(2.0 * x + 5, 2.0 * y, 2.0))
    assert np.isfinite(laid[:, :7]).all()
    assert np.isnan(laid[:, 8:]).all()
