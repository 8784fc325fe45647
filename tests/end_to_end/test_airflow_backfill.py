"""Backfills of an archival season on a real Airflow: by command and by REST, on SQLite and Postgres metadata.

How many nights, and how often: $LCOPS_BACKFILL_NIGHTS and $LCOPS_BACKFILL_TIMES (`make soak` takes 30 and 10). The
first time, all nights are new; each time after that, one more frame has come, and all nights are run again. With
$LCOPS_BACKFILL_EVERY = n only every n-th night has frames: the metadata database works as hard, the lens less.
"""

import itertools
import os
import shutil
from dataclasses import replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine
from lightcurver_ops.simulation.observatory import shifted
from tests.running_observatory import (
    RunningObservatory,
    last_night,
    mjd_of,
    same_light_curve,
)
from tests.seasons import SMALL

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(24 * 3600)]

NIGHTS = int(os.environ.get("LCOPS_BACKFILL_NIGHTS", "2"))
TIMES = int(os.environ.get("LCOPS_BACKFILL_TIMES", "2"))
EVERY = int(os.environ.get("LCOPS_BACKFILL_EVERY", "1"))
AT_A_TIME = 4
LENS = "archive"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def observatory(request, tmp_path_factory):
    database = bookkeeping = None
    if request.param == "postgres":
        server = request.getfixturevalue("postgres_server")
        database = _new_database(server, "airflow").replace("+psycopg", "+psycopg2")
        bookkeeping = _new_database(server, "lightcurver")
    season = replace(SMALL, name=LENS, n_nights=NIGHTS, exposures_per_night=5, night_gap_days=1.0)
    observatory = RunningObservatory(
        tmp_path_factory.mktemp("archive"),
        [shifted(season, mjd_of(last_night()) - 60)],
        # Nobody watches: what is made is made by the backfills.
        settings={
            "watch": {"enabled": False, "settle_seconds": 0},
            "airflow": {
                "retries": 1,
                "season_poll_seconds": 2,
                "require_connection": bookkeeping is not None,
            },
        },
        operations={"alert_after_nights_without_frames": None},
        database=database,
        bookkeeping=bookkeeping,
    )
    observatory.metadata = request.param
    observatory.airflow.prepare()
    observatory.airflow.start()
    try:
        observatory.airflow.wait_until_healthy()
        observatory.wait_for_runs(lambda runs: len(runs) >= 3)  # those of the schedules, with nothing to do
        observatory.api.patch("/dags/lcops_arrivals", json={"is_paused": True}).raise_for_status()
        with_frames = range(0, NIGHTS, EVERY)
        for night in with_frames:
            observatory.drop(LENS, night, slice(0, 2))
        observatory.more = itertools.product((2, 3, 4), with_frames)
        yield observatory
    finally:
        observatory.airflow.stop()


def _new_database(server: str, name: str) -> str:
    admin = sa.create_engine(f"{server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database if exists {name} with (force)"))
        connection.execute(sa.text(f"create database {name}"))
    admin.dispose()
    return f"{server}/{name}"


def by_command(observatory: RunningObservatory, first: str, after: str) -> None:
    observatory.airflow.airflow(
        "backfill", "create", "--dag-id", f"{LENS}__nightly", "--from-date", first, "--to-date", after,
        "--max-active-runs", str(AT_A_TIME), "--reprocess-behavior", "completed",
    )  # fmt: skip


def by_rest(observatory: RunningObservatory, first: str, after: str) -> None:
    body = {
        "dag_id": f"{LENS}__nightly", "from_date": f"{first}T00:00:00Z", "to_date": f"{after}T00:00:00Z",
        "max_active_runs": AT_A_TIME, "reprocess_behavior": "completed", "run_backwards": True, "dag_run_conf": {},
    }  # fmt: skip
    answer = observatory.api.post("/backfills", json=body)
    assert answer.status_code == 200, answer.text


# By turns. On SQLite metadata by REST it answers 503 at times: README.md asks for the command line there.
CREATE = {"sqlite": [by_command], "postgres": [by_rest, by_command]}


@pytest.mark.parametrize("time", range(TIMES))
def test_a_season_is_backfilled(observatory, time, tmp_path):
    create = CREATE[observatory.metadata][time % len(CREATE[observatory.metadata])]
    if time == 0:
        forget_everything(observatory)
    else:
        exposure, night = next(observatory.more)
        observatory.drop(LENS, night, slice(exposure, exposure + 1))
    seasons_before = {run["dag_run_id"] for run in observatory.runs(f"{LENS}__season")}
    version = observatory.version(LENS) if time else 0
    before = len(backfills(observatory))
    create(observatory, observatory.night(LENS, 0), (last_night() - timedelta(days=60 - 1)).isoformat())

    assert len(backfills(observatory)) == before + 1
    observatory.wait_for_runs(lambda _runs: backfills(observatory)[-1]["completed_at"] is not None)
    runs = observatory.wait_for_runs(lambda _runs: observatory.version(LENS) > version)
    backfill = [run for run in runs if _is_backfill(run)]
    assert {run["state"] for run in backfill} == {"success"}
    assert len(backfill) in (
        NIGHTS,
        NIGHTS + 1,
    )  # the last one may have the night after the season, without frames
    # One season run that did work: one light curve.
    seasons = [
        run for run in runs if run["dag_id"] == f"{LENS}__season" and run["dag_run_id"] not in seasons_before
    ]
    worked = [run for run in seasons if observatory.states(run)["model_calibrated_cutouts"] == ["success"]]
    assert len(worked) == 1
    assert observatory.version(LENS) == version + 1
    assert {run["state"] for run in seasons} == {"success"}
    # Behind tonight's: what may stand back took the slots of backfills.
    tasks = [task for run in backfill for task in observatory.tasks(run)]
    assert {task["state"] for task in tasks} <= {"success", "skipped"}
    assert {task["pool"] for task in tasks if task["task_id"] == "plate_solving"} == {"backfill"}
    assert {task["pool"] for task in tasks if task["task_id"] == "psf_modeling"} == {"gpu"}
    assert max(task["priority_weight"] for task in tasks) < 0
    curve = observatory.light_curve(LENS)
    assert len(curve["mjd"]) == len(list((observatory.directory / "raw" / LENS).iterdir()))
    if time == 0:
        same_light_curve(curve, observatory.by_hand(LENS, tmp_path))


def forget_everything(observatory: RunningObservatory) -> None:
    """As before the first night, but for the raw frames."""
    shutil.rmtree(observatory.config(LENS).workdir, ignore_errors=True)
    if observatory.bookkeeping is not None:
        engine = open_engine(observatory.bookkeeping)
        schema.downgrade(engine, "base")
        engine.dispose()


def backfills(observatory: RunningObservatory) -> list[dict]:
    """All backfills of the lens, oldest first."""
    answer = observatory.api.get("/backfills", params={"dag_id": f"{LENS}__nightly", "limit": 100})
    return sorted(answer.json()["backfills"], key=lambda one: one["id"])


def _is_backfill(run: dict) -> bool:
    return run["dag_id"] == f"{LENS}__nightly" and run["run_type"] == "backfill"
