"""Errors of a light curve in two parts: what is quoted, what is written about what all points share."""

from types import SimpleNamespace

import numpy as np
import pytest

from lightcurver_ops.stages.flux_errors import common_line, common_record, pairs, quoted_errors

LABELS = ["A", "B", "C"]
FLUX = np.array([[100.0, 50.0, -1.0], [110.0, 55.0, -2.0], [np.nan, 54.0, -3.0]])
INDEPENDENT = np.array(np.broadcast_to([[4.0, 1.0, 0.0], [1.0, 9.0, -2.0], [0.0, -2.0, 16.0]], (3, 3, 3)))
COMMON = np.array([[25.0, 6.0, 0.0], [6.0, 36.0, 1.0], [0.0, 1.0, 49.0]])
FIT = SimpleNamespace(flux=FLUX, flux_covariance=INDEPENDENT, common_flux_covariance=COMMON)
PREPARED = SimpleNamespace(relative_normalization_error=np.array([0.0, 0.02, 0.01]))


def test_a_coefficient_moves_all_images_of_its_frame():
    errors = quoted_errors(PREPARED, FIT)
    assert errors.of_model is None
    np.testing.assert_array_equal(errors.independent[0], INDEPENDENT[0])
    of_frame = 0.02 * np.abs(FLUX[1])
    np.testing.assert_allclose(errors.independent[1] - INDEPENDENT[1], np.outer(of_frame, of_frame))
    np.testing.assert_allclose(errors.uncertainty[1], np.hypot([2.0, 3.0, 4.0], of_frame))
    np.testing.assert_array_equal(errors.common, COMMON)


def test_control_stars_calibrate_what_is_independent_alone():
    model, errors = quoted_errors(PREPARED, FIT), quoted_errors(PREPARED, FIT, 1.5)
    np.testing.assert_allclose(errors.uncertainty, 1.5 * model.uncertainty)
    np.testing.assert_array_equal(errors.of_model, model.uncertainty)
    np.testing.assert_allclose(errors.independent, 1.5**2 * model.independent)
    np.testing.assert_array_equal(errors.common, COMMON)


def test_what_is_said_of_the_common_errors():
    record = common_record(LABELS, FLUX, COMMON)
    assert record["A"]["flux_uncertainty"] == 5.0
    assert record["A"]["mmag"] == pytest.approx(2500 / np.log(10) * 5 / 105)
    assert record["C"]["mmag"] is None  # its flux is not positive
    assert [one["flux_covariances"] for one in record.values()] == [{"B": 6.0, "C": 0.0}, {"C": 1.0}, {}]
    assert common_line(record) == (
        "error that all points of an image share, beside their own: A 51.7 mmag, B 120.6 mmag, C 7 e-/s"
    )
    assert list(common_record(LABELS, np.full((2, 3), np.nan), COMMON)) == []


def test_each_pair_of_images_has_one_column():
    assert pairs(LABELS) == {"cov_A_B": (0, 1), "cov_A_C": (0, 2), "cov_B_C": (1, 2)}
    assert pairs(["A"]) == {}
