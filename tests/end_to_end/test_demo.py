"""The demonstration: a simulated season of a quad, and the accuracy that the README states."""

from pathlib import Path

import pytest

from lightcurver_ops.demo import reduce_by_hand
from lightcurver_ops.simulation import load_truth
from lightcurver_ops.simulation.comparison import compare
from lightcurver_ops.storage.tables import read_table

# Minutes of one core, which it shares with the Airflows of other tests.
pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(2400)]


@pytest.fixture(scope="module")
def directory(tmp_path_factory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    reduce_by_hand(directory, ["demo"])
    return directory


def test_the_four_images_follow_the_truth(directory):
    table = read_table(directory / "by_hand/demo/prepared_roi_cutouts/demo_r_photometry_per_epoch.csv")
    images = compare(load_truth(directory / "sim" / "demo"), "r", table)
    assert [image.n_epochs for image in images] == [24] * 4
    for image in images:
        assert abs(image.bias) < 5 + image.photon_limit
        assert image.scatter < 1.5 * image.photon_limit
        assert 0.6 < image.pull < 1.5


def test_every_figure_is_there(directory):
    diagnostics = directory / "by_hand" / "demo" / "diagnostics"
    assert len(list((diagnostics / "psf").glob("*.png"))) == 24
    assert len(list((diagnostics / "stars").glob("*.png"))) >= 20
    for name in ("footprints.png", "footprints_with_stars.png", "normalization_r.png"):
        assert (diagnostics / name).stat().st_size > 10_000
    products = directory / "by_hand" / "demo" / "prepared_roi_cutouts"
    for name in (
        "demo_r_residuals.png",
        "demo_r_light_curves.png",
        "demo_r_photometry_per_night.html",
        "plotly.min.js",
    ):
        assert (products / name).stat().st_size > 5_000
