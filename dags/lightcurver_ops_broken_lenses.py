"""Shows lens files that are broken as an import error of this file, which holds no Airflow DAG of its own."""

from lightcurver_ops.airflow.factory import report_broken_lenses

report_broken_lenses()
