"""What tasks need is imported once, by the process that forks them, instead of by each: most of a night was that.

The same for the processes that read DAG files. Airflow's scheduler and DAG processor call `on_starting`, of which our
plugin tells them; a Celery worker calls `preload` as `lightcurver_ops.airflow.celery_settings` tells it to.
"""

import importlib
import os
import sys
from collections.abc import Collection
from typing import Any

from airflow.configuration import conf
from airflow.listeners import hookimpl

from lightcurver_ops.bookkeeping.schema import newest_revision

# Not jax: it has threads, and a process with threads must not be forked. `numpy` brings OpenBLAS, which starts none
# if it may use one core only.
OF_DAG_FILES = ("airflow.dag_processing.dagbag", "lightcurver_ops.airflow.factory")
OF_TASKS = (
    *OF_DAG_FILES,
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "astropy.io.fits",
    "astropy.table",
    "astropy.wcs",
    "h5py",
    "lightcurver_ops.airflow.alerts",
    "lightcurver_ops.airflow.pages",
    "lightcurver_ops.operations.arrivals",
    "lightcurver_ops.operations.reprocessing",
    "lightcurver_ops.operations.summary",
    "lightcurver_ops.operations.worker",
    "lightcurver_ops.stages.pipeline",
    "matplotlib.figure",
    "scipy.optimize",
    "scipy.spatial",
    "sep",
    "shapely",
    "sqlalchemy.dialects.postgresql.psycopg",
    "sqlalchemy.dialects.sqlite.pysqlite",
)


def preload(modules: Collection[str] = OF_TASKS) -> None:
    """Import modules, and what else is made once."""
    given = "OPENBLAS_NUM_THREADS" in os.environ
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        for name in modules:
            importlib.import_module(name)
        newest_revision()  # remembered, as a module is
    finally:
        if not given:
            del os.environ["OPENBLAS_NUM_THREADS"]


def needed(arguments: list[str]) -> Collection[str]:
    """What is forked by the component of a command line needs: tasks by a scheduler with the LocalExecutor."""
    component = arguments[1:2]
    if component == ["dag-processor"]:
        return OF_DAG_FILES
    if component == ["scheduler"] and "LocalExecutor" in conf.get_mandatory_value("core", "executor"):
        return OF_TASKS
    return ()


@hookimpl
def on_starting(component: Any) -> None:
    """Listener of Airflow: a component starts."""
    if modules := needed(sys.argv):
        preload(modules)
