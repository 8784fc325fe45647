"""Watching raw directories: which files of which lenses are new and complete, without asking for the same twice.

A watch is polled. It lists again only directories that changed, so that an archive of a million frames costs a
`stat` per directory; a file that is rewritten in place, under its own name, waits for the next sweep.
"""

import functools
import logging
import os
import re
import time
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path, PurePosixPath

from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import is_absent, open_engine, reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import LightcurverError
from lightcurver_ops.operations.arrivals import is_complete, is_marker
from lightcurver_ops.operations.observatory import Observatory, load_lenses
from lightcurver_ops.stages.raw_listing import RawFile, list_remote, local_file
from lightcurver_ops.storage.object_store import ObjectStore, is_object, store_of

log = logging.getLogger(__name__)

# Some file systems keep times to the second or two: a directory that changed this recently may change again unseen.
_COARSE_TIME_S = 3.0
_RELOAD_S = 60.0
_REPEAT_S = 900.0


@dataclass
class _Directory:
    mtime_ns: int
    listed_at: float
    subdirectories: list[str]


@dataclass
class LocalRoot:
    """The files below a directory, listed again where something changed."""

    root: str
    _directories: dict[str, _Directory] = field(default_factory=dict)

    def changed_files(self) -> list[RawFile]:
        """Files of the directories that changed since the last call; all files on the first."""
        found: list[RawFile] = []
        stack = [self.root]
        seen = set()
        while stack:
            path = stack.pop()
            seen.add(path)
            try:
                status = Path(path).stat()
                known = self._directories.get(path)
                recent = known is not None and known.listed_at - known.mtime_ns / 1e9 < _COARSE_TIME_S
                if known is None or recent or known.mtime_ns != status.st_mtime_ns:
                    known = self._list(path, status.st_mtime_ns, found)
                stack += known.subdirectories
            except FileNotFoundError:
                continue
            except OSError as error:
                log.warning("%s: cannot be listed: %s; the next look tries again", path, error)
                self._directories.pop(path, None)
        for gone in self._directories.keys() - seen:
            del self._directories[gone]
        return found

    def look_again(self, path: str) -> None:
        """List the directory of this file again next time: it was not complete."""
        self._directories.pop(str(Path(path).parent), None)

    def _list(self, path: str, mtime_ns: int, found: list[RawFile]) -> _Directory:
        subdirectories = []
        now, whole = time.time(), True
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):  # as the listing of raw files does
                        subdirectories.append(entry.path)
                    elif entry.is_file():
                        found.append(local_file(Path(entry.path), entry.stat()))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    log.warning("%s: cannot be looked at: %s; the next look tries again", entry.path, error)
                    whole = False
        known = self._directories[path] = _Directory(mtime_ns if whole else -1, now, subdirectories)
        return known


@dataclass
class RemoteRoot:
    """The files below a URL, listed whole every time: object stores have no directories that change."""

    root: str
    store: ObjectStore

    def changed_files(self) -> list[RawFile]:
        """All files."""
        return list_remote(self.root, self.store)

    def look_again(self, path: str) -> None:
        """Nothing to do: everything is listed every time."""


def open_root(root: str, store: ObjectStore | None = None) -> LocalRoot | RemoteRoot:
    """The files below a directory or URL; ``store``: of S3 storage."""
    return RemoteRoot(root, store or ObjectStore()) if "://" in root else LocalRoot(root)


@dataclass(frozen=True, eq=False)
class _Interest:
    """What a lens takes for its raw frames."""

    lens: str
    directories: tuple[str, ...]
    pattern: re.Pattern[str]
    config: LensConfig

    @property
    def store(self) -> ObjectStore:
        """Where its frames in S3 storage are."""
        return store_of(self.config.raw)

    def what(self) -> tuple[str, tuple[str, ...], str, ObjectStore]:
        """What tells it from another interest."""
        return self.lens, self.directories, self.pattern.pattern, self.store

    def takes(self, path: str) -> bool:
        """Whether a file in one of its directories is one of its frames, by its name."""
        return bool(self.pattern.match(PurePosixPath(path).name))


def interest_of(config: LensConfig) -> _Interest:
    """What a lens takes for its raw frames."""
    directories = tuple(_bare(directory).rstrip("/") + "/" for directory in config.raw.raw_dirs)
    pattern = re.compile(translate(config.raw.files_match_pattern), re.IGNORECASE)
    return _Interest(config.name, directories, pattern, config)


def _bare(path: str) -> str:
    """A URL in one way of writing it: some file systems begin their paths with a slash, people do not."""
    return re.sub(r"^([\w+.-]+:)//+", r"\1//", path)


class RawWatch:
    """Watches one root for some lenses.

    Args:
        root: directory or URL.
        lenses: whose frames to look for.
        watch: when a file is complete.
        database: bookkeeping of lenses that name none.
    """

    def __init__(self, root: str, lenses: list[LensConfig], watch: Watch, database: str | None = None):
        self._path = root
        self._roots: dict[ObjectStore | None, LocalRoot | RemoteRoot] = {}
        self._watch = watch
        self._database = database
        self._announced: dict[tuple[str, str], tuple[int, str, float]] = {}
        self._interests: list[_Interest] = []
        self.set_lenses(lenses)

    def set_lenses(self, lenses: list[LensConfig]) -> None:
        """Look for the frames of these lenses from now on."""
        interests = [interest_of(config) for config in lenses]
        if [one.what() for one in interests] != [one.what() for one in self._interests]:
            # Opened anew: what is there already may be new to one of them. A bucket of one name may be in two stores.
            stores = dict.fromkeys(one.store for one in interests) if is_object(self._path) else {None: None}
            self._roots = {store: open_root(self._path, store) for store in stores}
        self._interests = interests
        self._by_directory: dict[str, list[_Interest]] = {}
        for interest in interests:
            for directory in interest.directories:
                self._by_directory.setdefault(directory, []).append(interest)

    def _interested(self, path: str) -> list[_Interest]:
        """Who takes a file: looked up by its directories, so that a thousand lenses cost no more than one."""
        bare = _bare(path)
        ends = [index + 1 for index, character in enumerate(bare) if character == "/"]
        found = [interest for end in ends for interest in self._by_directory.get(bare[:end], [])]
        return [interest for interest in dict.fromkeys(found) if interest.takes(bare)]

    def poll(self, now: float | None = None) -> dict[str, int]:
        """lens: number of files that are new and complete since the last poll, and not in its bookkeeping."""
        now = time.time() if now is None else now
        waiting: dict[str, list[RawFile]] = {}
        for store, root in self._roots.items():
            for raw in root.changed_files():
                if is_marker(raw.path, self._watch):
                    continue
                for interest in self._interested(raw.path):
                    if store not in (None, interest.store) or self._was_announced(interest.lens, raw, now):
                        continue
                    if is_complete(raw, self._watch, now, store):
                        waiting.setdefault(interest.lens, []).append(raw)
                    else:
                        root.look_again(raw.path)
        arrived = {}
        for interest in self._interests:
            files = waiting.get(interest.lens, [])
            for raw in files:
                self._announced.pop((interest.lens, raw.path), None)
            if files and (new := self._unknown(interest.config, files)):
                arrived[interest.lens] = len(new)
                for raw in new:
                    self._announced[interest.lens, raw.path] = (raw.size, raw.modified, now)
                    self._look_again(raw.path)  # until the bookkeeping has it
        return arrived

    def _look_again(self, path: str) -> None:
        for root in self._roots.values():
            root.look_again(path)

    def _was_announced(self, lens: str, raw: RawFile, now: float) -> bool:
        size, modified, when = self._announced.get((lens, raw.path), (-1, "", 0.0))
        if (size, modified) != (raw.size, raw.modified):
            return False
        if now - when < _REPEAT_S:
            self._look_again(raw.path)
            return True
        return False  # the run that should have taken it did not: say it again, unless the bookkeeping has it

    def _unknown(self, config: LensConfig, files: list[RawFile]) -> list[RawFile]:
        """Files that the bookkeeping does not have in this state; all, where it cannot be asked."""
        url = config.in_database(self._database).database_url
        try:
            if is_absent(url):
                return files
            engine = open_engine(url)
            try:
                with reading(engine) as connection:
                    known = raw_rows.known_raw_files(connection, config.name)
            finally:
                engine.dispose()
        except LightcurverError as error:
            log.warning("%s: the bookkeeping cannot be asked what is new: %s", config.name, error)
            return files
        return [
            raw
            for raw in files
            if (row := known.get(raw.path)) is None or (row.size, row.modified) != (raw.size, raw.modified)
        ]


class ObservatoryWatch:
    """Watches one root for all lenses of an observatory, as their files come, change and go."""

    def __init__(self, observatory: Observatory, root: str, database: str | None = None):
        self._observatory = observatory
        self._root = root
        self._loaded_at = 0.0
        self._watch = RawWatch(root, [], observatory.config.watch, database)

    def poll(self) -> dict[str, int]:
        """As `RawWatch.poll`."""
        if time.monotonic() - self._loaded_at > _RELOAD_S or not self._loaded_at:
            lenses = _lenses_of(self._observatory)
            self._watch.set_lenses(
                [lens for lens in lenses if self._root in roots_of(lens, self._observatory)]
            )
            self._loaded_at = time.monotonic()
        return self._watch.poll()


def _lenses_of(observatory: Observatory) -> list[LensConfig]:
    """All lenses; loaded again only when a file changed, once for all the watches of a process."""
    state = []
    for path in (observatory.path, *observatory.lens_files()):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        state.append((path, status.st_mtime_ns, status.st_size))
    return _loaded_lenses(tuple(state))


@functools.lru_cache(maxsize=2)
def _loaded_lenses(state: tuple[tuple[Path, int, int], ...]) -> list[LensConfig]:
    return [loaded.lens for loaded in load_lenses([path for path, *_ in state[1:]]).lenses]


def roots_of(config: LensConfig, observatory: Observatory) -> list[str]:
    """The roots under which the raw directories of a lens are watched: the observatory's, or they themselves."""
    roots = [resolved(root, observatory.path.parent) for root in observatory.config.watch.raw_roots]
    found = []
    for directory in config.raw.raw_dirs:
        above = [root for root in roots if f"{directory}/".startswith(f"{root}/")]
        found.append(max(above, key=len) if above else directory.rstrip("/"))
    return list(dict.fromkeys(found))


def resolved(root: str, directory: Path) -> str:
    """A root of the observatory's file as raw directories are written: absolute, without a slash at the end."""
    if "://" in root:
        return root.rstrip("/")
    path = Path(root).expanduser()
    return str((path if path.is_absolute() else directory / path).resolve())
