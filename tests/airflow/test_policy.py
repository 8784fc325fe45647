"""Backfills and reprocessing stand back behind the night."""

from importlib.metadata import entry_points

import pytest
from airflow import settings as airflow_settings
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.serialization.serialized_objects import DagSerialization

from lightcurver_ops.airflow import policy
from lightcurver_ops.airflow.deployment import pools
from lightcurver_ops.airflow.lens_dags import LensDags
from lightcurver_ops.airflow.policy import task_instance_mutation_hook
from lightcurver_ops.operations.observatory import find_lens

BACKGROUND = [
    "backfill__2026-03-11T15:00:00+00:00",
    "reprocess__2026-03-10__20260401T080000",
    "archive__2019-03-10__x",
]
TONIGHT = [
    "scheduled__2026-03-11T15:00:00+00:00",
    "late__2026-03-10__20260311T080000",
    "manual__2026-03-11",
    "",
]


@pytest.fixture
def tasks(observatory):
    """Makes the tasks of a run, as the scheduler does: from the serialised DAG."""
    opened = observatory.open()
    nightly, season = LensDags(find_lens(opened, "J0030+15"), opened).build()

    def make(run_id, dag=nightly, **changes):
        back = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        found = {}
        for task in back.task_dict.values():
            ti = TaskInstance(task, run_id=run_id or None, dag_version_id=None)
            for name, value in changes.items():
                setattr(ti, name, value)
            found[task.task_id] = ti
        return found

    make.season = season
    return make


def seen(ti):
    return ti.pool, ti.priority_weight, ti.queue


def test_airflow_finds_the_policy_by_its_entry_point():
    (entry,) = (entry for entry in entry_points(group="airflow.policy") if entry.name == "lightcurver_ops")
    assert entry.load() is policy
    manager = airflow_settings.get_policy_plugin_manager()
    assert policy in manager.get_plugins()


@pytest.mark.parametrize("run_id", BACKGROUND)
def test_nights_that_are_not_tonights_take_slots_of_their_own_and_come_last(observatory, tasks, run_id):
    usual = {name: seen(ti) for name, ti in tasks(TONIGHT[0]).items()}
    run = DagRun(dag_id="J0030p15__nightly", run_id=run_id)
    slots = pools(observatory.open().config)
    moved = set()
    for name, ti in tasks(run_id).items():
        task_instance_mutation_hook(ti, run)
        pool, weight, queue = usual[name]
        assert ti.pool == ("backfill" if pool in ("frames", "plate_solving", "joint") else pool)
        assert ti.pool in slots
        assert ti.priority_weight < 0 < weight
        assert ti.queue == queue
        moved.add(pool)
    assert {"frames", "plate_solving", "gpu", "catalogues"} <= moved
    assert max(ti.priority_weight for ti in tasks(run_id).values()) < 1000


@pytest.mark.parametrize("run_id", BACKGROUND)
def test_the_order_within_a_night_stays(tasks, run_id):
    run = DagRun(dag_id="J0030p15__nightly", run_id=run_id)
    before = tasks(run_id)
    after = tasks(run_id)
    for ti in after.values():
        task_instance_mutation_hook(ti, run)
    order = sorted(before, key=lambda name: before[name].priority_weight)
    assert order == sorted(after, key=lambda name: after[name].priority_weight)
    assert len({ti.priority_weight for ti in after.values()}) == len(after)


@pytest.mark.parametrize("run_id", BACKGROUND)
def test_applied_twice_it_changes_nothing_more(tasks, run_id):
    run = DagRun(dag_id="J0030p15__nightly", run_id=run_id)
    for ti in tasks(run_id).values():
        task_instance_mutation_hook(ti, run)
        once = seen(ti)
        task_instance_mutation_hook(ti, run)
        assert seen(ti) == once


def test_the_gpu_stays_the_gpu(tasks):
    ti = tasks(BACKGROUND[0])["psf_modeling"]
    task_instance_mutation_hook(ti, DagRun(dag_id=ti.dag_id, run_id=ti.run_id))
    assert (ti.pool, ti.queue) == ("gpu", "cards")


@pytest.mark.parametrize("run_id", TONIGHT)
def test_tonight_is_left_alone(tasks, run_id):
    for ti in tasks(run_id).values():
        before = seen(ti)
        task_instance_mutation_hook(ti, DagRun(dag_id=ti.dag_id, run_id=run_id))
        assert seen(ti) == before


@pytest.mark.parametrize("run_id", BACKGROUND)
def test_other_dags_are_left_alone(tasks, run_id):
    for ti in tasks(run_id, tasks.season).values():
        before = seen(ti)
        task_instance_mutation_hook(ti, DagRun(dag_id=ti.dag_id, run_id=run_id))
        assert seen(ti) == before


def test_airflow_applies_the_policy(tasks):
    """Through Airflow's own plugin manager, as its scheduler calls it."""
    ti = tasks(BACKGROUND[0])["plate_solving"]
    airflow_settings.task_instance_mutation_hook(
        task_instance=ti, dag_run=DagRun(dag_id=ti.dag_id, run_id=ti.run_id)
    )
    assert ti.pool == "backfill"
