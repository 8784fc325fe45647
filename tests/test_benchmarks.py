"""Every benchmark runs, at the smallest sizes, and its JSON and Markdown say the same."""

import json
import math
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import (
    accuracy,
    aperture,
    disturbances,
    measure,
    night,
    photometry,
    pipeline,
    psf,
    roi,
    scale,
    scheduling,
)
from benchmarks.bookkeeping import Shape
from benchmarks.report import Report, cell
from benchmarks.stamps import Growth, Stamps
from tests.seasons import FAST, SMALL

# The part psf and the pipeline have the same shapes and counts, so that our fit is compiled once.
ITERATIONS = {"n_iter_analytic": 40, "n_iter_pixels": 300}
SETTINGS = {name: keys for name, keys in FAST.items() if name != "compute"} | {"psf": ITERATIONS}
ONE = Growth(frames=(2,), sizes=(), subsamplings=(), stars=())
SIZES = {
    "psf": psf.Sizes(
        stamps=Stamps(frames=2, stars=FAST["stars"]["stars_to_use_psf"], size=16),
        starred_frames=0,
        n_iter_analytic=ITERATIONS["n_iter_analytic"],
        n_iter_pixels=ITERATIONS["n_iter_pixels"],
        repeat=1,
        growth=ONE,
    ),
    "photometry": photometry.Sizes(
        stamps=Stamps(frames=2, stars=2, size=12, subsampling=1),
        starred_stars=0,
        n_iter=20,
        repeat=1,
        growth=ONE,
    ),
    "roi": roi.Sizes(
        stamps=roi.Stamps(epochs=3, size=16, subsampling=1),
        geometries=("free",),
        limit_s=0.1,
        epochs=(3,),
        stamp_sizes=(),
        subsamplings=(),
        daily=(20,),
    ),
    "pipeline": pipeline.Sizes(
        season=SMALL, processes=1, runs=(pipeline.Run(figures=False, compiled=False),), settings=SETTINGS
    ),
    "accuracy": accuracy.Sizes(
        season=SMALL,
        lenses=(None,),
        seeds=(SMALL.seed,),
        psf_varies=(0.0,),
        truths=("psf+galaxy", "coefficients+positions"),
        processes=1,
        settings=SETTINGS,
    ),
    "aperture": aperture.Sizes(),  # the frames may not be copied into the repository
    "disturbances": disturbances.Sizes(seasons=((4, 1),), size=12, kinds=(disturbances.trail,)),
    "scale": scale.Sizes(
        lenses=(2,),
        shape=Shape(frames=10, per_night=5, stars=2, versions=3, with_points=2),
        patience=scheduling.Patience(until_created=120.0, then=1.0),
        season=replace(SMALL, n_nights=2, exposures_per_night=1),
        settings=SETTINGS,
        last="read_convert_skysub_character_catalog",
    ),
}
# Where a value may be missing: there is no GPU, no worker process, or nothing that it would be.
MAY_BE_MISSING = {"device_mib", "first_call_cached_s", "compile_s", "peak_worker_mib"}
# Of a bad epoch that is set aside: its own error.
MAY_BE_MISSING |= {"own"}
# Of pages: what only one of them has. Of tasks: what none has in so short a time.
MAY_BE_MISSING |= {"next_s", "aside_s", "kb", "task_core_s", "tasks_per_s"}


@pytest.fixture(scope="module")
def worker():
    """One process for all parts: jax is imported once, and what a part sets there stays there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        yield pool


def run_part(name: str, directory: Path) -> None:
    with measure.all_in_one():
        part = benchmarks.PARTS[name]
        part.run(Report(name, part.PURPOSE, "test", measure.environment(), directory), SIZES[name])


@pytest.mark.parametrize("name", list(benchmarks.PARTS))
def test_part_gives_tables_of_finite_numbers(worker, tmp_path, name):
    worker.submit(run_part, name, tmp_path).result()
    content = json.loads((tmp_path / f"{name}.json").read_text())
    assert content["environment"]["device of jax"].startswith(("CPU", "GPU"))
    assert content["environment"]["arrays of stages 7 and 11"].startswith(("numpy", "jax.numpy"))
    if name == "aperture":
        (told,) = content["tables"][0]["notes"]
        assert told.startswith("Skipped: the frames of HAT-P-32 may not be copied into the repository")
        return
    assert all(table["rows"] for table in content["tables"])
    for table in content["tables"]:
        for row in table["rows"]:
            assert list(row) == list(table["columns"])
            for key, value in row.items():
                assert value is not None or key in MAY_BE_MISSING, (table["title"], key)
                assert not isinstance(value, float) or math.isfinite(value)
    _agree(content, (tmp_path / f"{name}.md").read_text())


def _agree(content: dict, text: str) -> None:
    """All tables of the JSON stand in the Markdown, value by value."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    found = [[one.strip() for one in line.strip("| ").split(" | ")] for line in lines]
    expected = []
    for table in content["tables"]:
        expected += [list(table["columns"].values()), ["---"] * len(table["columns"])]
        expected += [list(row.values()) for row in table["rows"]]
        assert f"## {table['title']}" in text
        assert all(f"* {note}" in text for note in table["notes"])
    assert len(found) == len(expected)
    for shown, values in zip(found, expected, strict=True):
        for one, value in zip(shown, values, strict=True):
            if isinstance(value, float):
                assert float(one) == pytest.approx(value, rel=1e-3)
            else:
                assert one == cell(value)


def test_plain_apertures_recover_a_transit_and_choose_the_radius_with_the_least_noise():
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:60, :60]
    mjd = np.linspace(aperture.TRANSIT[0] - 0.05, aperture.TRANSIT[1] + 0.05, 40)
    outside = aperture.out_of_transit(mjd)
    frames = []
    for one, out in zip(mjd, outside, strict=True):
        image = rng.normal(3.0, 1.0, (60, 60))
        for x0, y0, flux in ((20.3, 21.1, 2e4 if out else 1.96e4), (40.2, 38.8, 3e4), (14.7, 42.4, 8e3)):
            image += flux / (2 * np.pi * 1.5**2) * np.exp(-0.5 * ((x - x0) ** 2 + (y - y0) ** 2) / 1.5**2)
        frames.append(aperture.Frame(image, one, np.array([[20.0, 21.0], [40.0, 39.0], [15.0, 42.0]])))
    radius, found, curve = aperture.best_aperture(frames, (1.0, 4.0, 9.0))
    assert radius == 4.0
    np.testing.assert_array_equal(found, mjd)
    depth = 1 - np.median(curve[~outside]) / np.median(curve[outside])
    assert depth == pytest.approx(0.02, abs=0.001)
    assert aperture.scatter(curve[outside]) < 0.002


def test_report_refuses_a_row_that_lacks_a_column(tmp_path):
    table = Report("part", "purpose", "command", {}, tmp_path).table("title", {"a": "A", "b": "B"})
    with pytest.raises(KeyError, match="'b'"):
        table.add(a=1)


def test_report_has_no_number_that_json_lacks(tmp_path):
    report = Report("part", "purpose", "command", {}, tmp_path)
    report.table("title", {"a": "A"}).add(a=np.float64("nan"))
    report.save()
    assert json.loads((tmp_path / "part.json").read_text())["tables"][0]["rows"] == [{"a": None}]
    assert "| – |" in (tmp_path / "part.md").read_text()


def test_fresh_process_has_a_peak_of_its_own():
    ballast = np.ones(40_000_000)
    assert measure.peak_mib() > ballast.nbytes / measure.MIB
    assert measure.in_fresh_process(measure.peak_mib) < measure.peak_mib() - 200


def test_watch_sees_the_memory_of_its_block():
    before = measure.peak_mib()
    with measure.Watch() as watch:
        np.ones(int((before + 100) * measure.MIB / 8))
    assert watch.added_mib > 50
    assert watch.seconds > 0


def test_killed_process_is_a_memory_error():
    with pytest.raises(MemoryError, match="_exit was killed"):
        measure.in_fresh_process(os._exit, 9)


def test_unknown_part_and_ingredient_are_named(capsys):
    for words, message in (
        (["speed"], "no part speed"),
        (["accuracy", "--truth", "sky"], "there is no 'sky'"),
        (["accuracy", "--lens", "ring"], "there is no lens 'ring'"),
    ):
        with pytest.raises(SystemExit):
            benchmarks.main(words)
        assert message in capsys.readouterr().err


def test_a_season_without_a_light_curve_is_a_note_beside_the_others(tmp_path, monkeypatch):
    from lightcurver_ops.errors import QualityGate

    def measured(_directory, options, _size):
        if options.seed == 1:
            raise QualityGate("the joint model did not converge")
        return {"images": {}, "season": dict.fromkeys(("frames", "used", "lost", "coefficient_rms", "coefficient_error",
                                                       "zeropoint_error", "astrometry", "converged"), 1)}  # fmt: skip

    monkeypatch.setattr(accuracy, "measure_season", measured)
    report = Report("accuracy", "purpose", "command", {}, tmp_path)
    with measure.all_in_one():
        accuracy.run(report, accuracy.Sizes(lenses=("fold",), seeds=(1, 2), psf_varies=(0.0,)))
    seasons = report.tables[-1]
    assert [row["seed"] for row in seasons.rows] == [2]
    assert seasons.notes == [
        "fold, seed 1, PSF varies by 0: no light curve: the joint model did not converge"
    ]


def test_accuracy_refuses_the_season_of_another(tmp_path):
    from lightcurver_ops.errors import ConfigurationError
    from lightcurver_ops.simulation import simulate_season

    simulate_season(SMALL, tmp_path, nights=[0])
    other = accuracy.replace(SMALL, seed=SMALL.seed + 1)
    with pytest.raises(ConfigurationError, match="--keep"):
        accuracy.measure_season(tmp_path, other, SIZES["accuracy"])


def test_hours_of_a_night_are_those_of_the_pool_or_the_cores_that_are_short():
    from lightcurver_ops.config.observatory import Pools

    stages = {night.LOOK: 2.0, "psf_modeling": 10.0, "model_calibrated_cutouts": 20.0}
    cost = night.Cost(stages, task=5.0)
    # 18 tasks, each with 3 s of Airflow and 2 s at least; two of them do more.
    one = 18 * 5.0 + 8.0 + 18.0
    pools = Pools(gpu=1, frames=50, plate_solving=50, catalogues=50, joint=50)
    found = night.wall_clock(cost, 100, pools, cores=1000)
    assert found["tasks"] == 1800
    assert found["core_hours"] == pytest.approx(100 * one / 3600)
    assert (
        found["limit"] == "gpu"
    )  # PSF, star photometry, model; the first two again, for nothing, in the season
    assert found["hours"] == pytest.approx((100 * (5 * 5.0 + 8.0 + 18.0) + one) / 3600)
    assert found["of_tasks"] == pytest.approx(18 * 5.0 / one)
    few = night.wall_clock(
        cost, 100, Pools(gpu=50, frames=50, plate_solving=50, catalogues=50, joint=50), cores=2
    )
    assert (few["limit"], few["hours"]) == ("cores", pytest.approx((100 * one / 2 + one) / 3600))
