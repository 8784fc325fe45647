"""VizieR (CDS) and its mirrors: Gaia DR3 as I/355/gaiadr3."""

from collections.abc import Mapping

from astropy.table import Table

from lightcurver_ops.catalogs.base import GAIA_EPOCH, cut_to_region, gaia_table
from lightcurver_ops.catalogs.regions import Region
from lightcurver_ops.catalogs.remote import RemoteCatalog, ServiceTable
from lightcurver_ops.config.sections import Catalogs

URLS = {
    "tap": "https://tapvizier.cds.unistra.fr/TAPVizieR/tap",
    "cone": "https://vizier.cds.unistra.fr/viz-bin/conesearch",
}
GAIA_AT_VIZIER = "I/355/gaiadr3"
GAIA_COLUMNS = {
    "Source": "source_id",
    "RA_ICRS": "ra",
    "DE_ICRS": "dec",
    "pmRA": "pmra",
    "pmDE": "pmdec",
    "Gmag": "phot_g_mean_mag",
    "BPmag": "phot_bp_mean_mag",
    "RPmag": "phot_rp_mean_mag",
    "epsi": "astrometric_excess_noise",
    "sepsi": "astrometric_excess_noise_sig",
    "RFG": "phot_g_mean_flux_over_error",
}
"""VizieR's names of Gaia's columns; positions are at epoch 2016.0."""


def vizier_table(
    settings: Catalogs,
    table: str,
    columns: Mapping[str, str],
    *,
    magnitude: str | None = None,
    epoch: float = GAIA_EPOCH,
) -> ServiceTable:
    """A catalogue at VizieR, asked as the configuration says."""
    return ServiceTable(
        service=f"VizieR ({table})",
        url=settings.vizier_url or URLS[settings.vizier_protocol],
        key="vizier_url, vizier_protocol",
        table=table,
        columns=columns,
        protocol=settings.vizier_protocol,
        magnitude=magnitude,
        epoch=epoch,
    )


class Vizier(RemoteCatalog):
    """Gaia DR3 at VizieR."""

    name = "vizier"

    def make_source(self) -> ServiceTable:
        """See `RemoteCatalog`."""
        return vizier_table(self.settings, GAIA_AT_VIZIER, GAIA_COLUMNS, magnitude="phot_g_mean_mag")

    def identity(self) -> str:
        """Provider and catalogue, whose name has the data release."""
        return f"vizier:{GAIA_AT_VIZIER}"

    def checked(self, table: Table) -> Table:
        """See `RemoteCatalog`."""
        return gaia_table(table, self.source.service)

    def cut(self, table: Table, region: Region, epoch_mjd: float | None, max_gmag: float | None) -> Table:
        """See `RemoteCatalog`."""
        return cut_to_region(table, region, epoch_mjd=epoch_mjd, max_gmag=max_gmag)
