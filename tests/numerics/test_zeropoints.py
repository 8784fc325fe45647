"""Zero points of simulated frames."""

import numpy as np
import pytest

from lightcurver_ops.numerics.zeropoints import global_zero_point, zero_points


@pytest.fixture
def season():
    """15 stars whose catalogue magnitudes scatter by 0.03, 400 frames of varying throughput, photon noise of 0.3 %."""
    rng = np.random.default_rng(21)
    magnitude = rng.uniform(14, 18, 15)
    coefficient = np.exp(rng.normal(0, 0.3, 400))
    coefficient /= np.median(coefficient)
    truth = 25.3 + 2.5 * np.log10(coefficient)
    catalogue_error = rng.normal(0, 0.03, 15)
    flux = 10 ** (0.4 * (truth - (magnitude + catalogue_error)[:, None])) * (
        1 + 0.003 * rng.normal(size=(15, 400))
    )
    return flux, magnitude, coefficient, truth, catalogue_error


def test_zero_points_of_known_fluxes():
    flux = 10 ** (0.4 * (25.0 - np.array([15.0, 16.0, 17.0])))[:, None] * [1.0, 0.5]
    result = zero_points(flux, [15.0, 16.0, 17.0])
    np.testing.assert_allclose(result.zeropoint, [25.0, 25.0 - 2.5 * np.log10(2)])
    np.testing.assert_allclose(result.zeropoint_uncertainty, 0.0, atol=1e-12)
    np.testing.assert_array_equal(result.n_stars, [3, 3])


def test_scatter_is_that_of_the_catalogue_and_one_wrong_star_does_not_matter(season):
    flux, magnitude, _, truth, catalogue_error = season
    magnitude = magnitude.copy()
    magnitude[4] += 1.0
    result = zero_points(flux, magnitude)
    bias = np.median(result.zeropoint - truth)
    assert abs(bias) < 0.03
    assert np.std(result.zeropoint - truth) < 0.003
    off = catalogue_error - np.where(np.arange(15) == 4, 1.0, 0.0)
    spread = 1.4826 * np.median(np.abs(off - np.median(off)))
    assert np.median(result.zeropoint_uncertainty) == pytest.approx(spread, rel=0.1)
    assert spread < 0.06
    expected = -catalogue_error - bias + np.where(np.arange(15) == 4, 1.0, 0.0)
    np.testing.assert_allclose(result.star_offset, expected, atol=0.003)


def test_missing_and_useless_measurements(season):
    flux, magnitude, *_ = season
    flux, magnitude = flux[:, :6].copy(), magnitude.copy()
    flux[:, 0] = np.nan
    flux[1:, 1] = np.nan
    flux[2:, 2] = -5.0
    magnitude[14] = np.nan
    result = zero_points(flux, np.ma.masked_array(magnitude, mask=np.arange(15) == 13))
    np.testing.assert_array_equal(result.n_stars, [0, 1, 2, 13, 13, 13])
    np.testing.assert_array_equal(np.isnan(result.zeropoint), [True, *[False] * 5])
    np.testing.assert_allclose(result.zeropoint_uncertainty[:3], [np.nan, 0.03, 0.03])
    assert np.isnan(result.star_offset[13:]).all()


def test_normalization_takes_the_throughput_out(season):
    flux, magnitude, coefficient, *_ = season
    zp = zero_points(flux, magnitude)
    one = global_zero_point(zp.zeropoint, coefficient, zp.zeropoint_uncertainty)
    assert one.zeropoint == pytest.approx(25.3, abs=0.02)
    assert one.scatter < 0.003
    assert one.scatter_before > 0.2
    assert one.normalization_reduced_scatter is True
    assert one.n_frames == 400
    assert one.uncertainty == pytest.approx(np.median(zp.zeropoint_uncertainty))


def test_wrong_coefficients_are_flagged(season):
    flux, magnitude, coefficient, *_ = season
    zp = zero_points(flux, magnitude)
    wrong = global_zero_point(zp.zeropoint, 1 / coefficient, zp.zeropoint_uncertainty)
    assert wrong.normalization_reduced_scatter is False
    few = global_zero_point(zp.zeropoint[:2], coefficient[:2])
    assert np.isnan(few.uncertainty)
    assert few.normalization_reduced_scatter is None


def test_frames_without_coefficient_are_left_out(season):
    flux, magnitude, coefficient, *_ = season
    zp = zero_points(flux, magnitude)
    coefficient = np.where(np.arange(400) < 150, np.nan, coefficient)
    assert global_zero_point(zp.zeropoint, coefficient, zp.zeropoint_uncertainty).n_frames == 250
    nothing = global_zero_point(zp.zeropoint, np.full(400, np.nan))
    assert nothing.n_frames == 0
    assert np.isnan([nothing.zeropoint, nothing.scatter]).all()


def test_order_does_not_matter(season):
    flux, magnitude, *_ = season
    rng = np.random.default_rng(3)
    stars, frames = rng.permutation(15), rng.permutation(400)
    direct, shuffled = zero_points(flux, magnitude), zero_points(flux[stars][:, frames], magnitude[stars])
    np.testing.assert_allclose(shuffled.zeropoint, direct.zeropoint[frames], rtol=1e-14)
    np.testing.assert_allclose(shuffled.star_offset, direct.star_offset[stars], atol=1e-12)


def test_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"\[S, E\]"):
        zero_points(np.ones((3, 4)), np.ones(4))
    with pytest.raises(ValueError, match=r"\[E\]"):
        global_zero_point(np.ones(3), np.ones(4))
