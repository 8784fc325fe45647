"""A catalogue behind a network, its answers kept on disk, so that each region is asked for once."""

import logging
from pathlib import Path

from astropy.table import Table

from lightcurver_ops.catalogs import store
from lightcurver_ops.catalogs.base import disk_to_ask
from lightcurver_ops.catalogs.regions import IDENTITY_DECIMALS, Disk, Region
from lightcurver_ops.catalogs.remote import RemoteCatalog
from lightcurver_ops.catalogs.store import Entry, Kept
from lightcurver_ops.errors import ConfigurationError

log = logging.getLogger(__name__)


class Cached:
    """A catalogue whose answers are kept; one that covers a question answers it.

    Args:
        catalog: the catalogue to ask.
        directory: where the files go; made when needed. Deleting files is always safe, except before a night offline.
        offline: only kept answers are used.
    """

    def __init__(self, catalog: RemoteCatalog, directory: str | Path, *, offline: bool = False):
        self.catalog = catalog
        self.directory = Path(directory)
        self.offline = offline
        self.name = catalog.name

    def identity(self) -> str:
        """That of the catalogue behind."""
        return self.catalog.identity()

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """See `CatalogProvider.query`.

        Raises:
            ConfigurationError: also offline, where no kept answer covers the question.
            TemporaryFailure: also where an answer cannot be kept.
        """
        disk = disk_to_ask(region, epoch_mjd, self.catalog.source.epoch)
        self.catalog.refuse(disk, max_gmag)
        table = self._from_kept(disk, max_gmag)
        if table is None:
            if self.offline:
                raise self._not_kept(disk, max_gmag)
            table, _ = self.ask(disk, max_gmag)
        return self.catalog.cut(table, region, epoch_mjd, max_gmag)

    def kept(self, disk: Disk, max_gmag: float | None) -> Kept | None:
        """A whole file that covers a question, by its content."""
        for entry in self._covering(disk, max_gmag):
            try:
                store.read(entry)
            except ValueError:
                continue
            return entry.kept
        return None

    def ask(self, disk: Disk, max_gmag: float | None) -> tuple[Table, Kept]:
        """Ask the service, whatever is kept, and keep the answer."""
        table = self.catalog.fetch(disk, max_gmag)
        kept = Kept(
            self.name,
            self.identity(),
            round(disk.ra % 360.0, IDENTITY_DECIMALS),
            round(disk.dec, IDENTITY_DECIMALS),
            round(disk.radius_deg, IDENTITY_DECIMALS),
            max_gmag,
            len(table),
            store.now(),
            self.catalog.source.url,
        )
        store.write(self.directory, kept, table)
        return table, kept

    def _covering(self, disk: Disk, max_gmag: float | None) -> list[Entry]:
        return [
            entry
            for entry in store.entries(self.directory)
            if entry.kept and entry.kept.identity == self.identity() and entry.kept.covers(disk, max_gmag)
        ]

    def _from_kept(self, disk: Disk, max_gmag: float | None) -> Table | None:
        for entry in self._covering(disk, max_gmag):
            try:
                return store.read(entry)
            except ValueError as error:
                log.warning("%s is broken (%s) and is not used", entry.path, error)
        return None

    def _not_kept(self, disk: Disk, max_gmag: float | None) -> ConfigurationError:
        wanted = Kept(self.name, "", disk.ra, disk.dec, disk.radius_deg, max_gmag, 0, "", "").text()
        near = [
            entry.kept.text()
            for entry in store.entries(self.directory)
            if entry.kept
            and entry.kept.identity == self.identity()
            and entry.kept.covers(Disk(disk.ra, disk.dec, 1e-6), -99.0)
        ]
        broken = len(self._covering(disk, max_gmag))
        has = f"it has {'; '.join(near)}" if near else "it has nothing at this place"
        if broken:
            has = "what covers it is broken (`lcops catalog list` names the file)"
        return ConfigurationError(
            f"catalogs: offline is true, and the cache {self.directory} does not cover {wanted} of {self.identity()}: "
            f"{has}. With network, run `lcops catalog fetch LENS` (or copy the cache of a machine that has it); or "
            "`lcops catalog import FILE` of a bulk download; or write catalogs: {offline: false}"
        )
