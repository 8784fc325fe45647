import numpy as np
import pytest

from lightcurver_ops.numerics.registration import FLOOR, offset_at


def stars_of(seed, number=30, noise=0.02):
    rng = np.random.default_rng(seed)
    expected = rng.uniform(0, 1000, (number, 2))
    change = np.array([[2e-4, -1e-4], [1e-4, 3e-4]])
    measured = expected + np.array([0.4, -0.7]) + (expected - [480, 530]) @ change
    return measured + noise * rng.standard_normal(measured.shape), expected


@pytest.mark.parametrize("seed", range(5))
def test_the_offset_is_that_of_the_place(seed):
    measured, expected = stars_of(seed)
    measured[3] += 2.0  # a star of unknown motion
    offset, error = offset_at(measured, expected, np.full(30, 200.0), np.array([480.0, 530.0]), 4.0)
    np.testing.assert_allclose(offset, [0.4, -0.7], atol=4 * error)
    assert FLOOR / np.sqrt(30) < error < 0.01


def test_the_error_is_the_scatter():
    offsets, errors = [], []
    for seed in range(200):
        measured, expected = stars_of(seed, number=12, noise=0.05)
        offset, error = offset_at(measured, expected, np.full(12, 48.0), np.array([480.0, 530.0]), 4.0)
        offsets.append(offset - [0.4, -0.7])
        errors.append(error)
    assert np.std(offsets) == pytest.approx(np.mean(errors), rel=0.25)


def test_few_stars_have_one_offset_and_fewer_none():
    measured, expected = stars_of(1, number=6, noise=0.0)
    offset, _ = offset_at(measured, expected, np.full(6, 100.0), expected.mean(axis=0), 4.0)
    np.testing.assert_allclose(offset, (measured - expected).mean(axis=0), atol=1e-6)
    measured[:3] = np.nan
    assert offset_at(measured, expected, np.full(6, 100.0), expected.mean(axis=0), 4.0) is None
