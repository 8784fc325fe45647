"""Figures of all frames of a lens: footprints, normalization, joint model of the ROI."""

import numpy as np
import pytest

from lightcurver_ops.diagnostics.canvas import ALARM, COLOURS
from lightcurver_ops.diagnostics.footprints import plot_footprints
from lightcurver_ops.diagnostics.normalization import plot_normalization
from lightcurver_ops.diagnostics.pixels import MASKED
from lightcurver_ops.diagnostics.roi import epochs_to_show, plot_roi, stack_mean, stack_residuals
from lightcurver_ops.simulation import roi_stamps

pytestmark = pytest.mark.filterwarnings("error")

ROI = (0.01, -70.0)  # a field across RA 0


def square(east, north, half=0.1):
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half + [east, north]
    return np.column_stack(
        [(ROI[0] + corners[:, 0] / np.cos(np.radians(ROI[1]))) % 360, ROI[1] + corners[:, 1]]
    )


def region(*polygons):
    rings = [[np.vstack([polygon, polygon[:1]]).tolist()] for polygon in polygons]
    return {"type": "MultiPolygon", "coordinates": rings}


def test_footprints_have_north_up_and_east_left(tmp_path, painted):
    frames = [square(0, 0), square(0.02, 0.01)]
    common = {"type": "Polygon", "coordinates": region(square(0.01, 0.005, 0.09))["coordinates"][0]}
    places = {"east": (0.06, 0), "west": (-0.06, 0), "north": (0, 0.06)}
    centres = {}
    for name, place in places.items():
        star = square(*place, half=0.0)[0]
        plot_footprints(
            tmp_path / f"{name}.png",
            polygons=frames,
            common=common,
            largest=region(*frames),
            roi=ROI,
            stars=(star[:1], star[1:], ["$a_1"]),
            title="J0000_$",
        )
        dots = painted(tmp_path / f"{name}.png", COLOURS[4])
        centres[name] = dots[dots[:, 1] < 760].mean(axis=0)  # without the legend
    assert centres["east"][1] < centres["north"][1] < centres["west"][1]
    assert centres["north"][0] < centres["east"][0] == pytest.approx(centres["west"][0], abs=2)


def test_bad_pointings_stand_out_without_shrinking_the_map(tmp_path, painted):
    frames = [square(0, 0), square(0.01, 0), square(0.05, 0.05), square(0, 3.0)]
    inputs = {"polygons": frames, "common": region(), "roi": ROI}
    plot_footprints(tmp_path / "all.png", **inputs, largest=region(*frames))
    plot_footprints(
        tmp_path / "good.png", **inputs, largest=region(*frames[:2]), bad=[False, False, True, True]
    )
    assert not len(painted(tmp_path / "all.png", ALARM))
    assert len(painted(tmp_path / "good.png", ALARM)) > 100
    # The outline of what the frames see, antialiased, apart from the legend on the right.
    outlines = [painted(tmp_path / name, COLOURS[0], within=70) for name in ("all.png", "good.png")]
    wide = [np.ptp(outline[outline[:, 1] < 760], axis=0)[1] for outline in outlines]
    assert 0 < wide[0] < 200
    assert wide[1] > 500


def test_footprints_of_nothing(tmp_path, read_png):
    empty = {"type": "MultiPolygon", "coordinates": []}
    nowhere = (np.array([np.nan]), np.array([np.nan]), ["a"])
    unsolved = [np.full((4, 2), np.nan)]
    plot_footprints(tmp_path / "a.png", polygons=[], common=empty, largest=empty, roi=ROI)
    plot_footprints(
        tmp_path / "b.png", polygons=unsolved, common=empty, largest=empty, roi=ROI, stars=nowhere
    )
    read_png(tmp_path / "a.png")
    read_png(tmp_path / "b.png")


def normalization_inputs(count, stars, scatter):
    rng = np.random.default_rng(6)
    coefficient = rng.uniform(0.7, 1.0, count)
    normalized = coefficient * (1 + scatter[:, None] * rng.normal(size=(stars, count)))
    return {
        "mjd": 60000 + np.arange(count) / 3,
        "names": ["$a_1$", "_b", *"cdefgh"][:stars],
        "normalized": normalized,
        "uncertainty": normalized * scatter[:, None],
        "coefficient": coefficient,
        "coefficient_uncertainty": 0.004 * coefficient,
        "scatter": scatter,
    }


def test_a_variable_star_and_an_outlier_stand_out(tmp_path, painted):
    quiet = normalization_inputs(40, 4, np.full(4, 0.005))
    plot_normalization(tmp_path / "quiet.png", **quiet)
    plot_normalization(
        tmp_path / "star.png", **normalization_inputs(40, 4, np.array([0.005, 0.05, 0.005, 0.005]))
    )
    plot_normalization(tmp_path / "named.png", **quiet, variable=np.array([False, True, False, False]))
    quiet["normalized"][2, 7] *= 2
    plot_normalization(tmp_path / "outlier.png", **quiet)
    dots = {
        name: len(painted(tmp_path / f"{name}.png", ALARM)) for name in ("quiet", "star", "named", "outlier")
    }
    assert dots["quiet"] == 0
    assert dots["star"] > 200
    assert dots["named"] > 100
    assert 5 < dots["outlier"] < 200


@pytest.mark.parametrize(("count", "stars", "factor"), [(1, 1, 1.0), (5, 2, np.nan), (3, 0, 1.0)])
def test_normalization_of_little_or_nothing(tmp_path, read_png, count, stars, factor):
    inputs = normalization_inputs(count, stars, np.full(stars, np.nan))
    inputs |= {name: value * factor for name, value in inputs.items() if name != "names"}
    plot_normalization(tmp_path / "normalization.png", **inputs)
    read_png(tmp_path / "normalization.png")


@pytest.fixture(scope="module")
def roi_inputs():
    stamps = roi_stamps(2, n_epochs=7, size=16)
    residuals = (stamps.data - stamps.model) / stamps.noise
    return {
        "title": "J0000 $r$",
        "labels": ["A", "_B", "$C$", "D"],
        "data": stamps.data,
        "noise": stamps.noise,
        "good": np.ones(stamps.data.shape, dtype=bool),
        "model": stamps.model,
        "residuals": residuals,
        "background": stamps.high_resolution,
        "positions": stamps.positions,
        "mjd": 60000 + 3.0 * np.arange(7),
        "chi2": np.mean(residuals**2, axis=(1, 2)),
        "loss_history": np.array([9e3, 900.0, 890.0]),
    }


def only_epochs(inputs, which):
    per_epoch = ("data", "noise", "good", "model", "residuals", "mjd", "chi2")
    return inputs | {name: inputs[name][which] for name in per_epoch}


def test_point_sources_stand_on_the_background(tmp_path, roi_inputs, painted):
    centres = []
    for number, offset in enumerate([(0.0, 0.0), (3.0, 2.0)]):
        path = tmp_path / f"{number}.png"
        plot_roi(path, **only_epochs(roi_inputs, [0]) | {"positions": np.array([offset]), "labels": ["A"]})
        dots = painted(path, COLOURS[4])
        centres.append((dots.min(axis=0) + dots.max(axis=0)) / 2)
    moved = centres[1] - centres[0]
    assert moved == pytest.approx(
        np.array([-2, 3]) * 220 / 16, abs=3
    )  # 2.2 inches for 16 pixels, rows downwards


def test_roi_figure_marks_pixels_masked_in_one_epoch_and_in_all(tmp_path, roi_inputs, painted):
    counts = []
    for which in ([0], [0, 1]):
        inputs = only_epochs(roi_inputs, [2, 3])
        inputs["good"][which, 5, 9] = False
        plot_roi(tmp_path / "roi.png", **inputs)
        counts.append(len(painted(tmp_path / "roi.png", MASKED)))
    # Single epochs are 131 dots wide (three pictures each), stacks 220 dots (three of them), for 16 pixels.
    assert counts[0] == pytest.approx(3 * (131 / 16) ** 2 + 100, abs=100)
    assert counts[1] - counts[0] == pytest.approx(3 * (131 / 16) ** 2 + 3 * (220 / 16) ** 2, rel=0.2)


def test_roi_figure_of_nothing(tmp_path, roi_inputs, read_png):
    unchanged = ("title", "labels", "good", "mjd")
    nothing = {name: value if name in unchanged else value * np.nan for name, value in roi_inputs.items()}
    nobody = {"labels": [], "positions": np.zeros((0, 2))}
    plot_roi(tmp_path / "nan.png", **nothing | nobody)
    read_png(tmp_path / "nan.png")


def test_stacks_count_good_pixels_only():
    values = np.array([1.0, 2.0, 100.0, np.nan])[:, None, None] * np.ones((4, 2, 2))
    good = np.ones(values.shape, dtype=bool)
    good[2] = False
    good[:, 1, 1] = False
    np.testing.assert_allclose(stack_mean(values, good), [[1.5, 1.5], [1.5, np.nan]])
    np.testing.assert_allclose(stack_residuals(values, good), [[3 / 2**0.5] * 2, [3 / 2**0.5, np.nan]])


def test_stacked_noise_is_unit_noise():
    residuals = np.random.default_rng(7).normal(size=(50, 40, 40))
    good = np.random.default_rng(8).random(residuals.shape) > 0.1
    assert stack_residuals(residuals, good).std() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(
    ("chi2", "expected"),
    [
        ([3.0, 1.0, np.nan, 2.0], [1, 3, 0]),
        ([np.nan], []),
        (np.arange(11.0)[::-1], [10, 8, 6, 4, 2, 0]),
    ],
)
def test_epochs_from_the_best_to_the_worst(chi2, expected):
    assert epochs_to_show(np.array(chi2)) == expected
