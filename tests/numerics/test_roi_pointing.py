"""Translations that the frames' stars tell: believed as far as the lens confirms them."""

import numpy as np
import pytest

from lightcurver_ops.numerics.roi.fit import fit_roi, set_up
from lightcurver_ops.numerics.roi.iterate import solve
from lightcurver_ops.numerics.roi.pointing import LEAST, as_in
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.simulation.roi import roi_stamps

K = 2
CLOSE = ((-1.1, 0.3), (1.0, -0.2))  # 2.2 px, two thirds of the seeing


@pytest.fixture(scope="module")
def close_pair():
    return roi_stamps(
        3, n_epochs=14, size=18, positions=CLOSE, magnitudes=(18.6, 18.9), galaxy_magnitude=20.5, seeing=3.2
    )


def problem_of(stamps, translations, errors):
    good = np.ones(stamps.data.shape, dtype=bool)
    return set_up(
        stamps.data, stamps.noise, good, stamps.psf, K, stamps.positions, translations, None, False, None, True,
        stamps.narrow_psf, RoiOptions(), translation_errors=errors, like_starred=False,
    )  # fmt: skip


def fitted(stamps, translations, errors):
    good = np.ones(stamps.data.shape, dtype=bool)
    return fit_roi(
        stamps.data,
        stamps.noise,
        good,
        stamps.psf,
        narrow_psf=stamps.narrow_psf,
        subsampling=K,
        positions=stamps.positions,
        translations=translations,
        translation_errors=errors,
    )


def scatter(fit, stamps):
    ratio = fit.flux / stamps.flux
    return np.std(ratio - ratio.mean(axis=0), axis=0)


def test_stars_that_know_better_make_close_images_sharper(close_pair):
    rng = np.random.default_rng(1)
    count = len(close_pair.data)
    told = close_pair.translations + 0.008 * rng.standard_normal((count, 2)) + [0.3, -0.2]
    free = fitted(close_pair, told, None)
    known = fitted(close_pair, told, np.full(count, 0.008))
    assert (known.flux_uncertainty < 0.85 * free.flux_uncertainty).all()
    assert (scatter(known, close_pair) < scatter(free, close_pair)).all()
    apart = known.flux / close_pair.flux
    pull = (apart / apart.mean(axis=0) - 1) * close_pair.flux / known.flux_uncertainty
    assert 0.7 < pull.std() < 1.35  # 28 values: to 0.13


def test_a_lens_that_moves_against_the_stars_is_believed_more_than_they(close_pair):
    """As it does where its colour is not theirs and the air refracts."""
    rng = np.random.default_rng(2)
    count = len(close_pair.data)
    told = close_pair.translations + 0.1 * rng.standard_normal((count, 2))
    problem, _ = solve(*problem_of(close_pair, told, np.full(count, 0.008)))
    assert 0.05 < np.median(problem.epochs.translation_sigma) < 0.2
    fit = fitted(close_pair, told, np.full(count, 0.008))
    apart = fit.flux / close_pair.flux
    pull = (apart / apart.mean(axis=0) - 1) * close_pair.flux / fit.flux_uncertainty
    assert 0.7 < pull.std() < 1.35


def test_an_offset_that_all_epochs_share_is_no_scatter(close_pair):
    count = len(close_pair.data)
    told = close_pair.translations + np.array([0.5, -0.4])
    problem, outcome = solve(*problem_of(close_pair, told, np.full(count, 0.005)))
    assert np.median(problem.epochs.translation_sigma) < 0.02
    moved = problem.epochs.translation - told
    np.testing.assert_allclose(moved, np.repeat(moved[:1], count, axis=0), atol=1e-9)
    np.testing.assert_allclose(outcome.state.locals.translation, problem.epochs.translation, atol=0.05)


def test_an_update_believes_what_the_fit_before_did(close_pair):
    count = len(close_pair.data)
    told = close_pair.translations
    before, _ = solve(*problem_of(close_pair, told, np.full(count, 0.008)))
    later, _ = problem_of(close_pair, told, np.full(count, 0.008))
    same = list(range(count))
    now = as_in(later, before, same, same)
    np.testing.assert_allclose(now.epochs.translation, before.epochs.translation, atol=1e-6)
    np.testing.assert_allclose(now.epochs.translation_sigma, before.epochs.translation_sigma, atol=LEAST)


def test_errors_must_be_errors(close_pair):
    with pytest.raises(ValueError, match="translation_errors must be positive"):
        problem_of(close_pair, close_pair.translations, np.zeros(len(close_pair.data)))
