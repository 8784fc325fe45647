"""Events: a message says what happened, where, what to do, and where to look."""

import json

import pytest

from lightcurver_ops.operations import events
from lightcurver_ops.operations.events import Event

KINDS = [
    (events.STAGE_FAILED, "failed", "Look at the log"),
    (events.QUALITY_GATE, "quality gate missed", "move the limit"),
    (events.CONFIGURATION, "configuration must change", "`lcops check`"),
    (events.NO_FRAMES, "no frames", "transfer of raw frames"),
    (events.SEASON_OVERDUE, "light curve overdue", "slot of its pool"),
]


def event(kind=events.STAGE_FAILED, **values):
    where = {"lens": "J0030+15", "night": "2026-03-09", "stage": "psf_modeling", "link": "http://host/log"}
    return Event(kind, "leonhard", "the disk is full", "key", **{**where, **values})


@pytest.mark.parametrize(("kind", "title", "todo"), KINDS)
def test_each_kind_says_what_to_do(kind, title, todo):
    one = event(kind)
    assert one.subject == f"[leonhard] J0030+15: {title} (psf_modeling, night 2026-03-09)"
    text = one.text()
    head, what, rest = text.partition("\nWhat happened:\nthe disk is full\n\nWhat to do:\n")
    assert what
    assert head.splitlines() == ["Lens: J0030+15", "Night: 2026-03-09", "Stage: psf_modeling"]
    assert todo in rest
    assert rest.endswith("\n\nLog: http://host/log")


def test_what_is_not_known_is_left_out():
    one = event(night=None, stage=None, link=None)
    assert one.subject == "[leonhard] J0030+15: failed"
    assert "Night" not in one.text()
    assert "Stage" not in one.text()
    assert "Log:" not in one.text()
    assert event(stage=None).subject.endswith("failed (night 2026-03-09)")


def test_another_advice_takes_the_place_of_the_usual_one():
    one = event(todo="Call the telescope.")
    assert "What to do:\nCall the telescope." in one.text()
    assert "Look at the log" not in one.text()
    assert one.as_json()["todo"] == "Call the telescope."


def test_the_morning_summary_is_its_own_text():
    text = "Morning summary: 2 lenses\n\ndemo: 3 in"
    one = Event(events.MORNING_SUMMARY, "leonhard", text, "key")
    assert one.subject == "[leonhard] Morning summary: 2 lenses"
    assert one.text() == text
    assert one.as_json()["todo"] is None


@pytest.mark.parametrize("kind", [kind for kind, *_ in KINDS])
def test_programs_get_the_facts_and_the_texts(kind):
    one = event(kind)
    content = json.loads(json.dumps(one.as_json()))
    assert content["kind"] == kind
    assert (content["observatory"], content["lens"], content["night"], content["stage"], content["link"]) == (
        "leonhard", "J0030+15", "2026-03-09", "psf_modeling", "http://host/log",
    )  # fmt: skip
    assert content["what"] == "the disk is full"
    assert content["key"] == "key"
    assert content["todo"] in content["text"]
    assert (content["subject"], content["text"]) == (one.subject, one.text())
