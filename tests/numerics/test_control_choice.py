"""What fluxes of known stars say of them as control stars."""

import numpy as np
import pytest

from lightcurver_ops.numerics.control_choice import CHOOSE, KEEP, fault, squared_misfit, star_history

FRAMES, PIXELS = 60, 576


def history(seed=0, *, snr=100.0, amplitude=0.0, misfit=0.0, lost=0, eclipses=0, own_scatter=0.0, usual=0.0):
    """A star of this signal to noise: a sine, a neighbour's share of its light, frames without it, eclipses."""
    rng = np.random.default_rng(seed)
    coefficient = rng.uniform(0.5, 1.0, FRAMES)
    true = 1000 * coefficient * (1 + amplitude * np.sin(np.arange(FRAMES) * 0.7))
    true[:eclipses] *= 0.6
    true *= 1 + own_scatter * rng.standard_normal(FRAMES)
    error = np.full(FRAMES, 1000 / snr)
    flux = true + error * rng.standard_normal(FRAMES)
    flux[FRAMES - lost :] = np.nan
    chi2 = rng.chisquare(PIXELS, FRAMES) / PIXELS + (misfit * flux / error) ** 2 / PIXELS
    pixels = np.full(FRAMES, PIXELS)
    return star_history(flux, error, chi2, pixels, coefficient, 0.001 * coefficient, own_scatter, usual**2)


def test_a_constant_single_star_has_no_fault():
    found = [history(seed) for seed in range(200)]
    assert sum(fault(one, CHOOSE) is not None for one in found) <= 1
    assert np.mean([one.ratio for one in found]) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize(("amplitude", "chosen", "kept"), [(0.005, True, True), (0.04, False, False)])
def test_a_variable_star(amplitude, chosen, kept):
    found = history(amplitude=amplitude)
    assert found.ratio == pytest.approx(np.hypot(1, amplitude / np.sqrt(2) / 0.0155), rel=0.25)
    assert (fault(found, CHOOSE) is None, fault(found, KEEP) is None) == (chosen, kept)
    if not chosen:
        assert fault(found, CHOOSE) == f"varies: scatters by {found.ratio:.2f} times its errors"


def test_a_chosen_star_stays_where_another_would_not_be_chosen():
    found = history(amplitude=0.018)
    assert fault(found, CHOOSE).startswith("varies")
    assert fault(found, KEEP) is None


def test_scatter_that_all_stars_have_is_no_fault():
    assert fault(history(own_scatter=0.03), CHOOSE) is None


def test_an_eclipsing_star_is_told():
    assert fault(history(eclipses=5), KEEP) == "far off in 5 of 60 frames"


def test_a_blend_is_told_by_its_residuals():
    found = history(misfit=0.08, snr=200.0)
    assert found.misfit == pytest.approx(0.08, rel=0.1)
    assert (
        fault(found, KEEP) == f"blended, or no star: the PSF leaves {100 * found.misfit:.1f} % of its light"
    )
    assert (
        fault(history(misfit=0.08, snr=200.0, usual=0.07), CHOOSE) is None
    )  # all stars are fitted like this
    assert fault(history(misfit=0.02, snr=300.0), CHOOSE) is None


def test_a_star_that_is_often_not_measured():
    assert fault(history(lost=15), CHOOSE) == "measured in 45 of 60 frames only"
    assert fault(history(lost=15), KEEP) is None
    assert fault(history(lost=35), KEEP) == "measured in 25 of 60 frames only"


def test_few_epochs_say_nothing_of_a_star():
    one = np.ones(3)
    found = star_history(np.array([1.0, 2.0, 9.0]), 0.1 * one, 50 * one, 400 * one, one, 0 * one, 0.0, 0.0)
    assert fault(found, CHOOSE) is None
    nothing = star_history(np.nan * one, one, one, one, one, 0 * one, 0.0, 0.0)
    assert fault(nothing, CHOOSE) == "measured in 0 of 3 frames only"


def test_squared_misfit_is_zero_for_noise():
    rng = np.random.default_rng(1)
    chi2 = rng.chisquare(PIXELS, (400, FRAMES)) / PIXELS
    found = [squared_misfit(row, np.full(FRAMES, PIXELS), np.full(FRAMES, 80.0)) for row in chi2]
    value, noise = np.array(found).T
    assert np.mean(value) == pytest.approx(0.0, abs=3 * noise[0] / np.sqrt(400))
    assert np.std(value) == pytest.approx(noise[0], rel=0.1)
    assert np.isnan(squared_misfit(chi2[0], chi2[0], np.zeros(FRAMES))[0])
