"""Which raw files a lens has: local directories and fsspec URLs."""

import os
import re
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path, PurePosixPath

from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.config.sections import Raw
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.storage.object_store import ObjectStore, is_object, store_of

LONGEST_PATH = 400
"""Characters of a path that the bookkeeping keeps as the name of a unit (`products.unit`)."""


@dataclass(frozen=True, order=True)
class RawFile:
    """A raw file and what tells that it changed, without reading it."""

    path: str
    size: int
    modified: str
    problem: str | None = None
    """Why it cannot be imported whatever is in it: its path, here as it can be written, is not one to be kept."""

    @property
    def stem(self) -> str:
        """File name without its suffixes (``x.fits.gz``: ``x``)."""
        name = PurePosixPath(self.path).name
        return re.sub(r"(?i)(\.(fits?|fts|fz|gz|bz2|xz|zip))+$", "", name) or name


def list_raw_files(raw: Raw, *, may_be_empty: bool = False) -> list[RawFile]:
    """All raw files that match the pattern, sorted by path; a file in two raw_dirs counts once.

    Args:
        raw: where to look.
        may_be_empty: whether no file at all is fine (frames were imported before, and their raw files moved on).

    Raises:
        ConfigurationError: a local directory or a bucket does not exist, may not be listed, or holds not one matching
            file.
        TemporaryFailure: a URL does not answer.
    """
    pattern = re.compile(translate(raw.files_match_pattern), re.IGNORECASE)
    found: dict[str, RawFile] = {}
    for directory in raw.raw_dirs:
        listed = list_remote(directory, store_of(raw)) if "://" in directory else _local(Path(directory))
        found |= {file.path: file for file in listed if pattern.match(PurePosixPath(file.path).name)}
    if not found and not may_be_empty:
        raise ConfigurationError(
            f"raw.raw_dirs: no file matches '{raw.files_match_pattern}' in {', '.join(raw.raw_dirs)}; check the "
            "directories and raw.files_match_pattern"
        )
    return sorted(found.values(), key=lambda one: one.path)


def local_file(path: Path, status: os.stat_result) -> RawFile:
    """A local file as it is listed."""
    return _listed(str(path), status.st_size, str(status.st_mtime_ns))


def _listed(text: str, size: int, modified: str) -> RawFile:
    problem = None
    try:
        text.encode()
    except UnicodeEncodeError:
        text = os.fsencode(text).decode("utf-8", "backslashreplace")
        problem = f"{text}: its name is not UTF-8, which no database keeps: rename the file, or its directory"
    if len(text) > LONGEST_PATH:
        digest = hash_of(text)[:8]
        short = f"{text[: LONGEST_PATH // 2 - 10]}...{digest}...{text[-LONGEST_PATH // 2 + 10 :]}"
        problem = f"{short}: its path has {len(text)} characters, expected at most {LONGEST_PATH}: move it up"
        text = short
    return RawFile(text, size, modified, problem)


def _local(directory: Path) -> list[RawFile]:
    if not directory.is_dir():
        raise ConfigurationError(
            f"raw.raw_dirs: {directory} is not a directory; name the one that holds the raw frames"
        )
    files = []
    for path in directory.rglob("*"):
        try:
            if path.is_file() and not path.name.startswith("."):
                files.append(local_file(path, path.stat()))
        except FileNotFoundError:  # moved away while we looked: the next run sees where it went
            continue
    return files


def list_remote(url: str, store: ObjectStore) -> list[RawFile]:
    """All files below a URL of S3 storage, or of any other that fsspec knows; errors as `list_raw_files`."""
    if is_object(url):
        return [_listed(item.url, item.size, item.etag) for item in store.listed(url)]
    import fsspec

    protocol = url.split("://", 1)[0]
    try:
        filesystem, root = fsspec.core.url_to_fs(url)
        filesystem.invalidate_cache()  # one that is watched for hours must see what came
        details = filesystem.find(root, detail=True)
    except (ImportError, ValueError) as error:
        raise ConfigurationError(
            f"raw.raw_dirs: {url}: this kind of URL cannot be read here: {error}"
        ) from error
    except OSError as error:
        raise TemporaryFailure(f"raw.raw_dirs: {url}: the storage does not answer: {error}") from error
    return [
        _listed(
            f"{protocol}://{path}", info.get("size") or 0, str(info.get("ETag") or info.get("LastModified"))
        )
        for path, info in details.items()
    ]
