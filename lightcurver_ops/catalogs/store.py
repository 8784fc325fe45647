"""Answers of catalogues kept on disk: each with the region, the depth and the data release that it is complete for.

One FITS file per answer, with checksums: a file that is not whole is not believed. Files appear in one step, so that
several processes may fill one directory.
"""

import hashlib
import json
import logging
import warnings
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from lightcurver_ops.catalogs.regions import Disk, separation_deg
from lightcurver_ops.storage.atomic import atomic_path, sweep_temporaries

log = logging.getLogger(__name__)

_KEYWORD = "KEPT"
_FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """What an answer is complete for.

    Args:
        catalog: name of the provider.
        identity: provider and data release.
        ra, dec, radius_deg: the disk, ICRS degrees at the catalogue's own epoch.
        max_gmag: faintest G; None: all stars, also those of unknown G.
        rows: number of stars.
        made: when it was asked or imported, ISO 8601, UTC.
        origin: the service's address, or the imported file.
    """

    catalog: str
    identity: str
    ra: float
    dec: float
    radius_deg: float
    max_gmag: float | None
    rows: int
    made: str
    origin: str

    def covers(self, disk: Disk, max_gmag: float | None) -> bool:
        """Whether all stars of a disk down to a magnitude are in it."""
        deep = self.max_gmag is None or (max_gmag is not None and max_gmag <= self.max_gmag)
        if not deep:
            return False
        away = float(separation_deg(disk.ra, disk.dec, self.ra, self.dec))
        return away + disk.radius_deg <= self.radius_deg + 1e-7

    def text(self) -> str:
        """In words: where and how deep."""
        depth = "all magnitudes" if self.max_gmag is None else f"G <= {self.max_gmag:g}"
        return f"{self.radius_deg:.4f} degrees around ra {self.ra:.5f}, dec {self.dec:.5f}, {depth}"


@dataclass(frozen=True)
class Entry:
    """A file of the cache.

    Args:
        path: the file.
        kept: what it holds; None: it cannot be read.
        problem: why not.
    """

    path: Path
    kept: Kept | None
    problem: str = ""


def now() -> str:
    """The time, as `Kept.made` has it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def entries(directory: Path) -> list[Entry]:
    """The files of a cache, by their heads alone: the smallest region first."""
    # Names with a dot are being written.
    found = [_head(path) for path in sorted(directory.glob("[!.]*.fits"))]
    return sorted(found, key=lambda entry: (entry.kept is None, entry.kept.radius_deg if entry.kept else 0.0))


def read(entry: Entry) -> Table:
    """The stars of a kept answer.

    Raises:
        ValueError: the file is not whole; the message says why.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # astropy warns of wrong checksums and of files that end early
            with fits.open(entry.path, checksum=True, memmap=False) as hdus:
                stars = Table.read(hdus[1], unit_parse_strict="raise")
    except Exception as error:  # readers of broken files raise anything
        raise ValueError(f"{type(error).__name__}: {error}") from error
    if entry.kept is None or len(stars) != entry.kept.rows:
        raise ValueError(f"it holds {len(stars)} stars where its head says otherwise")
    result = Table(masked=True)  # as the catalogues give them
    for name in stars.colnames:
        values: Any = np.ma.asarray(MaskedColumn(stars[name]))
        values = np.ma.array(values, dtype=values.dtype.newbyteorder("="))
        if values.dtype.kind == "f":
            values = np.ma.masked_invalid(values)
        result[name] = MaskedColumn(values, unit=stars[name].unit)
    return result


def write(directory: Path, kept: Kept, stars: Table) -> Path:
    """Keep an answer; one about the same question is replaced.

    Raises:
        TemporaryFailure: full disk, or a disk that fails.
        ConfigurationError: a directory that cannot be written.
    """
    question = json.dumps([kept.identity, kept.ra, kept.dec, kept.radius_deg, kept.max_gmag])
    path = directory / f"{kept.catalog}_{hashlib.sha256(question.encode()).hexdigest()[:24]}.fits"
    plain = Table({name: _filled(stars[name]) for name in stars.colnames})
    head = fits.PrimaryHDU()
    head.header[_KEYWORD] = json.dumps({"format": _FORMAT, **asdict(kept)})
    hdus = fits.HDUList([head, fits.table_to_hdu(plain)])
    with atomic_path(path) as temporary:
        hdus.writeto(temporary, checksum=True)
    sweep_temporaries(directory)
    return path


def _filled(column: Any) -> Any:
    values = np.ma.asarray(column)
    plain = values.filled(np.nan) if values.dtype.kind == "f" else values.data
    return MaskedColumn(plain, unit=column.unit)


def _head(path: Path) -> Entry:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of files that end early: `read` makes it an error
            content = json.loads(fits.getheader(path, 0)[_KEYWORD])
        if content.pop("format") != _FORMAT:
            return Entry(path, None, "written by another version")
        return Entry(path, Kept(**content))
    except Exception as error:  # as in `read`
        log.debug("%s has no readable head", path, exc_info=True)
        return Entry(path, None, f"not a kept answer, or broken: {type(error).__name__}: {error}")
