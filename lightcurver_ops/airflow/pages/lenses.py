"""The lens of a page: its configuration, its bookkeeping, its files."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastapi import HTTPException

from lightcurver_ops.airflow.connection import page_url
from lightcurver_ops.airflow.factory import observatory_from_environment
from lightcurver_ops.airflow.lens_dags import nightly_id, season_id
from lightcurver_ops.bookkeeping.engine import is_absent
from lightcurver_ops.config import LensConfig
from lightcurver_ops.config.loading import LoadedLens, load_lens_with_notices
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.observatory import Observatory, find_lens
from lightcurver_ops.stages.base import Lens

log = logging.getLogger(__name__)

Stamp = tuple[int, int]

_lock = threading.Lock()
_loaded: dict[Path, tuple[Stamp, Stamp, LoadedLens | None]] = {}


def lens_of(dag_id: str) -> LensConfig:
    """The lens of a DAG; 404 where it is not the DAG of a lens."""
    name, _, kind = dag_id.rpartition("__")
    if kind not in ("nightly", "season"):
        raise HTTPException(404, "this DAG is not of a lens")
    try:
        return find_lens(observatory_from_environment(), name).lens
    except ConfigurationError as error:
        # Not to the reader: it names files of the server.
        log.warning("%s", error)
        raise HTTPException(
            404, f"there is no lens {name} whose file can be used; the log of the API server says why"
        ) from error


def all_lenses(observatory: Observatory) -> list[LoadedLens]:
    """All lenses whose files can be used; a file is read again when it, or the observatory's, has changed."""
    common = stamp(observatory.path)
    files = observatory.lens_files()
    with _lock:
        for path in files:
            own = stamp(path)
            if _loaded.get(path, (None, None))[:2] != (own, common):
                _loaded[path] = (own, common, _load(path))
        for gone in _loaded.keys() - set(files):
            del _loaded[gone]
        return [one for path in files if (one := _loaded[path][2]) is not None]


def _load(path: Path) -> LoadedLens | None:
    try:
        return load_lens_with_notices(path)
    except ConfigurationError:
        return None  # its own DAG file tells of it


def stamp(path: Path) -> Stamp:
    """What changes when a file does: time (ns) and size; zeros where there is none."""
    try:
        state = path.stat()
    except OSError:
        return (0, 0)
    return (state.st_mtime_ns, state.st_size)


def with_bookkeeping(config: LensConfig, url: str | None, *, decide: bool = False) -> LensConfig | None:
    """The lens with its database; None where there is none yet: a page makes nothing.

    Args:
        config: of the lens.
        url: of the database of lenses that name none.
        decide: with the role that writes, as tasks have it; otherwise with the one that only reads, if there is one.
    """
    settings = config.in_database(url) if decide else config.read_from(url)
    return None if is_absent(settings.database_url) else settings


@contextmanager
def opened(config: LensConfig, *, decide: bool = False) -> Iterator[Lens | None]:
    """The lens with its bookkeeping, to read it or to enter a decision; None where that is not there yet."""
    url = page_url(observatory_from_environment().config.airflow, decide=decide)
    settings = with_bookkeeping(config, url, decide=decide)
    if settings is None:
        yield None
        return
    lens = Lens(settings)
    try:
        yield lens
    finally:
        lens.close()


@contextmanager
def bookkept(config: LensConfig, *, decide: bool = False) -> Iterator[Lens]:
    """As `opened`; 404 where there is no bookkeeping yet."""
    with opened(config, decide=decide) as lens:
        if lens is None:
            raise HTTPException(404, f"{config.name}: nothing was done yet")
        yield lens


def dags_of(config: LensConfig) -> tuple[str, str]:
    """Names of the DAGs of a lens: nights, season."""
    return nightly_id(config.name), season_id(config.name)


def inside(config: LensConfig, path: Path) -> Path:
    """A file of a lens, for sure below its working directory, whatever links there are; 404 otherwise."""
    try:
        real = path.resolve(strict=True)
        allowed = real.is_relative_to(config.workdir.resolve(strict=True)) and real.is_file()
    except OSError:
        allowed = False
    if not allowed:
        raise HTTPException(404, "there is no such file")
    return real


def listed(config: LensConfig, directory: str, patterns: tuple[str, ...]) -> list[Path]:
    """The files of a lens that match, in the order of the patterns, as `inside` allows them."""
    found = [path for pattern in patterns for path in sorted((config.workdir / directory).glob(pattern))]
    return [path for path in found if _is_inside(config, path)]


def _is_inside(config: LensConfig, path: Path) -> bool:
    try:
        inside(config, path)
    except HTTPException:
        return False
    return True
