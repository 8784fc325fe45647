"""`lcops inject`: what it shows, what it writes, and that it leaves everything else alone."""

import hashlib
import json
import shutil
import sqlite3
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from PIL import Image

from lightcurver_ops.config import load_lens
from lightcurver_ops.stages import injection
from lightcurver_ops.storage.tables import read_table
from tests.seasons import relocated


def files_of(season):
    """Hash of every file of a season but the bookkeeping and the reports of injections."""
    return {
        path.relative_to(season.directory): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(season.directory.rglob("*"))
        if path.is_file() and "injection" not in path.parts and not path.name.startswith("database.sqlite3")
    }


def rows_of(season):
    """Every row of every table of the bookkeeping."""
    connection = sqlite3.connect(season.work / "database.sqlite3")
    names = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
    rows = {name: connection.execute(f'select * from "{name}"').fetchall() for name in names}
    connection.close()
    return rows


@pytest.fixture(scope="module")
def copied(reduced_season, tmp_path_factory):
    """A copy of the reduced season for this module."""
    return relocated(reduced_season, tmp_path_factory.mktemp("inject") / "season")


@pytest.fixture
def injected(lcops, copied):
    """One realisation, made once for the module: the season, and what it was before."""
    if not hasattr(copied, "outcome"):
        assert lcops("status", copied.config_path).code == 0  # enters where the copy lies
        before = files_of(copied), rows_of(copied)
        result = lcops("inject", copied.config_path, "--repeats", 1, "--amplitude", 0.1, "--seed", 3)
        copied.outcome = result, before
    return copied


def test_the_table_has_a_row_per_image_and_per_new_source(injected):
    result, _ = injected.outcome
    assert (result.code, result.err) == (0, "")
    title, header, units, *rest = result.out.splitlines()
    assert title == "small, filter r, noise of 0.1 mag"
    columns = "source injected slope +- bias scatter error residual/error leakage +-"
    assert " ".join(header.split()) == columns
    assert units.split() == ["mag", "mmag", "mmag", "mmag"]
    rows = {line.split()[0]: line.split() for line in rest[:4]}
    assert list(rows) == ["A", "B", "A*", "B*"]
    for name, row in rows.items():
        assert 0.03 < float(row[1]) < 0.3
        # 6 epochs, errors of 7 and 12 mmag for the new sources, far less for the differences.
        assert float(row[2]) == pytest.approx(1.0, abs=0.2 if name.endswith("*") else 0.03)
        assert row[10] == "into"
    # A and B stand opposite to each other: the mirror positions are taken.
    assert "note: A*: the place opposite to A is not free; it stands at " in result.out
    assert result.out.splitlines()[-3:] == [
        str(injected.work / "injection" / f"small_r_3{suffix}") for suffix in (".csv", ".json", ".png")
    ]


def test_the_files_say_the_same_with_all_settings(injected):
    shown = {line.split()[0]: line.split() for line in injected.outcome[0].out.splitlines()[3:7]}
    directory = injected.work / "injection"
    assert sorted(path.name for path in directory.iterdir()) == [
        "small_r_3.csv",
        "small_r_3.json",
        "small_r_3.png",
    ]
    summary = json.loads((directory / "small_r_3.json").read_text())
    assert summary["settings"] == {
        "kind": "noise",
        "amplitude": 0.1,
        "period": 30.0,
        "images": None,
        "empty": True,
        "repeats": 1,
        "seed": 3,
    }
    assert (summary["lens"], summary["filter"], summary["frames"]) == ("small", "r", 6)
    points = read_table(directory / "small_r_3.csv")
    prepared = read_table(injected.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    for row in summary["sources"]:
        line = shown[row["source"]]
        assert line[2] == f"{row['slope']:.3f}"
        assert line[7] == f"{row['residual_over_error']:.2f}"
        own = points["source"] == row["source"]
        np.testing.assert_array_equal(points["frame_id"][own], prepared["frame_id"])
        residual = (points["recovered_mag"] - points["injected_mag"])[own]
        assert row["bias_mmag"] == pytest.approx(1e3 * np.median(residual))
        assert row["error_mmag"] == pytest.approx(1e3 * np.median(points["error_mag"][own]))
        if row["source"].endswith("*"):
            ratio = residual / points["error_mag"][own]
            assert row["residual_over_error"] == pytest.approx(np.sqrt(np.mean(ratio**2)))
    with Image.open(directory / "small_r_3.png") as image:
        assert image.format == "PNG"


def test_errors_of_differences_are_smaller_than_those_of_new_sources(injected):
    """Two fits of the same pixels share their noise; a new source also has what all epochs share."""
    summary = json.loads((injected.work / "injection/small_r_3.json").read_text())
    error = {row["source"]: row["error_mmag"] for row in summary["sources"]}
    quoted = read_table(injected.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    common = json.loads((injected.work / "prepared_roi_cutouts/small_r_common_errors.json").read_text())
    for label in "AB":
        assert error[label] < 0.3 * error[f"{label}*"]
        whole = np.hypot(1e3 * np.median(quoted[f"{label}_d_mag"]), common[label]["mmag"])
        assert error[f"{label}*"] == pytest.approx(whole, rel=0.5)


def test_nothing_of_the_lens_is_touched(injected):
    _, (files, rows) = injected.outcome
    assert len(files) > 20
    assert files_of(injected) == files
    assert rows_of(injected) == rows
    assert len(rows["publications"]) == 1


def test_one_image_and_no_new_sources(lcops, reduced_season, tmp_path):
    season = relocated(reduced_season, tmp_path / "season")
    season.configure(roi_model={"further_optimize_background": False})  # a fit of fractions of a second
    arguments = ("--images", "B", "--no-empty", "--repeats", 2, "--kind", "sine", "--period", 2, "--seed", 11)
    result = lcops("inject", season.config_path, *arguments)
    assert (result.code, result.err) == (0, "")
    assert "A*" not in result.out
    summary = json.loads((season.work / "injection/small_r_11.json").read_text())
    still, varied = summary["sources"]
    assert (still["source"], still["injected_mag"], still["slope"], still["leakage"]) == (
        "A",
        0.0,
        None,
        None,
    )
    assert (varied["source"], varied["leakage_into"], varied["measurements"]) == ("B", "A", 12)
    assert varied["slope"] == pytest.approx(1.0, abs=0.05)
    assert abs(varied["leakage"]) < 0.05
    assert (summary["settings"]["kind"], summary["settings"]["images"]) == ("sine", ["B"])


def test_a_fit_that_did_not_end_and_an_image_without_light_are_noted(lcops, reduced_season, tmp_path):
    season = relocated(reduced_season, tmp_path / "season")
    # An image where nothing is but the wings of the others, its flux taken away.
    path = season.work / "prepared_roi_cutouts/small_r.h5"
    with h5py.File(path, "a") as file:
        file["data"][:, :4, 6:10] -= 5 * file["noisemap"][:, :4, 6:10]
    roi = load_lens(season.config_path).roi
    below = (roi.ra, roi.dec - 6.0 * 0.35 / 3600)
    season.configure(
        roi={
            "point_sources": {
                **{name: list(place) for name, place in roi.point_sources.items()},
                "dark": below,
            }
        },
        roi_model={"n_iter_all": 1},
    )
    result = lcops("inject", season.config_path, "--repeats", 1, "--seed", 5)
    assert result.code == 0
    assert "note: the fit without injection has not converged: NOT converged after " in result.out
    assert [line for line in result.out.splitlines() if "no twin" in line] == [
        "note: dark: its flux is not positive, so it has no twin"
    ]


def test_without_a_free_place_there_is_no_new_source():
    places = SimpleNamespace(
        positions=np.full((1, 2), np.nan), radius=np.array([np.nan]), turn=np.array([np.nan])
    )
    notes = []
    assert injection._described(["A"], np.array([0]), places, notes) == []
    assert notes == ["A*: no place in the stamp is free for it"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "A,X"], "small has no image called X; roi.point_sources has: A, B"),
        (["--images", ","], "small has no image called (nothing); roi.point_sources has: A, B"),
        (["--filter", "z"], "small has no calibrated cutouts in filter z; there are: r"),
        (["--amplitude", 0], "amplitude = 0: expected a number above 0"),
        (["--amplitude", "nan"], "amplitude = nan: expected a number above 0"),
        (["--kind", "sine", "--period", -3], "period = -3: expected a number above 0"),
        (["--repeats", 0], "repeats = 0: expected 1 or more"),
        (["--seed", -1], "seed = -1: expected 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_named(lcops, copied, arguments, message):
    result = lcops("inject", copied.config_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err


def test_before_any_run_it_says_what_to_run(lcops, season):
    result = lcops("inject", season.config_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "lcops: small has no calibrated cutouts yet: `lcops run` makes them "
        "(`--to prepare_calibrated_cutouts` suffices)\n"
    )


def test_without_point_sources_there_is_nothing_to_vary(lcops, season):
    season.configure(roi={"point_sources": {}})
    result = lcops("inject", season.config_path)
    assert result.code == 2
    assert (
        "small has no point source, so there is nothing to vary: name its images under roi.point_sources"
        in result.err
    )


def test_frames_that_left_the_bookkeeping_are_told(lcops, reduced_season, tmp_path):
    season = relocated(reduced_season, tmp_path / "season")
    connection = sqlite3.connect(season.work / "database.sqlite3")
    with connection:
        connection.execute("delete from frames where id = (select min(id) from frames)")
    connection.close()
    result = lcops("inject", season.config_path)
    assert (result.code, result.out) == (2, "")
    assert (
        "1 of its frames, the first with number 1, are not in the bookkeeping any more: `lcops run`"
        in result.err
    )


def test_two_filters_must_be_chosen_from(lcops, reduced_season, tmp_path):
    season = relocated(reduced_season, tmp_path / "season")
    connection = sqlite3.connect(season.work / "database.sqlite3")
    with connection:
        columns = [row[1] for row in connection.execute("pragma table_info(products)") if row[1] != "id"]
        others = ", ".join("'i'" if name == "unit" else name for name in columns)
        connection.execute(
            f"insert into products ({', '.join(columns)}) select {others} from products "
            "where stage = 'prepare_calibrated_cutouts'"
        )
    connection.close()
    prepared = season.work / "prepared_roi_cutouts"
    shutil.copy(prepared / "small_r.h5", prepared / "small_i.h5")
    result = lcops("inject", season.config_path)
    assert result.code == 2
    assert "small has calibrated cutouts in i, r: choose one with --filter" in result.err
