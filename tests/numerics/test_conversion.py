import numpy as np
import pytest

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.conversion import adu_to_electrons_per_second, saturated_pixels, trim


def test_rate_is_counts_times_gain_over_time():
    adu = np.array([[100, 200], [300, 65535]], dtype=np.uint16)
    rate = adu_to_electrons_per_second(adu, 1.5, 60.0)
    np.testing.assert_allclose(rate, [[2.5, 5.0], [7.5, 1638.375]])
    assert rate.dtype == np.float64


@pytest.mark.parametrize(
    ("gain", "exptime", "named"), [(0.0, 1.0, "gain"), (1.0, -3.0, "exposure"), (np.nan, 1, "gain")]
)
def test_impossible_gain_or_time_is_named(gain, exptime, named):
    with pytest.raises(BadFrame, match=named):
        adu_to_electrons_per_second(np.ones((2, 2)), gain, exptime)


def test_trim_cuts_both_ends():
    image = np.arange(60).reshape(6, 10)
    np.testing.assert_array_equal(trim(image, 1, 3), image[1:5, 3:7])
    np.testing.assert_array_equal(trim(image, 0, 0), image)


def test_trim_to_nothing_is_refused():
    with pytest.raises(BadFrame, match="trim_vertical"):
        trim(np.zeros((6, 10)), 3, 0)


def test_saturation_includes_its_level():
    adu = np.array([[4094, 4095, 4096]])
    np.testing.assert_array_equal(saturated_pixels(adu, 4095), [[False, True, True]])
    assert not saturated_pixels(adu, None).any()
