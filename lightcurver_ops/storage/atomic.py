"""Files that are either whole or absent, whatever happens to the process or the disk."""

import errno
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightcurver_ops import processes
from lightcurver_ops.errors import ConfigurationError, LightcurverError, TemporaryFailure

_DISK = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.EBUSY,
    errno.ETIMEDOUT,
    errno.ENFILE,
    errno.EMFILE,
}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_IMPOSSIBLE = {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EEXIST}
# Libraries rephrase a full disk and lose its number, or (numpy) even its name.
_DISK_TEXT = re.compile(r"no space left|not enough space|quota exceeded|input/output error", re.IGNORECASE)
_FULL = 65536  # bytes
_TEMPORARY = re.compile(rf"^\.lcops-(?P<mark>{processes.MARK})-[0-9a-f]{{8}}-.+$")


@contextmanager
def atomic_path(final: str | Path) -> Iterator[Path]:
    """A temporary path to write; at the end of the block it takes the place of `final` in one step.

    The temporary lies in the same directory (created if missing) and keeps the suffix. It reaches the disk before it
    gets its name; it is removed if the block fails, and `final` then stays as it was. Of several processes that write
    the same file, the last one wins, with a whole file.

    Args:
        final: the file to write.

    Raises:
        TemporaryFailure: full disk, quota, or a disk or network file system that fails.
        ConfigurationError: no permission, read-only file system, or a path that cannot be a file.
    """
    final = Path(final)
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _translated(error, final) or error from error
    temporary = final.with_name(f".lcops-{processes.own_mark()}-{secrets.token_hex(4)}-{final.name}")
    try:
        yield temporary
        _to_disk(temporary)
        os.replace(temporary, final)  # noqa: PTH105 - the name of the system call is the promise
        _to_disk(final.parent)
    except Exception as error:
        failure = _translated(error, final, temporary)
        if failure is None:
            raise
        raise failure from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Alone among those who lock this directory, for what is read, changed and written again.

    The directory is made if it is missing. Where its file system has no such locks (some network disks) the last one
    wins.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY)
    except OSError as error:
        raise _translated(error, directory) or error from error
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)  # which gives the lock back


def write_bytes(final: str | Path, content: bytes) -> None:
    """Write a file in one step; errors as `atomic_path`."""
    with atomic_path(final) as temporary:
        temporary.write_bytes(content)


def sweep_temporaries(directory: str | Path) -> list[Path]:
    """Remove what killed processes left in a directory and below it.

    A temporary file goes if the process that wrote it has ended, or, where that cannot be seen (another machine or
    container), if it is older than `processes.LOST_AFTER_S`.

    Returns:
        The removed files.
    """
    removed = []
    for path in Path(directory).rglob(".lcops-*"):
        match = _TEMPORARY.match(path.name)
        # Another process may sweep, or finish its file, at the same time.
        with suppress(OSError):
            if match and processes.is_lost(match["mark"], path.stat().st_mtime):
                path.unlink()
                removed.append(path)
    return removed


def _to_disk(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _translated(error: Exception, final: Path, *own: Path) -> LightcurverError | None:
    """Our error for a fault of the disk that holds `final`; None for an error that is about something else."""
    number = getattr(error, "errno", None)
    about = getattr(error, "filename", None)
    if about is not None and Path(os.fsdecode(about)) not in {final, *own, *final.parents}:
        return None
    reason = os.strerror(number) if number else str(error)
    if number in _DISK or (
        number is None and isinstance(error, (OSError, RuntimeError)) and _disk_is_to_blame(error, final)
    ):
        return TemporaryFailure(
            f"{final}: could not be written: {reason} ({_free(final)}); nothing was changed. "
            "Free space on that disk or repair it, then run again"
        )
    if number in _FORBIDDEN:
        return ConfigurationError(
            f"{final}: could not be written: {reason}; the directory {final.parent} must be writable by this user "
            "(or choose another workdir)"
        )
    if number in _IMPOSSIBLE:
        return ConfigurationError(
            f"{final}: could not be written: {reason}: {about or final.parent}; choose another path"
        )
    return None


def _disk_is_to_blame(error: Exception, final: Path) -> bool:
    with suppress(OSError):
        if shutil.disk_usage(final.parent).free < _FULL:
            return True
    return _DISK_TEXT.search(str(error)) is not None


def _free(final: Path) -> str:
    for directory in final.parents:
        with suppress(OSError):
            usage = shutil.disk_usage(directory)
            return f"{usage.free / 1e6:.1f} MB of {usage.total / 1e6:.1f} MB free in {directory}"
    return "free space unknown"
