"""The inverse of a positive definite matrix, in one piece and in blocks."""

import numpy as np
import pytest

from lightcurver_ops.numerics.roi import inverse


def positive_definite(size):
    rows = np.random.default_rng(size).normal(size=(2 * size, size)) * np.geomspace(1, 100, size)
    return rows.T @ rows


@pytest.mark.parametrize("largest", [64, 20, 5])
def test_it_is_the_inverse(largest, monkeypatch):
    monkeypatch.setattr(inverse, "LARGEST", largest)
    matrix = positive_definite(61)
    found = inverse.inverse_of(matrix.copy())
    np.testing.assert_allclose(found, np.linalg.inv(matrix), rtol=1e-8, atol=1e-10)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize(("largest", "place"), [(64, 3), (20, 3), (20, 60)])
def test_a_matrix_that_is_not_positive_definite_is_refused(largest, place, monkeypatch):
    monkeypatch.setattr(inverse, "LARGEST", largest)
    matrix = positive_definite(61)
    matrix[place, place] = -1.0
    with pytest.raises(np.linalg.LinAlgError, match="not positive definite"):
        inverse.inverse_of(matrix)
