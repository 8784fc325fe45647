"""HDF5 files through memory: a full disk inside the HDF5 library would leave it unable to close the file."""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.storage.atomic import write_bytes


def write_hdf5(path: str | Path, fill: Callable[[h5py.File], None]) -> None:
    """Write an HDF5 file in one step.

    Args:
        path: the file.
        fill: called with the open, empty file.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    write_bytes(path, buffer.getvalue())


@contextmanager
def opened_hdf5(path: str | Path, stage: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of ours for reading.

    Args:
        path: the file.
        stage: the stage that writes it, for the message.

    Raises:
        BadFrame: it is missing or damaged, or lacks what the block looks up.
    """
    try:
        # Our files are replaced, never changed: the lock would only fail on network file systems.
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except (OSError, KeyError, RuntimeError) as error:
        raise BadFrame(
            f"{path}: missing or damaged, or without what was asked of it ({error}); make it again: "
            f"lcops run CONFIG --redo {stage}"
        ) from error
