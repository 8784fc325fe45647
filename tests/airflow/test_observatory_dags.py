"""The DAGs of the observatory: arrivals, reprocessing, morning summary."""

import json
import time
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import pendulum
import pytest
from airflow.sdk.exceptions import AirflowSkipException
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from lightcurver_ops.airflow.child import StageRefused
from lightcurver_ops.airflow.deployment import pools
from lightcurver_ops.airflow.observatory_dags import arrivals_dag, reprocess_dag, summary_dag
from lightcurver_ops.bookkeeping import raw_files
from lightcurver_ops.bookkeeping.engine import open_engine, reading
from lightcurver_ops.config import load_lens
from lightcurver_ops.operations.observatory import load_lenses

LENSES = ["J0030+15", "late", "plain"]
NIGHT_MJD = 61109.2  # 2026-03-10, 04:48 UTC: the night 2026-03-09 in Chile and in UTC
LAST_MJD = int(datetime.now(UTC).timestamp() / 86400 + 40587) - 0.2  # yesterday, 19:12 UTC
LAST_NIGHT = (datetime.now(UTC).date() - timedelta(days=1)).isoformat()


@pytest.fixture
def dags(observatory):
    """Makes the three DAGs."""

    def make():
        opened = observatory.open()
        lenses = [loaded.lens for loaded in load_lenses(opened.lens_files()).lenses]
        return [arrivals_dag(opened, lenses), reprocess_dag(opened), summary_dag(opened)]

    return make


def round_trip(dag):
    return DagSerialization.from_dict(DagSerialization.to_dict(dag))


def times(dag, begin, number):
    """The next runs of a DAG."""
    timetable, last, found = round_trip(dag).timetable, None, []
    restriction = TimeRestriction(earliest=pendulum.instance(begin), latest=None, catchup=True)
    for _ in range(number):
        info = timetable.next_dagrun_info(last_automated_data_interval=last, restriction=restriction)
        found.append(info.run_after)
        last = info.data_interval
    return found


def test_names_owner_tags_and_order(dags):
    arrivals, reprocess, summary = dags()
    found = {dag.dag_id: (sorted(dag.tags), list(dag.task_ids)) for dag in (arrivals, reprocess, summary)}
    assert found == {
        "lcops_arrivals": (["arrivals", "lcops"], ["find_waiting_nights", "start_nights"]),
        "lens_reprocess": (["lcops", "reprocess"], ["decide", "start_runs"]),
        "lcops_morning_summary": (["lcops", "summary"], ["send_summary"]),
    }
    for dag in (arrivals, reprocess, summary):
        assert {task.owner for task in dag.tasks} == {"lightcurver-ops"}
        assert not dag.catchup
    assert arrivals.get_task("find_waiting_nights").downstream_task_ids == {"start_nights"}
    assert reprocess.get_task("decide").downstream_task_ids == {"start_runs"}
    assert arrivals.max_active_runs == 1


def test_every_pool_exists(observatory, dags):
    known = {*pools(observatory.open().config), "default_pool"}  # Airflow's own is always there
    for dag in dags():
        assert {task.pool for task in dag.tasks} <= known
        for task in dag.tasks:
            if not task.is_mapped:
                assert task.priority_weight == 300  # before any night
                assert task.retries == 5
                assert task.retry_delay == timedelta(seconds=7)
                assert task.execution_timeout == timedelta(hours=1.5)
    assert dags()[0].get_task("start_nights").priority_weight == 300


def test_dags_survive_serialisation(dags):
    for dag in dags():
        data = DagSerialization.to_dict(dag)
        DagSerialization.validate_schema(data)
        back = DagSerialization.from_dict(data)
        assert sorted(back.task_ids) == sorted(dag.task_ids)
        assert back.doc_md == dag.doc_md
        assert DagSerialization.to_dict(dag) == data
        assert dict(back.params.dump()) == dict(dag.params.dump())


def test_a_root_above_many_lenses_is_watched_once_and_others_on_their_own(observatory, dags):
    elsewhere = observatory.directory / "elsewhere"
    elsewhere.mkdir()
    observatory.add_lens("alone", raw={"raw_dirs": [str(elsewhere), "s3://bucket/alone"]})
    arrivals = dags()[0]
    assets = {asset.uri: asset for _, asset in round_trip(arrivals).timetable.asset_condition.iter_assets()}
    root = observatory.directory / "raw"
    assert set(assets) == {f"lcops://raw{root}", f"lcops://raw{elsewhere}", "lcops://raw/s3/bucket/alone"}
    watchers = [watcher for asset in assets.values() for watcher in asset.watchers]
    assert len(watchers) == 3
    triggers = [watcher.trigger for watcher in watchers]
    assert {str(trigger["classpath"]) for trigger in triggers} == {
        "lightcurver_ops.airflow.triggers.RawFramesTrigger"
    }
    assert str(root) in json.dumps(triggers, default=str)


def test_without_watching_only_the_sweep_is_left(observatory, dags):
    observatory.configure(watch={"enabled": False, "sweep": "15 3 * * *"})
    arrivals = dags()[0]
    assert not hasattr(arrivals.timetable, "asset_condition") or not arrivals.timetable.asset_condition
    zurich = ZoneInfo("Europe/Zurich")
    for moment in times(arrivals, datetime(2026, 3, 27, tzinfo=UTC), 4):  # the clocks change on the 29th
        assert (moment.astimezone(zurich).hour, moment.astimezone(zurich).minute) == (3, 15)


def test_the_summary_comes_at_its_local_time_all_year(observatory, dags):
    observatory.configure(summary={"time": "07:05", "sigma": 4.5})
    summary = dags()[2]
    assert "4.5 sigma" in summary.doc_md
    zurich = ZoneInfo("Europe/Zurich")
    local = [moment.astimezone(zurich) for moment in times(summary, datetime(2026, 1, 1, tzinfo=UTC), 365)]
    assert {(moment.hour, moment.minute) for moment in local} == {(7, 5)}
    assert len({moment.date() for moment in local}) == 365


# What the tasks do, with the worker as it is.


@pytest.fixture
def frames(observatory):
    """A frame for each of two lenses, in two nights."""
    observatory.add_frame("J0030+15", NIGHT_MJD, "one.fits")
    observatory.add_frame("J0030+15", NIGHT_MJD + 1, "two.fits")
    observatory.add_frame("plain", NIGHT_MJD, "three.fits")


def starts(entries):
    return sorted((entry["trigger_dag_id"], entry["conf"].get("night")) for entry in entries)


def known(found, state="success"):
    """The runs that these start, for a later look."""
    return {(entry["trigger_dag_id"], entry["trigger_run_id"], state) for entry in found}


@pytest.fixture
def look(dags, context_of):
    """Looks for waiting nights, as a sweep, or as the watchers name lenses."""

    def look(*named, runs=()):
        task = dags()[0].get_task("find_waiting_nights")
        context = context_of(task, runs=runs)
        if named:
            event = SimpleNamespace(
                extra={"from_trigger": True, "payload": {"lenses": dict.fromkeys(named, 1)}}
            )
            context = {**context, "triggering_asset_events": {"asset": [event]}}
        return task.execute(context)

    return look


def test_waiting_nights_of_all_lenses_start_and_the_same_files_the_same_runs(frames, look):
    found = look()
    assert starts(found) == [
        ("J0030p15__nightly", "2026-03-09"), ("J0030p15__nightly", "2026-03-10"), ("plain__nightly", "2026-03-09"),
    ]  # fmt: skip
    assert known(look()) == known(found)


def test_what_a_run_was_started_for_starts_no_other(frames, look):
    found = look("plain")
    with pytest.raises(AirflowSkipException):
        look("plain", runs=known(found))
    with pytest.raises(AirflowSkipException):  # a sweep waits until the lens is idle
        look(runs=known(look(), "running"))


def test_what_a_run_left_undone_is_for_a_sweep_when_the_lens_is_idle(frames, look):
    again = look(runs=known(look(), "failed"))
    assert starts(again) == [
        ("J0030p15__nightly", "2026-03-09"), ("J0030p15__nightly", "2026-03-10"), ("plain__nightly", "2026-03-09"),
    ]  # fmt: skip
    assert all(entry["trigger_run_id"].startswith("reprocess__2026-03-") for entry in again)


def test_late_frames_come_with_tonight_and_an_archive_stands_back(observatory, look):
    observatory.add_frame("plain", NIGHT_MJD, "old.fits")
    observatory.add_frame("plain", LAST_MJD, "new.fits")
    kinds = {entry["conf"]["night"]: entry["trigger_run_id"].split("__")[:2] for entry in look()}
    assert kinds == {"2026-03-09": ["archive", "2026-03-09"], LAST_NIGHT: ["late", LAST_NIGHT]}


def test_an_archive_leaves_runs_for_tonight(observatory, frames, look):
    """A lens of this observatory may have 40 runs at a time: an archive takes 24 of them, new frames any."""
    observatory.add_frame("J0030+15", LAST_MJD, "new.fits")

    def nights(active):
        runs = {("J0030p15__nightly", f"archive__{number}", "queued") for number in range(active)}
        return [entry["conf"]["night"] for entry in look("J0030+15", runs=runs)]

    assert nights(21) == [LAST_NIGHT, "2026-03-10", "2026-03-09"]
    assert nights(22) == [LAST_NIGHT, "2026-03-10"]
    assert nights(24) == [LAST_NIGHT]


def test_another_file_of_the_night_starts_another_run(observatory, frames, look):
    before = known(look("plain"))
    time.sleep(1.0)  # a run is named by the second in which its files were noticed
    observatory.add_frame("plain", NIGHT_MJD + 0.01, "four.fits")
    ((dag_id, _, _),) = known(look("plain", runs=before)) - before
    assert dag_id == "plain__nightly"


def test_only_the_lenses_that_watchers_named_are_looked_at(observatory, frames, look):
    assert starts(look("plain")) == [("plain__nightly", "2026-03-09")]
    assert not (observatory.directory / "work" / "J0030+15").exists()


def test_a_lens_that_cannot_be_looked_at_costs_no_other(observatory, frames, look):
    observatory.lens_file("late").write_text("name: late\n")  # broken
    path = observatory.lens_file("plain")
    path.write_text(path.read_text().replace(str(observatory.directory / "raw" / "plain"), "/nowhere"))
    assert {entry["trigger_dag_id"] for entry in look()} == {"J0030p15__nightly"}


def test_without_waiting_nights_nothing_starts(observatory, look):
    with pytest.raises(AirflowSkipException, match="no night waits"):
        look()


def decide(
    dags, context_of, run_type="operator_triggered", clear_number=0, from_stage="psf_modeling", **asked
):
    """What the task makes of a run that a lens's page has started."""
    task = dags()[1].get_task("decide")
    run = {"run_id": f"{run_type}__1", "run_type": run_type, "clear_number": clear_number}
    context = context_of(task, begin=None, conf={"from_stage": from_stage, **asked}, **run)
    return task.execute(context)


@pytest.mark.parametrize("run", [{"run_type": "manual"}, {"clear_number": 1}])
def test_what_no_page_has_asked_rights_for_is_refused(dags, observatory, frames, context_of, run):
    """Airflow's form and its REST API trigger runs of the kind `manual`, whatever lens these name."""
    asked = {"lens": "plain", "exclude_frames": ["three"], "comment": "a satellite", "redo": True}
    with pytest.raises(StageRefused, match="nothing was decided"):
        decide(dags, context_of, **asked, **run)
    assert not (observatory.directory / "work" / "plain").exists()


def test_reprocessing_starts_its_nights_and_the_season(dags, frames, context_of):
    found = decide(dags, context_of, lens="J0030+15", from_stage="plate_solving", first_night="2026-03-10")
    *nights, season = found
    assert starts(nights) == [("J0030p15__nightly", "2026-03-10")]
    assert season["trigger_dag_id"] == "J0030p15__season"
    assert season["conf"] == {}
    assert all(entry["trigger_run_id"].startswith("reprocess__") for entry in found)
    assert len({(entry["trigger_dag_id"], entry["trigger_run_id"]) for entry in found}) == len(found)


def test_a_decision_without_a_comment_is_refused(dags, frames, context_of):
    with pytest.raises(StageRefused, match="comment: say why") as caught:
        decide(dags, context_of, lens="plain", exclude_frames=["three"])
    assert caught.value.error_class == "ConfigurationError"


def test_a_lens_that_is_gone_is_refused(dags, observatory, context_of):
    observatory.lens_file("plain").unlink()
    with pytest.raises(StageRefused, match=r"no lens of .* is called 'plain'"):
        decide(dags, context_of, lens="plain")


def test_the_summary_is_sent(dags, observatory, frames, context_of, posts):
    posts.bodies.clear()
    observatory.configure(alerts={"webhook": {"url": posts.url}})
    observatory.lens_file("late").write_text("name: late\n")
    task = dags()[2].get_task("send_summary")
    task.execute(context_of(task, run_id="scheduled__today"))
    (content,) = posts.bodies
    assert content["kind"] == "morning_summary"
    assert content["key"] == "scheduled__today"
    assert content["subject"].startswith("[test-observatory] Morning summary: 2 lenses")
    assert "late.yaml" in content["text"]
    engine = open_engine(load_lens(observatory.lens_file("plain")).database_url)
    with reading(engine) as connection:
        assert raw_files.known_raw_files(connection, "plain") == {}  # it reads, and writes nothing
    engine.dispose()


def test_a_summary_that_nobody_hears_fails_nothing(dags, observatory, context_of):
    observatory.configure(alerts={"webhook": {"url": "http://127.0.0.1:1/"}})
    task = dags()[2].get_task("send_summary")
    task.execute(context_of(task))
