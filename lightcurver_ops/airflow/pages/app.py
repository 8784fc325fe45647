"""The application that the plugin mounts at /lcops, and the places in Airflow's pages where its pages appear."""

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from starlette.exceptions import HTTPException as AnyHTTPException

from lightcurver_ops.airflow.pages import frames, lens, observatory, reprocess, run, stars
from lightcurver_ops.airflow.pages.access import SignedIn
from lightcurver_ops.airflow.pages.rendering import STATIC, Headers, page, static_content
from lightcurver_ops.errors import LightcurverError


@asynccontextmanager
async def ready(_app: FastAPI) -> AsyncIterator[None]:
    """Reading a thousand lens files takes seconds: before the first user looks, beside all else."""
    threading.Thread(target=observatory.warm, daemon=True).start()
    yield


# Every route wants a login, whatever else it wants. No documentation of its own: it would answer anybody.
app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, dependencies=[SignedIn], lifespan=ready)
app.add_middleware(Headers)
for one in (observatory, lens, frames, stars, reprocess, run):
    app.include_router(one.router)
app.include_router(frames.of_pictures)


@app.get("/static/{name}")
async def static(name: str) -> Response:
    """A script or style; from memory, without a thread, however busy the server is."""
    if name not in STATIC:
        raise HTTPException(404, "there is no such file")
    return Response(
        static_content(name),
        media_type=STATIC[name],
        headers={"Cache-Control": "private, max-age=86400"},
    )


@app.exception_handler(AnyHTTPException)
async def refused(request: Request, error: AnyHTTPException) -> Response:
    """Why there is nothing to see; without a thread, which those who are turned away would have to wait for."""
    answer = page(request, "error.html", status=error.status_code, message=str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


@app.exception_handler(LightcurverError)
def trouble(request: Request, error: LightcurverError) -> Response:
    """The bookkeeping or a file is not as it should be: the error says what to do."""
    return page(request, "error.html", status=503, message=str(error))


def external_views() -> list[dict[str, Any]]:
    """The entry in the navigation, and the tabs on the DAGs of lenses and their runs."""
    return [
        {
            "name": "Lenses",
            "href": "lcops/observatory/",
            "destination": "nav",
            "url_route": "lcops-observatory",
            "nav_top_level": True,
        },
        {
            "name": "Lens",
            "href": "lcops/lens/{DAG_ID}/",
            "destination": "dag",
            "url_route": "lcops-lens",
        },
        {
            "name": "Night",
            "href": "lcops/run/{DAG_ID}/{RUN_ID}/",
            "destination": "dag_run",
            "url_route": "lcops-run",
        },
    ]
