"""Pictures take few threads and little memory of Airflow's API server, however many are asked for."""

import threading
from concurrent.futures import ThreadPoolExecutor

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


def test_beyond_a_few_the_page_is_told_to_ask_again(frames, monkeypatch):
    """Those that are drawn or wait hold a thread each; all others are answered at once."""
    may_end, at_work, most = threading.Event(), threading.Semaphore(0), []
    drawing = threading.Lock()
    now = 0

    def slow(path, _side):
        nonlocal now
        with drawing:
            now += 1
            most.append(now)
        at_work.release()
        assert may_end.wait(60)
        with drawing:
            now -= 1
        return path.name.encode()

    monkeypatch.setattr(pictures, "frame_preview", slow)
    places = pictures.AT_WORK + pictures.WAITING
    refused = []

    def ask(path):
        try:
            return pictures._of_frame(path, 128)
        except HTTPException as error:
            refused.append(error)
            if len(refused) == len(frames) - places:
                may_end.set()  # only when nobody else is left to be refused
            return None

    with ThreadPoolExecutor(len(frames)) as pool:
        answers = list(pool.map(ask, frames))
    assert sum(answer is not None for answer in answers) == places
    assert max(most) == pictures.AT_WORK
    assert {(error.status_code, error.headers["Retry-After"]) for error in refused} == {(503, "1")}
    # Their places are free again, and what was drawn is kept.
    assert [pictures._of_frame(path, 128) for path in frames] == [path.name.encode() for path in frames]


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
