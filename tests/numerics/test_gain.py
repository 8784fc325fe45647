"""A wrong gain shows in the noise of the sky: Poisson skies over a bias, with read noise."""

import numpy as np
import pytest

from lightcurver_ops.numerics.gain import gain_of_skies, remark

RNG = np.random.default_rng(3)
GAIN, BIAS, READ_NOISE = 1.7, 1000.0, 8.0


def skies(levels, gain=GAIN, pixels=20_000):
    """Level and variance in ADU of frames whose skies have these electrons per pixel."""
    level, variance = [], []
    for electrons in levels:
        adu = BIAS + (RNG.poisson(electrons, pixels) + RNG.normal(0, READ_NOISE, pixels)) / gain
        level.append(np.median(adu))
        variance.append(np.var(adu))
    return level, variance


def test_the_gain_is_found_over_any_bias_and_read_noise():
    found = gain_of_skies(*skies(np.linspace(200, 4000, 12)))
    assert found is not None
    assert found.value == pytest.approx(GAIN, rel=0.05)
    assert found.low <= found.value <= found.high
    assert not found.contradicts(GAIN)
    assert not found.contradicts(1.3 * GAIN)
    assert found.contradicts(GAIN / 16)
    assert found.contradicts(360)


def test_thousands_of_frames_are_as_good_as_some():
    electrons = np.linspace(200, 4000, 20_000)
    level = BIAS + electrons / GAIN
    variance = (electrons + READ_NOISE**2) / GAIN**2 * RNG.normal(1, 0.02, electrons.size)
    found = gain_of_skies(level, variance)
    assert found is not None
    assert found.value == pytest.approx(GAIN, rel=0.02)


def test_frames_of_one_sky_and_few_frames_say_nothing():
    assert gain_of_skies(*skies([800.0] * 12)) is None
    assert gain_of_skies(*skies(np.linspace(200, 4000, 5))) is None
    level, variance = skies(np.linspace(200, 4000, 12))
    assert gain_of_skies(level, [np.nan] * len(variance)) is None


def test_noise_that_does_not_grow_with_the_sky_says_nothing():
    level = np.linspace(100, 4000, 12)
    assert gain_of_skies(level, RNG.normal(50, 5, level.size)) is None


@pytest.mark.parametrize("electrons", [5, 300, 40_000])
def test_a_single_frame(electrons):
    ((level,), (variance,)) = skies([electrons])
    assert remark(level * GAIN, variance**0.5 * GAIN, GAIN) is None
    said = remark(level * 360, variance**0.5 * 360, 360)
    assert said is not None
    assert "is the gain 360 too large?" in said
