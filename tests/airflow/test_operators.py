"""What the tasks of a lens do, with the worker as it is."""

import json
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped, TaskDeferred

from lightcurver_ops.airflow.child import StageFailed, StageRefused
from lightcurver_ops.airflow.connection import page_url, task_url
from lightcurver_ops.airflow.lens_dags import LensDags
from lightcurver_ops.airflow.operators import LOOK, StageOperator, night_of_run
from lightcurver_ops.airflow.triggers import NightFramesTrigger, NightsDoneTrigger
from lightcurver_ops.bookkeeping import frames, raw_files
from lightcurver_ops.bookkeeping.engine import open_engine, reading
from lightcurver_ops.config import load_lens
from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.errors import TemporaryFailure
from lightcurver_ops.operations.nights import night_at, night_interval
from lightcurver_ops.operations.observatory import find_lens, open_observatory
from lightcurver_ops.stages.pipeline import STAGE_NAMES

IMPORT, SOLVE, FOOTPRINT = STAGE_NAMES[1:4]
NIGHT_MJD = 61109.2  # 2026-03-10, 04:48 UTC
NIGHT = "2026-03-09"


@pytest.fixture
def dags(observatory):
    """Makes both DAGs of a lens of the small observatory."""

    def make(name):
        opened = observatory.open()
        return LensDags(find_lens(opened, name), opened).build()

    return make


# Which night


def run(begin=None, conf=None):
    return {"dag_run": SimpleNamespace(conf=conf, data_interval_start=begin)}


@pytest.mark.parametrize("conf", [{"night": "2026-02-03"}, {"night": "2026-02-03", "other": 1}])
@pytest.mark.parametrize("begin", [None, datetime(2026, 3, 10, 15, tzinfo=UTC)])
def test_the_configuration_of_a_run_names_its_night(conf, begin):
    assert night_of_run(run(begin, conf), "America/Santiago") == "2026-02-03"


@pytest.mark.parametrize(
    "zone", ["America/Santiago", "Pacific/Auckland", "UTC", "Etc/GMT+12", "Pacific/Kiritimati"]
)
@pytest.mark.parametrize("conf", [None, {}, {"something": "else"}])
def test_else_the_data_interval_does_all_year(zone, conf):
    for days in range(366):
        night = datetime(2026, 1, 1).date() + timedelta(days=days)
        assert night_of_run(run(night_interval(night, zone)[0], conf), zone) == night.isoformat()


def test_a_run_that_says_neither_is_refused_with_what_to_do(context_of, dags):
    look = dags("plain")[0].get_task(LOOK)
    with pytest.raises(StageRefused, match=r'configuration \{"night": "YYYY-MM-DD"\}, or a logical date'):
        look.execute(context_of(look, begin=None, run_type="manual"))


@pytest.mark.parametrize(
    "night", ["yesterday", "2026-13-01", "", "2026-2-3", 20260203, "2026-02-03T12:00", ["2026-02-03"]]
)
def test_what_is_not_a_date_is_refused(night):
    with pytest.raises(
        StageRefused, match="write the date on which the night began at the telescope as YYYY-MM-DD"
    ):
        night_of_run(run(datetime(2026, 3, 10, 15, tzinfo=UTC), {"night": night}), "UTC")


# Looking for frames


def test_a_night_without_frames_skips_the_rest(dags, observatory, context_of):
    observatory.add_frame("plain", NIGHT_MJD - 1)
    nightly = dags("plain")[0]
    look = nightly.get_task(LOOK)
    context = context_of(look, conf={"night": NIGHT})
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        look.execute(context)
    # In a run that is done again, mapped tasks have instances already: they are named, too.
    again = {(task_id, 0) for task_id in nightly.task_ids if nightly.get_task(task_id).is_mapped}
    assert set(skipped.value.tasks) == {*nightly.task_ids, *again} - {LOOK}
    assert len(again) == 3
    assert context["ti"].xcoms[LOOK, "counts"] == {"night": NIGHT, "frames": 0, "nights_without_frames": 1}


def test_a_new_lens_waits_for_its_first_frame(dags, context_of):
    """No frame at all is a night without frames, not a wrong configuration: nobody is alarmed."""
    look = dags("plain")[0].get_task(LOOK)
    with pytest.raises(DownstreamTasksSkipped):
        look.execute(context_of(look, conf={"night": NIGHT}))


def test_frames_come_in_chunks(observatory, dags, context_of):
    observatory.add_lens("many", operations={"frames_per_task": 2})
    for number in range(5):
        observatory.add_frame("many", NIGHT_MJD + 0.01 * number, f"{number}.fits")
    observatory.add_frame("many", NIGHT_MJD + 1, "tomorrow.fits")
    look = dags("many")[0].get_task(LOOK)
    context = context_of(look, conf={"night": NIGHT})
    chunks = look.execute(context)
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    engine = open_engine(load_lens(observatory.lens_file("many")).database_url)
    with reading(engine) as connection:
        own = {row.id for row in raw_files.raw_files_of_night(connection, "many", NIGHT)}
    engine.dispose()
    assert {number for chunk in chunks for number in chunk} == own
    assert context["ti"].xcoms[LOOK, "counts"]["frames"] == 5


def test_a_night_that_is_up_to_date_skips_the_rest(observatory, dags, context_of):
    observatory.add_frame("plain", NIGHT_MJD)
    look = dags("plain")[0].get_task(LOOK)
    look.stages = []  # none is out of date
    context = context_of(look, conf={"night": NIGHT})
    with pytest.raises(DownstreamTasksSkipped):
        look.execute(context)
    assert context["ti"].xcoms[LOOK, "counts"]["frames"] == 1


def test_a_dry_spell_is_told_of_by_the_task(observatory, dags, context_of, posts):
    posts.bodies.clear()
    posts.answer = 200
    observatory.configure(alerts={"webhook": {"url": posts.url}})
    observatory.add_frame("J0030+15", NIGHT_MJD)
    look = dags("J0030+15")[0].get_task(LOOK)
    for days in (1, 2):  # its limit is two nights
        begin = datetime(2026, 3, 9 + days, 15, tzinfo=UTC)
        with pytest.raises(DownstreamTasksSkipped):
            look.execute(context_of(look, begin=begin, run_id=f"scheduled__{days}"))
    (body,) = posts.bodies
    assert (body["kind"], body["night"], body["lens"]) == ("no_frames", "2026-03-11", "J0030+15")


def test_a_raw_directory_that_is_gone_is_refused(observatory, dags, context_of):
    (observatory.directory / "raw" / "plain").rmdir()
    look = dags("plain")[0].get_task(LOOK)
    with pytest.raises(StageRefused, match="raw/plain is not a directory"):
        look.execute(context_of(look, conf={"night": NIGHT}))


SKIPPED = """
import json, logging, os, pendulum
from lightcurver_ops.airflow.factory import build_dags
dag = build_dags("lightcurver_ops_dags.py")["plain__nightly"]
run = dag.test(logical_date=pendulum.datetime(2026, 3, 11, 12), run_conf={"night": "2026-03-09"})
print()
print(json.dumps([run.state, {ti.task_id: ti.state for ti in run.get_task_instances()}]))
"""


def test_airflow_skips_the_rest_of_a_night_without_frames(observatory, migrated_home, python):
    state, tasks = python(SKIPPED, migrated_home.environment(observatory.path))
    assert state == "success"
    assert tasks.pop(LOOK) == "success"
    assert set(tasks.values()) == {"skipped"}
    assert {IMPORT, "night_done"} <= tasks.keys()


# Stages


ODD_PARSER = """
import os
from astropy.time import Time

class Odd(dict):
    def __getitem__(self, key):
        raise ZeroDivisionError("a surprise")

def parse_header(header):
    odd = os.path.exists({odd!r}) and header["DATE-OBS"] in open({odd!r}).read()
    return (Odd if odd else dict)(
        mjd=Time(header["DATE-OBS"]).mjd, gain=header["GAIN"], exptime=header["EXPTIME"], filter=header["FILTER"]
    )
"""


class Small:
    """The simulated season as an observatory of one lens, whose frames can be made to surprise the import."""

    def __init__(self, season, context_of):
        self.season, self.context_of = season, context_of
        parser, self._odd = season.directory / "parser.py", season.directory / "odd"
        parser.write_text(ODD_PARSER.format(odd=str(self._odd)))
        season.configure(operations={"frames_per_task": 1}, raw={"header_parser": str(parser)})
        path = season.directory / "observatory.yaml"
        path.write_text("lenses: [small.yaml]\nairflow: {retries: 2}\nwatch: {settle_seconds: 0}\n")
        opened = open_observatory(path)
        lens = LensDags(find_lens(opened, "small"), opened)
        self.nightly = lens.nightly()
        first = datetime(1858, 11, 17, tzinfo=UTC) + timedelta(days=float(min(season.truth.frames["mjd"])))
        self.night = night_at(first, lens.timezone).isoformat()
        look = self.nightly.get_task(LOOK)
        self.chunks = look.execute(context_of(look, conf={"night": self.night}))

    @property
    def all_chunks(self):
        return [number for chunk in self.chunks for number in chunk]

    def surprise(self, number):
        """Make the import of so many frames of the season, from the first, fail."""
        from astropy.io import fits

        dates = [fits.getheader(path)["DATE-OBS"] for path in self.season.raw[:number]]
        self._odd.write_text("\n".join(dates))

    def run(self, name, *, chunk=None, **run):
        """A task of the night; a mapped one for one of its chunks."""
        task = self.nightly.get_task(name)
        if task.is_mapped:
            task = task.unmap({"raw_ids": self.chunks[0] if chunk is None else chunk})
        context = self.context_of(
            self.nightly.get_task(LOOK),
            conf={"night": self.night},
            xcoms={(LOOK, "return_value"): self.chunks},
            **run,
        )
        return task.execute(context)

    def imported(self):
        engine = open_engine(load_lens(self.season.config_path).database_url)
        with reading(engine) as connection:
            rows = frames.all_frames(connection, "small")
        engine.dispose()
        return len(rows)


@pytest.fixture
def small(season, context_of):
    return Small(season, context_of)


def test_a_task_makes_its_chunk_and_no_other(small):
    assert len(small.season.raw) == 6
    assert [len(chunk) for chunk in small.chunks] == [1, 1]
    assert small.run(IMPORT) == {"selected": 1, "done": 1, "quarantined": 0, "failed": 0}
    assert small.imported() == 1
    with pytest.raises(AirflowSkipException, match="everything is up to date"):
        small.run(IMPORT)
    assert small.run(IMPORT, chunk=small.chunks[1])["done"] == 1
    assert small.imported() == 2


def test_a_task_of_the_night_takes_all_chunks_and_no_other_night(small):
    operator = StageOperator(
        task_id="all",
        stage=IMPORT,
        of_night=True,
        lens="small",
        lens_file=str(small.season.config_path),
        settings=Orchestration(),
    )
    context = small.context_of(small.nightly.get_task(LOOK), xcoms={(LOOK, "return_value"): small.chunks})
    assert operator.execute(context)["done"] == 2
    assert small.imported() == 2


def test_a_task_of_the_season_takes_all_frames(small):
    operator = StageOperator(
        task_id="all",
        stage=IMPORT,
        lens="small",
        lens_file=str(small.season.config_path),
        settings=Orchestration(),
    )
    assert operator.execute(small.context_of(small.nightly.get_task(LOOK)))["done"] == 6


@pytest.mark.parametrize("max_tries", [0, 1])
def test_a_partial_failure_is_tried_again_and_at_last_goes_on(small, max_tries):
    small.surprise(1)
    for number in range(1, max_tries + 1):
        with pytest.raises(StageFailed, match=r"1 of \d failed: RuntimeError: ZeroDivisionError: a surprise"):
            small.run(IMPORT, chunk=small.all_chunks, try_number=number, max_tries=max_tries)
        assert small.imported() == 1  # the other one is made by the first try
    assert (
        small.run(IMPORT, chunk=small.all_chunks, try_number=max_tries + 1, max_tries=max_tries)["failed"]
        == 1
    )
    assert small.imported() == 1


def test_a_partial_failure_of_the_season_goes_on_too(small):
    small.surprise(1)
    operator = StageOperator(
        task_id="all",
        stage=IMPORT,
        lens="small",
        lens_file=str(small.season.config_path),
        settings=Orchestration(),
    )
    for number in (1, 2):
        context = small.context_of(small.nightly.get_task(LOOK), try_number=number, max_tries=1)
        if number == 1:
            with pytest.raises(StageFailed, match="1 of 6 failed"):
                operator.execute(context)
        else:
            assert operator.execute(context)["failed"] == 1
    assert small.imported() == 5


def test_a_chunk_of_which_nothing_works_fails_also_at_its_last_try(small):
    small.surprise(2)
    with pytest.raises(StageFailed, match="2 of 2 failed"):
        small.run(IMPORT, chunk=small.all_chunks, try_number=3, max_tries=2)


def test_what_failed_is_made_when_its_cause_is_gone(small):
    small.surprise(1)
    with pytest.raises(StageFailed):
        small.run(IMPORT, try_number=1, max_tries=2)
    small.surprise(0)
    assert small.run(IMPORT, try_number=2, max_tries=2)["done"] == 1


def test_the_gate_of_parts_is_left_to_the_next_task(small):
    """With several chunks none of them knows the whole; with one it does."""
    small.season.configure(plate_solving={"plate_scale_interval": [5.0, 6.0]})  # nothing can be solved
    small.run(IMPORT, chunk=small.all_chunks)
    assert small.run(SOLVE, chunk=small.all_chunks)["quarantined"] == 2
    with pytest.raises(StageRefused, match="only 0 of 2 frames are plate solved") as caught:
        small.run("query_gaia_for_stars")
    assert caught.value.error_class == "QualityGate"
    small.chunks = [small.all_chunks]
    with pytest.raises(StageRefused, match="only 0 of 2 frames are plate solved"):
        small.run(SOLVE)


# Where the bookkeeping is


def test_the_connection_says_where_the_bookkeeping_is(observatory, dags, context_of, tmp_path, monkeypatch):
    path = tmp_path / "elsewhere.db"
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTCURVER_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    observatory.add_frame("plain", NIGHT_MJD)
    look = dags("plain")[0].get_task(LOOK)
    look.execute(context_of(look, conf={"night": NIGHT}))
    engine = open_engine(f"sqlite:///{path}")
    with reading(engine) as connection:
        assert len(raw_files.known_raw_files(connection, "plain")) == 1
    engine.dispose()
    assert not (observatory.directory / "work" / "plain" / "database.sqlite3").exists()


def test_a_connection_of_another_kind_is_refused(dags, context_of, monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTCURVER_DB", json.dumps({"conn_type": "mysql", "host": "db"}))
    look = dags("plain")[0].get_task(LOOK)
    with pytest.raises(StageRefused, match="expected sqlite or postgres"):
        look.execute(context_of(look, conf={"night": NIGHT}))


def test_where_a_connection_must_be_no_task_falls_back_to_a_file(observatory, dags, context_of, monkeypatch):
    """In a container of our image, which sets the variable, and wherever the observatory's file says so."""
    look = dags("plain")[0].get_task(LOOK)
    monkeypatch.setenv("LCOPS_REQUIRE_CONNECTION", "true")
    with pytest.raises(StageFailed, match="there is no Airflow connection lightcurver_db, or Airflow's API"):
        look.execute(context_of(look, conf={"night": NIGHT}))
    assert not (observatory.directory / "work" / "plain" / "database.sqlite3").exists()


@pytest.mark.parametrize(
    ("wanted", "variable", "refused"),
    [(None, None, False), (None, "true", True), (False, "true", False), (True, None, True)],
)
def test_what_the_file_says_goes_before_the_image(monkeypatch, wanted, variable, refused):
    if variable:
        monkeypatch.setenv("LCOPS_REQUIRE_CONNECTION", variable)
    settings = Orchestration(require_connection=wanted)
    if refused:
        for url_of in (task_url, page_url, partial(page_url, decide=True)):
            with pytest.raises(
                (StageFailed, TemporaryFailure), match="without it the bookkeeping would be another"
            ):
                url_of(settings)
    else:
        assert [task_url(settings), page_url(settings), page_url(settings, decide=True)] == [None, None, None]


# Between nights and season


def test_the_season_waits_in_the_triggerer_first(dags, context_of):
    wait = dags("J0030+15")[1].get_task("wait_for_nights")
    with pytest.raises(TaskDeferred) as deferred:
        wait.execute(context_of(wait))
    assert isinstance(deferred.value.trigger, NightsDoneTrigger)
    assert deferred.value.trigger.dag_id == "J0030p15__nightly"
    assert deferred.value.method_name == "execute"


def test_night_and_season_end_early_where_nothing_changed(small, context_of):
    opened = open_observatory(small.season.directory / "observatory.yaml")
    season = LensDags(find_lens(opened, "small"), opened).season()
    wait, after_waiting = season.get_task("wait_for_nights"), {"dag_id": "small__nightly"}
    with pytest.raises(AirflowSkipException, match="the light curve has no use"):
        small.run("night_done")
    with pytest.raises(DownstreamTasksSkipped) as skipped:
        wait.execute(context_of(wait), event=after_waiting)
    assert set(skipped.value.tasks) == set(season.task_ids) - {"wait_for_nights"}
    small.run(IMPORT, chunk=small.all_chunks)
    small.run(SOLVE, chunk=small.all_chunks)
    assert small.run("night_done") is None
    assert wait.execute(context_of(wait), event=after_waiting) is None


# Waiting for frames


def test_a_night_that_is_over_goes_on_without_frames(dags, context_of):
    wait = dags("late")[0].get_task("wait_for_frames")
    assert wait.execute(context_of(wait, conf={"night": NIGHT})) is None


def test_a_night_with_frames_does_not_wait(observatory, dags, context_of):
    tonight = night_at(datetime.now(UTC), "Pacific/Auckland")
    begin = night_interval(tonight, "Pacific/Auckland")[0]
    observatory.add_frame("late", begin.timestamp() / 86400 + 40587 + 0.3)
    wait = dags("late")[0].get_task("wait_for_frames")
    assert wait.execute(context_of(wait, conf={"night": tonight.isoformat()})) is None


def test_a_night_without_frames_waits_some_hours_beyond_its_end(observatory, dags, context_of):
    tonight = night_at(datetime.now(UTC), "Pacific/Auckland")
    wait = dags("late")[0].get_task("wait_for_frames")
    with pytest.raises(TaskDeferred) as deferred:
        wait.execute(context_of(wait, conf={"night": tonight.isoformat()}))
    trigger = deferred.value.trigger
    assert isinstance(trigger, NightFramesTrigger)
    end = night_interval(tonight, "Pacific/Auckland")[1]
    # It looks again itself before that: somebody else may have entered the night's frames.
    until = datetime.fromisoformat(trigger.until)
    assert until <= end + timedelta(hours=3)
    assert until - datetime.now(UTC) < timedelta(minutes=10)
    assert (trigger.lens_file, trigger.observatory) == (
        str(observatory.lens_file("late")),
        str(observatory.path),
    )


# The end of a task


def test_a_task_that_is_killed_ends_its_work(observatory, dags, context_of):
    parser = observatory.directory / "parser.py"
    begun = observatory.directory / "begun"
    parser.write_text(
        f"import time\ndef parse_header(h):\n    open({str(begun)!r}, 'w')\n    time.sleep(600)\n"
    )
    raw = {"raw_dirs": [str(observatory.directory / "raw" / "plain")], "header_parser": str(parser)}
    observatory.add_lens("plain", raw=raw)
    observatory.add_frame("plain", NIGHT_MJD)
    look = dags("plain")[0].get_task(LOOK)
    look.on_kill()  # before it has begun: nothing to end
    errors = []

    def execute():
        try:
            look.execute(context_of(look, conf={"night": NIGHT}))
        except StageFailed as error:
            errors.append(error)

    task = threading.Thread(target=execute)
    task.start()
    end = time.monotonic() + 60
    while not begun.exists() and time.monotonic() < end:
        time.sleep(0.02)
    look.on_kill()
    task.join(60)
    assert "SIGKILL" in str(errors[0])
