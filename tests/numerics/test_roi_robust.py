"""One bad epoch, or some, against the fit without the disturbance, and against the truth."""

import numpy as np
import pytest

from benchmarks import disturbances
from benchmarks.disturbances import (
    KINDS,
    POSITIONS,
    another_place,
    arrays,
    broad_psf,
    disturbed,
    fitted,
    neighbour,
    noise_too_large,
    noise_too_small,
    trail,
    whole_error,
    without,
)
from lightcurver_ops.numerics.roi.fit import set_up
from lightcurver_ops.numerics.roi.result import RoiOptions
from lightcurver_ops.numerics.roi.screen import noise_scale, screened
from lightcurver_ops.simulation.roi import roi_stamps

SIZE = 14


def lens(epochs, seed=1):
    return disturbances.lens(epochs, SIZE, seed)


@pytest.fixture(scope="module")
def six():
    roi = lens(6)
    return roi, fitted(arrays(roi), roi), fitted(without(roi, [1]), roi)


@pytest.mark.parametrize("kind", KINDS)
def test_one_bad_epoch_of_six_costs_itself_alone(six, kind):
    roi, clean, others = six
    fit = fitted(disturbed(roi, kind, [1]), roi)
    good = np.arange(6) != 1
    moved = np.abs(fit.flux - clean.flux)[good] / whole_error(clean)[good]
    # Where the epoch is set aside, the scene is known from five: what that alone moves is no fault of the disturbance.
    fewer = np.abs(others.flux - clean.flux[good]) / whole_error(clean)[good]
    assert fit.converged
    assert np.all(moved < 0.3 + (fewer if fit.aside[1] else 0.0))
    assert not fit.aside[good].any()
    assert fit.epoch_note[1]
    assert not any(fit.epoch_note[e] for e in np.flatnonzero(good))
    own = np.abs(fit.flux[1] - roi.flux[1]) / whole_error(fit)[1]
    assert np.all(np.isnan(own) | (own < 4))
    # Of the separation: where all of it stands, only the translations' priors say.
    np.testing.assert_allclose(np.diff(fit.positions, axis=0), np.diff(clean.positions, axis=0), atol=0.05)


@pytest.mark.parametrize("kind", [broad_psf, another_place])
def test_three_bad_epochs_of_twelve(kind):
    roi, bad = lens(12, seed=2), [1, 5, 9]
    fit, others = fitted(disturbed(roi, kind, bad), roi), fitted(without(roi, bad), roi)
    good = np.delete(np.arange(12), bad)
    assert fit.converged
    # As if they did not exist. (A fit that has them, undisturbed, knows the scene better: it differs by more.)
    assert np.all(np.abs(fit.flux[good] - others.flux) < 0.3 * whole_error(others))
    assert all(fit.epoch_note[e] for e in bad)
    own = np.abs(fit.flux[bad] - roi.flux[bad]) / whole_error(fit)[bad]
    assert np.all(np.isnan(own) | (own < 4))


def test_good_data_are_all_used(six):
    roi, clean, _ = six
    assert not clean.aside.any()
    assert not clean.left_out_pixels.any()
    assert clean.epoch_note == ("",) * 6
    plain = fitted(arrays(roi), roi, options=RoiOptions(reject=False))
    # The first fit, with its sketch, ends elsewhere within its tolerance: the scene of six epochs is hardly fixed.
    assert np.all(np.abs(clean.flux - plain.flux) < 0.2 * whole_error(clean))
    np.testing.assert_allclose(clean.flux_uncertainty, plain.flux_uncertainty, rtol=0.01)


def test_images_that_vary_by_magnitudes_are_no_disturbance():
    roi = roi_stamps(
        4, 6, SIZE, 2, positions=POSITIONS, magnitudes=(18.6, 19.4), galaxy_magnitude=20.0, variability=0.8
    )
    fit = fitted(arrays(roi), roi)
    assert not fit.aside.any()
    assert np.all(np.abs(fit.flux - roi.flux) < 4 * whole_error(fit))


def test_a_corrected_noise_map_gives_honest_errors(six):
    roi, clean, _ = six
    for kind in (noise_too_small, noise_too_large):
        fit = fitted(disturbed(roi, kind, [1]), roi)
        assert not fit.aside.any()
        np.testing.assert_allclose(fit.flux_uncertainty[1], clean.flux_uncertainty[1], rtol=0.25)


def test_what_was_masked_before_is_said(six):
    roi, clean, _ = six
    good = np.ones(roi.data.shape, dtype=bool)
    good[2, 3:5] = False  # a trail
    good[4, 7, 7:10] = False  # a cosmic
    fit = fitted(arrays(roi), roi, good)
    assert fit.epoch_note[2] == "28 of 196 pixels masked before: trails, cosmics, saturation, defects"
    assert not any(fit.epoch_note[e] for e in (0, 1, 3, 4, 5))
    assert not fit.aside.any()
    assert np.all(np.abs(fit.flux - clean.flux) < whole_error(clean))


def test_of_two_epochs_none_is_set_aside(six):
    roi = six[0]
    given = {name: array[:2] for name, array in disturbed(roi, trail, [1]).items()}
    # Whether it converges is not asked here.
    fit = fitted(given, roi, options=RoiOptions(max_relinearisations=3, max_iterations=200))
    assert not fit.aside.any()
    assert fit.status


def test_a_bad_epoch_of_three_ends_with_a_status(six):
    roi = six[0]
    given = {name: array[:3] for name, array in disturbed(roi, trail, [1]).items()}
    fit = fitted(given, roi)
    assert "converged" in fit.status
    assert fit.epoch_note[1]
    assert np.all(np.abs(fit.flux - roi.flux[:3])[[0, 2]] < 4 * whole_error(fit)[[0, 2]])


def test_without_a_free_background_bad_epochs_do_not_move_the_positions():
    roi = roi_stamps(5, 8, SIZE, 2, positions=POSITIONS, magnitudes=(18.6, 19.4), galaxy_magnitude=None)
    clean = fitted(arrays(roi), roi, optimise_background=False)
    fit = fitted(disturbed(roi, broad_psf, [2]), roi, optimise_background=False)
    good = np.arange(8) != 2
    assert np.all(np.abs(fit.flux - clean.flux)[good] < 0.3 * whole_error(clean)[good])
    assert fit.epoch_note[2]


def problem_of(given, roi, rotation=None):
    return set_up(
        given["data"],
        given["noise"],
        np.ones(given["data"].shape, dtype=bool),
        given["psf"],
        2,
        roi.positions,
        given["translations"],
        rotation,
        False,
        None,
        True,
        given["narrow_psf"],
        RoiOptions(),
        like_starred=False,
    )[0]


def test_the_first_look_knows_turned_frames(six):
    """Half the frames turned by half a turn, which no pixel needs to be resampled for."""
    roi = six[0]
    given = disturbed(roi, neighbour, [1])
    angles = np.zeros(6)
    for e in (1, 3, 5):
        for name in ("data", "noise", "psf", "narrow_psf"):
            given[name][e] = given[name][e, ::-1, ::-1]
        given["translations"][e] *= -1
        angles[e] = np.pi
    seen = screened(problem_of(given, roi, angles))
    left_out = seen.epochs.weight == 0
    assert left_out[1, 1:4, 9:12].all()  # where the neighbour is once turned
    assert not left_out[[0, 2, 3, 4, 5]].any()
    assert not seen.trust.aside.any()


def test_the_noise_of_an_epoch_is_compared_with_the_others(six):
    roi = six[0]
    weight = roi.noise**-2.0
    assert np.all(noise_scale(roi.data, weight) == 1)
    weight[4] *= 100
    scale = noise_scale(roi.data, weight)
    assert 5 < scale[4] < 20
    assert np.all(np.delete(scale, 4) == 1)
