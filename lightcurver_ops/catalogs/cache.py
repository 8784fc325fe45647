"""Answers of a catalogue kept on disk, so that a lens asks the network once."""

import hashlib
import json
import logging
import os
import tempfile
from pathlib import Path

from astropy.table import Table

from lightcurver_ops.catalogs.base import CatalogProvider
from lightcurver_ops.catalogs.regions import Region
from lightcurver_ops.errors import TemporaryFailure

log = logging.getLogger(__name__)


class Cached:
    """A catalogue whose answers are kept as ECSV files, one for each question.

    Args:
        provider: the catalogue to ask.
        directory: where the files go; made when needed. Deleting it is always safe.
    """

    def __init__(self, provider: CatalogProvider, directory: str | Path):
        self.provider = provider
        self.directory = Path(directory)
        self.name = provider.name

    def identity(self) -> str:
        """That of the catalogue behind."""
        return self.provider.identity()

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """See `CatalogProvider.query`; raises TemporaryFailure also where the answer cannot be written."""
        question = json.dumps([self.identity(), region.key(), epoch_mjd, max_gmag])
        path = self.directory / f"{self.name}_{hashlib.sha256(question.encode()).hexdigest()[:24]}.ecsv"
        kept = _read(path, question)
        if kept is not None:
            return kept
        answer = self.provider.query(region, epoch_mjd=epoch_mjd, max_gmag=max_gmag)
        answer.meta = {"question": question}
        _write(answer, path)
        return answer


def _read(path: Path, question: str) -> Table | None:
    if not path.exists():
        return None
    try:
        # Read as masked, so that a kept answer is like a fresh one to the last detail.
        table = Table(Table.read(path, format="ascii.ecsv"), masked=True)
    except Exception as error:
        log.warning("%s cannot be read (%s): asking the catalogue again", path, error)
        return None
    return table if table.meta.get("question") == question else None


def _write(table: Table, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}_", suffix=".tmp")
        try:
            with os.fdopen(handle, "w") as file:
                table.write(file, format="ascii.ecsv")
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TemporaryFailure(
            f"the catalogue's answer cannot be kept as {path}: {error}. Free space there, or make it writable."
        ) from error
