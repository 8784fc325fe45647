"""Gaia DR3 at the archive of ESA, asked in ADQL over TAP."""

from typing import Any

from astropy.table import Table

from lightcurver_ops.catalogs.base import GAIA_UNITS, cut_to_region, disk_to_ask, gaia_table
from lightcurver_ops.catalogs.regions import Disk, Region
from lightcurver_ops.catalogs.remote import ROW_LIMIT, asking, refuse_too_many
from lightcurver_ops.errors import TemporaryFailure

TAP_URL = "https://gea.esac.esa.int:443/tap-server/tap"
SERVICE = "the Gaia archive"
SOURCE_TABLE = "gaiadr3.gaia_source"
SYNCHRONOUS_ROWS = 2000
"""The archive's synchronous answers end here; larger ones go through a job."""


class GaiaArchive:
    """ESA's archive. Nothing is imported or contacted before the first query.

    Args:
        tap_url: another TAP service that has `gaiadr3.gaia_source`, as a mirror.
    """

    name = "gaia"

    def __init__(self, tap_url: str = TAP_URL):
        self.tap_url = tap_url

    def identity(self) -> str:
        """Provider and table."""
        mirror = "" if self.tap_url == TAP_URL else f"@{self.tap_url}"
        return f"gaia:{SOURCE_TABLE}{mirror}"

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """See `CatalogProvider.query`."""
        disk = disk_to_ask(region, epoch_mjd)
        with asking(SERVICE):
            # TapPlus itself: importing astroquery.gaia contacts the archive to print its announcements.
            from astroquery.utils.tap.core import TapPlus

            tap = TapPlus(url=self.tap_url)
            count = int(tap.launch_job(count_adql(disk, max_gmag)).get_results().columns[0][0])
        if count > ROW_LIMIT:
            raise refuse_too_many(SERVICE, disk, str(count))
        with asking(SERVICE):
            answer = _rows(tap, stars_adql(disk, max_gmag), count)
        if len(answer) != count:
            raise TemporaryFailure(
                f"{SERVICE} counted {count} stars but sent {len(answer)}; try again later."
            )
        return cut_to_region(gaia_table(answer, SERVICE), region, epoch_mjd=epoch_mjd, max_gmag=max_gmag)


def count_adql(disk: Disk, max_gmag: float | None) -> str:
    """ADQL that counts the stars of a disk."""
    return f"SELECT COUNT(*) AS n FROM {SOURCE_TABLE} WHERE {_condition(disk, max_gmag)}"


def stars_adql(disk: Disk, max_gmag: float | None) -> str:
    """ADQL for the stars of a disk, in the columns of `GAIA_UNITS`."""
    return f"SELECT {', '.join(GAIA_UNITS)} FROM {SOURCE_TABLE} WHERE {_condition(disk, max_gmag)}"


def _condition(disk: Disk, max_gmag: float | None) -> str:
    cone = (
        f"1 = CONTAINS(POINT('ICRS', ra, dec), "
        f"CIRCLE('ICRS', {disk.ra:.10f}, {disk.dec:.10f}, {disk.radius_deg:.10f}))"
    )
    return cone if max_gmag is None else f"{cone} AND phot_g_mean_mag <= {max_gmag:.6f}"


def _rows(tap: Any, adql: str, count: int) -> Table:
    launch = tap.launch_job if count <= SYNCHRONOUS_ROWS else tap.launch_job_async
    answer: Table = launch(adql).get_results()
    # Some versions of the archive answer SOURCE_ID to source_id.
    answer.rename_columns(list(answer.colnames), [name.lower() for name in answer.colnames])
    return answer
