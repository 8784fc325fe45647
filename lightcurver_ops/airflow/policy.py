"""Backfills and reprocessing stand back behind the night: a cluster policy that Airflow finds by its entry point."""

from datetime import datetime
from typing import Any

from airflow.policies import hookimpl

BACKFILL_POOL = "backfill"
# A GPU is not shared between processes: there, only the order of the queue counts.
CPU_POOLS = {"frames", "plate_solving", "joint"}
BACKGROUND = ("backfill__", "reprocess__", "archive__")
STAND_BACK = 1000


def reprocess_id(night: str | None, now: datetime) -> str:
    """Id of a run that makes a night, or without one the season, again."""
    return "__".join(("reprocess", *([night] if night else []), now.strftime("%Y%m%dT%H%M%S")))


@hookimpl
def task_instance_mutation_hook(task_instance: Any, dag_run: Any) -> None:
    """Tasks of nights that are not tonight's come last, and take their cores from a pool of their own."""
    run_id = task_instance.run_id or ""
    if not task_instance.dag_id.endswith("__nightly") or not run_id.startswith(BACKGROUND):
        return
    if task_instance.pool in CPU_POOLS:
        task_instance.pool = BACKFILL_POOL
    if task_instance.priority_weight > 0:  # the hook may see a task twice
        task_instance.priority_weight -= STAND_BACK
