"""Alerts by e-mail, Slack and webhook, received by real servers; what fails is reported, and no secret is told."""

import json
import logging
import socket

import httpx
import pytest

from lightcurver_ops.airflow.channels import DELIVERED, deliver
from lightcurver_ops.config.observatory import Alerts, Email, Webhook
from lightcurver_ops.operations.events import MORNING_SUMMARY, QUALITY_GATE, Event

EVENT = Event(
    kind=QUALITY_GATE,
    observatory="La Silla",
    what='only 1 of 3 frames are solved: seeing > 3" & clouds <thick>',
    key="k/1",
    lens="J0030+15",
    night="2026-03-10",
    stage="plate_solving",
    link="http://airflow.test/dags/x",
)


@pytest.fixture
def empty(posts, mailbox):
    """Both servers, with nothing received yet."""
    posts.bodies.clear()
    posts.answer = 200
    mailbox.messages.clear()
    return posts, mailbox


@pytest.fixture
def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def smtp(monkeypatch):
    """Defines an Airflow connection of a mail server."""

    def define(port, name="smtp_default"):
        extra = {"disable_ssl": True, "disable_tls": True, "timeout": 10, "retry_limit": 1}
        connection = {"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": json.dumps(extra)}
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(connection))

    return define


MAIL = Email(to=["one@example.org", "two@example.org"], sender="lcops@example.org")


def test_a_mail_arrives_at_all_who_are_named(empty, smtp):
    _, mailbox = empty
    smtp(mailbox.port)
    assert deliver(EVENT, Alerts(email=MAIL)) == {"email": DELIVERED}
    (message,) = mailbox.messages
    assert message["From"] == "lcops@example.org"
    assert {name.strip() for name in message["To"].split(",")} == {"one@example.org", "two@example.org"}
    assert mailbox.subjects == ["[La Silla] J0030+15: quality gate missed (plate_solving, night 2026-03-10)"]
    html = message.get_body(("html",)).get_content()
    assert "seeing &gt; 3&quot; &amp; clouds &lt;thick&gt;" in html  # shown, not taken for tags
    assert "What to do:" in html
    assert EVENT.link in html


def test_a_mail_takes_the_connection_that_is_named(empty, smtp, closed_port):
    _, mailbox = empty
    smtp(closed_port)
    smtp(mailbox.port, "smtp_observatory")
    named = MAIL.model_copy(update={"connection": "smtp_observatory"})
    assert deliver(EVENT, Alerts(email=named)) == {"email": DELIVERED}
    assert len(mailbox.messages) == 1


def test_slack_gets_its_text_escaped(empty):
    posts, _ = empty
    assert deliver(EVENT, Alerts(slack=Webhook(url=posts.url))) == {"slack": DELIVERED}
    (body,) = posts.bodies
    assert set(body) == {"text"}
    assert body["text"].startswith(EVENT.subject)
    assert 'seeing &gt; 3" &amp; clouds &lt;thick&gt;' in body["text"]


def test_a_webhook_gets_the_event(empty):
    posts, _ = empty
    assert deliver(EVENT, Alerts(webhook=Webhook(url=posts.url))) == {"webhook": DELIVERED}
    (body,) = posts.bodies
    assert body == EVENT.as_json()
    assert (body["kind"], body["lens"], body["night"]) == ("quality_gate", "J0030+15", "2026-03-10")
    assert body["what"] == EVENT.what


def test_a_url_can_be_in_a_file(empty, tmp_path):
    posts, _ = empty
    (tmp_path / "url").write_text(f"{posts.url}\n")
    assert deliver(EVENT, Alerts(webhook=Webhook(url_file=tmp_path / "url"))) == {"webhook": DELIVERED}
    assert len(posts.bodies) == 1


def test_without_channels_nothing_is_sent(empty):
    posts, mailbox = empty
    assert deliver(EVENT, Alerts()) == {}
    assert (posts.bodies, mailbox.messages) == ([], [])


def test_a_summary_is_its_own_text(empty, smtp):
    posts, mailbox = empty
    smtp(mailbox.port)
    event = Event(
        kind=MORNING_SUMMARY, observatory="La Silla", what="Morning summary: 2 lenses\nall well", key="k"
    )
    assert set(deliver(event, Alerts(email=MAIL, slack=Webhook(url=posts.url))).values()) == {DELIVERED}
    assert mailbox.subjects == ["[La Silla] Morning summary: 2 lenses"]
    assert "all well" in posts.bodies[0]["text"]


SECRET = "T0123SECRET"


@pytest.mark.parametrize(
    "broken", ["refused", "answers 500", "answers 404", "no file", "not a url", "not text"]
)
def test_a_web_channel_that_fails_is_reported_and_costs_no_other(
    empty, smtp, tmp_path, closed_port, broken, caplog
):
    posts, mailbox = empty
    smtp(mailbox.port)
    url = f"http://127.0.0.1:{closed_port}/{SECRET}"
    expected = None
    if broken.startswith("answers"):
        posts.answer = int(broken.split()[1])
        url, expected = f"{posts.url}/{SECRET}", f"the receiver answered {posts.answer}"
    if broken == "not a url":
        url = f"htp:/{SECRET}"
    (tmp_path / SECRET).write_bytes(b"\xff\xfe\xff" if broken == "not text" else url.encode())
    if broken == "no file":
        (tmp_path / SECRET).unlink()
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")
    outcome = deliver(EVENT, Alerts(email=MAIL, slack=Webhook(url_file=tmp_path / SECRET)))
    assert outcome["email"] == DELIVERED
    assert len(mailbox.messages) == 1
    assert outcome["slack"] != DELIVERED
    assert expected in (None, outcome["slack"])
    assert SECRET not in outcome["slack"]
    assert SECRET not in caplog.text
    (record,) = (record for record in caplog.records if record.levelno == logging.ERROR)
    assert "could not be sent by slack" in record.getMessage()


def test_the_web_is_served_where_the_mail_fails(empty, smtp, closed_port):
    posts, _ = empty
    smtp(closed_port)
    outcome = deliver(EVENT, Alerts(email=MAIL, slack=Webhook(url=posts.url), webhook=Webhook(url=posts.url)))
    assert outcome == {"email": "ConnectionRefusedError", "slack": DELIVERED, "webhook": DELIVERED}
    assert len(posts.bodies) == 2


def test_a_mail_without_its_connection_is_reported(empty):
    assert deliver(EVENT, Alerts(email=MAIL))["email"] != DELIVERED


def test_the_secret_is_in_no_log_record_when_all_is_well(empty, tmp_path, caplog):
    posts, _ = empty
    (tmp_path / "url").write_text(f"{posts.url}/{SECRET}")
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "httpx")  # as [logging] namespace_levels may have it
    webhook = Webhook(url_file=tmp_path / "url")
    assert set(deliver(EVENT, Alerts(slack=webhook, webhook=webhook)).values()) == {DELIVERED}
    assert len(posts.bodies) == 2
    assert SECRET not in caplog.text
    httpx.post(posts.url, json={})  # others may log their requests
    assert posts.url in caplog.text


def test_a_receiver_that_sends_elsewhere_is_not_followed(empty, caplog):
    posts, _ = empty
    posts.answer = 302
    assert deliver(EVENT, Alerts(webhook=Webhook(url=posts.url))) == {"webhook": "the receiver answered 302"}
    assert len(posts.bodies) == 1
