"""What tasks need is imported once, by the process that forks them, instead of by each: most of a night was that.

The scheduler calls `on_starting` (our plugin is its listener); a Celery worker calls `preload` as
`lightcurver_ops.airflow.celery_settings` tells it to.
"""

import importlib
import os
import sys
from typing import Any

from airflow.configuration import conf
from airflow.listeners import hookimpl

from lightcurver_ops.bookkeeping.schema import newest_revision

# Not jax: it has threads, and a process with threads must not be forked. `numpy` brings OpenBLAS, which starts none
# if it may use one core only.
MODULES = (
    "airflow.dag_processing.dagbag",
    "airflow.sdk.execution_time.supervisor",
    "airflow.sdk.execution_time.task_runner",
    "astropy.io.fits",
    "astropy.table",
    "astropy.wcs",
    "h5py",
    "lightcurver_ops.airflow.alerts",
    "lightcurver_ops.airflow.factory",
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


def preload() -> None:
    """Import what tasks need."""
    given = "OPENBLAS_NUM_THREADS" in os.environ
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        for name in MODULES:
            importlib.import_module(name)
        newest_revision()  # remembered, as a module is
    finally:
        if not given:
            del os.environ["OPENBLAS_NUM_THREADS"]


def forks_tasks(arguments: list[str]) -> bool:
    """Whether a command line is that of a scheduler whose LocalExecutor forks the tasks."""
    return arguments[1:2] == ["scheduler"] and "LocalExecutor" in conf.get_mandatory_value("core", "executor")


@hookimpl
def on_starting(component: Any) -> None:
    """Listener of Airflow: a component starts."""
    if forks_tasks(sys.argv):
        preload()
