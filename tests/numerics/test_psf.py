"""The PSF fit on simulated stamps: accuracy, robustness, status."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics.photometry import fit_star_fluxes
from lightcurver_ops.numerics.psf.distortion import full_psf_slopes, full_psfs_at
from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.numerics.psf.operators import star_operator
from lightcurver_ops.simulation.stamps import star_stamps


def all_good(stamps):
    return np.ones(stamps.data.shape, dtype=bool)


def psf_error(fits, stamps):
    """Sum of the absolute differences to the true PSF, whose flux is one."""
    return np.abs(fits.full_psf - stamps.psf).sum(axis=(1, 2))


@pytest.fixture(scope="module")
def stamps():
    return star_stamps(5, n_frames=4, n_stars=8, size=20)


@pytest.fixture(scope="module")
def fits(stamps):
    return fit_psfs(stamps.data, stamps.noise, all_good(stamps))


def test_psf_is_the_true_one(stamps, fits):
    assert fits.status == ["ok"] * 4
    assert fits.converged.all()
    # The wings beyond the stamps were not measured: those expected are 0.4 % too bright here.
    assert psf_error(fits, stamps).max() < 0.02
    np.testing.assert_allclose(fits.enclosed_fraction, stamps.psf.sum(axis=(1, 2)), atol=0.005)
    assert np.all((fits.chi2 > 0.8) & (fits.chi2 < 1.05))
    assert np.all(fits.good)


def test_amplitudes_are_total_fluxes_and_positions_true(stamps, fits):
    np.testing.assert_allclose(fits.amplitude, stamps.flux, rtol=0.01)
    # The PSF's centre is a convention within the frame: the same offset for all its stars.
    for found, true in ((fits.x, stamps.x), (fits.y, stamps.y)):
        offset = np.median(found - true, axis=1, keepdims=True)
        assert np.abs(offset).max() < 0.05
        np.testing.assert_allclose(found - offset, true, atol=0.03)


def test_history_ends_flat_at_the_loss(fits):
    for frame in range(4):
        history = fits.loss_history[frame]
        assert history[-1] == pytest.approx(fits.loss[frame], rel=1e-6)
        assert history[0] > history[-1]
    assert np.all(np.abs(fits.relative_loss_differential) < 1e-3)


def test_narrow_psf_restates_the_stars(stamps, fits):
    across, down = (star_operator(offset, 20, 2, derivatives=0)[0] for offset in (fits.x, fits.y))
    model = 4 * fits.amplitude[..., None, None] * (down @ fits.narrow_psf[:, None] @ across.swapaxes(-1, -2))
    model += fits.background[..., None, None]
    np.testing.assert_allclose((stamps.data - model) / stamps.noise, fits.residuals, atol=1e-6)


def test_absent_stars_and_failed_frames_leave_the_others_alone(stamps, fits):
    good, data, noise = all_good(stamps), stamps.data.copy(), stamps.noise.copy()
    good[1, 5:] = False
    data[1, 5:] = np.nan
    good[2] = False
    noise[3] = np.inf
    found = fit_psfs(data, noise, good)
    assert found.status[0] == "ok"
    np.testing.assert_allclose(found.full_psf[0], fits.full_psf[0], atol=2e-5)
    assert found.status[1] == "ok"
    assert found.used[1].tolist() == [True] * 5 + [False] * 3
    assert np.all(found.amplitude[1, 5:] == 0)
    assert np.abs(found.full_psf[1] - stamps.psf[1]).sum() < 0.025
    for frame in (2, 3):
        assert found.status[frame].startswith("no usable star")
        assert np.isnan(found.full_psf[frame]).all()
        assert not found.converged[frame]


def test_cosmic_costs_pixels_not_the_star(stamps, fits):
    data = stamps.data.copy()
    peak = data[0, 2].max()
    data[0, 2, 4, 5] += 0.5 * peak  # in the wing
    data[0, 2, 10, 12] += 0.7 * peak  # in the core
    found = fit_psfs(data, stamps.noise, all_good(stamps))
    assert not found.good[0, 2, 4, 5]
    assert not found.good[0, 2, 10, 12]
    assert (~found.good[0]).sum() < 15
    assert found.used[0, 2]
    assert np.abs(found.full_psf[0] - fits.full_psf[0]).sum() < 0.01
    assert found.amplitude[0, 2] == pytest.approx(fits.amplitude[0, 2], rel=0.01)


def test_masked_pixels_are_ignored(stamps, fits):
    good, data = all_good(stamps), stamps.data.copy()
    good[:, :, :, 7] = False
    data[:, :, :, 7] = 1e6
    found = fit_psfs(data, stamps.noise, good)
    assert found.status == ["ok"] * 4
    assert np.abs(found.full_psf - fits.full_psf).sum(axis=(1, 2)).max() < 0.03


def test_stamp_masked_too_much_is_dropped(stamps):
    good = all_good(stamps)
    good[0, 3, :9] = False
    found = fit_psfs(stamps.data, stamps.noise, good)
    assert not found.used[0, 3]
    assert found.used[0].sum() == 7


def test_neighbours_are_masked(stamps, fits):
    data = stamps.data.copy()
    shifted = np.roll(
        stamps.model[:, 1] * (stamps.flux[:, 4] / stamps.flux[:, 1])[:, None, None], (7, -6), (1, 2)
    )
    data[:, 4] += 0.6 * shifted
    found = fit_psfs(data, stamps.noise, all_good(stamps))
    row, column = np.unravel_index(np.argmax(shifted[0]), (20, 20))
    assert not found.good[0, 4, row, column]
    assert np.abs(found.full_psf - fits.full_psf).sum(axis=(1, 2)).max() < 0.02


def test_outlying_stamp_is_refused(stamps, fits):
    data = stamps.data.copy()
    blurred = sum(np.roll(stamps.model[0, 6], shift, (0, 1)) for shift in ((0, 0), (1, 1), (-1, -1), (2, 2)))
    data[0, 6] = blurred / 4  # a small galaxy among the stars
    found = fit_psfs(data, stamps.noise, all_good(stamps))
    assert not found.used[0, 6]
    assert found.used[0].sum() == 7
    assert np.abs(found.full_psf[0] - fits.full_psf[0]).sum() < 0.015


def test_trailed_and_double_psfs_are_told_by_numbers(stamps, fits):
    def smeared(shifts):
        return sum(np.roll(stamps.data, shift, (2, 3)) for shift in shifts) / len(shifts)

    trailed = fit_psfs(smeared([(0, d) for d in (-2, -1, 0, 1, 2)]), stamps.noise, all_good(stamps))
    double = fit_psfs(smeared([(0, -3), (1, 3)]), stamps.noise, all_good(stamps))
    assert fits.elongation.max() < 1.15
    assert np.all(trailed.elongation > 1.2)
    assert np.all(double.elongation > 2.0)
    assert fits.doubleness.max() < 0.05
    assert double.doubleness.min() > 0.3
    np.testing.assert_allclose(fits.ellipticity, 1 - 1 / fits.elongation)


@pytest.mark.parametrize("subsampling", [1, 3])
def test_other_subsamplings(subsampling):
    stamps = star_stamps(6, n_frames=1, n_stars=6, size=16, subsampling=subsampling)
    found = fit_psfs(stamps.data, stamps.noise, all_good(stamps), subsampling=subsampling)
    assert found.status == ["ok"]
    assert psf_error(found, stamps)[0] < 0.03


def test_undersampled_psf():
    stamps = star_stamps(7, n_frames=1, n_stars=6, size=16, subsampling=3, seeing=1.3, seeing_scatter=0.05)
    found = fit_psfs(stamps.data, stamps.noise, all_good(stamps), subsampling=3)
    assert found.status == ["ok"]
    np.testing.assert_allclose(found.amplitude, stamps.flux, rtol=0.02)
    # Few pixels cross so sharp a peak: the grid follows some of the noise.
    assert 0.55 < found.chi2[0] < 1.1


def test_faint_stars():
    stamps = star_stamps(8, n_frames=3, n_stars=8, size=20, magnitudes=(20.0, 20.5))
    found = fit_psfs(stamps.data, stamps.noise, all_good(stamps))
    assert found.status == ["ok"] * 3
    assert psf_error(found, stamps).max() < 0.25
    assert np.all((found.chi2 > 0.85) & (found.chi2 < 1.1))


def test_field_distortion_is_found():
    stamps = star_stamps(9, n_frames=4, n_stars=8, size=20, psf_varies=0.03)
    coordinates = np.repeat(stamps.field_xy[None], 4, axis=0)
    plain = fit_psfs(stamps.data, stamps.noise, all_good(stamps))
    varying = fit_psfs(
        stamps.data, stamps.noise, all_good(stamps), field_distortion=True, stamp_coordinates=coordinates
    )
    assert varying.status == ["ok"] * 4
    assert np.all(varying.chi2 < plain.chi2)
    assert psf_error(varying, stamps).sum() < psf_error(plain, stamps).sum()
    # The PSF is that of the origin; photometry with that of each star fits every star better.
    origin = full_psfs_at(varying.narrow_psf, varying.distortion, np.zeros((4, 8, 2)))
    np.testing.assert_allclose(origin, np.repeat(varying.full_psf[:, None], 8, axis=1), atol=1e-9)
    local = full_psfs_at(varying.narrow_psf, varying.distortion, coordinates)
    chi2 = [
        fit_star_fluxes(stamps.data, stamps.noise, all_good(stamps), psf, subsampling=2).chi2.mean()
        for psf in (local, plain.full_psf)
    ]
    assert chi2[0] < chi2[1]


@pytest.mark.parametrize("terms", [(0.05, 0.0, 0.0), (0.0, 0.04, 0.0), (0.0, 0.0, 0.04), (0.04, -0.03, 0.02)])
def test_distortion_is_that_of_the_plane(terms):
    """With the flux that it moves over the edge of the stamp."""
    stamps = star_stamps(1, n_frames=1, n_stars=1, size=24, seeing_scatter=0.0)
    place = np.array([[0.8, -0.5]])
    polynomials = np.outer(terms, [0.5, -0.3, 0.6, 0.4, 0.9])
    true = replace(stamps.shapes[0], variation=tuple(map(tuple, polynomials))).at(*place[0]).image(24, 2)
    coefficients = np.stack(
        [polynomials[0] + polynomials[1], polynomials[0] - polynomials[1], polynomials[2]]
    )
    made = full_psfs_at(stamps.narrow_psf, coefficients.reshape(1, 15), place[None])[0, 0]
    assert np.abs(made - true).sum() < 0.1 * np.abs(stamps.psf[0] - true).sum()
    assert made.sum() == pytest.approx(true.sum(), abs=3e-4)


def test_slopes_are_what_the_psf_changes_by_from_pixel_to_pixel():
    stamps = star_stamps(1, n_frames=2, n_stars=1, size=24)
    coefficients = 0.05 * np.random.default_rng(1).normal(size=(2, 15))
    half = np.array([150.0, 600.0])
    slopes = full_psf_slopes(stamps.narrow_psf, coefficients, half)
    assert slopes.shape == (2, 2, 48, 48)
    place = np.array([3.0, -2.0])
    made = full_psfs_at(stamps.narrow_psf, coefficients, (place / half[:, None])[:, None])[:, 0]
    middle = full_psfs_at(stamps.narrow_psf, coefficients, np.zeros((2, 1, 2)))[:, 0]
    change = np.einsum("x,fxpq->fpq", place, slopes)
    # The terms of second order in the place are what is left.
    assert np.abs(made - middle - change).sum() < 0.05 * np.abs(made - middle).sum()


def test_psf_at_the_origin_is_free_of_what_the_field_adds_on_average():
    stamps = star_stamps(32, n_frames=4, n_stars=16, size=20, magnitudes=(15.5, 17.5), psf_varies=0.03)
    coordinates = np.repeat(stamps.field_xy[None], 4, axis=0)
    plain = fit_psfs(stamps.data, stamps.noise, all_good(stamps))
    varying = fit_psfs(
        stamps.data, stamps.noise, all_good(stamps), field_distortion=True, stamp_coordinates=coordinates
    )
    assert varying.used.sum(axis=1).min() >= 15
    assert varying.chi2.mean() < 1.03
    # A frame with a shear of 9 % at its edges: what changes with the square of the distortion is not modelled.
    assert varying.chi2.max() < 1.1
    assert psf_error(varying, stamps).max() < 0.015
    assert psf_error(varying, stamps).mean() < 0.5 * psf_error(plain, stamps).mean()


def test_two_stars_say_nothing_of_the_field():
    stamps = star_stamps(33, n_frames=2, n_stars=2, size=20)
    coordinates = np.repeat(stamps.field_xy[None], 2, axis=0)
    found = fit_psfs(
        stamps.data, stamps.noise, all_good(stamps), field_distortion=True, stamp_coordinates=coordinates
    )
    assert found.status == ["ok"] * 2
    assert not found.distortion.any()
    assert psf_error(found, stamps).max() < 0.05


def test_wrong_sky_does_not_reach_the_psf():
    stamps = star_stamps(31, n_frames=4, n_stars=10, size=20, magnitudes=(16.5, 19.5))
    good, offset = all_good(stamps), np.array([-0.05, -0.03, 0.0, 0.03])
    data = stamps.data + offset[:, None, None, None]
    right = fit_psfs(stamps.data, stamps.noise, good)
    fitted = fit_psfs(data, stamps.noise, good)
    ignored = fit_psfs(data, stamps.noise, good, local_sky=False)
    assert fitted.status == ["ok"] * 4
    difference = [np.abs(fits.full_psf - right.full_psf).sum(axis=(1, 2)) for fits in (fitted, ignored)]
    assert difference[0].max() < 2e-3
    assert difference[1][0] > 8e-3
    np.testing.assert_allclose(fitted.amplitude, right.amplitude, rtol=2e-3)
    np.testing.assert_allclose((fitted.background - right.background).mean(axis=1), offset, atol=1.5e-3)
    assert np.abs(right.background).max() < 0.03
    assert np.all(ignored.background == 0)


def test_each_star_has_a_background_of_its_own():
    stamps = star_stamps(34, n_frames=1, n_stars=10, size=20, magnitudes=(17.5, 19.5))
    offset = np.linspace(-0.05, 0.05, 10)
    found = fit_psfs(stamps.data + offset[:, None, None], stamps.noise, all_good(stamps))
    assert np.corrcoef(found.background[0], offset)[0, 1] > 0.7
    assert np.all((found.chi2 > 0.8) & (found.chi2 < 1.05))


def test_wrong_options_say_what_to_write():
    stamp = np.ones((1, 1, 16, 16))
    with pytest.raises(ConfigurationError, match="'lcops' or 'starred'"):
        fit_psfs(stamp, stamp, stamp > 0, solver="other")
    with pytest.raises(ConfigurationError, match="coordinates"):
        fit_psfs(stamp, stamp, stamp > 0, field_distortion=True)


def test_a_frame_has_the_same_psf_in_any_company(stamps, fits):
    """To the last bit: the light curve must not depend on how frames come together, night by night or all at once."""
    order = [2, 0, 3, 1, 0]
    data, noise = stamps.data[order], stamps.noise[order]
    together = fit_psfs(data, noise, np.ones(data.shape, dtype=bool))
    alone = fit_psfs(stamps.data[:1], stamps.noise[:1], all_good(stamps)[:1])
    np.testing.assert_array_equal(together.narrow_psf, fits.narrow_psf[order])
    np.testing.assert_array_equal(alone.narrow_psf, fits.narrow_psf[:1])
