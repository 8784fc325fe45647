"""Temporary directories that are swept when the process that made them was killed."""

import functools
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lightcurver_ops import processes

_PREFIX = ".lcops-scratch-"
_SCRATCH = re.compile(rf"^{re.escape(_PREFIX)}(?P<mark>{processes.MARK})-.+$")


@contextmanager
def scratch_directory(parent: str | Path | None = None) -> Iterator[Path]:
    """An empty directory, removed at the end; the first one of a process in a place sweeps what others left there.

    Args:
        parent: where it is made; None: in the system's directory of temporary files.

    Raises:
        OSError: it cannot be made or removed.
    """
    parent = Path(tempfile.gettempdir() if parent is None else parent).absolute()
    _sweep_once(parent, os.getpid())
    with tempfile.TemporaryDirectory(prefix=f"{_PREFIX}{processes.own_mark()}-", dir=parent) as directory:
        yield Path(directory)


def sweep_scratch(parent: Path) -> list[Path]:
    """Remove this user's scratch directories whose processes are lost; returns them."""
    removed = []
    with suppress(OSError):
        for path in parent.glob(f"{_PREFIX}*"):
            match = _SCRATCH.match(path.name)
            with suppress(OSError):  # another process may sweep at the same time
                state = path.lstat()
                if match and state.st_uid == os.getuid() and processes.is_lost(match["mark"], state.st_mtime):
                    shutil.rmtree(path)
                    removed.append(path)
    return removed


@functools.lru_cache(maxsize=64)
def _sweep_once(parent: Path, _process: int) -> None:  # a fork of a process that swept long ago sweeps, too
    sweep_scratch(parent)
