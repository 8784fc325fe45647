"""Settings of Celery, for `AIRFLOW__CELERY__CELERY_CONFIG_OPTIONS`: Airflow's, and workers that have all imported."""

from typing import Any

from airflow.providers.celery.executors.default_celery import DEFAULT_CELERY_CONFIG
from celery.signals import worker_init

from lightcurver_ops.airflow.preload import preload

CONFIG = DEFAULT_CELERY_CONFIG


@worker_init.connect(weak=False)
def preload_in_worker(**_: Any) -> None:
    """Before the worker forks the processes of its tasks."""
    preload()
