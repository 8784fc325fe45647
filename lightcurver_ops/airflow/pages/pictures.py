"""Pictures of a frame, drawn when they are looked at, from the files of the lens's working directory alone.

Airflow's API server answers all that is not asynchronous, heartbeats of its tasks among it, from one pool of threads.
Pictures are drawn in a few threads of their own; who waits for them holds neither a thread nor a connection to a
database, and what cannot be drawn soon is asked for again by the page.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import cachetools
import sqlalchemy as sa
from fastapi import HTTPException

from lightcurver_ops.airflow.pages.lenses import inside
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.figures import frame_preview, psf_preview, roi_preview, stars_preview

log = logging.getLogger(__name__)
T = TypeVar("T")

KEPT = 64 * 2**20  # bytes of pictures
AT_WORK = 2  # pictures that are drawn at a time: each holds a frame in memory
WAITING = 30  # that may wait for their turn
_SIDES = {"small": 128, "image": 1200}
_MOST_SOURCES = 400
_painters = ThreadPoolExecutor(AT_WORK, thread_name_prefix="pictures")
_places = threading.BoundedSemaphore(AT_WORK + WAITING)
_kept: cachetools.LRUCache[tuple[Path, int, int], bytes] = cachetools.LRUCache(KEPT, getsizeof=len)
_kept_lock = threading.Lock()


async def place() -> AsyncIterator[None]:
    """Dependency: one of the places to wait and to be drawn; 503 where all are taken, before anything else is done."""
    if not _places.acquire(blocking=False):
        raise HTTPException(503, "too many pictures are being drawn; ask again", {"Retry-After": "1"})
    try:
        yield
    finally:
        _places.release()


async def in_turn(work: Callable[..., T], *arguments: Any) -> T:
    """Do what draws a picture when its turn comes."""
    return await asyncio.get_running_loop().run_in_executor(_painters, work, *arguments)


def draw(lens: Lens, frame: sa.Row, picture: str) -> bytes:
    """A picture as PNG; 404 where its pixels are not there."""
    try:
        if picture in _SIDES:
            path = inside(lens.config, lens.workdir / frame.image_relpath)
            return _of_frame(path, _SIDES[picture])
        for name in _files(frame, picture):
            inside(lens.config, lens.workdir / name)
        if picture == "roi":
            return roi_preview(lens, frame)
        with reading(lens.engine) as connection:
            return (psf_preview if picture == "psf" else stars_preview)(connection, lens, frame)
    except BadFrame as error:
        log.warning("%s: %s", lens.name, error)
        raise HTTPException(404, "the pixels of this picture are not there") from error


def _of_frame(path: Path, side: int) -> bytes:
    key = (path, path.stat().st_mtime_ns, side)
    with _kept_lock:
        known = _kept.get(key)
    if known is None:
        known = frame_preview(path, side)
        if len(known) <= KEPT:
            with _kept_lock:
                _kept[key] = known
    return known


def _files(frame: sa.Row, picture: str) -> list[str]:
    """What a picture is drawn from, relative to the working directory."""
    stem = Path(frame.image_relpath).stem
    regions, psfs = f"regions/{stem}.h5", f"psfs/{stem}.h5"
    return {"roi": [regions], "psf": [psfs], "stars": [regions, psfs]}[picture]


def place_of_roi(config: LensConfig, frame: sa.Row) -> tuple[float, float] | None:
    """Where the lens is in a frame: x, y (px); None before its cutouts are made."""
    from lightcurver_ops.storage.regions import ROI, read_regions, regions_path

    try:
        path = inside(config, regions_path(config.workdir, Path(frame.image_relpath).stem))
        x, y = read_regions(path, [ROI]).position[0]
    except (HTTPException, BadFrame):
        return None
    return float(x), float(y)


def sources_of(config: LensConfig, frame: sa.Row) -> list[dict[str, Any]]:
    """The brightest sources of a frame: x, y (px), a, b (px, enlarged as in the figures), angle (deg)."""
    import numpy as np

    from lightcurver_ops.storage.frames import read_sources

    try:
        found = read_sources(inside(config, config.workdir / frame.sources_relpath))
    except (HTTPException, BadFrame):
        return []
    brightest = np.argsort(-found.flux)[:_MOST_SOURCES]
    return [
        {"x": float(found.x[i]), "y": float(found.y[i]), "a": 4 * float(found.a[i]), "b": 4 * float(found.b[i]),
         "angle": -float(np.degrees(found.theta[i]))}
        for i in brightest
    ]  # fmt: skip
