"""Runs that are killed at any moment, and two runs at once, end in what an undisturbed run leaves."""

import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lightcurver_ops.storage.tables import read_table

pytestmark = pytest.mark.end_to_end

PER_EPOCH = "prepared_roi_cutouts/small_r_photometry_per_epoch.csv"
# Numbers of rows, times, processes and paths differ between two runs; nothing else may.
OWN_TO_A_RUN = {
    "id",
    "frame_id",
    "publication_id",
    "run_id",
    "made_at",
    "attempts",
    "attempted_at",
    "seconds",
    "workdir",
    "original_image_path",
}


def lcops(season, *arguments) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        "from lightcurver_ops.cli import main; main()",
        "run",
        str(season.config_path),
    ]
    return subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors


def content(work: Path) -> dict[str, list]:
    """The rows of all tables but the ledger of runs, without what is a run's own, frames named by their file."""
    connection = sqlite3.connect(work / "database.sqlite3")
    connection.row_factory = sqlite3.Row
    names = {
        row["id"]: row["image_relpath"] for row in connection.execute("select id, image_relpath from frames")
    }
    tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
    result = {}
    for table in set(tables) - {
        "stage_runs",
        "lcops_schema_version",
        "publications",
        "publication_summaries",
        "products",
        "sqlite_sequence",
    }:
        rows = []
        for row in connection.execute(f'select * from "{table}"'):
            values = dict(row)
            values["frame"] = names.get(values.get("frame_id"))
            values = {key: value for key, value in values.items() if key not in OWN_TO_A_RUN}
            rows.append(values)
        result[table] = sorted(rows, key=lambda one: repr(sorted(one.items(), key=lambda item: item[0])))
    products = connection.execute(
        "select stage, count(*), status from products group by stage, status order by stage"
    )
    result["products"] = [{"stage": row[0], "count": row[1], "status": row[2]} for row in products]
    # Only the newest version: a run killed between its files and its ledger publishes once more.
    newest = connection.execute("select max(id) from publications").fetchone()[0]
    points = connection.execute(
        "select p.*, f.image_relpath as frame from light_curve_points p join frames f on f.id = p.frame_id "
        "where publication_id = ? order by f.image_relpath, source",
        (newest,),
    )
    result["light_curve_points"] = [
        {key: value for key, value in dict(row).items() if key not in OWN_TO_A_RUN} for row in points
    ]
    connection.close()
    return result


def assert_same(one: dict[str, list], other: dict[str, list]) -> None:
    assert one.keys() == other.keys()
    for table, rows in one.items():
        assert len(rows) == len(other[table]), table
        for mine, theirs in zip(rows, other[table], strict=True):
            assert mine.keys() == theirs.keys()
            for key, value in mine.items():
                if isinstance(value, float) and theirs[key] is not None:
                    assert value == pytest.approx(theirs[key], rel=1e-6, abs=1e-9), (table, key)
                else:
                    assert value == theirs[key], (table, key)


def assert_same_light_curve(one: Path, other: Path) -> None:
    mine, theirs = read_table(one / PER_EPOCH), read_table(other / PER_EPOCH)
    assert list(mine) == list(theirs)
    for column in mine.keys() - {"frame_id"}:
        np.testing.assert_allclose(mine[column], theirs[column], rtol=1e-6, err_msg=column)


def units_done(work: Path) -> int:
    """How many units the ledger has, 0 before there is one."""
    try:
        connection = sqlite3.connect(f"file:{work / 'database.sqlite3'}?mode=ro", uri=True)
        try:
            return connection.execute("select count(*) from products where status = 'done'").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0


def test_ten_kills_change_nothing(season, reduced_season):
    season.configure(compute={"processes": 2})
    moments = random.Random(7)
    # Spread over the work, not over the clock, so that a slow machine is killed in all its stages as well.
    for progress in sorted(moments.sample(range(units_done(reduced_season.work) - 1), 10)):
        process = lcops(season)
        while process.poll() is None and units_done(season.work) < progress:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.8))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    finish(lcops(season))
    assert_same(content(season.work), content(reduced_season.work))
    assert_same_light_curve(season.work, reduced_season.work)
    leftovers = [path for path in season.work.rglob("*") if path.name.startswith(".lcops-")]
    assert leftovers == []
    connection = sqlite3.connect(season.work / "database.sqlite3")
    runs = connection.execute("select distinct stage, status from stage_runs").fetchall()
    connection.close()
    assert "running" not in {status for _, status in runs}
    interrupted = {stage for stage, status in runs if status == "interrupted"}
    assert len(interrupted) >= 3, interrupted


def test_two_runs_at_once_change_nothing(season, reduced_season):
    processes = [lcops(season), lcops(season)]
    for process in processes:
        finish(process)
    finish(lcops(season))
    assert_same(content(season.work), content(reduced_season.work))
    assert_same_light_curve(season.work, reduced_season.work)


def test_two_runs_at_once_on_postgres(season, reduced_season, postgres_url):
    season.configure(database=postgres_url)
    processes = [lcops(season), lcops(season)]
    for process in processes:
        finish(process)
    assert_same_light_curve(season.work, reduced_season.work)
