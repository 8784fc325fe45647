"""New raw frames: noticed when complete, given to their observing nights, and the nights that wait for work."""

import logging
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.hashing import hash_of, hash_of_file
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.config.sections import MAX_PIXELS
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.operations.nights import night_at, night_of_mjd, timezone_name
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import STAGES, pipeline_state
from lightcurver_ops.stages.plate_solving import PlateSolving
from lightcurver_ops.stages.raw_listing import RawFile, list_raw_files
from lightcurver_ops.stages.read_convert_skysub_character_catalog import ReadConvertSkysubCharacterCatalog
from lightcurver_ops.storage.object_store import ObjectStore, is_object, store_of

log = logging.getLogger(__name__)

_READERS = 8  # threads: reading headers waits for disks and networks


@dataclass(frozen=True)
class Noticed:
    """What a look at the raw directories of a lens found."""

    listed: int
    new: int
    incomplete: int
    unplaced: dict[str, str] = field(default_factory=dict)
    """path: why the night of this new file is not known."""

    def summary(self) -> str:
        """One line."""
        parts = [f"{self.listed} raw files, {self.new} new or changed"]
        if self.incomplete:
            parts.append(f"{self.incomplete} still being written")
        if self.unplaced:
            parts.append(f"{len(self.unplaced)} of unknown night")
        return ", ".join(parts)


def notice_raw_files(lens: Lens, watch: Watch, *, now: float | None = None) -> Noticed:
    """Enter raw files that are complete, and new or changed, with the night that their headers say.

    Raises:
        ConfigurationError: a raw directory does not exist, or the header parser is not as it must be.
        TemporaryFailure: the storage does not answer.
    """
    began = ledger.now()
    listed = [
        raw for raw in list_raw_files(lens.config.raw, may_be_empty=True) if not is_marker(raw.path, watch)
    ]
    with reading(lens.engine) as connection:
        known = raw_rows.known_raw_files(connection, lens.name)
    read_as = _reading_hash(lens)
    changed = [raw for raw in listed if not _is_known(raw, known.get(raw.path), read_as)]
    moment, store = time.time() if now is None else now, store_of(lens.config.raw)
    complete = [raw for raw in changed if is_complete(raw, watch, moment, store)]
    complete = _at_rest(complete, watch)
    common = {"noticed_at": ledger.now(), "read_as": read_as}
    with ThreadPoolExecutor(_READERS) as readers:
        rows = [row | common for row in readers.map(lambda raw: _row(lens, raw), complete)]
    gone = _gone_for_good(lens, known.keys() - {raw.path for raw in listed}, began)
    if rows or gone:
        with writing(lens.engine) as connection:
            raw_rows.save_raw_files(connection, rows)
            raw_rows.forget(connection, gone)
    unplaced = {row["path"]: row["problem"] for row in rows if row["problem"]}
    return Noticed(len(listed), len(rows), len(changed) - len(complete), unplaced)


def _gone_for_good(lens: Lens, gone: set[str], began: datetime) -> list[int]:
    """Of files that are no longer there, the numbers of those that no stage has seen: nothing waits for them.

    What was noticed after ``began``, when we looked, came later.
    """
    if not gone:
        return []
    with reading(lens.engine) as connection:
        rows = raw_rows.untouched(connection, lens.name)
    return [row.id for row in rows if row.path in gone and ledger.as_utc(row.noticed_at) < began]


def _reading_hash(lens: Lens) -> str:
    """Of what decides the night of a raw file beside the file itself: corrected keys are read anew."""
    raw = lens.config.raw
    parser = hash_of_file(raw.header_parser) if raw.header_parser else None
    keys = [lens.config.value(key) for key in ("raw.header", "raw.hdus_header")]
    keys += [] if raw.max_pixels == MAX_PIXELS else [raw.max_pixels]
    return hash_of(*keys, parser, timezone_name(lens.config))


def _is_known(raw: RawFile, row: sa.Row | None, read_as: str) -> bool:
    return row is not None and (row.size, row.modified, row.read_as) == (raw.size, raw.modified, read_as)


def _at_rest(files: list[RawFile], watch: Watch) -> list[RawFile]:
    """Of local files that look settled, those that do not grow before our eyes: clocks of file servers differ."""
    local = [raw for raw in files if "://" not in raw.path and not raw.problem]
    if not local or watch.marker_suffix is not None or not watch.settle_seconds:
        return files
    time.sleep(min(1.0, watch.settle_seconds))
    moving = set()
    for raw in local:
        try:
            status = Path(raw.path).stat()
        except OSError:
            moving.add(raw.path)
            continue
        if (status.st_size, str(status.st_mtime_ns)) != (raw.size, raw.modified):
            moving.add(raw.path)
    return [raw for raw in files if raw.path not in moving]


def is_marker(path: str, watch: Watch) -> bool:
    """Whether a file only says that another one is complete; the pattern of raw files may match it as well."""
    return watch.marker_suffix is not None and path.endswith(watch.marker_suffix)


def is_complete(raw: RawFile, watch: Watch, now: float, store: ObjectStore | None = None) -> bool:
    """Whether a file is no longer being written: its marker file is there, or it has not changed for a while.

    An object in a store appears only when it is whole. ``store``: of a file in S3 storage, where its marker is.
    """
    if watch.marker_suffix is not None and not raw.problem:
        return _exists(raw.path + watch.marker_suffix, store or ObjectStore())
    if "://" in raw.path:
        return True
    return now - int(raw.modified) / 1e9 >= watch.settle_seconds


def _exists(path: str, store: ObjectStore) -> bool:
    if "://" not in path:
        return Path(path).exists()
    if is_object(path):
        return store.exists(path)
    import fsspec

    filesystem, inner = fsspec.core.url_to_fs(path)
    return filesystem.exists(inner)


def _row(lens: Lens, raw: RawFile) -> dict[str, Any]:
    from lightcurver_ops.storage import header as headers
    from lightcurver_ops.storage.raw import read_raw_header

    settings = lens.config.raw
    mjd, night, problem = None, None, raw.problem
    try:
        if problem:
            raise BadFrame(problem)
        header = read_raw_header(
            raw.path,
            hdus_header=settings.hdus_header,
            max_pixels=settings.max_pixels,
            store=store_of(settings),
            inside=settings.raw_dirs,
        )
        mjd = headers.fields_of(header, settings, raw.path).mjd
        night = night_of_mjd(mjd, timezone_name(lens.config)).isoformat()
    except BadFrame as error:
        problem = str(error)
    except MemoryError:
        problem = f"{raw.path}: there is not enough memory to read its header"
    return {
        "lens": lens.name,
        "path": raw.path,
        "size": raw.size,
        "modified": raw.modified,
        "mjd": mjd,
        "night": night,
        "problem": problem,
    }


@dataclass(frozen=True)
class NightWork:
    """What a night has, and what is to be done with it."""

    night: str
    raw_ids: list[int]
    """Numbers of its raw files in the bookkeeping, and of those of unknown night that nobody has looked at."""
    n_frames: int
    """Raw files of this night."""
    waits: bool
    """Whether any stage of the night has something to make."""

    def chunks(self, size: int) -> list[list[int]]:
        """The raw files in tasks of at most so many."""
        return [self.raw_ids[start : start + size] for start in range(0, len(self.raw_ids), size)]


def work_of_night(lens: Lens, night: str, stages: Iterable[str]) -> NightWork:
    """The raw files of a night, and whether one of these stages has something to make of them."""
    with reading(lens.engine) as connection:
        own = raw_rows.raw_files_of_night(connection, lens.name, night)
        known = raw_rows.known_raw_files(connection, lens.name)
    if not known:  # a new lens waits for its first frame; for the import, no file at all is a wrong directory
        return NightWork(night, [], 0, False)
    unplaced = [
        known[path] for path in sorted(_not_imported(lens)) if path in known and known[path].night is None
    ]
    rows = [*own, *unplaced]
    wanted = _units(lens, [row.path for row in rows])
    chosen = set(stages)
    waits = bool(rows) and any(
        state.stage in chosen and state.outdated() & wanted for state in pipeline_state(lens)
    )
    return NightWork(night, [row.id for row in rows], len(own), waits)


@dataclass(frozen=True)
class Waiting:
    """Why a night waits for a run."""

    noticed: str | None
    """When the newest of its files that are not imported was noticed (compact ISO, UTC): equal for equal arrivals,
    also while they are being imported. None where all are imported, and something else is out of date."""


def nights_waiting(lens: Lens) -> dict[str, Waiting]:
    """The nights with raw files that are to be imported, or with frames that are to be solved, and why."""
    with reading(lens.engine) as connection:
        known = raw_rows.known_raw_files(connection, lens.name)
        if not known:
            return {}
        to_import = ReadConvertSkysubCharacterCatalog(lens).state(connection).units
        to_solve = PlateSolving(lens).state(connection).outdated()
        rows = frames.all_frames(connection, lens.name)
    today = night_at(datetime.now(UTC), timezone_name(lens.config)).isoformat()
    new = {path for path, state in to_import.items() if state in ("missing", "stale") and path in known}
    again = {path for path, state in to_import.items() if state == ledger.FAILED}
    again |= {row.original_image_path for row in rows if row.image_relpath in to_solve}
    waiting: dict[str, list[str]] = {}
    for path in sorted(new | (again & known.keys())):
        noticed = [ledger.as_utc(known[path].noticed_at).strftime("%Y%m%dT%H%M%S")] if path in new else []
        waiting.setdefault(known[path].night or today, []).extend(noticed)
    return {night: Waiting(max(noticed, default=None)) for night, noticed in sorted(waiting.items())}


def units_of_raw_ids(lens: Lens, ids: list[int]) -> frozenset[str]:
    """The units, in all stages, of raw files given by their numbers: the files themselves and their frames."""
    with reading(lens.engine) as connection:
        paths = [row.path for row in raw_rows.raw_files_by_id(connection, lens.name, ids)]
    return frozenset(_units(lens, paths))


def _units(lens: Lens, paths: list[str]) -> set[str]:
    wanted = set(paths)
    with reading(lens.engine) as connection:
        rows = frames.all_frames(connection, lens.name)
    return wanted | {row.image_relpath for row in rows if row.original_image_path in wanted}


def _not_imported(lens: Lens) -> set[str]:
    with reading(lens.engine) as connection:
        return ReadConvertSkysubCharacterCatalog(lens).state(connection).outdated()


def season_waits(lens: Lens, first: str) -> bool:
    """Whether this stage or one after it has something to make, for any frame or for all together."""
    names = [stage.name for stage in STAGES]
    later = set(names[names.index(first) :])
    return any(state.stage in later and state.outdated() for state in pipeline_state(lens))


def nights_without_frames(lens: Lens, night: str) -> tuple[int, str | None]:
    """How many nights, up to and with this one, had no raw file, and the last night that had one."""
    with reading(lens.engine) as connection:
        last = raw_rows.last_night_until(connection, lens.name, night)
    if last is None:
        return 0, None
    return (date.fromisoformat(night) - date.fromisoformat(last)).days, last
