"""Gaia at the archive of ESA, or at a mirror that has its table, over TAP."""

from astropy.table import Table

from lightcurver_ops.catalogs.base import GAIA_UNITS, cut_to_region, gaia_table
from lightcurver_ops.catalogs.regions import Region
from lightcurver_ops.catalogs.remote import RemoteCatalog, ServiceTable


class GaiaArchive(RemoteCatalog):
    """The table `catalogs: gaia_table` at `catalogs: gaia_url`."""

    name = "gaia"

    def make_source(self) -> ServiceTable:
        """See `RemoteCatalog`."""
        return ServiceTable(
            service="the Gaia archive",
            url=self.settings.gaia_url,
            key="gaia_url, gaia_table",
            table=self.settings.gaia_table,
            columns={name: name for name in GAIA_UNITS},
            magnitude="phot_g_mean_mag",
        )

    def identity(self) -> str:
        """Provider and table, whose name has the data release."""
        return f"gaia:{self.settings.gaia_table}"

    def checked(self, table: Table) -> Table:
        """See `RemoteCatalog`."""
        return gaia_table(table, self.source.service)

    def cut(self, table: Table, region: Region, epoch_mjd: float | None, max_gmag: float | None) -> Table:
        """See `RemoteCatalog`."""
        return cut_to_region(table, region, epoch_mjd=epoch_mjd, max_gmag=max_gmag)
