"""Light curves as CSV, astrometry as JSON."""

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.storage.atomic import write_bytes

PER_EPOCH = "_photometry_per_epoch.csv"
PER_NIGHT = "_photometry_per_night.csv"
ASTROMETRY = "_astrometry.json"


def product_path(workdir: str | Path, stem: str, ending: str) -> Path:
    """Where a product of the joint model lies: `<workdir>/prepared_roi_cutouts/<stem><ending>`."""
    return Path(workdir) / "prepared_roi_cutouts" / f"{stem}{ending}"


def write_table(path: str | Path, columns: Mapping[str, ArrayLike]) -> None:
    """Write a table as CSV: one header line, numbers with all their digits, `nan` where there is none.

    Args:
        path: the file.
        columns: one-dimensional and of one length.

    Raises:
        ValueError: columns of different length.
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    text = io.StringIO()
    write_csv(text, columns)
    write_bytes(path, text.getvalue().encode())


def write_csv(file: TextIO, columns: Mapping[str, ArrayLike]) -> None:
    """As `write_table`, into an open file."""
    arrays = [np.asarray(column) for column in columns.values()]
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    # tolist: Python's own numbers print in the shortest form that reads back to the same value.
    writer.writerows(zip(*(array.tolist() for array in arrays), strict=True))


def read_table(path: str | Path) -> dict[str, NDArray]:
    """Read a table written by `write_table`: columns of integers, floats or text, by name.

    Raises:
        BadFrame: the file is missing or not such a table.
    """
    try:
        with Path(path).open(newline="") as file:
            header, *rows = csv.reader(file)
        if any(len(row) != len(header) for row in rows):
            raise ValueError("lines of different length")
    except (OSError, ValueError, csv.Error) as error:
        raise BadFrame(f"{path}: missing or not a table: {error}; make it again with lcops run") from error
    return {name: _typed([row[index] for row in rows]) for index, name in enumerate(header)}


def write_json(path: str | Path, content: Mapping[str, Any]) -> None:
    """Write results as JSON, numpy numbers and arrays included; errors as `atomic_path`."""
    write_bytes(path, (json.dumps(content, indent=2, default=_plain) + "\n").encode())


def _plain(value: Any) -> Any:
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _typed(texts: list[str]) -> NDArray:
    for kind in (np.int64, np.float64):
        try:
            return np.array(texts, dtype=kind)
        except ValueError:
            continue
    return np.array(texts, dtype=object)
