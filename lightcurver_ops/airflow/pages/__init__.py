"""The operator's pages inside Airflow's web pages: observatory, lens, frames, stars, run.

Server-rendered HTML with scripts of our own; nothing comes from another host. Every route asks Airflow who the user is
(`app.py`), those of a lens whether the user may read its DAG, those that change something whether the user may edit it
(`access.py`). Files are served by names that a page itself lists, and never from outside the lens's working directory
(`lenses.py`).
"""

from lightcurver_ops.airflow.pages.app import app, external_views

__all__ = ["app", "external_views"]
