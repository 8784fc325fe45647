"""Artificial variations: what goes into the pixels, and what is concluded from what comes out of a fit."""

import numpy as np
import pytest

from lightcurver_ops.constants import POGSON
from lightcurver_ops.numerics import injection
from lightcurver_ops.numerics.injection import (
    difference_error,
    draw_variations,
    empty_places,
    inject,
    recovery,
)
from lightcurver_ops.numerics.psf.operators import narrow_from_full
from lightcurver_ops.numerics.roi.fit import fit_roi
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.simulation import roi_stamps

SIZE, K = 16, 2
POSITIONS = ((-2.3, 0.6), (2.1, -0.7))


def stamps(seed, epochs):
    """Two images without a galaxy, at rest."""
    return roi_stamps(
        seed,
        n_epochs=epochs,
        size=SIZE,
        subsampling=K,
        positions=POSITIONS,
        magnitudes=(18.5, 19.5),
        galaxy_magnitude=None,
        translation=0.0,
    )


def fitted(lens, data, noise, positions=POSITIONS):
    """The fluxes alone: geometry known, no background."""
    return fit_roi(
        data,
        noise,
        np.ones(data.shape, dtype=bool),
        lens.psf,
        subsampling=K,
        positions=positions,
        fix_astrometry=True,
        optimise_background=False,
        options=RoiOptions(translation_sigma=0.0),
    )


def images_of(lens, positions=POSITIONS, rotation=0.0):
    epochs = len(lens.data)
    return injection.images_of_sources(
        narrow_from_full(lens.psf),
        np.array(positions),
        np.zeros((epochs, 2)),
        np.full(epochs, rotation),
        SIZE,
        K,
    )


@pytest.fixture(scope="module")
def many():
    return stamps(1, 60)


def test_without_noise_what_is_injected_is_recovered_exactly():
    lens = stamps(2, 5)
    images, _ = images_of(lens)
    flux = np.tile([900.0, 300.0], (5, 1))
    clean = np.einsum("ej,ejpq->epq", flux, images)
    variation = draw_variations(np.random.default_rng(3), np.arange(5.0), 2, "noise", 0.2, 30.0)
    truth = flux * injection.factors(variation)
    data, noise = inject(clean, lens.noise, images, truth - flux, np.full(5, 300.0), None)
    np.testing.assert_array_equal(noise, lens.noise)
    fit = fitted(lens, data, noise)
    np.testing.assert_allclose(fit.flux, truth, rtol=1e-5)
    found = recovery(variation[None], injection.residual_mag(fit.flux, truth)[None], np.full((1, 5, 2), 0.01))
    np.testing.assert_allclose(found.slope, 1.0, atol=1e-4)
    np.testing.assert_allclose(found.bias, 0.0, atol=1e-5)


def test_a_turned_epoch_has_its_sources_turned():
    lens = stamps(2, 1)
    images, slopes = images_of(lens, [(3.0, 0.0)], rotation=np.pi / 2)
    expected, expected_slopes = images_of(lens, [(0.0, 3.0)])
    np.testing.assert_allclose(images, expected, atol=1e-12)
    np.testing.assert_allclose(slopes, expected_slopes, atol=1e-12)


def test_added_photons_have_poisson_noise_and_enter_the_noise_map():
    rng = np.random.default_rng(4)
    image = np.array([[0.1, 0.4], [0.5, -0.01]])  # PSFs made of pixels may be negative somewhere
    electrons = np.array([200.0, 50.0])
    draws = 4000
    data, noise = inject(
        np.zeros((2 * draws, 2, 2)),
        np.full((2 * draws, 2, 2), 0.3),
        np.broadcast_to(image, (2 * draws, 1, 2, 2)),
        np.full((2 * draws, 1), 3.0),
        np.tile(electrons, draws),
        rng,
    )
    for first, per_unit in enumerate(electrons):
        some, sigma = data[first::2], noise[first::2]
        variance = np.maximum(3.0 * image, 0) / per_unit
        np.testing.assert_allclose(some.mean(axis=0), 3.0 * image, atol=5 * np.sqrt(variance.max() / draws))
        np.testing.assert_allclose(some.var(axis=0), variance, rtol=0.12, atol=1e-12)
        np.testing.assert_allclose((sigma**2).mean(axis=0), 0.09 + variance, rtol=0.01)


def test_light_taken_away_takes_no_noise_along():
    rng = np.random.default_rng(5)
    image = np.full((1, 1, 2, 2), 0.25)
    data, noise = inject(
        np.ones((1, 2, 2)), np.full((1, 2, 2), 0.1), image, np.array([[-2.0]]), np.array([9.0]), rng
    )
    np.testing.assert_array_equal(data, 0.5)
    np.testing.assert_array_equal(noise, 0.1)


def test_kinds_of_variations():
    rng = np.random.default_rng(6)
    days = np.sort(rng.uniform(60000, 60100, 4000))
    noise = draw_variations(rng, days, 2, "noise", 0.05, 1.0)
    np.testing.assert_allclose(noise.std(axis=0), 0.05, rtol=0.05)
    assert abs(np.corrcoef(noise.T)[0, 1]) < 0.06
    sine = draw_variations(rng, days, 3, "sine", 0.05, 20.0)
    wave = 2 * np.pi * days[:, None] / 20.0
    for j in range(3):
        best = np.linalg.lstsq(np.hstack([np.sin(wave), np.cos(wave)]), sine[:, j], rcond=None)[0]
        assert np.hypot(*best) == pytest.approx(0.05)
    step = draw_variations(rng, days, 20, "step", 0.05, 1.0)
    assert set(np.unique(step)) == {-0.05, 0.0, 0.05}
    np.testing.assert_array_equal(step[0], 0.0)
    assert np.all(step[-1] != 0)
    assert np.all(np.count_nonzero(np.diff(step, axis=0), axis=0) == 1)
    np.testing.assert_array_equal(draw_variations(rng, days[:1], 2, "step", 0.05, 1.0), 0.0)


@pytest.fixture(scope="module")
def new_sources(many):
    """Two new sources beside the two images of 60 epochs: variation, truth and fit."""
    places = empty_places(np.array(POSITIONS), np.array([0, 1]), 3.0, SIZE)
    images, _ = images_of(many, places.positions)
    rng = np.random.default_rng(7)
    variation = draw_variations(rng, np.arange(60.0), 2, "noise", 0.1, 30.0)
    truth = np.median(many.flux, axis=0) * injection.factors(variation)
    data, noise = inject(many.data, many.noise, images, truth, many.exptime, rng)
    fit = fitted(many, data, noise, np.concatenate([POSITIONS, places.positions]))
    return variation[None], truth, fit


def test_a_slope_of_one_and_honest_errors(new_sources):
    variation, truth, fit = new_sources
    error = POGSON * fit.flux_uncertainty[:, 2:] / truth
    found = recovery(variation, injection.residual_mag(fit.flux[:, 2:], truth)[None], error[None])
    assert np.all(found.slope_error < 0.03)
    assert np.all(np.abs(found.slope - 1) < 3 * found.slope_error)
    assert np.all(np.abs(found.bias) < 4 * found.error / np.sqrt(60))
    np.testing.assert_allclose(found.residual_over_error, 1.0, atol=0.25)
    np.testing.assert_allclose(found.injected, variation[0].std(axis=0))
    np.testing.assert_array_equal(found.count, 60)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_error_bar_is_detected(new_sources, factor):
    variation, truth, fit = new_sources
    error = factor * POGSON * fit.flux_uncertainty[:, 2:] / truth
    found = recovery(variation, injection.residual_mag(fit.flux[:, 2:], truth)[None], error[None])
    np.testing.assert_allclose(found.residual_over_error, 1.0 / factor, rtol=0.25)


def test_a_flux_of_which_a_tenth_is_lost_is_detected(new_sources):
    variation, truth, fit = new_sources
    mean = np.median(truth, axis=0)
    lossy = mean + 0.9 * (fit.flux[:, 2:] - mean)
    error = POGSON * fit.flux_uncertainty[:, 2:] / truth
    found = recovery(variation, injection.residual_mag(lossy, truth)[None], error[None])
    np.testing.assert_allclose(found.slope, 0.9, atol=0.03)
    assert np.all(found.slope < 1 - 3 * found.slope_error)


def test_the_difference_of_two_fits_scatters_as_expected(many):
    """The noise that both fits share cancels; what is left is a fraction of the quoted error."""
    images, slopes = images_of(many)
    rng = np.random.default_rng(8)
    before = fitted(many, many.data, many.noise)
    variation = draw_variations(rng, np.arange(60.0), 2, "noise", 0.1, 30.0)
    truth = before.flux * injection.factors(variation)
    data, noise = inject(many.data, many.noise, images, truth - before.flux, many.exptime, rng)
    after = fitted(many, data, noise)
    nothing = np.zeros(many.data.shape)
    columns = injection.columns_of(images, slopes, before.flux, nothing)
    good = np.ones(many.data.shape, dtype=bool)
    error = difference_error((columns, many.noise), (columns, noise), good, np.full(len(good), 1e-6))
    difference = after.flux - truth
    brighter = variation < 0
    ratio = difference[brighter] / error[brighter]
    assert np.sqrt(np.mean(ratio**2)) == pytest.approx(1.0, abs=0.3)
    assert np.median(error / before.flux_uncertainty) < 0.4


def test_the_error_of_a_difference_of_equal_fits_is_zero_and_unseen_epochs_have_none(many):
    images, slopes = images_of(many)
    columns = injection.columns_of(images, slopes, many.flux, many.galaxy)
    good = np.ones(many.data.shape, dtype=bool)
    good[3] = False
    error = difference_error((columns, many.noise), (columns, many.noise), good, np.full(len(good), 0.5))
    assert np.isnan(error[3]).all()
    np.testing.assert_allclose(np.delete(error, 3, axis=0), 0.0)


def test_columns_are_the_derivative_of_the_model_by_the_translation(many):
    flux = np.full((60, 2), 100.0)
    ramp = np.broadcast_to(3.0 * np.arange(SIZE) + 5.0 * np.arange(SIZE)[:, None], many.data.shape)
    columns = injection.columns_of(*images_of(many), flux, ramp)
    moved, _ = images_of(many, np.add(POSITIONS, (1e-4, 0.0)))
    still, _ = images_of(many)
    dx = np.einsum("ej,ejpq->epq", flux, (moved - still) / 1e-4) + 3.0
    np.testing.assert_allclose(columns[:, 2], dx, atol=1e-2)
    np.testing.assert_array_equal(columns[:, :2], still)


def test_leakage_is_told_apart_from_the_own_variation():
    rng = np.random.default_rng(9)
    injected = rng.normal(0, 0.1, (2, 100, 3))
    injected[..., 2] = 0.0  # does not vary
    error = np.full((2, 100, 3), 1e-3)
    recovered = (
        injected + error * rng.normal(size=error.shape) + [[[0.01]], [[-0.02]]]
    )  # constants do not matter
    recovered[..., 1] -= 0.05 * injected[..., 0]
    recovered[..., 2] += 0.02 * injected[..., 0]
    recovered[0, 4, 1] = np.nan
    slope, slope_error = injection.responses(injected, recovered, error)
    expected = np.array([[1, 0], [-0.05, 1], [0.02, 0]])
    assert np.isnan(slope[:, 2]).all()
    assert np.all(np.abs(slope[:, :2] - expected) < 4 * slope_error[:, :2])
    np.testing.assert_allclose(slope_error[:, :2], 1e-3 / (0.1 * np.sqrt(200)), rtol=0.3)
    value, into = injection.largest_leakage(slope, np.arange(3))
    assert value[0] == pytest.approx(-0.05, abs=1e-3)
    assert into.tolist()[0] == 1
    assert np.isnan(value[2])
    assert into[2] == -1


def test_variations_that_cannot_be_told_apart_have_no_slope():
    wave = np.sin(np.arange(20.0))[None, :, None]
    injected = np.concatenate([wave, 2 * wave], axis=2)
    slope, slope_error = injection.responses(injected, injected, np.full((1, 20, 2), 0.01))
    assert np.isnan(slope).all()
    assert np.isnan(slope_error).all()


def test_differences_are_judged_around_the_constant_of_each_realisation():
    rng = np.random.default_rng(10)
    error = np.full((4, 50, 1), 0.002)
    residual = error * rng.normal(size=error.shape) + rng.normal(0, 0.05, (4, 1, 1))
    injected = rng.normal(0, 0.1, error.shape)
    total, changes = (recovery(injected, residual, error, constant_free=free) for free in (False, True))
    assert total.residual_over_error[0] > 5
    assert changes.residual_over_error[0] == pytest.approx(1.0, abs=0.15)
    assert changes.scatter[0] == pytest.approx(0.002, rel=0.3)
    alone = recovery(injected[:, :1], residual[:, :1], error[:, :1], constant_free=True)
    assert np.isnan([alone.residual_over_error[0], alone.scatter[0], alone.slope[0]]).all()


def test_empty_places_mirror_the_images_where_that_is_free():
    three = np.array([[3.0, 0.0], [0.0, 4.0], [-3.0, -4.0]])
    places = empty_places(three, np.array([0, 1]), 2.5, 20)
    np.testing.assert_allclose(places.positions, [[-3.0, 0.0], [0.0, -4.0]], atol=1e-12)
    np.testing.assert_array_equal(places.radius, 1.0)
    np.testing.assert_array_equal(places.turn, 180.0)


def test_empty_places_stay_away_from_everything_else():
    images = np.array([[2.0, 0.0], [-2.0, 0.1], [0.3, 2.0], [0.1, -2.1]])
    places = empty_places(images, np.arange(4), 2.5, 24)
    everything = np.concatenate([images, places.positions])
    between = np.hypot(*(everything[:, None] - everything[None]).transpose(2, 0, 1))[np.triu_indices(8, 1)]
    assert np.isfinite(places.positions).all()
    assert between.min() > 2.49
    assert np.all(places.radius > 1)
    assert np.abs(places.positions).max() <= 12 - 2.5


def test_an_image_in_the_centre_has_a_place_beside_it_and_a_small_stamp_has_none():
    assert np.hypot(*empty_places(np.zeros((1, 2)), np.array([0]), 3.0, 16).positions[0]) >= 2.99
    nowhere = empty_places(np.zeros((1, 2)), np.array([0]), 3.0, 8)
    assert np.isnan(nowhere.positions).all()
    assert np.isnan(nowhere.radius[0])
