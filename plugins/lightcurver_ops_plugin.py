"""The operator's pages in Airflow's web pages; and what tasks need is imported by the scheduler."""

from typing import ClassVar

from airflow.plugins_manager import AirflowPlugin

from lightcurver_ops.airflow import pages, preload


class LightcurverOpsPlugin(AirflowPlugin):
    """Of lightcurver-ops."""

    name = "lightcurver_ops"
    fastapi_apps: ClassVar = [{"app": pages.app, "url_prefix": "/lcops", "name": "lightcurver-ops"}]
    external_views: ClassVar = pages.external_views()
    listeners: ClassVar = [preload]
