"""Normalization coefficients of simulated seasons."""

import numpy as np
import pytest

from lightcurver_ops.numerics.normalization import normalization_coefficients, variable_stars
from lightcurver_ops.numerics.photometry import fit_star_fluxes
from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.simulation.stamps import star_stamps


class Season:
    """Fluxes of S stars in E frames with their truth.

    Brightness spans 5 mag; the brightest star has a signal to noise near 600; each star scatters by `tau` beyond
    its photon noise, which the uncertainties do not tell.
    """

    def __init__(self, n_stars=10, n_frames=300, *, seed=1, tau=0.003, missing=0.1, outliers=0.0):
        rng = np.random.default_rng(seed)
        self.scale = 10 ** np.linspace(5, 3, n_stars)
        self.coefficient = np.exp(rng.normal(0, 0.2, n_frames))
        self.coefficient /= np.median(self.coefficient)
        truth = self.scale[:, None] * self.coefficient
        self.sigma = np.sqrt(truth / 4)
        noise = rng.normal(size=(2, n_stars, n_frames))
        self.flux = truth * (1 + tau * noise[0]) + self.sigma * noise[1]
        missed = rng.random((n_stars, n_frames)) < missing
        self.outlying = (rng.random((n_stars, n_frames)) < outliers) & ~missed
        factor = 1 + rng.choice([-1, 1], self.outlying.sum()) * rng.uniform(0.2, 0.9, self.outlying.sum())
        self.flux[self.outlying] *= factor
        self.flux[missed] = np.nan
        self.tau = tau

    def errors(self, result):
        """Relative errors of the coefficients, and in units of their standard errors, at the truth's convention."""
        ratio = result.coefficient / self.coefficient
        gauge = np.nanmedian(ratio)
        return ratio / gauge - 1, (ratio / gauge - 1) * self.coefficient * gauge / result.standard_error

    def best_possible(self):
        """Standard error of the mean with the true variances, relative, typical frame."""
        variance = (self.sigma / (self.scale[:, None] * self.coefficient)) ** 2 + self.tau**2
        return np.nanmedian(np.sqrt(1 / np.sum(np.where(np.isfinite(self.flux), 1 / variance, 0), axis=0)))


def robust(values):
    return 1.4826 * np.nanmedian(np.abs(values))


def test_noiseless_fluxes_give_the_truth():
    season = Season(tau=0.0)
    flux = np.where(np.isfinite(season.flux), season.scale[:, None] * season.coefficient, np.nan)
    result = normalization_coefficients(flux, season.sigma)
    np.testing.assert_allclose(result.coefficient, season.coefficient, rtol=1e-9)
    np.testing.assert_allclose(result.star_scale, season.scale, rtol=1e-9)
    assert result.converged
    assert result.connected.all()


@pytest.mark.parametrize(("tau", "n_stars"), [(0.0, 10), (0.003, 10), (0.003, 25), (0.01, 4)])
def test_errors_are_near_the_best_possible_and_as_large_as_said(tau, n_stars):
    season = Season(n_stars, tau=tau)
    result = normalization_coefficients(season.flux, season.sigma)
    relative, pulls = season.errors(result)
    assert result.converged
    assert np.std(relative) < 1.1 * season.best_possible()
    assert 0.88 < np.std(pulls) < 1.12
    assert 0.85 < result.reduced_chi2 < 1.1
    np.testing.assert_allclose(np.nanmedian(result.coefficient), 1.0)


def test_star_scatter_is_found_for_each_star():
    season = Season(8, 2000)
    result = normalization_coefficients(season.flux, season.sigma)
    photon = np.median(season.sigma / (season.scale[:, None] * season.coefficient), axis=1)
    np.testing.assert_allclose(result.star_scatter, np.hypot(photon, 0.003), rtol=0.08)
    bright = photon < 0.003
    np.testing.assert_allclose(result.star_excess[bright], 0.003, rtol=0.1)


def test_outliers_lose_their_weight():
    clean, season = Season(outliers=0.0), Season(outliers=0.03)
    result = normalization_coefficients(season.flux, season.sigma)
    relative, _ = season.errors(result)
    reference, _ = clean.errors(normalization_coefficients(clean.flux, clean.sigma))
    assert not result.used[season.outlying].any()
    assert result.used[np.isfinite(season.flux) & ~season.outlying].mean() > 0.999
    assert np.std(relative) < 1.1 * np.std(reference)
    assert (result.weight[season.outlying] == 0).all()
    np.testing.assert_allclose(result.weight.sum(axis=0), 1.0)
    np.testing.assert_array_equal(result.n_stars, result.used.sum(axis=0))


def test_an_outlier_among_three_stars_is_told_even_if_it_is_the_brightest():
    season = Season(3, 200, missing=0.0)
    season.flux[0, 50] *= 0.7
    result = normalization_coefficients(season.flux, season.sigma)
    np.testing.assert_array_equal(result.used[:, 50], [False, True, True])
    assert abs(season.errors(result)[0][50]) < 0.03


def test_two_stars_that_contradict_each_other_make_the_frame_uncertain():
    season = Season(2, 200, missing=0.0)
    season.flux[0, 50] *= 0.7
    result = normalization_coefficients(season.flux, season.sigma)
    assert result.n_stars[50] == 2
    assert result.coefficient_uncertainty[50] > 0.1 * result.coefficient[50]
    assert result.standard_error[50] > 10 * np.median(result.standard_error)
    assert result.converged
    assert np.std(np.delete(season.errors(result)[1], 50)) < 1.3


@pytest.mark.parametrize("star", [0, 5, 9])
def test_a_variable_star_is_found_and_does_not_pull(star):
    """The brightest, a middling and the faintest star vary by 10 %, slowly."""
    quiet, season = Season(), Season()
    season.flux[star] *= 1 + 0.1 * np.sin(np.arange(300) / 25)
    result = normalization_coefficients(season.flux, season.sigma)
    without = normalization_coefficients(
        np.delete(quiet.flux, star, axis=0), np.delete(quiet.sigma, star, axis=0)
    )
    assert np.argmax(result.star_excess) == star
    assert result.star_excess[star] > 5 * np.median(result.star_excess)
    assert result.star_chi2[star] > 3 * np.median(result.star_chi2)
    assert result.star_weight[star] < 0.3 * without.star_weight.max()
    assert np.std(season.errors(result)[0]) < 1.1 * np.std(season.errors(without)[0])
    # no trace of its variation in the coefficients
    relative = season.errors(result)[0]
    assert abs(np.corrcoef(relative, np.sin(np.arange(300) / 25))[0, 1]) < 0.25


def test_a_star_that_is_eclipsed_now_and_then_shows_in_its_chi2():
    season = Season()
    season.flux[2, ::20] *= 0.8
    result = normalization_coefficients(season.flux, season.sigma)
    assert np.argmax(result.star_chi2) == 2
    assert not result.used[2, ::20].any()
    assert result.star_excess[2] < 0.006


def test_order_of_stars_and_frames_does_not_matter():
    season = Season(outliers=0.02)
    rng = np.random.default_rng(9)
    stars, frames = rng.permutation(10), rng.permutation(300)
    direct = normalization_coefficients(season.flux, season.sigma)
    shuffled = normalization_coefficients(season.flux[stars][:, frames], season.sigma[stars][:, frames])
    np.testing.assert_allclose(shuffled.coefficient, direct.coefficient[frames], rtol=1e-9)
    np.testing.assert_allclose(shuffled.star_scale, direct.star_scale[stars], rtol=1e-9)
    np.testing.assert_array_equal(shuffled.used, direct.used[stars][:, frames])


def test_flux_unit_does_not_matter():
    season = Season(outliers=0.02)
    direct = normalization_coefficients(season.flux, season.sigma)
    other = normalization_coefficients(1e-3 * season.flux, 1e-3 * season.sigma)
    np.testing.assert_allclose(other.coefficient, direct.coefficient, rtol=1e-9)


def test_a_cloudy_night_added_leaves_earlier_coefficients_within_their_errors():
    """40 frames of half the throughput: without a reference they move the median, with it nothing moves."""
    season = Season(n_frames=140)
    season.flux[:, 100:] *= 0.5
    season.sigma[:, 100:] *= np.sqrt(0.5)
    first = normalization_coefficients(season.flux[:, :100], season.sigma[:, :100])
    second = normalization_coefficients(season.flux, season.sigma, reference_scale=first.star_scale)
    moved = second.coefficient[:100] - first.coefficient
    assert np.max(np.abs(moved) / first.standard_error) < 0.5
    assert abs(np.mean(moved / first.coefficient)) < 1e-4
    np.testing.assert_allclose(
        np.median(second.coefficient[100:] / season.coefficient[100:])
        / np.median(first.coefficient / season.coefficient[:100]),
        0.5,
        rtol=2e-3,
    )
    free = normalization_coefficients(season.flux, season.sigma)
    assert np.median(free.coefficient[:100] / first.coefficient) > 1.02


def test_a_new_star_and_a_star_gone_keep_the_reference():
    season = Season(n_frames=200)
    first = normalization_coefficients(season.flux[:9, :100], season.sigma[:9, :100])
    reference = np.append(first.star_scale, np.nan)
    flux = season.flux.copy()
    flux[9, :100] = np.nan
    flux[0, 100:] = np.nan
    second = normalization_coefficients(flux, season.sigma, reference_scale=reference)
    assert np.max(np.abs(second.coefficient[:100] - first.coefficient) / first.standard_error) < 0.6
    assert np.std(season.errors(second)[0]) < 1.6 * season.best_possible()
    with pytest.raises(ValueError, match="reference_scale"):
        normalization_coefficients(flux, season.sigma, reference_scale=np.full(10, np.nan))


def test_one_star_only():
    season = Season(1, 50, missing=0.0)
    result = normalization_coefficients(season.flux, season.sigma)
    np.testing.assert_allclose(result.coefficient, season.flux[0] / result.star_scale[0])
    np.testing.assert_allclose(result.coefficient_uncertainty, 0.1 * result.coefficient)
    np.testing.assert_array_equal(result.n_stars, 1)
    assert result.converged


def test_a_frame_with_one_star_has_ten_percent_and_one_with_none_has_nothing():
    season = Season(missing=0.0)
    season.flux[1:, 7] = np.nan
    season.flux[:, 8] = np.nan
    season.sigma[:, 9] = 0.0
    result = normalization_coefficients(season.flux, season.sigma)
    assert result.coefficient_uncertainty[7] == pytest.approx(0.1 * result.coefficient[7])
    for values in (result.coefficient, result.coefficient_uncertainty, result.standard_error):
        np.testing.assert_array_equal(np.flatnonzero(np.isnan(values)), [8, 9])
    np.testing.assert_array_equal(result.n_stars[7:10], [1, 0, 0])


def test_frames_that_no_star_links_to_the_others_have_no_coefficient():
    season = Season(6, 60, missing=0.0)
    season.flux[:3, 40:] = np.nan
    season.flux[3:, :40] = np.nan
    result = normalization_coefficients(season.flux, season.sigma)
    np.testing.assert_array_equal(result.connected, np.arange(60) < 40)
    assert np.isnan(result.coefficient[40:]).all()
    assert np.isfinite(result.coefficient[:40]).all()
    assert np.isnan(result.star_scale[3:]).all()


def test_overlapping_pointings_are_joined():
    """Stars 0 to 5 in the first frames, 4 to 9 in the others."""
    season = Season(10, 300, missing=0.0)
    season.flux[6:, :150] = np.nan
    season.flux[:4, 150:] = np.nan
    result = normalization_coefficients(season.flux, season.sigma)
    relative, _ = season.errors(result)
    assert result.converged
    assert abs(np.mean(relative[:150]) - np.mean(relative[150:])) < 0.002


def test_frames_lost_in_cloud_do_not_spoil_the_others():
    season = Season(missing=0.0)
    rng = np.random.default_rng(4)
    season.flux[:, :3] = rng.normal(0, 1, (10, 3)) * season.sigma[:, :3]
    season.coefficient[:3] = np.nan
    result = normalization_coefficients(season.flux, season.sigma)
    relative, _ = season.errors(result)
    assert np.all(np.abs(result.coefficient[:3]) < 0.05)
    assert np.nanstd(relative) < 1.1 * season.best_possible()


def test_few_frames():
    season = Season(6, 3, missing=0.0)
    result = normalization_coefficients(season.flux, season.sigma)
    assert result.converged
    assert np.all(np.abs(season.errors(result)[0]) < 0.01)
    single = normalization_coefficients(season.flux[:, :1], season.sigma[:, :1])
    np.testing.assert_allclose(single.coefficient, 1.0)
    assert 0 < single.standard_error[0] < 0.01


def test_uncertainty_is_the_scatter_of_the_stars_and_at_least_the_standard_error():
    season = Season(12, 400, tau=0.02, missing=0.0)
    result = normalization_coefficients(season.flux, season.sigma)
    assert robust(result.coefficient_uncertainty / result.coefficient) / 1.4826 == pytest.approx(
        0.02, rel=0.25
    )
    assert np.all(result.coefficient_uncertainty >= result.standard_error)


def test_nothing_at_all():
    result = normalization_coefficients(np.full((3, 4), np.nan), np.ones((3, 4)))
    assert np.isnan(result.coefficient).all()
    assert not result.used.any()
    assert not result.connected.any()
    with pytest.raises(ValueError, match=r"\[S, E\]"):
        normalization_coefficients(np.ones((3, 4)), np.ones((4, 3)))


@pytest.mark.parametrize("outliers", [0.0, 0.02])
def test_constant_stars_are_not_called_variable(outliers):
    found = 0
    for seed in range(12):
        season = Season(seed=seed, n_frames=60, outliers=outliers)
        result = normalization_coefficients(season.flux, season.sigma)
        found += variable_stars(season.flux, season.sigma, result).sum()
    assert found <= 1  # of 120


@pytest.mark.parametrize("star", [0, 5, 9])
def test_a_star_that_varies_is_called_variable_and_no_other(star):
    season = Season(n_frames=60)
    season.flux[star] *= 1 + 0.08 * np.sin(np.arange(60) / 4)
    result = normalization_coefficients(season.flux, season.sigma)
    assert np.flatnonzero(variable_stars(season.flux, season.sigma, result)).tolist() == [star]
    assert result.star_excess[star] == pytest.approx(0.08 / np.sqrt(2), rel=0.2)


def test_a_star_that_is_eclipsed_now_and_then_is_called_variable():
    season = Season()
    season.flux[2, ::20] *= 0.8
    result = normalization_coefficients(season.flux, season.sigma)
    assert np.flatnonzero(variable_stars(season.flux, season.sigma, result)).tolist() == [2]


def test_two_stars_do_not_tell_which_varies():
    season = Season(2, 60, missing=0.0)
    season.flux[0] *= 1 + 0.1 * np.sin(np.arange(60) / 4)
    result = normalization_coefficients(season.flux, season.sigma)
    assert not variable_stars(season.flux, season.sigma, result).any()
    season.flux[:] = np.nan
    empty = normalization_coefficients(season.flux, season.sigma)
    assert not variable_stars(season.flux, season.sigma, empty).any()


@pytest.fixture(scope="module")
def through_the_air():
    """Bright stars through seeing of 2 to 6 px."""
    return star_stamps(
        21, n_frames=16, n_stars=10, size=24, seeing=3.4, seeing_scatter=0.25, magnitudes=(14.5, 16.5)
    )


def change_with_seeing(stamps, logarithm):
    """What a line through the points changes over the range of the seeing, and the error of that."""
    seeing = np.array([shape.seeing for shape in stamps.shapes])
    assert np.ptp(seeing) > 2.5
    (slope, _), covariance = np.polyfit(seeing, logarithm, 1, cov=True)
    return abs(slope) * np.ptp(seeing), np.sqrt(covariance[0, 0]) * np.ptp(seeing)


def test_coefficients_do_not_follow_the_seeing(through_the_air):
    stamps = through_the_air
    good = np.ones(stamps.data.shape, dtype=bool)
    fluxes = fit_star_fluxes(stamps.data, stamps.noise, good, stamps.psf, subsampling=stamps.subsampling)
    result = normalization_coefficients(fluxes.flux.T, fluxes.flux_uncertainty.T)
    change, error = change_with_seeing(stamps, np.log(result.coefficient / stamps.coefficient))
    assert change < 0.001
    assert change < 3 * error


def test_a_star_over_the_coefficients_of_others_does_not_follow_the_seeing(through_the_air):
    """What a light curve is: PSFs fitted, the flux of a star that took no part divided by the coefficients."""
    stamps = through_the_air
    good = np.ones(stamps.data.shape, dtype=bool)
    part = np.s_[:, 1:]
    psf = fit_psfs(stamps.data[part], stamps.noise[part], good[part]).full_psf
    fluxes = fit_star_fluxes(stamps.data, stamps.noise, good, psf, subsampling=stamps.subsampling)
    result = normalization_coefficients(fluxes.flux.T[1:], fluxes.flux_uncertainty.T[1:])
    change, error = change_with_seeing(stamps, np.log(fluxes.flux[:, 0] / result.coefficient))
    assert change < 0.001
    assert change < 3 * error
