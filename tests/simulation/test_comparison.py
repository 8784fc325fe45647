"""What is said of a light curve is what was put into it."""

import numpy as np
import pytest

from lightcurver_ops.simulation import simulate_season
from lightcurver_ops.simulation.comparison import compare
from tests.seasons import SMALL


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    return simulate_season(SMALL, tmp_path_factory.mktemp("season"))


def light_curve(truth, slope, offset):
    """Errors of 10 mmag, and nothing wrong but an offset and a slope with the seeing, mmag and mmag/arcsec."""
    rows = truth.frames
    seeing = np.asarray(rows["seeing_arcsec"])
    columns = {"mjd": np.asarray(rows["mjd"])}
    for label in SMALL.lens.labels:
        columns[f"{label}_mag"] = np.asarray(rows[f"mag_{label}"]) + 1e-3 * (offset + slope * seeing)
        columns[f"{label}_d_mag"] = np.full(len(rows), 0.01)
    return columns, seeing


@pytest.mark.parametrize(("slope", "offset"), [(0.0, 7.0), (30.0, 0.0), (-12.0, 3.0)])
def test_bias_scatter_and_slope(truth, slope, offset):
    columns, seeing = light_curve(truth, slope, offset)
    for image in compare(truth, "r", columns):
        assert image.bias == pytest.approx(offset + slope * np.median(seeing), abs=1e-6)
        assert image.seeing_slope == pytest.approx(slope, abs=1e-6)
        assert image.seeing_slope_error == pytest.approx(
            10.0 / np.sqrt(np.sum((seeing - seeing.mean()) ** 2))
        )
        assert image.pull == pytest.approx(abs(slope) * seeing.std(ddof=1) / 10.0, abs=1e-9)
        assert image.photon_limit > 0


def test_a_night_of_another_season_is_refused(truth):
    columns, _ = light_curve(truth, 0.0, 0.0)
    with pytest.raises(ValueError, match="is not in the simulated season"):
        compare(truth, "r", columns | {"mjd": columns["mjd"] + 0.5})
