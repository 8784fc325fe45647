"""One message per event, whoever notices it, and no alert that harms the pipeline."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from lightcurver_ops.airflow.alerts import ObservatoryAlerts, raise_no_frames, season_overdue
from lightcurver_ops.airflow.child import StageFailed, StageRefused
from lightcurver_ops.airflow.lens_dags import LensDags
from lightcurver_ops.airflow.operators import LOOK
from lightcurver_ops.bookkeeping.alerts import alerts_of
from lightcurver_ops.bookkeeping.engine import open_engine, reading
from lightcurver_ops.config import load_lens
from lightcurver_ops.operations.observatory import find_lens

RUN = "scheduled__2026-03-11T15:00:00+00:00"


@pytest.fixture
def lens(observatory, posts):
    """A lens whose alerts arrive at `posts`."""
    posts.bodies.clear()
    posts.answer = 200
    observatory.configure(alerts={"webhook": {"url": posts.url}})

    class Lens:
        def __init__(self, name="J0030+15"):
            opened = observatory.open()
            self.path = observatory.lens_file(name)
            self.dags = LensDags(find_lens(opened, name), opened)
            self.alerts = self.dags.alerts
            self.nightly, self.season = self.dags.build()

        def entered(self):
            engine = open_engine(load_lens(self.path).database_url)
            with reading(engine) as connection:
                rows = alerts_of(connection, self.alerts.lens)
            engine.dispose()
            return rows

    return Lens


@pytest.fixture
def failed(context_of):
    """The context of a task that failed."""

    def make(lens, stage="psf_modeling", error=None, **run):
        task = lens.nightly.get_task(stage)
        return context_of(task, exception=error or StageFailed("3 of 5 failed: no star"), **run)

    return make


def run_context(lens, context_of, stage="psf_modeling", reason="task_failure", **run):
    """What the DAG processor hands to the callback of a run: the last task instance, and why."""
    return {**context_of(lens.nightly.get_task(stage), **run), "reason": reason}


def test_a_failed_task_tells_what_where_and_what_to_do(lens, posts, failed):
    lens = lens()
    lens.alerts.task_failed(failed(lens))
    (body,) = posts.bodies
    assert body["kind"] == "stage_failed"
    assert body["observatory"] == "test-observatory"
    assert (body["lens"], body["night"], body["stage"]) == ("J0030+15", "2026-03-10", "psf_modeling")
    assert body["what"] == "3 of 5 failed: no star"
    assert body["link"].startswith(
        "http://airflow.test:8080/dags/J0030p15__nightly/runs/scheduled__2026-03-11T15%3A"
    )
    assert "clear the failed task" in body["todo"]
    (row,) = lens.entered()
    assert json.loads(row.delivery) == {"webhook": "delivered"}
    assert row.subject == body["subject"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (StageRefused("only 1 of 3 frames", "QualityGate"), "quality_gate"),
        (StageRefused("roi.ra is missing"), "configuration"),
        (StageRefused("no such frame", "BadFrame"), "stage_failed"),
        (StageFailed("killed"), "stage_failed"),
        (ValueError(), "stage_failed"),
    ],
)
def test_the_class_of_the_error_says_what_kind_of_alert_it_is(lens, posts, failed, error, kind):
    lens = lens()
    lens.alerts.task_failed(failed(lens, error=error))
    (body,) = posts.bodies
    assert body["kind"] == kind
    assert body["what"] == (str(error) or "ValueError")


def test_a_stage_of_a_run_raises_one_alert_however_often_it_fails(lens, posts, failed):
    lens = lens()
    lens.alerts.task_failed(failed(lens))
    lens.alerts.task_failed(failed(lens, try_number=4, error=StageFailed("another text")))
    for number in range(3):  # mapped tasks of a stage
        lens.alerts.task_failed(failed(lens, "plate_solving", map_index=number))
    assert [body["stage"] for body in posts.bodies] == ["psf_modeling", "plate_solving"]
    assert len(lens.entered()) == 2


def test_other_runs_stages_and_lenses_are_other_events(lens, posts, failed):
    first, second = lens(), lens("plain")
    first.alerts.task_failed(failed(first))
    first.alerts.task_failed(failed(first, "star_photometry"))
    first.alerts.task_failed(failed(first, run_id="scheduled__2026-03-12T15:00:00+00:00"))
    second.alerts.task_failed(failed(second))
    assert len(posts.bodies) == 4


def test_a_run_that_was_cleared_and_fails_again_raises_another(lens, posts, failed):
    lens = lens()
    for clear_number in (0, 0, 1, 1, 2):
        lens.alerts.task_failed(failed(lens, clear_number=clear_number))
    assert len(posts.bodies) == 3


def test_a_failed_run_says_nothing_where_a_task_spoke(lens, posts, failed, context_of):
    lens = lens()
    lens.alerts.task_failed(failed(lens))
    lens.alerts.run_failed(run_context(lens, context_of))
    lens.alerts.run_failed({"dag": lens.nightly, "run_id": RUN, "reason": "task_failure"})  # no task is known
    assert len(posts.bodies) == 1


def test_what_is_wrong_with_a_file_is_said_once_until_the_file_changes(lens, posts, failed, context_of):
    """Every waiting night would fail with it, four times a day."""
    lens = lens()
    error = StageRefused("psf.solver is wrong", "ConfigurationError")
    for number in range(3):
        run = {"run_id": f"reprocess__2026-03-10__{number}"}
        lens.alerts.task_failed(failed(lens, error=error, **run))
        lens.alerts.run_failed(run_context(lens, context_of, **run))
    assert [body["kind"] for body in posts.bodies] == ["configuration"]
    path = Path(lens.alerts.lens_file)
    path.write_text(path.read_text() + "# another try\n")
    lens.alerts.task_failed(failed(lens, error=error, run_id="reprocess__2026-03-10__3"))
    assert len(posts.bodies) == 2


def test_a_lost_worker_is_told_in_words(lens, posts, failed):
    """Airflow itself calls for a task whose worker is gone: without an exception."""
    lens = lens()
    lens.alerts.task_failed({**failed(lens), "exception": None})
    assert "the worker was lost" in posts.bodies[0]["what"]


def test_a_failed_run_of_the_observatory_raises_one_alert(observatory, lens, posts):
    ObservatoryAlerts(str(observatory.path)).run_failed(
        {"dag": SimpleNamespace(dag_id="lcops_arrivals"), "run_id": "scheduled__1", "reason": "task_failure"}
    )
    assert "lcops_arrivals failed" in posts.bodies[0]["what"]


def test_a_failed_run_speaks_where_no_task_did(lens, posts, failed, context_of):
    lens = lens()
    lens.alerts.task_failed(failed(lens, run_id="scheduled__2026-03-10T15:00:00+00:00"))  # another night
    posts.bodies.clear()
    for _ in range(2):
        lens.alerts.run_failed(run_context(lens, context_of))
    (body,) = posts.bodies
    assert (body["kind"], body["stage"], body["night"]) == ("stage_failed", "psf_modeling", "2026-03-10")
    assert "it was killed" in body["what"]
    assert "task_failure" in body["what"]
    assert "/tasks/psf_modeling" in body["link"]


def test_a_cleared_run_whose_task_is_killed_speaks_although_one_spoke_before(lens, posts, failed, context_of):
    lens = lens()
    lens.alerts.task_failed(failed(lens))
    lens.alerts.run_failed(run_context(lens, context_of, clear_number=1))
    assert len(posts.bodies) == 2


def test_a_run_without_known_tasks_is_linked_itself(lens, posts):
    lens = lens()
    lens.alerts.run_failed({"dag": lens.season, "run_id": "asset_triggered__1", "reason": "timed_out"})
    (body,) = posts.bodies
    assert body["link"] == "http://airflow.test:8080/dags/J0030p15__season/runs/asset_triggered__1"
    assert (body["night"], body["stage"]) == (None, None)


@pytest.mark.parametrize(
    ("name", "begin", "conf", "night"),
    [
        ("J0030+15", datetime(2026, 3, 10, 15, tzinfo=UTC), None, "2026-03-10"),
        ("late", datetime(2026, 3, 9, 23, tzinfo=UTC), None, "2026-03-10"),  # noon of the 10th in New Zealand
        ("plain", datetime(2026, 3, 10, 12, tzinfo=UTC), {"night": "2025-12-24"}, "2025-12-24"),
        ("plain", None, None, None),
    ],
)
def test_an_alert_names_the_night_of_the_telescope(lens, posts, failed, name, begin, conf, night):
    lens = lens(name)
    lens.alerts.task_failed(failed(lens, "plate_solving", begin=begin, conf=conf))
    assert posts.bodies[0]["night"] == night


# Nights without frames


@pytest.fixture
def look(lens, context_of):
    """Tells the task that looks for frames how dry it is; the lens's limit is two nights."""
    lens = lens()
    operator = lens.nightly.get_task(LOOK)

    def look(nights, last="2026-03-07", run_type="scheduled", night="2026-03-10", run_id=RUN):
        context = context_of(operator, run_type=run_type, run_id=run_id)
        raise_no_frames(
            operator, context, {"nights_without_frames": nights, "last_night": last, "night": night}
        )

    look.lens = lens
    return look


def test_a_dry_spell_raises_one_alert(look, posts):
    look(1, night="2026-03-08")
    assert posts.bodies == []
    for nights in (2, 3, 4):
        look(nights, night=f"2026-03-{7 + nights:02d}", run_id=f"scheduled__{nights}")
    (body,) = posts.bodies
    assert (body["kind"], body["night"]) == ("no_frames", "2026-03-09")
    assert body["what"] == "No raw frame for 2 nights: the last one is of the night 2026-03-07."


def test_the_next_dry_spell_raises_another(look, posts):
    look(2)
    look(5, last="2026-03-12", night="2026-03-17")
    assert len(posts.bodies) == 2


@pytest.mark.parametrize("run_type", ["manual", "backfill"])
def test_only_nights_as_they_happen_raise_it(look, posts, run_type):
    look(20, run_type=run_type)
    assert posts.bodies == []


def test_all_kinds_of_runs_are_known():
    """The comparison with `scheduled` is with text: it must be what Airflow says."""
    assert str(DagRunType.SCHEDULED) in ("scheduled", "DagRunType.SCHEDULED")


def test_a_lens_can_do_without(look, posts, observatory):
    path = observatory.lens_file("J0030+15")
    text = path.read_text()
    path.write_text(
        text.replace("alert_after_nights_without_frames: 2", "alert_after_nights_without_frames: null")
    )
    assert text != path.read_text()
    look(20)
    assert posts.bodies == []


# The season is late


def test_an_overdue_season_raises_one_alert(lens, posts):
    lens = lens()
    (deadline,) = lens.season.deadline
    context = {"dag_run": {"dag_run_id": "asset__1", "dag_id": "J0030p15__season"}, "deadline": {}}
    for _ in range(2):
        asyncio.run(season_overdue(**deadline.callback.kwargs, context=context))
    (body,) = posts.bodies
    assert body["kind"] == "season_overdue"
    assert body["what"] == "The run asset__1 of J0030p15__season is not finished after 12 hours."
    assert body["link"].endswith("/dags/J0030p15__season/runs/asset__1")


# What may be broken


def test_a_broken_bookkeeping_still_sends(lens, posts, failed, context_of, observatory):
    lens = lens()
    work = observatory.directory / "work" / "J0030+15"
    work.mkdir(parents=True)
    (work / "database.sqlite3").write_text("this is no database")
    lens.alerts.task_failed(failed(lens))
    lens.alerts.run_failed(run_context(lens, context_of))
    lens.alerts.no_frames(failed(lens), {"last_night": "2026-03-07", "night": "2026-03-10"}, 3)
    # The run says nothing: it cannot know that its task has spoken.
    assert [body["kind"] for body in posts.bodies] == ["stage_failed", "no_frames"]


def test_a_bookkeeping_that_breaks_between_asking_and_entering_still_sends(lens, posts, failed, observatory):
    import sqlite3

    lens = lens()
    lens.alerts.task_failed(failed(lens))
    connection = sqlite3.connect(observatory.directory / "work" / "J0030+15" / "database.sqlite3")
    connection.execute("alter table alerts rename to others")
    connection.close()
    lens.alerts.task_failed(failed(lens, "star_photometry"))
    assert len(posts.bodies) == 2


def test_a_broken_lens_file_still_sends(lens, posts, failed):
    lens = lens()
    context = failed(lens)
    lens.path.write_text("name: [")
    lens.alerts.task_failed(context)
    assert len(posts.bodies) == 1


def test_a_broken_observatory_raises_nothing(lens, posts, failed, context_of, observatory, caplog):
    lens = lens()
    operator = lens.nightly.get_task(LOOK)
    contexts = failed(lens), run_context(lens, context_of), context_of(operator)
    observatory.path.write_text("alerts: {pigeon: {}}\n")
    lens.alerts.task_failed(contexts[0])
    lens.alerts.run_failed(contexts[1])
    answer = {"nights_without_frames": 9, "last_night": "2026-03-01", "night": "2026-03-10"}
    raise_no_frames(operator, contexts[2], answer)
    asyncio.run(season_overdue(**lens.season.deadline[0].callback.kwargs))
    assert posts.bodies == []
    assert "an alert could not be raised" in caplog.text
    assert "pigeon" in caplog.text


def test_a_channel_that_fails_is_entered(lens, posts, failed):
    lens = lens()
    posts.answer = 503
    lens.alerts.task_failed(failed(lens))
    (row,) = lens.entered()
    assert json.loads(row.delivery) == {"webhook": "the receiver answered 503"}
