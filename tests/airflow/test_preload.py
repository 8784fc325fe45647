"""What is imported before tasks are forked, in processes as they are: the scheduler, and a Celery worker."""

import json
import os
import subprocess
import sys
import threading

import pytest

from lightcurver_ops.airflow import preload
from lightcurver_ops.airflow.forked import can_fork

LOOKS_BEFORE_AND_AFTER = """
import json, os, sys, threading
from lightcurver_ops.airflow.preload import preload
preload()
state = {"jax": "jax" in sys.modules, "threads": len(os.listdir("/proc/self/task"))}
state["variable"] = os.environ.get("OPENBLAS_NUM_THREADS")
before = set(sys.modules)
from lightcurver_ops.operations import worker
answer = worker.work(json.load(sys.stdin))
state["answer"] = answer
state["more"] = sorted({name.split(".")[0] for name in set(sys.modules) - before if name.split(".")[0] != "alembic"})
print(json.dumps(state))
"""


def test_a_task_that_finds_nothing_imports_nothing_more(observatory):
    request = {
        "action": "look_at_night", "lens": "plain", "config": str(observatory.lens_file("plain")), "processes": 1,
        "database": None, "night": "2026-03-09", "stages": [], "watch": {"settle_seconds": 0},
    }  # fmt: skip
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    told = subprocess.run(
        [sys.executable, "-c", LOOKS_BEFORE_AND_AFTER],
        input=json.dumps(request), capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    state = json.loads(told.stdout.splitlines()[-1])
    assert state["answer"]["frames"] == 0
    assert (state["jax"], state["threads"], state["variable"]) == (False, 1, None)
    assert set(state["more"]) <= {"mako", "migrations", "env_py"}, state["more"]


@pytest.mark.parametrize(
    ("arguments", "executor", "expected"),
    [
        (["airflow", "scheduler", "--skip-serve-logs"], "LocalExecutor", [preload.OF_TASKS]),
        (["airflow", "scheduler"], "CeleryExecutor,LocalExecutor", [preload.OF_TASKS]),
        (["airflow", "scheduler"], "CeleryExecutor", []),
        (["airflow", "dag-processor"], "CeleryExecutor", [preload.OF_DAG_FILES]),
        (["airflow", "api-server"], "LocalExecutor", []),
        (["airflow"], "LocalExecutor", []),
    ],
)
def test_a_component_imports_what_its_forks_need(monkeypatch, arguments, executor, expected):
    done = []
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTOR", executor)
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.setattr(preload, "preload", done.append)
    preload.on_starting(None)
    assert done == expected


def test_a_celery_worker_does_when_it_starts(monkeypatch):
    from celery.signals import worker_init

    from lightcurver_ops.airflow import celery_settings

    done = []
    monkeypatch.setattr(celery_settings, "preload", lambda: done.append(True))
    worker_init.send(sender=None)
    assert done == [True]
    assert celery_settings.CONFIG["task_acks_late"] in (True, False)  # Airflow's own settings


def test_a_process_with_threads_or_jax_does_not_fork(monkeypatch):
    monkeypatch.setattr(threading, "active_count", lambda: 1)
    monkeypatch.delitem(sys.modules, "jax", raising=False)
    assert can_fork()
    monkeypatch.setitem(sys.modules, "jax", sys)
    assert not can_fork()
    monkeypatch.delitem(sys.modules, "jax")
    monkeypatch.setattr(threading, "active_count", lambda: 2)
    assert not can_fork()
