"""Airflow's core.hostname_callable where several "containers" are processes of one machine."""

import os


def container_name() -> str:
    """What Docker calls a container's host."""
    return os.environ["HOSTNAME"]
