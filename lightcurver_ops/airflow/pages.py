"""The page of a lens inside Airflow's web pages: its light curve, what is missing and why, its alerts.

Every route asks Airflow whether the user may read the lens's DAG; files are served by names that the page itself lists,
never by paths.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException
from fastapi.responses import FileResponse, HTMLResponse
from jinja2 import Environment, FileSystemLoader

from lightcurver_ops.airflow.connection import bookkeeping_url
from lightcurver_ops.airflow.factory import observatory_from_environment
from lightcurver_ops.bookkeeping import alerts as alert_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import LightcurverError
from lightcurver_ops.operations.observatory import find_lens
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import pipeline_state
from lightcurver_ops.stages.usage import usage

_SHOWN = 200
_PRODUCTS = ("*_light_curves.png", "*_residuals.png", "*_photometry_per_*.csv", "*_photometry_per_night.html",
             "*_astrometry.json", "plotly.min.js")  # fmt: skip
_FIGURES = ("footprints.png", "footprints_with_stars.png", "normalization_*.png")
# The interactive light curve is a page with a script of its own, from beside it; nothing comes from another host.
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'unsafe-inline'; style-src 'self' "
    "'unsafe-inline'; img-src 'self' data:; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_templates = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True)

# No documentation of its own: it would answer anybody.
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
MayRead = Annotated[None, Depends(requires_access_dag(method="GET"))]


@app.get("/lens/{dag_id}/", response_class=HTMLResponse)
def lens_page(dag_id: str, _: MayRead) -> HTMLResponse:
    """The page of the lens of a DAG."""
    config = _config_of(dag_id)
    with _opened(config) as lens:
        if lens is None:
            states, unused, used, alerts = [], [], 0, []
        else:
            states = pipeline_state(lens)
            with reading(lens.engine) as connection:
                usages = usage(connection, config)
                alerts = alert_rows.alerts_of(connection, lens.name)[::-1][:_SHOWN]
            unused = [item for item in usages if item.reason is not None]
            used = len(usages) - len(unused)
    text = _templates.get_template("lens.html").render(
        config=config,
        files=[path.name for path in _files(config)],
        states=states,
        used=used,
        unused=unused[:_SHOWN],
        more=max(0, len(unused) - _SHOWN),
        alerts=alerts,
    )
    return HTMLResponse(text, headers=_HEADERS)


@app.get("/lens/{dag_id}/files/{name}")
def lens_file(dag_id: str, name: str, _: MayRead) -> FileResponse:
    """One of the files that the page lists."""
    for path in _files(_config_of(dag_id)):
        if path.name == name:
            return FileResponse(path, headers=_HEADERS)
    raise HTTPException(404, "there is no such file")


def _config_of(dag_id: str) -> LensConfig:
    name, _, kind = dag_id.rpartition("__")
    if kind not in ("nightly", "season"):
        raise HTTPException(404, "this DAG is not of a lens")
    try:
        return find_lens(observatory_from_environment(), name).lens
    except LightcurverError as error:
        raise HTTPException(404, str(error)) from error


def _files(config: LensConfig) -> list[Path]:
    """Light curves, tables and figures of a lens that may be looked at."""
    products = config.workdir / "prepared_roi_cutouts"
    found = [path for pattern in _PRODUCTS for path in sorted(products.glob(pattern))]
    found += [path for pattern in _FIGURES for path in sorted((config.workdir / "diagnostics").glob(pattern))]
    return [path for path in found if path.is_file() and not path.is_symlink()]


@contextmanager
def _opened(config: LensConfig) -> Iterator[Lens | None]:
    """The lens with its bookkeeping; None where that is not there yet: a page changes nothing."""
    settings = config.with_settings(database=config.database or bookkeeping_url())
    if settings.database is None and not (config.workdir / "database.sqlite3").exists():
        yield None
        return
    lens = Lens(settings)
    try:
        yield lens
    except LightcurverError as error:
        raise HTTPException(503, str(error)) from error
    finally:
        lens.close()


def external_view() -> dict[str, Any]:
    """The tab on the DAGs of lenses."""
    return {
        "name": "Lens",
        "href": "lcops/lens/{DAG_ID}/",
        "destination": "dag",
        "url_route": "lcops-lens",
        "category": "browse",
    }
