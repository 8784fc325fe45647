"""A wrong gain or read noise shows in the noise of the sky: Poisson skies over a bias, with read noise."""

import numpy as np
import pytest

from lightcurver_ops.numerics.gain import (
    gain_of_skies,
    read_noise_of_skies,
    remark,
    remark_on_read_noise,
    scatter_of_pixels,
)

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


DARK, BRIGHT = np.linspace(15, 120, 12), np.linspace(3000, 9000, 12)


def read_noise_of(electrons, bias=0.0, **how):
    level, variance = skies(electrons, **how)
    return read_noise_of_skies(np.subtract(level, BIAS - bias), variance, how.get("gain", GAIN))


def test_the_read_noise_is_bounded_by_dark_skies():
    found = read_noise_of(DARK)
    assert found is not None
    assert 0.7 * READ_NOISE < found.at_least < READ_NOISE < found.at_most < 1.5 * READ_NOISE
    assert not found.contradicts(READ_NOISE)
    assert not found.contradicts(1.3 * READ_NOISE)
    assert found.contradicts(3 * READ_NOISE)
    assert found.contradicts(READ_NOISE / 3)


def test_bias_that_is_left_hides_a_read_noise_that_is_too_small_and_no_other():
    found = read_noise_of(DARK, bias=60.0)
    assert found is not None
    assert found.at_least == 0
    assert not found.contradicts(READ_NOISE)
    assert found.contradicts(3 * READ_NOISE)


@pytest.mark.parametrize("bias", [-8.0, -20.0])
def test_bias_that_was_subtracted_too_much_is_no_read_noise(bias):
    found = read_noise_of(DARK, bias=bias)
    assert found is not None
    assert not found.contradicts(READ_NOISE)


def test_bright_skies_do_not_tell_the_read_noise():
    found = read_noise_of(BRIGHT)
    assert found is not None
    assert not any(found.contradicts(factor * READ_NOISE) for factor in (1 / 3, 1, 3))


def test_noise_that_the_gain_does_not_explain_tells_nothing_of_the_read_noise():
    level, variance = skies(DARK)
    level = np.subtract(level, BIAS)
    assert read_noise_of_skies(level, np.divide(variance, 16), GAIN) is None  # means of 16 frames
    assert read_noise_of_skies(RNG.normal(0, 0.1, level.size), variance, GAIN) is None  # without their sky
    assert read_noise_of_skies(level[:5], variance[:5], GAIN) is None
    small = read_noise_of(DARK, gain=100.0)  # noise of a tenth of an ADU
    assert small is None


def frame(electrons, gain=GAIN):
    sky = RNG.poisson(electrons, (120, 150)) + RNG.normal(0, READ_NOISE, (120, 150))
    return np.rint(BIAS + sky / gain)


@pytest.mark.parametrize("electrons", [5, 300, 40_000])
@pytest.mark.parametrize("gain", [0.4, GAIN, 7.0])
def test_the_read_noise_of_a_single_frame(electrons, gain):
    scatter, is_their_own = scatter_of_pixels(frame(electrons, gain))
    assert is_their_own
    assert scatter * gain == pytest.approx((electrons + READ_NOISE**2) ** 0.5, abs=0.6 * gain + 2)
    assert remark_on_read_noise(scatter, gain, READ_NOISE) is None
    said = remark_on_read_noise(scatter, gain, 10 * (electrons + READ_NOISE**2) ** 0.5 + 10 * gain)
    assert said is not None
    assert "is raw.read_noise too large?" in said


def test_pixels_that_share_their_noise_are_known():
    one = frame(20)
    moved = (one[:-1, :-1] + one[1:, :-1] + one[:-1, 1:] + one[1:, 1:]) / 4  # by half a pixel
    scatter, is_their_own = scatter_of_pixels(moved)
    assert scatter * GAIN < READ_NOISE
    assert not is_their_own
