"""Airflow DAGs of all lenses of the observatory that $LCOPS_OBSERVATORY names."""

from lightcurver_ops.airflow.factory import build_dags

globals().update(build_dags(__file__))
