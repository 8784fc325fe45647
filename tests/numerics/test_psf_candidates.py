"""Which stars of a frame the PSF is fitted to."""

import numpy as np
import pytest

from lightcurver_ops.numerics.psf.candidates import (
    MIN_SNR,
    best_candidates,
    doubleness_beyond_noise,
    like_the_others,
    stamp_quality,
    width_of_stars,
)
from lightcurver_ops.numerics.psf.fit import fit_psfs
from lightcurver_ops.simulation.stamps import star_stamps


@pytest.fixture(scope="module")
def stamps():
    return star_stamps(5, n_frames=2, n_stars=4, size=20)


def quality_of(stamps, good, data=None):
    expected = np.stack([stamps.x, stamps.y], axis=-1)
    return stamp_quality(
        stamps.data if data is None else data, stamps.noise, good, expected, np.array([3.2, 3.2])
    )


def test_a_core_is_whole_unless_a_pixel_in_it_is_masked(stamps):
    good = np.ones(stamps.data.shape, dtype=bool)
    good[0, 0, 9, 9] = False  # saturated
    good[0, 1, 2, 15] = False  # a cosmic far out
    good[1, 2] = False  # absent
    whole, _ = quality_of(stamps, good)
    np.testing.assert_array_equal(whole, [[False, True, True, True], [True, True, False, True]])


def test_signal_to_noise_is_that_of_the_pixels(stamps):
    good = np.ones(stamps.data.shape, dtype=bool)
    _, snr = quality_of(stamps, good)
    # A perfect aperture on background-free stars would give the square root of the electrons in it.
    assert np.all(snr < np.sqrt(stamps.flux * stamps.exptime))
    assert np.all(snr > 0.55 * np.sqrt(stamps.flux * stamps.exptime))
    noise = np.random.default_rng(1).normal(0, stamps.noise)
    assert np.all(np.abs(quality_of(stamps, good, noise)[1]) < 5)
    np.testing.assert_array_equal(quality_of(stamps, ~good)[1], 0.0)


def test_damaged_stars_make_way_and_faint_ones_come_last():
    whole = np.array([True, False, True, True, True, True])
    snr = np.array([100.0, 900.0, 5.0, 100.0, 15.0, 50.0])
    assert best_candidates(whole, snr, 3).tolist() == [0, 3, 5]
    assert best_candidates(whole, snr, 6).tolist() == [0, 3, 5, 4, 2]
    assert best_candidates(np.zeros(6, dtype=bool), snr, 3).tolist() == [0, 1, 2]
    assert best_candidates(whole, np.full(6, MIN_SNR / 2), 2).tolist() == [0, 2]
    assert best_candidates(whole[:0], snr[:0], 2).tolist() == []


def test_peaks_of_noise_are_no_double_psf():
    faint = star_stamps(8, n_frames=8, n_stars=8, size=20, magnitudes=(22.0, 23.0))
    good = np.ones(faint.data.shape, dtype=bool)
    fits = fit_psfs(faint.data, faint.noise, good)
    expected = np.stack([faint.x, faint.y], axis=-1)
    _, snr = stamp_quality(faint.data, faint.noise, good, expected, np.full(8, 3.2))
    fitted = np.isfinite(fits.doubleness)
    assert fits.doubleness[fitted].max() > 0.1  # there is something to tell apart
    for doubleness, together in zip(
        fits.doubleness[fitted], np.linalg.norm(snr, axis=1)[fitted], strict=True
    ):
        assert doubleness_beyond_noise(doubleness, together) < 0.1
    assert doubleness_beyond_noise(0.6, 1000.0) == pytest.approx(0.575)
    assert doubleness_beyond_noise(0.6, 0.0) == 0.0


def concentrated(stamps, data, snr=None):
    """Which stars are like the others, of seeing 3.2 px."""
    good = np.ones(data.shape, dtype=bool)
    expected = np.stack([stamps.x, stamps.y], axis=-1) + 0.3  # as far as the WCS knows
    fwhm = np.full(len(data), 3.2)
    whole, measured = stamp_quality(data, stamps.noise, good, expected, fwhm)
    return like_the_others(data, good, expected, fwhm, whole, measured if snr is None else snr)


def test_a_star_that_is_not_concentrated_as_the_others_makes_way():
    stamps = star_stamps(5, n_frames=2, n_stars=6, size=20)
    assert concentrated(stamps, stamps.data).all()
    data = stamps.data.copy()
    flat = np.minimum(data[0, 3], 0.3 * data[0, 3].max())  # too bright for the detector
    data[0, 3] = flat
    data[1, 2] += np.roll(data[1, 2], 5, axis=1)  # two stars
    found = concentrated(stamps, data)
    assert not found[0, 3]
    assert not found[1, 2]
    assert found.sum() == 10
    # Where noise may have done it, nobody is blamed.
    assert concentrated(stamps, data, np.full((2, 6), 5.0)).all()


def test_three_stars_do_not_tell_which_of_them_is_wrong():
    stamps = star_stamps(5, n_frames=1, n_stars=3, size=20)
    data = stamps.data.copy()
    data[0, 1] = np.minimum(data[0, 1], 0.3 * data[0, 1].max())
    assert concentrated(stamps, data).all()


@pytest.mark.parametrize("seeing", [1.2, 2.4, 4.0])
def test_sub_pixel_positions_and_seeing_make_no_difference(seeing):
    stamps = star_stamps(9, n_frames=2, n_stars=10, size=24, seeing=seeing, seeing_scatter=0.02)
    good = np.ones(stamps.data.shape, dtype=bool)
    expected = np.stack([stamps.x, stamps.y], axis=-1)
    fwhm = np.full(2, seeing)
    whole, snr = stamp_quality(stamps.data, stamps.noise, good, expected, fwhm)
    assert like_the_others(stamps.data, good, expected, fwhm, whole, snr).all()


@pytest.mark.parametrize("seeing", [2.4, 4.0, 8.0])
def test_the_width_is_that_of_the_stars_whatever_the_seeing_was_taken_for(seeing):
    stamps = star_stamps(9, n_frames=2, n_stars=10, size=32, seeing=seeing, seeing_scatter=0.02)
    good = np.ones(stamps.data.shape, dtype=bool)
    wrong = np.full(2, 1.67)  # that of cosmics
    expected = np.stack([stamps.x, stamps.y], axis=-1)
    whole, snr = stamp_quality(stamps.data, stamps.noise, good, expected, wrong)
    width = width_of_stars(stamps.data, good, whole, snr, wrong)
    # The Gaussian that matches a Moffat is wider than its FWHM.
    assert np.all((width > 0.98 * seeing) & (width < 1.35 * seeing))
    np.testing.assert_array_equal(width_of_stars(stamps.data, good, whole, snr, 1.1 * width), 1.1 * width)
    none = np.zeros_like(whole)
    np.testing.assert_array_equal(width_of_stars(stamps.data, good, none, snr, wrong), wrong)
