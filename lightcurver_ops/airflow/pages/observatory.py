"""The page of the observatory: all lenses in one table."""

import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Request, Response
from markupsafe import Markup

from lightcurver_ops.airflow.connection import page_url
from lightcurver_ops.airflow.factory import observatory_from_environment
from lightcurver_ops.airflow.lens_dags import FIRST_OF_SEASON, stages_of_night
from lightcurver_ops.airflow.pages.access import readable_dags
from lightcurver_ops.airflow.pages.lenses import all_lenses, dags_of, stamp, with_bookkeeping
from lightcurver_ops.airflow.pages.rendering import page, part
from lightcurver_ops.bookkeeping.all_lenses import version_of
from lightcurver_ops.bookkeeping.engine import file_of, open_engine, reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.config.loading import LoadedLens
from lightcurver_ops.errors import ConfigurationError, LightcurverError
from lightcurver_ops.operations.nights import night_of_mjd, timezone_name
from lightcurver_ops.operations.overview import LensOverview, overview

router = APIRouter()
log = logging.getLogger(__name__)

# A stage that is at work changes the counts without a new version of a server's bookkeeping.
_LASTS_S = 60.0
# Where reading takes longer than this, the page shows what is known meanwhile, unless that is too old.
_SLOW_S, _TOO_OLD_S = 0.5, 900.0
_SPARK = (120.0, 30.0)

HOME = "../"  # from this page to the first of the application


@dataclass(frozen=True)
class _Kept:
    version: Any
    made: float
    took: float
    lenses: dict[str, LensOverview]

    @property
    def age(self) -> float:
        return time.monotonic() - self.made


@dataclass(frozen=True)
class _Row:
    """A lens as a row of the table, and what it was drawn from."""

    loaded: LoadedLens
    overview: LensOverview
    html: str


_kept: dict[str, _Kept] = {}
_rows: dict[Path, _Row] = {}
_databases: dict[Path, tuple[LoadedLens, str | None, str]] = {}
_at_work: set[str] = set()
_lock = threading.Lock()


@router.get("/observatory/")
def observatory_page(request: Request, user: GetUserDep) -> Response:
    """All lenses whose DAGs the user may read."""
    try:
        observatory = observatory_from_environment()
    except ConfigurationError as error:
        log.warning("%s", error)
        raise HTTPException(
            404, "the observatory's file cannot be used; the log of the API server says why"
        ) from error
    readable = readable_dags(user)
    every = all_lenses(observatory)
    shown = [one for one in every if any(dag in readable for dag in dags_of(one.lens))]
    rows, problems, age = _table(every, shown, page_url(observatory.config.airflow))
    return page(
        request,
        "observatory.html",
        name=observatory.config.name,
        rows=[Markup(row.html) for row in rows],
        problems=problems,
        n_failing=sum(bool(row.overview.failures) for row in rows),
        age=age,
    )


def _table(
    every: list[LoadedLens], shown: list[LoadedLens], url: str | None
) -> tuple[list[_Row], list[str], float]:
    """The rows, those with failures first; what is wrong with some databases; how old what is out of date is, s.

    What is read of a database is kept for all users: it is read for all its lenses, whoever asks first, and each is
    shown what is theirs.
    """
    databases = {one.path: _database(one, url) for one in every}
    theirs = {one.lens.name for one in shown}
    wanted = {databases[one.path] for one in shown}
    by_database: dict[str, list[LensConfig]] = {}
    for one in every:
        if (database := databases[one.path]) is not None and database in wanted:
            by_database.setdefault(database, []).append(one.lens)
    unread: dict[str, LightcurverError] = {}
    age = _refresh(by_database, unread)
    problems = [_problem(error, by_database[database], theirs) for database, error in unread.items()]
    known: dict[str | None, _Kept | None] = {one: _kept.get(one) for one in by_database}
    rows = [_row(one, known.get(databases[one.path])) for one in shown]
    rows.sort(key=lambda row: (not row.overview.failures, row.loaded.lens.name.lower()))
    return rows, problems, age


def _problem(error: LightcurverError, configs: list[LensConfig], theirs: set[str]) -> str:
    return f"{', '.join([config.name for config in configs if config.name in theirs][:5])}: {error}"


def _database(one: LoadedLens, url: str | None) -> str | None:
    """Where the bookkeeping of a lens is; None where there is none yet."""
    found = _databases.get(one.path)
    if found is None or found[0] is not one or found[1] != url:
        config = with_bookkeeping(one.lens, url)
        if config is None:
            return None
        found = _databases[one.path] = (one, url, config.database_url)
    return found[2]


def warm() -> None:
    """Read all lenses before the first user asks for them."""
    try:
        observatory = observatory_from_environment()
        every = all_lenses(observatory)
        _table(every, every, page_url(observatory.config.airflow))
    except LightcurverError as error:
        log.warning("the page of the observatory is not ready: %s", error)


def _refresh(by_database: dict[str, list[LensConfig]], unread: dict[str, LightcurverError]) -> float:
    """Read again what was entered since; returns how old what is shown meanwhile is, where reading takes long (s).

    `unread` takes what was wrong, by database.
    """
    stale = [database for database in by_database if not _is_current(database)]
    kept = {database: _kept[database] for database in stale if database in _kept}
    now = [one for one in stale if one not in kept or kept[one].age > _TOO_OLD_S]
    later = [one for one in stale if one not in now]
    if sum(kept[one].took for one in later) < _SLOW_S:
        now, later = stale, []
    for database in now:
        try:
            _read(database, by_database[database])
        except LightcurverError as error:
            _kept.pop(database, None)
            unread[database] = error
    with _lock:
        begin = [one for one in later if one not in _at_work]
        _at_work.update(begin)
    if begin:
        wanted = {one: by_database[one] for one in begin}
        threading.Thread(target=_read_aside, args=(wanted,), daemon=True).start()
    return max((kept[one].age for one in later), default=0.0)


def _is_current(database: str) -> bool:
    """Whether nothing was entered since a database was read."""
    kept = _kept.get(database)
    # What is asked of a file sees every change, of one file of a thousand as well, however long ago it was read.
    if kept is None or (file_of(database) is None and kept.age >= _LASTS_S):
        return False
    try:
        return kept.version == _version(database)
    except LightcurverError:
        return False  # who reads it is told


def _version(database: str) -> Any:
    if (file := file_of(database)) is not None:
        return _state_of(file)
    engine = open_engine(database)
    try:
        with reading(engine) as connection:
            return version_of(connection)
    finally:
        engine.dispose()


def _state_of(file: Path) -> tuple[Any, ...]:
    """Changes with the embedded file or its write-ahead log; an empty log is as good as none."""
    log = stamp(file.with_name(f"{file.name}-wal"))
    return (stamp(file), log if log[1] else None)


def _read(database: str, configs: list[LensConfig]) -> None:
    """Read all lenses of a database."""
    zones = {config.name: timezone_name(config) for config in configs}

    def night_of(lens: str, mjd: float) -> str | None:
        return night_of_mjd(mjd, zones[lens]).isoformat() if lens in zones else None

    begin = time.monotonic()
    version = _version(database)  # what comes while we read makes it old at once
    engine = open_engine(database)
    try:
        lenses = overview(engine, night_of)
    finally:
        engine.dispose()
    _kept[database] = _Kept(version, begin, time.monotonic() - begin, lenses)


def _read_aside(databases: dict[str, list[LensConfig]]) -> None:
    for database, configs in databases.items():
        try:
            _read(database, configs)
        except LightcurverError as error:
            log.warning("the lenses cannot be read: %s", error)  # who looks when it is too old is told
        finally:
            with _lock:
                _at_work.discard(database)


def _row(loaded: LoadedLens, kept: _Kept | None) -> _Row:
    """The row of a lens; drawn again only where it or what is known of it has changed."""
    one = (kept.lenses.get(loaded.lens.name) if kept else None) or LensOverview(loaded.lens.name)
    drawn = _rows.get(loaded.path)
    if drawn is None or drawn.loaded is not loaded or drawn.overview != one:
        drawn = _rows[loaded.path] = _Row(loaded, one, _draw(loaded, one))
    return drawn


def _draw(loaded: LoadedLens, one: LensOverview) -> str:
    nightly, season = dags_of(loaded.lens)
    of_night = [stage for stage in stages_of_night(loaded) if stage != FIRST_OF_SEASON]
    failures = [
        {
            "stage": failure.stage,
            "message": failure.message,
            "dag": nightly if failure.stage in of_night else season,
        }
        for failure in one.failures
    ]
    images = [
        {"filter": curve.filter, "label": label, **image}
        for curve in one.curves
        for label, image in curve.images.items()
    ]
    return part(
        "observatory_row.html",
        HOME,
        name=loaded.lens.name,
        dag=season,
        o=one,
        failures=failures,
        images=images,
        sparks=[_spark(curve.images) for curve in one.curves],
        spark=_SPARK,
    )


def _spark(images: dict[str, dict[str, Any]]) -> list[str]:
    """The course of each image as the points of an SVG polyline; all on one scale, bright above."""
    courses = [(image["course"], image["inverted"]) for image in images.values() if image["course"]]
    if not courses:
        return []
    days = [mjd for course, _ in courses for mjd, _ in course]
    # Each about its own mean: what changed counts, not how far the images are apart.
    levels = [sum(value for _, value in course) / len(course) for course, _ in courses]
    offsets = [
        [(value - level) * (1 if inverted else -1) for _, value in course]
        for (course, inverted), level in zip(courses, levels, strict=True)
    ]
    reach = max((abs(value) for row in offsets for value in row), default=0.0) or 1.0
    first, width, height = min(days), _SPARK[0], _SPARK[1]
    scale = (width - 4) / ((max(days) - first) or 1.0)
    return [
        " ".join(
            f"{2 + (mjd - first) * scale:.1f},{height / 2 + value / reach * (height / 2 - 3):.1f}"
            for (mjd, _), value in zip(course, row, strict=True)
        )
        for (course, _), row in zip(courses, offsets, strict=True)
    ]
