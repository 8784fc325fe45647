"""Catalogues at VizieR (CDS): Gaia DR3 as I/355/gaiadr3."""

from collections.abc import Mapping
from typing import Any

from astropy.table import Table

from lightcurver_ops.catalogs.base import cut_to_region, disk_to_ask, gaia_table
from lightcurver_ops.catalogs.regions import Disk, Region
from lightcurver_ops.catalogs.remote import ROW_LIMIT, asking, refuse_too_many

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


class Vizier:
    """Gaia DR3 at VizieR. Nothing is imported or contacted before the first query.

    Args:
        server: host name of a VizieR mirror; None: astroquery's own choice.
    """

    name = "vizier"

    def __init__(self, server: str | None = None):
        self.server = server

    def identity(self) -> str:
        """Provider and catalogue; a mirror holds the same."""
        return f"vizier:{GAIA_AT_VIZIER}"

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """See `CatalogProvider.query`."""
        answer = ask_vizier(
            GAIA_AT_VIZIER,
            GAIA_COLUMNS,
            disk_to_ask(region, epoch_mjd),
            filters=magnitude_filter(max_gmag),
            server=self.server,
        )
        table = gaia_table(answer, f"{GAIA_AT_VIZIER} of VizieR")
        return cut_to_region(table, region, epoch_mjd=epoch_mjd, max_gmag=max_gmag)


def magnitude_filter(max_gmag: float | None) -> dict[str, str]:
    """VizieR's constraint for stars no fainter than `max_gmag`."""
    return {} if max_gmag is None else {"Gmag": f"<={max_gmag:.6f}"}


def vizier_arguments(
    columns: Mapping[str, str], filters: Mapping[str, str], server: str | None
) -> dict[str, Any]:
    """Arguments of astroquery's VizierClass: one row more than the limit, so that a cut answer shows."""
    arguments: dict[str, Any] = {
        "columns": list(columns),
        "column_filters": dict(filters),
        "row_limit": ROW_LIMIT + 1,
    }
    return arguments if server is None else {**arguments, "vizier_server": server}


def ask_vizier(
    catalog: str,
    columns: Mapping[str, str],
    disk: Disk,
    *,
    filters: Mapping[str, str] | None = None,
    server: str | None = None,
) -> Table:
    """The rows of a VizieR catalogue in a disk, its columns renamed from the keys to the values of `columns`.

    Raises:
        TemporaryFailure: network, server or a garbled answer.
        ConfigurationError: more rows than `ROW_LIMIT`.
    """
    service = f"VizieR ({catalog})"
    with asking(service):
        from astropy import units as u
        from astropy.coordinates import SkyCoord
        from astroquery.vizier import VizierClass

        vizier = VizierClass(**vizier_arguments(columns, filters or {}, server))
        tables = vizier.query_region(
            SkyCoord(disk.ra, disk.dec, unit="deg"),
            radius=disk.radius_deg * u.deg,
            catalog=catalog,
            cache=False,
        )
    if not tables:
        return Table({name: [] for name in columns.values()})
    answer = tables[0]
    if len(answer) > ROW_LIMIT:
        raise refuse_too_many(service, disk, f"more than {ROW_LIMIT}")
    found = [name for name in columns if name in answer.colnames]
    answer = answer[found]
    answer.rename_columns(found, [columns[name] for name in found])
    return answer
