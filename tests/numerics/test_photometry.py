"""Star photometry on simulated stamps: bias, scatter against the Cramer-Rao bound, masks, faint stars."""

import numpy as np
import pytest

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics.photometry import fit_star_fluxes
from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.numerics.quality import chi2_bounds
from lightcurver_ops.simulation.stamps import star_stamps


@pytest.fixture(scope="module")
def stamps():
    return star_stamps(31, n_frames=40, n_stars=6, size=20, magnitudes=(16.0, 20.5))


def measure(stamps, **changed):
    options = {"data": stamps.data, "noise": stamps.noise, "psf": stamps.psf, "subsampling": 2} | changed
    options.setdefault("good", np.ones(stamps.data.shape, dtype=bool))
    return fit_star_fluxes(**options)


def cramer_rao(stamps):
    """Smallest possible standard deviation of each flux with free positions, from differences of the true model."""
    sigma = np.empty(stamps.flux.shape)
    for index in np.ndindex(sigma.shape):
        model = stamps.model[index]
        slope_y, slope_x = np.gradient(model)
        columns = np.stack([model / stamps.flux[index], slope_x, slope_y]).reshape(3, -1)
        normal = (columns / stamps.noise[index].ravel() ** 2) @ columns.T
        sigma[index] = np.sqrt(np.linalg.inv(normal)[0, 0])
    return sigma


@pytest.mark.parametrize("background", [False, True])
def test_fluxes_with_the_true_psf_reach_the_bound(stamps, background):
    found = measure(stamps, uniform_background=background)
    bound = cramer_rao(stamps)
    assert found.converged.all()
    pull = (found.flux - stamps.flux) / found.flux_uncertainty
    # 240 values: mean to 0.065, standard deviation to 0.046.
    assert abs(pull.mean()) < 0.25
    assert 0.87 < pull.std() < 1.13
    if not background:
        np.testing.assert_allclose(found.flux_uncertainty, bound, rtol=0.05)
        assert ((found.flux - stamps.flux) / bound).std() < 1.15
    assert abs(np.median(found.flux / stamps.flux) - 1) < 0.003
    assert abs(found.chi2.mean() - 1) < 0.02
    bright = stamps.flux[0] > 300
    assert np.abs(found.x - stamps.x)[:, bright].max() < 0.06
    assert np.abs(found.y - stamps.y)[:, bright].max() < 0.06


def test_fluxes_with_fitted_psfs_have_no_bias_with_brightness():
    stamps = star_stamps(32, n_frames=4, n_stars=8, size=20, magnitudes=(16.0, 19.0))
    good = np.ones(stamps.data.shape, dtype=bool)
    fits = fit_psfs(stamps.data, stamps.noise, good)
    found = fit_star_fluxes(stamps.data, stamps.noise, good, fits.full_psf, subsampling=2)
    # What a frame's PSF gets wrong is common to its stars, and goes into its normalization.
    ratio = found.flux / stamps.flux
    common = np.average(ratio, axis=1, weights=(stamps.flux / found.flux_uncertainty).mean(axis=0) ** 2)
    assert np.abs(common - 1).max() < 0.01
    pull = (ratio / common[:, None] - 1) * stamps.flux / found.flux_uncertainty
    # 32 values: standard deviation to 0.13.
    assert 0.6 < pull.std() < 1.3
    assert abs(np.corrcoef(pull.ravel(), np.log(stamps.flux).ravel())[0, 1]) < 0.5
    np.testing.assert_allclose(found.flux, fits.amplitude, rtol=0.02)


def test_constant_background_is_found(stamps):
    found = measure(stamps, data=stamps.data + 3.0, uniform_background=True)
    plain = measure(stamps, uniform_background=True)
    np.testing.assert_allclose(found.background, plain.background + 3.0, atol=1e-4)
    np.testing.assert_allclose(found.flux, plain.flux, rtol=1e-3)


def test_masked_pixels_and_cosmics_cost_pixels(stamps):
    plain = measure(stamps)
    good = np.ones(stamps.data.shape, dtype=bool)
    data = stamps.data.copy()
    good[:, :, 9, 11] = False
    data[:, :, 9, 11] = np.nan
    data[0, 0, 4, 4] += 50 * stamps.noise[0, 0, 4, 4]
    found = measure(stamps, data=data, good=good)
    assert found.n_good[0, 0] == plain.n_good[0, 0] - 2
    assert np.all(found.n_good[1:] == plain.n_good[1:] - 1)
    difference = np.abs(found.flux - plain.flux) / plain.flux_uncertainty
    assert np.median(difference) < 0.5
    assert difference[0, 0] < 1.5
    assert np.all(found.flux_uncertainty[1:] > plain.flux_uncertainty[1:])


def test_absent_stars_and_frames_without_psf(stamps):
    good = np.ones(stamps.data.shape, dtype=bool)
    good[0, 1] = False
    psf = stamps.psf.copy()
    psf[2] = np.nan
    found, plain = measure(stamps, good=good, psf=psf), measure(stamps)
    lost = np.zeros(stamps.flux.shape, dtype=bool)
    lost[0, 1] = lost[2] = True
    for value in (found.flux, found.flux_uncertainty, found.x, found.y, found.chi2, found.background):
        np.testing.assert_array_equal(np.isnan(value), lost)
    np.testing.assert_array_equal(found.converged, ~lost)
    np.testing.assert_allclose(found.flux[~lost], plain.flux[~lost], rtol=1e-9)


def test_star_lost_in_the_noise_has_no_positive_bias():
    stamps = star_stamps(33, n_frames=150, n_stars=4, size=16, magnitudes=(17.0, 18.0))
    data = stamps.data.copy()
    data[:, 3] = np.random.default_rng(4).normal(size=data[:, 3].shape) * stamps.rms[:, None, None]
    noise = stamps.noise.copy()
    noise[:, 3] = stamps.rms[:, None, None]
    found = measure(stamps, data=data, noise=noise)
    pull = (found.flux / found.flux_uncertainty)[:, 3]
    # The position follows the noise a little: at most about one sigma of bias.
    assert abs(np.median(pull)) < 1.0
    assert pull.std() < 2.0


def test_psf_of_each_star(stamps):
    each = np.repeat(stamps.psf[:, None], 6, axis=1)
    found, plain = measure(stamps, psf=each), measure(stamps)
    np.testing.assert_allclose(found.flux, plain.flux, rtol=1e-9)


def test_large_offset_is_found():
    stamps = star_stamps(34, n_frames=2, n_stars=4, size=24, magnitudes=(16.0, 18.0))
    moved = {"data": np.roll(stamps.data, (2, -2), (2, 3)), "noise": np.roll(stamps.noise, (2, -2), (2, 3))}
    found, plain = measure(stamps, **moved), measure(stamps)
    np.testing.assert_allclose(found.flux, plain.flux, rtol=2e-3)
    np.testing.assert_allclose(found.x, plain.x - 2, atol=0.01)
    np.testing.assert_allclose(found.y, plain.y + 2, atol=0.01)


def test_chi2_bounds():
    chi2 = np.concatenate([np.random.default_rng(5).normal(1.0, 0.1, 500), [30.0, np.nan]])
    assert chi2_bounds(chi2, None) == (-np.inf, np.inf)
    assert chi2_bounds(chi2, {"interval": [0.5, 2]}) == (0.5, 2.0)
    low, high = chi2_bounds(chi2, {"sigma_clip": 4})
    assert low == pytest.approx(0.6, abs=0.05)
    assert high == pytest.approx(1.4, abs=0.05)
    assert chi2_bounds(np.array([np.nan]), {"sigma_clip": 3}) == (-np.inf, np.inf)
    with pytest.raises(ConfigurationError, match="sigma_clip"):
        chi2_bounds(chi2, {"sigma": 3})
