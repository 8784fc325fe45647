"""Pictures take few threads and little memory of Airflow's API server, however many are asked for."""

import asyncio
import contextlib
import threading

import pytest
from fastapi import HTTPException

from lightcurver_ops.airflow.pages import pictures


@pytest.fixture
def frames(tmp_path):
    paths = [tmp_path / f"{number}.fits" for number in range(30)]
    for path in paths:
        path.write_bytes(b"x")
    pictures._kept.clear()
    yield paths
    pictures._kept.clear()


def test_beyond_a_few_the_page_is_told_to_ask_again():
    """Few are drawn at a time; those that wait hold no thread, and the others are turned away at once."""
    places = pictures.AT_WORK + pictures.WAITING
    may_end, counting = threading.Event(), threading.Lock()
    at_work, most, refused = 0, 0, []

    def slow(name):
        nonlocal at_work, most
        with counting:
            at_work += 1
            most = max(most, at_work)
        assert may_end.wait(60)
        with counting:
            at_work -= 1
        return name

    async def ask(name):
        place = contextlib.asynccontextmanager(pictures.place)
        try:
            async with place():
                return await pictures.in_turn(slow, name)
        except HTTPException as error:
            refused.append(error)
            if len(refused) == 10:
                may_end.set()  # only when nobody else is left to be refused
            return None

    async def ask_all(count):
        return await asyncio.gather(*map(ask, range(count)))

    answers = asyncio.run(ask_all(places + 10))
    assert [one for one in answers if one is not None] == list(range(places))
    assert most == pictures.AT_WORK
    assert {(error.status_code, error.headers["Retry-After"]) for error in refused} == {(503, "1")}
    # Their places are free again.
    assert asyncio.run(ask_all(places)) == list(range(places))


def test_what_is_kept_is_bounded_by_its_bytes(frames, monkeypatch):
    monkeypatch.setattr(pictures, "frame_preview", lambda *_: bytes(pictures.KEPT // 8))
    for path in frames:
        pictures._of_frame(path, 1200)
    assert len(pictures._kept) == 8
    assert pictures._kept.currsize <= pictures.KEPT
    monkeypatch.setattr(pictures, "frame_preview", lambda *_: bytes(pictures.KEPT + 1))
    frames[0].write_bytes(b"changed, and larger than all that may be kept")
    assert len(pictures._of_frame(frames[0], 1200)) == pictures.KEPT + 1
    assert len(pictures._kept) <= 8


def test_a_changed_frame_is_drawn_again(frames, monkeypatch):
    import os

    drawn = []
    monkeypatch.setattr(pictures, "frame_preview", lambda path, side: drawn.append(side) or b"png")
    for _ in range(2):
        pictures._of_frame(frames[0], 128)
    os.utime(frames[0], (1, 1))
    pictures._of_frame(frames[0], 128)
    pictures._of_frame(frames[0], 1200)
    assert drawn == [128, 128, 1200]
