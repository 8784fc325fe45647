"""From data to HTML: templates, headers, numbers as people read them."""

import hashlib
import json
import math
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lightcurver_ops.airflow.pages import access
from lightcurver_ops.bookkeeping.ledger import as_utc

HERE = Path(__file__).parent
STATIC = {"pages.css": "text/css", "pages.js": "text/javascript", "chart.js": "text/javascript"}
# Scripts and styles are files of ours; there is no inline code at all.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Headers:
    """Middleware: every answer has the headers that keep a browser safe."""

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [
                    *message["headers"],
                    *(
                        (name.lower().encode(), value.encode())
                        for name, value in HEADERS.items()
                        if name.lower().encode() not in present
                    ),
                ]
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def number(value: float | None, digits: int = 2, sign: bool = False) -> str:
    """A number with so many digits; a dash where it is not known."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:{'+' if sign else ''}.{digits}f}"


def moment(value: datetime | None) -> str:
    """A time of the bookkeeping, UTC."""
    return "–" if value is None else as_utc(value).strftime("%Y-%m-%d %H:%M")


def frame_name(relpath: str) -> str:
    """A frame as people call it."""
    return Path(relpath).name


def counted(count: int, one: str, many: str | None = None) -> str:
    """1 frame, 2 frames."""
    return f"{count} {one if count == 1 else many or one + 's'}"


_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
_templates.filters |= {"number": number, "moment": moment, "frame_name": frame_name}
_templates.globals |= {"counted": counted}


@cache
def static_content(name: str) -> bytes:
    """A script or style."""
    return (HERE / "static" / name).read_bytes()


@cache
def static_version() -> str:
    """Changes with the scripts and styles, which browsers keep."""
    content = b"".join(map(static_content, sorted(STATIC)))
    return hashlib.sha256(content).hexdigest()[:10]


def page(request: Request, template: str, user: Any = None, *, status: int = 200, **values: Any) -> Response:
    """A page.

    Args:
        request: its request; all links are relative to it, so that any prefix of a proxy is right.
        template: its file.
        user: who sees it; needed where the page has forms.
        status: of the answer.
        values: for the template.
    """
    response = HTMLResponse("", status_code=status)
    route = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    home = "../" * (route.count("/") - 1) or "./"
    token = access.form_token(request, response, user) if user is not None else ""
    text = _templates.get_template(template).render(
        home=home,
        airflow=f"{home}../",
        dag=request.path_params.get("dag_id"),
        version=static_version(),
        token=token,
        **values,
    )
    response.body = text.encode()
    response.headers["content-length"] = str(len(response.body))
    return response


def part(template: str, home: str, **values: Any) -> str:
    """A part of a page, as HTML; `home` leads from the page to the first of the application."""
    return _templates.get_template(template).render(home=home, airflow=f"{home}../", **values)


def as_json(content: Any) -> Response:
    """Data for a script of ours; what is not a number is null."""
    return Response(json.dumps(_plain(content), allow_nan=False), media_type="application/json")


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
