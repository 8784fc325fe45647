"""What waits in the triggerer, with real files; only the count of an Airflow's runs is given."""

import asyncio
import logging
import shutil
import threading
from datetime import UTC, datetime, timedelta

import pytest
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

from lightcurver_ops.airflow import triggers
from lightcurver_ops.airflow.triggers import NightFramesTrigger, NightsDoneTrigger, RawFramesTrigger

NIGHT_MJD = 61109.2
PATIENCE_S = 60
SOON = {"poll_seconds": 0.05, "settle_seconds": 0.0, "gather_seconds": 0.2, "raw_roots": ["raw"]}


@pytest.fixture
def quick(observatory):
    """The small observatory, looking often."""
    observatory.configure(watch=SOON)
    return observatory


async def next_event(stream):
    return (await asyncio.wait_for(anext(stream), PATIENCE_S)).payload


def in_hours(hours):
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize(
    "trigger",
    [
        NightsDoneTrigger("x__nightly", 2.5),
        NightFramesTrigger("/o.yaml", "/l.yaml", "2026-03-11T15:00:00+00:00"),
        RawFramesTrigger("/o.yaml", "s3://bucket"),
    ],
)
def test_triggers_are_made_again_from_what_they_say(trigger):
    path, kwargs = trigger.serialize()
    module, name = path.rsplit(".", 1)
    assert module == triggers.__name__  # installed: no file of the DAGs folder
    again = getattr(triggers, name)(**kwargs)
    assert again.serialize() == (path, kwargs)
    own = {key: value for key, value in vars(trigger).items() if key in kwargs}
    assert own == kwargs == {key: vars(again)[key] for key in kwargs}


def test_nights_are_done_when_none_is_at_work_twice_in_a_row(monkeypatch):
    counts, asked = [2, 0, 1, 0, 0, 7], []

    def get_dr_count(dag_id, states, **_):
        asked.append((dag_id, tuple(states)))
        return counts[len(asked) - 1]

    monkeypatch.setattr(RuntimeTaskInstance, "get_dr_count", staticmethod(get_dr_count))

    async def run():
        return [event.payload async for event in NightsDoneTrigger("x__nightly", 0.0).run()]

    assert asyncio.run(run()) == [{"dag_id": "x__nightly"}]
    assert asked == [("x__nightly", ("queued", "running"))] * 5


def night_frames(quick, until, name="late"):
    return NightFramesTrigger(str(quick.path), str(quick.lens_file(name)), until)


def test_a_frame_that_is_there_ends_the_wait(quick):
    quick.add_frame("late", NIGHT_MJD)
    assert asyncio.run(next_event(night_frames(quick, in_hours(1)).run())) == {"arrived": True}


def test_a_frame_that_comes_ends_the_wait(quick):
    async def run():
        waiting = asyncio.ensure_future(next_event(night_frames(quick, in_hours(1)).run()))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        await asyncio.to_thread(quick.add_frame, "late", NIGHT_MJD)
        return await waiting

    assert asyncio.run(run()) == {"arrived": True}


def test_the_wait_ends_when_its_time_is_over(quick):
    quick.add_frame("plain", NIGHT_MJD)  # of another lens
    until = (datetime.now(UTC) + timedelta(seconds=0.5)).isoformat()
    assert asyncio.run(next_event(night_frames(quick, until).run())) == {"arrived": False}
    assert datetime.now(UTC) >= datetime.fromisoformat(until)


def watch(quick, body):
    """Run a test while the raw frames are watched; the stream of events is its argument."""

    async def run():
        stream = RawFramesTrigger(str(quick.path), str(quick.directory / "raw")).run()
        try:
            return await body(stream)
        finally:
            await stream.aclose()

    return asyncio.run(run())


def test_new_frames_of_all_lenses_are_gathered_into_one_event(quick):
    quick.add_frame("plain", NIGHT_MJD, "1.fits")
    quick.add_frame("plain", NIGHT_MJD, "2.fits")
    quick.add_frame("J0030+15", NIGHT_MJD)
    assert watch(quick, next_event) == {"lenses": {"plain": 2, "J0030+15": 1}}


def test_frames_are_told_once_and_later_ones_again(quick):
    quick.add_frame("plain", NIGHT_MJD, "1.fits")

    async def body(stream):
        first = await next_event(stream)
        again = asyncio.ensure_future(next_event(stream))
        await asyncio.sleep(0.6)
        assert not again.done()
        await asyncio.to_thread(quick.add_frame, "late", NIGHT_MJD)
        return first, await again

    assert watch(quick, body) == ({"lenses": {"plain": 1}}, {"lenses": {"late": 1}})


def test_a_file_that_is_still_written_is_not_told(quick):
    quick.configure(watch={**SOON, "marker_suffix": ".done"})
    path = quick.add_frame("plain", NIGHT_MJD)

    async def body(stream):
        waiting = asyncio.ensure_future(next_event(stream))
        await asyncio.sleep(0.6)
        assert not waiting.done()
        path.with_name("frame.fits.done").touch()
        return await waiting

    assert watch(quick, body) == {"lenses": {"plain": 1}}


def test_the_watch_survives_its_errors(quick, caplog):
    """An observatory's file that is broken for a while, with a frame that comes meanwhile."""
    caplog.set_level(logging.INFO)
    good = quick.path.read_text()
    quick.path.write_text("lenses: 3\n")

    async def body(stream):
        waiting = asyncio.ensure_future(next_event(stream))
        while "watching was interrupted; it goes on in 1 s" not in caplog.text:
            await asyncio.sleep(0.02)
        await asyncio.to_thread(quick.add_frame, "plain", NIGHT_MJD)
        quick.path.write_text(good)
        return await waiting

    assert watch(quick, body) == {"lenses": {"plain": 1}}
    assert "lenses = 3" in caplog.text  # the log says what was wrong


def test_a_root_that_comes_later_is_seen(quick):
    shutil.move(quick.directory / "raw", quick.directory / "away")

    async def body(stream):
        waiting = asyncio.ensure_future(next_event(stream))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        shutil.move(quick.directory / "away", quick.directory / "raw")
        await asyncio.to_thread(quick.add_frame, "plain", NIGHT_MJD)
        return await waiting

    assert watch(quick, body) == {"lenses": {"plain": 1}}


def test_the_loop_of_the_triggerer_is_never_blocked(quick, monkeypatch):
    """A storage that hangs holds its own thread: other triggers go on."""
    held, go = threading.Event(), threading.Event()
    real = triggers.ObservatoryWatch.poll

    def slow(self):
        held.set()
        assert go.wait(PATIENCE_S)
        return real(self)

    monkeypatch.setattr(triggers.ObservatoryWatch, "poll", slow)
    quick.add_frame("plain", NIGHT_MJD)

    async def body(stream):
        waiting = asyncio.ensure_future(next_event(stream))
        while not held.is_set():
            await asyncio.sleep(0.01)
        go.set()  # only a loop that runs comes here
        return await waiting

    assert watch(quick, body) == {"lenses": {"plain": 1}}


def test_the_bookkeeping_of_the_connection_is_asked_what_is_known(quick, tmp_path, monkeypatch):
    import json

    from lightcurver_ops.config import load_lens
    from lightcurver_ops.operations.arrivals import notice_raw_files
    from lightcurver_ops.stages.base import Lens
    from lightcurver_ops.stages.initialize_database import ensure_initialized

    path = tmp_path / "elsewhere.db"
    monkeypatch.setenv("AIRFLOW_CONN_LIGHTCURVER_DB", json.dumps({"conn_type": "sqlite", "host": str(path)}))
    quick.add_frame("plain", NIGHT_MJD, "known.fits")
    lens = Lens(load_lens(quick.lens_file("plain")).with_settings(database=f"sqlite:///{path}"))
    ensure_initialized(lens)
    notice_raw_files(lens, quick.open().config.watch)
    lens.close()
    quick.add_frame("plain", NIGHT_MJD, "new.fits")
    assert watch(quick, next_event) == {"lenses": {"plain": 1}}


def test_the_wait_bears_a_store_that_does_not_answer_and_sees_its_objects(quick, proxy, s3, caplog):
    quick.add_lens("late", raw={"raw_dirs": [s3.url("late")], "s3_endpoint_url": proxy.address})
    proxy.silent = True

    async def run():
        waiting = asyncio.ensure_future(next_event(night_frames(quick, in_hours(1)).run()))
        while "does not answer as it should" not in caplog.text:
            await asyncio.sleep(0.05)
        assert not waiting.done()
        s3.put("late/a.fits", b"x")
        proxy.silent = False
        return await waiting

    assert asyncio.run(run()) == {"arrived": True}
