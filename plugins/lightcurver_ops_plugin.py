"""The operator's pages in Airflow's web pages."""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from lightcurver_ops.airflow import pages


class LightcurverOpsPlugin(AirflowPlugin):
    """Pages of lightcurver-ops."""

    name = "lightcurver_ops"
    fastapi_apps: ClassVar = [{"app": pages.app, "url_prefix": "/lcops", "name": "lightcurver-ops"}]
    external_views: ClassVar = pages.external_views()
