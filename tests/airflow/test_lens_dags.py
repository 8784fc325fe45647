"""The DAGs of a lens: names, order, pools, retries, nights from noon to noon, and what survives serialisation."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction

from lightcurver_ops.airflow.deployment import pools
from lightcurver_ops.airflow.lens_dags import LensDags
from lightcurver_ops.airflow.operators import LOOK
from lightcurver_ops.operations.nights import night_interval
from lightcurver_ops.operations.observatory import find_lens
from lightcurver_ops.stages.pipeline import STAGE_NAMES

IMPORT, SOLVE, FOOTPRINT, STARS, STAMPS, PSF, PHOTOMETRY = STAGE_NAMES[1:8]
MODEL = STAGE_NAMES[-1]
CHUNKED = {IMPORT, SOLVE, STAMPS}
LENSES = ["J0030+15", "late", "plain"]


@pytest.fixture
def dags(observatory):
    """Makes both DAGs of a lens."""

    def make(name="J0030+15"):
        opened = observatory.open()
        return LensDags(find_lens(opened, name), opened).build()

    return make


def chain(dag):
    """The task ids, of a DAG in which one task at a time can run."""
    found = []
    while len(found) < len(dag.tasks):
        (task_id,) = (
            task.task_id
            for task in dag.tasks
            if task.task_id not in found and task.upstream_task_ids <= set(found)
        )
        found.append(task_id)
    return found


def setting(task, name):
    """An attribute of a task, mapped or not."""
    return (
        task.partial_kwargs[name] if task.is_mapped and name in task.partial_kwargs else getattr(task, name)
    )


def test_names_owner_and_tags(dags):
    nightly, season = dags()
    assert (nightly.dag_id, season.dag_id) == ("J0030p15__nightly", "J0030p15__season")
    assert (nightly.dag_display_name, season.dag_display_name) == ("J0030+15 nightly", "J0030+15 season")
    assert set(nightly.tags) == {"lcops", "nightly", "lens:J0030+15", "urgent"}
    assert set(season.tags) == {"lcops", "season", "lens:J0030+15", "urgent"}
    for dag in (nightly, season):
        assert {task.owner for task in dag.tasks} == {"Vera"}
        assert dag.owner == "Vera"


def test_a_lens_without_owner_has_the_usual_one(dags):
    assert {task.owner for dag in dags("plain") for task in dag.tasks} == {"lightcurver-ops"}


def test_a_long_name_makes_a_tag_that_airflow_takes(observatory, dags):
    name = "L" * 100
    observatory.add_lens(name)
    assert max(map(len, dags(name)[0].tags)) <= 100


def test_the_night_goes_on_to_star_fluxes_where_stars_do_not_depend_on_other_frames(dags):
    nightly, season = dags()
    assert chain(nightly) == [LOOK, IMPORT, SOLVE, STARS, STAMPS, PSF, PHOTOMETRY, "night_done"]
    assert chain(season) == ["wait_for_nights", *STAGE_NAMES[3:]]


def test_common_stars_leave_all_after_the_plate_solution_to_the_season(dags):
    nightly, season = dags("late")
    assert chain(nightly) == ["wait_for_frames", LOOK, IMPORT, SOLVE, "night_done"]
    assert chain(season) == ["wait_for_nights", *STAGE_NAMES[3:]]


@pytest.mark.parametrize(("hours", "waits"), [(0.0, False), (2.5, True)])
def test_a_night_waits_for_frames_where_the_lens_says_so(observatory, dags, hours, waits):
    observatory.add_lens("waits", operations={"wait_for_frames_hours": hours})
    nightly = dags("waits")[0]
    assert nightly.has_task("wait_for_frames") is waits
    if waits:
        assert nightly.get_task("wait_for_frames").hours == hours
        assert chain(nightly)[:2] == ["wait_for_frames", LOOK]


def test_frame_wise_stages_of_a_night_are_mapped_over_what_was_found(dags):
    nightly, season = dags()
    mapped = {task.task_id for task in nightly.tasks if task.is_mapped}
    assert mapped == CHUNKED
    for stage in mapped:
        assert LOOK in nightly.get_task(stage).upstream_task_ids  # what it is mapped over
    assert not any(task.is_mapped for task in season.tasks)
    assert nightly.get_task(PSF).of_night
    assert not season.get_task(PSF).of_night
    assert season.get_task(STAMPS).raw_ids is None


def test_quality_gates_left_open_by_chunks_are_checked_by_the_next_task(dags):
    nightly, season = dags()
    gates = {
        task.task_id: tuple(setting(task, "gates")) for task in nightly.tasks if task.task_id in STAGE_NAMES
    }
    assert {name: found for name, found in gates.items() if found} == {STARS: (IMPORT, SOLVE)}
    assert nightly.get_task("night_done").gates == ()
    assert dags("late")[0].get_task("night_done").gates == (SOLVE,)
    assert {tuple(task.gates) for task in season.tasks if task.task_id in STAGE_NAMES} == {()}


@pytest.mark.parametrize("name", LENSES)
def test_every_pool_exists_and_the_gpu_has_its_queue(observatory, dags, name):
    known = pools(observatory.open().config)
    expected = {PSF: "gpu", PHOTOMETRY: "gpu", MODEL: "gpu", IMPORT: "frames", STAMPS: "frames",
                SOLVE: "plate_solving", STARS: "catalogues", FOOTPRINT: "joint"}  # fmt: skip
    for dag in dags(name):
        for task in dag.tasks:
            assert task.pool in known, task.task_id
            assert task.pool == expected.get(task.task_id, task.pool)
            assert task.queue == ("cards" if task.pool == "gpu" else "default"), task.task_id
            assert task.executor is None
        assert {task.task_id for task in dag.tasks if task.pool == "gpu"} == {
            PSF,
            PHOTOMETRY,
            MODEL,
        } & dag.task_dict.keys()
        for stage in STAGE_NAMES[8:-1]:
            assert not dag.has_task(stage) or dag.get_task(stage).pool == "joint"


def test_an_executor_of_its_own_is_for_the_gpu_alone(observatory, dags):
    observatory.configure(airflow={"gpu_executor": "EdgeExecutor"})
    found = {task.task_id: task.executor for dag in dags() for task in dag.tasks}
    assert {name for name, executor in found.items() if executor} == {PSF, PHOTOMETRY, MODEL}
    assert found[PSF] == "EdgeExecutor"


@pytest.mark.parametrize("name", LENSES)
def test_retries_and_time_outs_are_those_of_the_observatory(dags, name):
    for dag in dags(name):
        for task in dag.tasks:
            assert task.retries == 5
            assert task.retry_delay == timedelta(seconds=7)
            assert setting(task, "retry_exponential_backoff") == 2.0
            assert setting(task, "max_retry_delay") == timedelta(hours=1)
            assert setting(task, "execution_timeout") == timedelta(hours=1.5)
            assert setting(task, "settings").processes_per_task == 2
            assert setting(task, "lens") == name


def test_what_is_begun_is_finished_and_tonight_comes_before_the_season(dags):
    nightly, season = dags()
    for dag in (nightly, season):
        back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        rules = {type(task.weight_rule).__name__ for task in back.task_dict.values()}
        assert rules == {"_AbsolutePriorityWeightStrategy"}
    for dag in (nightly, season):
        weights = [dag.get_task(name).priority_weight for name in chain(dag)]
        assert weights == sorted(set(weights))
    assert min(task.priority_weight for task in nightly.tasks) > max(t.priority_weight for t in season.tasks)


def test_runs_at_a_time_and_no_catching_up(dags):
    nightly, season = dags()
    assert (nightly.max_active_runs, season.max_active_runs) == (40, 1)
    assert not nightly.catchup
    assert not season.catchup


def test_the_season_is_started_by_the_asset_of_the_nights(dags):
    nightly, season = dags()
    (asset,) = nightly.get_task("night_done").outlets
    assert asset.uri == "lcops://lens/J0030p15/nights"
    assert season.timetable.asset_condition.objects == (asset,)
    others = [
        task.task_id for task in nightly.tasks if task.task_id != "night_done" and setting(task, "outlets")
    ]
    assert others == []


def test_each_lens_has_its_own_asset(dags):
    assert len({dags(name)[0].get_task("night_done").outlets[0].uri for name in LENSES}) == 3


def test_the_deadline_of_the_season(dags):
    (deadline,) = dags()[1].deadline
    assert deadline.interval == timedelta(hours=12)
    assert deadline.callback.path == "lightcurver_ops.airflow.alerts.season_overdue"
    assert deadline.callback.kwargs["hours"] == 12
    assert deadline.callback.kwargs["lens"] == "J0030+15"
    assert not dags("late")[1].deadline  # season_overdue_hours: null
    assert not dags()[0].deadline


@pytest.mark.parametrize("name", LENSES)
def test_every_failure_is_heard_of(dags, name):
    for dag in dags(name):
        (callback,) = (
            dag.on_failure_callback
            if isinstance(dag.on_failure_callback, list)
            else [dag.on_failure_callback]
        )
        assert callback.__name__ == "run_failed"
        for task in dag.tasks:
            callbacks = setting(task, "on_failure_callback")
            (callback,) = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
            assert callback.__name__ == "task_failed"
            assert callback.__self__.lens == name


@pytest.mark.parametrize("name", LENSES)
def test_lens_dags_have_no_params(dags, name):
    for dag in dags(name):
        assert not dag.params
        assert all(not task.params for task in dag.tasks)


@pytest.mark.parametrize("name", LENSES)
def test_dags_survive_serialisation(dags, name):
    for dag in dags(name):
        data = DagSerialization.to_dict(dag)
        DagSerialization.validate_schema(data)
        back = DagSerialization.from_dict(data)
        assert back.dag_id == dag.dag_id
        assert sorted(back.task_ids) == sorted(dag.task_ids)
        assert back.max_active_runs == dag.max_active_runs
        assert back.doc_md == dag.doc_md
        assert back.has_on_failure_callback
        for task in dag.tasks:
            other = back.get_task(task.task_id)
            assert other.downstream_task_ids == task.downstream_task_ids
            assert (other.pool, other.queue, other.owner) == (task.pool, task.queue, task.owner)
            assert (other.is_mapped, other.doc_md) == (task.is_mapped, task.doc_md)
            assert (other.retries, other.retry_delay) == (task.retries, task.retry_delay)
            assert other.priority_weight == task.priority_weight
        assert DagSerialization.to_dict(dag) == data  # else each parse would make a new version of the DAG


ZONES = {"J0030+15": "America/Santiago", "late": "Pacific/Auckland", "plain": "UTC"}


@pytest.mark.parametrize("name", LENSES)
def test_a_run_is_a_night_from_noon_to_noon_also_when_the_clocks_change(dags, name):
    zone = ZoneInfo(ZONES[name])
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dags(name)[0])).timetable
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    restriction = TimeRestriction(earliest=_pendulum(begin), latest=None, catchup=True)
    interval, lengths, night = None, [], None
    for _ in range(366):
        info = timetable.next_dagrun_info(last_automated_data_interval=interval, restriction=restriction)
        assert interval is None or info.data_interval.start == interval.end
        interval = info.data_interval
        local = [moment.astimezone(zone) for moment in (interval.start, interval.end)]
        assert [(moment.hour, moment.minute, moment.second) for moment in local] == [(12, 0, 0)] * 2
        assert night is None or local[0].date() == night + timedelta(days=1)
        night = local[0].date()
        assert (interval.start, interval.end) == night_interval(night, ZONES[name])
        assert info.run_after == interval.end
        lengths.append((interval.end - interval.start).total_seconds() / 3600)
    changes = [] if name == "plain" else [23.0, 25.0]
    assert sorted(length for length in lengths if length != 24.0) == changes


def test_a_lens_without_a_time_zone_has_noon_by_its_longitude(observatory, dags):
    telescope = {"name": "t", "latitude": 19.8, "longitude": -155.5, "elevation": 4200.0}
    observatory.add_lens("hawaii", telescope=telescope)
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dags("hawaii")[0])).timetable
    restriction = TimeRestriction(
        earliest=_pendulum(datetime(2026, 7, 1, tzinfo=UTC)), latest=None, catchup=True
    )
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert info.data_interval.start == datetime(2026, 7, 1, 22, tzinfo=UTC)


def test_the_first_run_is_of_the_night_that_ended_last(dags):
    """Nights before are for backfills: a new lens does not start with a thousand runs."""
    nightly = DagSerialization.from_dict(DagSerialization.to_dict(dags("plain")[0]))
    restriction = TimeRestriction(earliest=nightly.start_date, latest=None, catchup=nightly.catchup)
    info = nightly.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    now = datetime.now(UTC)
    assert info.data_interval.start > now - timedelta(days=2, hours=1)
    assert date(2000, 1, 1) == nightly.start_date.date()


def test_a_backfill_can_begin_in_the_past(dags):
    nightly = DagSerialization.from_dict(DagSerialization.to_dict(dags()[0]))
    infos = nightly.iter_dagrun_infos_between(
        _pendulum(datetime(2019, 3, 1, tzinfo=UTC)), _pendulum(datetime(2019, 3, 4, tzinfo=UTC))
    )
    assert [info.data_interval.start.date().isoformat() for info in infos] == [
        "2019-03-01", "2019-03-02", "2019-03-03",
    ]  # fmt: skip


def _pendulum(moment):
    import pendulum

    return pendulum.instance(moment)


def test_a_pod_template_of_their_own_is_for_the_tasks_of_the_gpu_alone(observatory, dags):
    assert not any(task.executor_config for dag in dags() for task in dag.tasks)
    observatory.configure(airflow={"gpu_pod_template": "/opt/gpu-pod.yaml"})
    found = {task.task_id: task.executor_config for dag in dags() for task in dag.tasks}
    assert {name for name, config in found.items() if config} == {PSF, PHOTOMETRY, MODEL}
    assert found[PSF] == {"pod_template_file": "/opt/gpu-pod.yaml"}
