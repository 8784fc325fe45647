"""Figures of single frames and of stars: sources, PSF, star."""

from types import SimpleNamespace

import numpy as np
import pytest

from lightcurver_ops.diagnostics.canvas import ALARM, COLOURS
from lightcurver_ops.diagnostics.pixels import MASKED
from lightcurver_ops.diagnostics.psf import plot_psf
from lightcurver_ops.diagnostics.sources import block_mean, plot_sources
from lightcurver_ops.diagnostics.stars import plot_star
from lightcurver_ops.simulation import star_stamps

pytestmark = pytest.mark.filterwarnings("error")


def sources_at(*places):
    x, y = np.array(places, dtype=float).reshape(-1, 2).T
    one = np.ones(len(places))
    return SimpleNamespace(x=x, y=y, a=1.6 * one, b=1.4 * one, theta=0.3 * one, fwhm=3.5 * one)


def test_an_ellipse_stands_where_its_source_is(tmp_path, painted):
    image = np.random.default_rng(2).normal(size=(150, 200))
    centres = []
    for number, place in enumerate([(40, 30), (160, 120)]):
        path = tmp_path / f"{number}.png"
        plot_sources(path, image, sources_at(place), "frame_$1")
        centres.append(painted(path, COLOURS[4]).mean(axis=0))
    # 8 inches for 200 pixels; rows are counted downwards.
    assert centres[1] - centres[0] == pytest.approx(np.array([-90, 120]) * 800 / 200, abs=8)


def test_no_source_and_no_pixel(tmp_path, painted):
    plot_sources(tmp_path / "empty.png", np.full((80, 50), np.nan), sources_at(), "empty")
    assert len(painted(tmp_path / "empty.png", MASKED)) > 100_000


@pytest.mark.parametrize("shape", [(9, 9), (10, 7), (3, 11)])
def test_blocks_are_averaged_and_hide_no_bad_pixel(shape):
    image = np.random.default_rng(3).normal(size=shape)
    image[2, 5] = np.nan
    shown = block_mean(image, 4)
    expected = [
        [image[r : r + 4, c : c + 4].mean() for c in range(0, shape[1], 4)] for r in range(0, shape[0], 4)
    ]
    np.testing.assert_allclose(shown, expected, rtol=1e-12)
    assert np.isnan(shown[0, 1])
    assert np.isnan(shown).sum() == 1


@pytest.fixture(scope="module")
def psf_inputs():
    stamps = star_stamps(4, n_frames=1, n_stars=12, size=16, cosmics_per_stamp=0.5)
    residuals = (stamps.data - stamps.model)[0] / stamps.noise[0]
    return {
        "title": "frame_$1$",
        "names": ["_a", "$b$", *"cdefghijkl"],
        "data": stamps.data[0],
        "noise": stamps.noise[0],
        "good": ~stamps.cosmics[0],
        "residuals": residuals,
        "chi2": np.mean(residuals**2, axis=(1, 2)),
        "narrow_psf": stamps.narrow_psf[0],
        "full_psf": stamps.psf[0],
        "loss_history": np.array([5e3, 3e3, 2.9e3, 2.9e3, 2.9e3]),
    }


def first_stars(inputs, count):
    per_star = ("names", "data", "noise", "good", "residuals", "chi2")
    return inputs | {name: inputs[name][:count] for name in per_star}


def test_psf_figure_shows_all_stars_masked_pixels_and_unused_stars(tmp_path, psf_inputs, read_png, painted):
    inputs = first_stars(psf_inputs, 2)
    plot_psf(tmp_path / "before.png", **inputs)
    good = inputs["good"].copy()
    good[0, 4:8, 4:8] = False
    plot_psf(tmp_path / "after.png", **inputs | {"good": good, "chi2": np.array([1.0, np.nan])})
    masked, alarming = (
        [len(painted(tmp_path / name, colour)) for name in ("before.png", "after.png")]
        for colour in (MASKED, ALARM)
    )
    # In data, noise map and residuals 16 more of 256 pixels, each picture at least 60 dots wide.
    assert masked[1] - masked[0] > 3 * 60**2 / 16 / 2
    assert alarming[0] == 0 < alarming[1]
    plot_psf(tmp_path / "more.png", **psf_inputs)
    assert read_png(tmp_path / "more.png").shape[0] > read_png(tmp_path / "before.png").shape[0] + 200


@pytest.mark.parametrize("count", [0, 1])
def test_psf_figure_of_nothing(tmp_path, psf_inputs, read_png, count):
    inputs = first_stars(psf_inputs, count)
    arrays = {
        name: value * np.nan for name, value in inputs.items() if name not in ("title", "names", "good")
    }
    plot_psf(tmp_path / "nothing.png", **inputs | arrays)
    read_png(tmp_path / "nothing.png")


def star_inputs(count):
    rng = np.random.default_rng(5)
    return {
        "title": "star $a_1",
        "stack": rng.normal(size=(16, 16)),
        "residual_stack": rng.normal(size=(16, 16)) / 5,
        "chi2": rng.uniform(0.8, 1.2, count),
        "flux": rng.normal(1e4, 100, count),
        "flux_uncertainty": np.full(count, 100.0),
        "mjd": 60000 + np.arange(count) * 1.5,
    }


def test_star_figure_shows_each_frame(tmp_path, painted):
    inputs = star_inputs(20)
    plot_star(tmp_path / "all.png", **inputs)
    inputs["flux"][5:] = np.nan
    plot_star(tmp_path / "some.png", **inputs)
    assert (
        len(painted(tmp_path / "all.png", COLOURS[0]))
        > 2 * len(painted(tmp_path / "some.png", COLOURS[0]))
        > 0
    )


@pytest.mark.parametrize("factor", [1.0, np.nan])
def test_star_figure_of_one_frame_or_nothing(tmp_path, read_png, factor):
    inputs = star_inputs(1)
    plot_star(
        tmp_path / "star.png",
        **{name: value if name in ("title", "mjd") else value * factor for name, value in inputs.items()},
    )
    read_png(tmp_path / "star.png")
