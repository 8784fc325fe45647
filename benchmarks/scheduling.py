"""A real scheduler at the noon of an observatory: all lenses' nights become due at once."""

import re
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.airflow.local import LocalAirflow, wait_for
from lightcurver_ops.errors import TemporaryFailure

_LOOP = re.compile(r"Ran scheduling loop in ([\d.]+) ms")
# The scheduler says at this level how long each loop took.
VARIABLES = {"AIRFLOW__LOGGING__NAMESPACE_LEVELS": "airflow.jobs.scheduler_job_runner=DEBUG"}


@dataclass(frozen=True)
class Patience:
    """How long a scheduler is watched: until all runs are there, at most so long, and then for a while, s."""

    until_created: float = 600.0
    then: float = 120.0


def process_files(airflow: LocalAirflow) -> float:
    """The DAG processor reads all DAG files once and enters the DAGs; returns seconds, its start included."""
    begin = time.perf_counter()
    airflow.airflow("dag-processor", "--num-runs", "1", timeout=3600)
    return time.perf_counter() - begin


def measure(airflow: LocalAirflow, metadata: sa.Engine, n_lenses: int, patience: Patience) -> dict[str, Any]:
    """The scheduler makes a run of each lens's nights and starts their first tasks, which find no frame.

    Args:
        airflow: its API server runs, and its DAGs are known; no scheduler yet.
        metadata: its database.
        n_lenses: how many runs there will be.
        patience: how long to watch.

    Returns:
        Loops: their number, median and 95 % (s); runs made and how long that took (s); tasks that ended in each second
        from the first to the last, and core seconds of executor and API server for each of them (None: none ended).
    """
    worked = _of_tasks(airflow)
    begin = time.perf_counter()
    airflow.start("scheduler")
    wait_for(lambda: _count(metadata, _RUNS) >= n_lenses, patience.until_created)
    runs, created = _count(metadata, _RUNS), time.perf_counter() - begin
    with suppress(TemporaryFailure):  # many lenses: as many as end meanwhile
        wait_for(lambda: _count(metadata, _LOOKED) >= runs, patience.then)
    tasks = _count(metadata, _ENDED)
    worked = _of_tasks(airflow) - worked
    elapsed = _between_starts(metadata)
    loops = [
        float(found[1]) / 1000
        for found in _LOOP.finditer((airflow.home / "logs" / "scheduler.log").read_text())
    ]
    if not loops:
        raise TemporaryFailure(f"the scheduler ran no loop: see {airflow.home / 'logs'}")
    return {
        "runs": runs,
        "created_s": created,
        "loops": len(loops),
        "median_s": float(np.median(loops)),
        "p95_s": float(np.quantile(loops, 0.95)),
        "tasks_per_s": (tasks - 1) / elapsed if tasks > 1 else None,
        "task_core_s": worked / tasks if tasks else None,
    }


_RUNS = "select count(*) from dag_run where dag_id like '%\\_\\_nightly' escape '\\'"
# Those that were started: others are skipped with them. Nights are looked at, and others started for what is new.
_ENDED = "select count(*) from task_instance where duration is not null and state in ('success', 'failed')"
_LOOKED = _ENDED + " and task_id = 'look_for_frames'"
_STARTS = _ENDED.replace("count(*)", "min(start_date), max(start_date)")


def _count(metadata: sa.Engine, query: str) -> int:
    with metadata.connect() as connection:
        return connection.exec_driver_sql(query.replace("%", "%%")).scalar_one()


def _between_starts(metadata: sa.Engine) -> float:
    """From the start of the first task that has ended to that of the last one, s."""
    with metadata.connect() as connection:
        first, last = connection.exec_driver_sql(_STARTS).one()
    return (
        (datetime.fromisoformat(str(last)) - datetime.fromisoformat(str(first))).total_seconds()
        if first
        else 0.0
    )


def _of_tasks(airflow: LocalAirflow) -> float:
    """Core seconds so far of the tasks, which are children of the scheduler, and of the API server, which they ask."""
    import psutil

    def used(processes: list[psutil.Process]) -> float:
        total = 0.0
        for one in processes:
            with suppress(psutil.NoSuchProcess):
                total += sum(one.cpu_times()[:4])  # of itself, and of its children that have ended
        return total

    running = {name: psutil.Process(pid) for name, pid in airflow.running().items()}
    parents = [running[name] for name in ("scheduler", "api-server") if name in running]
    return used(
        [running["api-server"], *(child for one in parents for child in one.children(recursive=True))]
    )


def a_run(metadata: sa.Engine, lens: str) -> str | None:
    """A run of a lens's nights."""
    with metadata.connect() as connection:
        query = sa.text("select run_id from dag_run where dag_id = :dag order by id limit 1")
        return connection.execute(query, {"dag": f"{lens}__nightly"}).scalar()


def size_mib(metadata: sa.Engine) -> float:
    """Of a database, MiB."""
    if metadata.dialect.name == "sqlite":
        return Path(str(metadata.url.database)).stat().st_size / 2**20
    with metadata.connect() as connection:
        return connection.execute(sa.text("select pg_database_size(current_database())")).scalar_one() / 2**20
