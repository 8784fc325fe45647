"""Where alerts go: e-mail, Slack, any webhook. A channel that fails is logged, and stops nothing."""

import contextlib
import html
import logging
from collections.abc import Callable, Iterator
from typing import Any

from lightcurver_ops.config.observatory import Alerts, Email, Webhook
from lightcurver_ops.operations.events import Event

log = logging.getLogger(__name__)

_TIMEOUT_S = 5.0
DELIVERED = "delivered"


def deliver(event: Event, alerts: Alerts) -> dict[str, str]:
    """Send an event through every channel of the configuration; channel: `delivered`, or why not."""
    # A task that has failed has 20 s left for its callbacks: the mail server, which may take longer, comes last.
    channels: dict[str, tuple[Any, Callable[[Event, Any], None]]] = {
        "slack": (alerts.slack, post_to_slack),
        "webhook": (alerts.webhook, post_event),
        "email": (alerts.email, send_email),
    }
    outcome = {}
    for name, (settings, send) in channels.items():
        if settings is None:
            continue
        try:
            send(event, settings)
            outcome[name] = DELIVERED
        except Exception as error:
            # The text of the error may repeat the URL, which is a secret: its class must do.
            outcome[name] = _without_secrets(error)
            log.error("alert '%s' could not be sent by %s: %s", event.subject, name, outcome[name])
    return outcome


def send_email(event: Event, settings: Email) -> None:
    """Through the mail server of an Airflow connection."""
    from airflow.providers.smtp.hooks.smtp import SmtpHook

    body = f"<pre>{html.escape(event.text())}</pre>"
    with SmtpHook(smtp_conn_id=settings.connection) as server:
        server.send_email_smtp(
            to=settings.to, subject=event.subject, html_content=body, from_email=settings.sender
        )


def post_to_slack(event: Event, settings: Webhook) -> None:
    """To an incoming webhook, as its documentation wants it: {"text": ...}, with &, < and > escaped."""
    text = html.escape(f"{event.subject}\n{event.text()}", quote=False)
    _post(settings, {"text": text})


def post_event(event: Event, settings: Webhook) -> None:
    """The event as JSON."""
    _post(settings, event.as_json())


def _post(settings: Webhook, content: dict[str, Any]) -> None:
    import httpx

    url = settings.url if settings.url_file is None else settings.url_file.read_text().strip()
    assert url is not None
    with _unlogged("httpx"):
        httpx.post(url, json=content, timeout=_TIMEOUT_S, follow_redirects=False).raise_for_status()


@contextlib.contextmanager
def _unlogged(library: str) -> Iterator[None]:
    """httpx logs each request with its URL, which is a secret, where somebody set its level so."""
    logger = logging.getLogger(library)

    def drop(_record: logging.LogRecord) -> bool:
        return False

    logger.addFilter(drop)
    try:
        yield
    finally:
        logger.removeFilter(drop)


def _without_secrets(error: Exception) -> str:
    import httpx

    if isinstance(error, httpx.HTTPStatusError):
        return f"the receiver answered {error.response.status_code}"
    return type(error).__name__
