"""Scatter of constant stars over their quoted errors."""

import numpy as np
import pytest

from lightcurver_ops.numerics.controls import control_scatter, error_factor

SEEING = np.linspace(0.8, 1.6, 40)
MJD = 60000 + 3.0 * np.arange(40)


def star(seed, inflation=1.0, epochs=40, flux=500.0, **change):
    """A star of constant flux whose errors are quoted too small by a factor; `change` [E] is added, relative."""
    rng = np.random.default_rng(seed)
    sigma = flux * rng.uniform(0.004, 0.012, epochs)
    values = flux * (1 + change.get("change", 0.0)) + inflation * sigma * rng.normal(size=epochs)
    return values, sigma, MJD[:epochs], rng.permutation(SEEING[:epochs])


@pytest.mark.parametrize("inflation", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("epochs", [6, 40])
def test_the_ratio_is_that_between_scatter_and_quoted_error(inflation, epochs):
    found = [control_scatter(*star(seed, inflation, epochs)) for seed in range(300)]
    squares = np.mean([one.ratio**2 for one in found])
    assert np.sqrt(squares) == pytest.approx(inflation, rel=0.05)
    spread = np.std([one.ratio for one in found])
    assert np.mean([one.ratio_uncertainty for one in found]) == pytest.approx(spread, rel=0.25)
    assert np.median([one.robust_ratio for one in found]) == pytest.approx(inflation, rel=0.15)
    assert np.mean([one.chi2 for one in found]) == pytest.approx(inflation**2, rel=0.1)


def test_an_outlier_counts_in_chi2_alone():
    flux, sigma, mjd, seeing = star(1)
    clean = control_scatter(flux, sigma, mjd, seeing)
    flux[7] += 30 * sigma[7]
    found = control_scatter(flux, sigma, mjd, seeing)
    assert (clean.clipped, found.clipped, found.epochs) == (0, 1, 40)
    assert found.ratio == pytest.approx(clean.ratio, rel=0.1)
    assert found.chi2 > 10 * clean.chi2


def test_scatter_and_error_in_millimagnitudes():
    found = control_scatter(*star(2, inflation=2.0))
    sigma = star(2)[1]
    assert found.quoted_mmag == pytest.approx(1085.7 * np.sqrt(np.mean((sigma / 500) ** 2)), rel=0.01)
    assert found.scatter_mmag == pytest.approx(2 * found.quoted_mmag, rel=0.3)
    assert found.flux == pytest.approx(500, rel=0.005)


def test_trends_with_time_and_seeing_are_recovered():
    flux, sigma, mjd, seeing = star(3)
    found = control_scatter(flux, sigma, mjd, seeing)
    for trend in (found.with_time, found.with_seeing):
        assert abs(trend.slope) < 3 * trend.uncertainty
    # 40 mmag fainter in 100 days; 50 mmag brighter per arcsec of seeing.
    fading = 10 ** (-0.4 * 0.040 * (mjd - mjd.mean()) / 100)
    later = control_scatter(flux * fading, sigma, mjd, seeing).with_time
    assert later.slope == pytest.approx(found.with_time.slope + 40, abs=1.5)
    assert later.slope > 5 * later.uncertainty
    softer = control_scatter(flux * 10 ** (0.4 * 0.050 * (seeing - 1.2)), sigma, mjd, seeing).with_seeing
    assert softer.slope == pytest.approx(found.with_seeing.slope - 50, abs=2.0)
    assert np.isnan(control_scatter(flux, sigma, mjd, np.full(40, 1.0)).with_seeing.slope)
    assert np.isnan(control_scatter(flux, sigma, mjd, np.full(40, np.nan)).with_seeing.slope)


def test_what_was_not_measured_does_not_count():
    flux, sigma, mjd, seeing = star(4, epochs=8)
    whole = control_scatter(flux[:6], sigma[:6], mjd[:6], seeing[:6])
    flux[6], sigma[7] = np.nan, 0.0
    assert control_scatter(flux, sigma, mjd, seeing) == whole
    sigma[:2] = np.nan
    assert control_scatter(flux, sigma, mjd, seeing) is None
    assert control_scatter(-flux[2:6], sigma[2:6], mjd[2:6], seeing[2:6]) is None
    with pytest.raises(ValueError, match=r"must all be \[E\]"):
        control_scatter(flux, sigma[:4], mjd, seeing)


def test_equal_fluxes_have_no_scatter():
    _, sigma, mjd, seeing = star(5, epochs=7)
    found = control_scatter(np.full(7, 100.0), sigma, mjd, seeing)
    assert (found.ratio, found.clipped) == (0.0, 0)
    nearly = control_scatter(np.array([100.0] * 4 + [99.0, 101.0, 102.0]), sigma, mjd, seeing)
    assert nearly.clipped == 0
    assert error_factor([found]).value == 0.0


def test_stars_that_agree_are_taken_together():
    found = [
        error_factor([control_scatter(*star(seed + 1000 * k, 1.3)) for k in range(2)]) for seed in range(200)
    ]
    values = np.array([one.value for one in found])
    assert np.sqrt(np.mean(values**2)) == pytest.approx(1.3, rel=0.03)
    assert np.mean([all(one.agrees) for one in found]) > 0.95
    assert values.std() == pytest.approx(np.mean([one.uncertainty for one in found]), rel=0.2)


@pytest.mark.parametrize("number", [2, 3])
def test_a_variable_star_does_not_decide(number):
    quiet = [control_scatter(*star(10 + k)) for k in range(number - 1)]
    variable = control_scatter(*star(20, change=0.03 * np.sin(MJD / 11.0)))
    assert variable.ratio > 2
    together = error_factor([variable, *quiet])
    assert together.agrees == (False, *[True] * (number - 1))
    assert together.value == error_factor(quiet).value
    assert error_factor([variable, variable]).value == pytest.approx(variable.ratio)


def test_a_star_of_few_epochs_that_happens_to_be_quiet_does_not_decide_either():
    quiet = min((control_scatter(*star(seed, epochs=5)) for seed in range(60)), key=lambda one: one.ratio)
    assert quiet.ratio < 0.4
    usual = control_scatter(*star(100))
    together = error_factor([quiet, usual])
    assert together.agrees == (True, True)
    assert together.value == pytest.approx(usual.ratio, rel=0.1)


def test_no_star_gives_no_factor():
    assert error_factor([]) is None
