"""What waits in the triggerer: for new raw frames, and for the nights of a lens to be done."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from lightcurver_ops.airflow.connection import task_url
from lightcurver_ops.config import load_lens
from lightcurver_ops.errors import TemporaryFailure
from lightcurver_ops.operations.observatory import open_observatory
from lightcurver_ops.operations.watching import ObservatoryWatch, RawWatch, roots_of

log = logging.getLogger(__name__)

_MODULE = "lightcurver_ops.airflow.triggers"
_AT_WORK = ["queued", "running"]


class NightsDoneTrigger(BaseTrigger):
    """Fires when a DAG has no run at work, twice in a row.

    Args:
        dag_id: of the nights.
        poll_seconds: how often it looks.
    """

    def __init__(self, dag_id: str, poll_seconds: float = 10.0):
        super().__init__()
        self.dag_id = dag_id
        self.poll_seconds = poll_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{_MODULE}.NightsDoneTrigger", {"dag_id": self.dag_id, "poll_seconds": self.poll_seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        quiet = 0
        while quiet < 2:
            await asyncio.sleep(self.poll_seconds)
            count = await sync_to_async(RuntimeTaskInstance.get_dr_count)(dag_id=self.dag_id, states=_AT_WORK)
            quiet = 0 if count else quiet + 1
        yield TriggerEvent({"dag_id": self.dag_id})


class NightFramesTrigger(BaseTrigger):
    """Fires when a lens has a new, complete raw file, or when the time is over.

    Args:
        observatory: path of the observatory's file.
        lens_file: path of the lens's file.
        until: ISO time at which it gives up waiting.
    """

    def __init__(self, observatory: str, lens_file: str, until: str):
        super().__init__()
        self.observatory = observatory
        self.lens_file = lens_file
        self.until = until

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kwargs = {"observatory": self.observatory, "lens_file": self.lens_file, "until": self.until}
        return f"{_MODULE}.NightFramesTrigger", kwargs

    async def run(self) -> AsyncIterator[TriggerEvent]:
        observatory = open_observatory(self.observatory)
        lens, settings = load_lens(self.lens_file), observatory.config.watch
        database = await sync_to_async(task_url)(observatory.config.airflow)
        watches = [RawWatch(root, [lens], settings, database) for root in roots_of(lens, observatory)]
        end = datetime.fromisoformat(self.until).timestamp()
        while time.time() < end:
            for watch in watches:
                try:
                    arrived = await _polled(watch)
                except TemporaryFailure as error:  # the night is long enough to look again
                    log.warning("%s: %s", lens.name, error)
                    continue
                if arrived:
                    yield TriggerEvent({"arrived": True})
                    return
            await asyncio.sleep(min(settings.poll_seconds, max(0.1, end - time.time())))
        yield TriggerEvent({"arrived": False})


class RawFramesTrigger(BaseEventTrigger):
    """Tells, as long as Airflow runs, which lenses have new raw frames under a root; for an asset's watcher.

    Which files are new it asks the bookkeeping, so nothing is lost with the triggerer; an error of its own, or of
    the storage, is logged and waited out.

    Args:
        observatory: path of the observatory's file.
        root: directory or URL.
    """

    def __init__(self, observatory: str, root: str):
        super().__init__()
        self.observatory = observatory
        self.root = root

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return f"{_MODULE}.RawFramesTrigger", {"observatory": self.observatory, "root": self.root}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        pause = 1.0
        while True:
            try:
                async for event in self._watch():
                    pause = 1.0
                    yield event
            except Exception:
                log.exception("%s: watching was interrupted; it goes on in %.0f s", self.root, pause)
            await asyncio.sleep(pause)
            pause = min(2 * pause, 300.0)

    async def _watch(self) -> AsyncIterator[TriggerEvent]:
        observatory = open_observatory(self.observatory)
        settings = observatory.config.watch
        watch = ObservatoryWatch(
            observatory, self.root, await sync_to_async(task_url)(observatory.config.airflow)
        )
        gathered: Counter[str] = Counter()
        first = last = 0.0
        while True:
            arrived = await _polled(watch)
            now = time.monotonic()
            if arrived:
                last = now
                first = first if gathered else now
                gathered.update(arrived)
            quiet, long = now - last >= settings.gather_seconds, now - first >= 10 * settings.gather_seconds
            if gathered and (quiet or long):
                log.info("%s: new frames of %s", self.root, dict(gathered))
                yield TriggerEvent({"lenses": dict(gathered)})
                gathered.clear()
            await asyncio.sleep(settings.poll_seconds)


async def _polled(watch: RawWatch | ObservatoryWatch) -> dict[str, int]:
    # In a thread: directories on a network can take their time, and the triggerer has other triggers.
    return await asyncio.to_thread(watch.poll)
