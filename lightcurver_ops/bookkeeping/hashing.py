"""Hashes of inputs: equal inputs give equal hashes on every machine and in every process."""

import hashlib
import json
from pathlib import Path
from typing import Any

LENGTH = 24  # hex digits; 96 bits, no collision among any number of frames that a telescope takes
ABSENT = "absent"  # instead of the hash of a file that is not there


def hash_of(*parts: Any) -> str:
    """Hash of plain data (numbers, strings, lists, mappings, paths); the order of mapping keys does not matter."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def hash_of_file(path: Path) -> str:
    """Hash of a file's content; ``absent`` where there is none, so that its arrival is a change."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]
    except FileNotFoundError:
        return ABSENT


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError(f"{type(value).__name__} cannot be part of a hash")
