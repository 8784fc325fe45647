"""Pan-STARRS: magnitudes of the reference stars in g, r, i, z, y. DR1 at VizieR (II/349/ps1), or DR2 at MAST."""

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import ArrayLike

from lightcurver_ops.catalogs.base import column_of_identifiers, column_of_numbers
from lightcurver_ops.catalogs.regions import Disk, Region, unit_vectors
from lightcurver_ops.catalogs.remote import RemoteCatalog, ServiceTable
from lightcurver_ops.catalogs.vizier import vizier_table
from lightcurver_ops.errors import ConfigurationError

AT_VIZIER = "II/349/ps1"
AT_MAST = "dbo.MeanObjectView"
SOUTHERN_LIMIT = -30.5
"""Degrees: the survey ends a little below declination -30 (Chambers et al. 2016, arXiv:1612.05560)."""
EPOCH = 2012.5
"""Julian year in the middle of the survey (2010 to 2015): move stars here before `match`."""
BANDS = ("g", "r", "i", "z", "y")
VIZIER_COLUMNS = {
    "objID": "source_id",
    "RAJ2000": "ra",
    "DEJ2000": "dec",
    **{f"{band}mag": f"{band}_mag" for band in BANDS},
    **{f"e_{band}mag": f"{band}_mag_error" for band in BANDS},
}
"""VizieR's names of the PSF magnitudes (AB) of the mean of the exposures."""
MAST_COLUMNS = {
    "objID": "source_id",
    "raMean": "ra",
    "decMean": "dec",
    **{f"{band}MeanPSFMag": f"{band}_mag" for band in BANDS},
    **{f"{band}MeanPSFMagErr": f"{band}_mag_error" for band in BANDS},
}
"""MAST's names of the same."""
MAST_LARGEST_RADIUS = 0.24
"""Degrees: MAST's service refuses cones from 0.25 degrees on."""
MAST_CONDITION = "nDetections > 2"
"""Leaves out what was seen once or twice, mostly artefacts; DR1 at VizieR does so itself."""
UNKNOWN = -900.0
"""Values below mean that there is none: MAST writes -999."""


class Panstarrs(RemoteCatalog):
    """Pan-STARRS. It has no Gaia magnitudes: for zero points, not for the choice of stars."""

    name = "panstarrs"

    def make_source(self) -> ServiceTable:
        """See `RemoteCatalog`."""
        if self.settings.panstarrs == "vizier":
            return vizier_table(self.settings, AT_VIZIER, VIZIER_COLUMNS, epoch=EPOCH)
        return ServiceTable(
            service="MAST (Pan-STARRS DR2)",
            url=self.settings.mast_url,
            key="mast_url",
            table=AT_MAST,
            columns=MAST_COLUMNS,
            condition=MAST_CONDITION,
            largest_radius_deg=MAST_LARGEST_RADIUS,
            epoch=EPOCH,
        )

    def identity(self) -> str:
        """Provider and data release."""
        return f"vizier:{AT_VIZIER}" if self.settings.panstarrs == "vizier" else "mast:ps1dr2"

    def refuse(self, disk: Disk, max_gmag: float | None) -> None:
        """See `RemoteCatalog`."""
        if max_gmag is not None:
            raise ConfigurationError("Pan-STARRS has no Gaia G: query it without max_gmag.")
        if disk.dec < SOUTHERN_LIMIT:
            raise ConfigurationError(
                f"Pan-STARRS ends at declination {SOUTHERN_LIMIT} and the region is centred on {disk.dec:.2f}: choose "
                "a zero_points: photometric_band that Gaia gives (G, g_sdss, r_sdss, i_sdss, V, R, Ic, B_T, V_T)."
            )

    def checked(self, table: Table) -> Table:
        """Columns source_id, ra, dec (ICRS degrees), `<band>_mag`, `<band>_mag_error` (AB); unknown values masked."""
        result = Table(masked=True)
        result["source_id"] = column_of_identifiers(table["source_id"], self.source.service)
        for name in ["ra", "dec", *(f"{band}_mag{kind}" for kind in ("", "_error") for band in BANDS)]:
            unit = "deg" if name in ("ra", "dec") else "mag"
            if name not in table.colnames:
                values = MaskedColumn(np.full(len(table), np.nan), mask=True, unit=unit)
            else:
                values = column_of_numbers(table[name], unit, self.source.service)
            if unit == "mag":
                values = MaskedColumn(np.ma.masked_less(np.ma.asarray(values), UNKNOWN), unit=unit)
            result[name] = values
        return result

    def cut(self, table: Table, region: Region, epoch_mjd: float | None, max_gmag: float | None) -> Table:
        """See `RemoteCatalog`; the survey has no proper motions."""
        ra, dec = np.asarray(table["ra"]), np.asarray(table["dec"])
        return table[region.contains(ra, dec)]


def match(
    table: Table, ra: ArrayLike, dec: ArrayLike, *, radius_arcsec: float = 1.0
) -> dict[str, np.ndarray]:
    """Magnitudes of stars by position.

    Args:
        table: an answer of `Panstarrs.query`, N sources.
        ra, dec: ICRS degrees of the stars at `EPOCH`, shape [S].
        radius_arcsec: how far a source may be from its star.

    Returns:
        band -> magnitudes [S]; NaN where no source, or more than one, lies within the radius.
    """
    from scipy.spatial import cKDTree

    count = len(np.atleast_1d(ra))
    result = {band: np.full(count, np.nan) for band in BANDS}
    if not len(table) or not count:
        return result
    chord = 2.0 * np.sin(np.radians(radius_arcsec / 3600.0) / 2.0)
    sources = cKDTree(unit_vectors(table["ra"], table["dec"]))
    near = sources.query_ball_point(unit_vectors(np.atleast_1d(ra), np.atleast_1d(dec)), chord)
    single = np.array([found[0] if len(found) == 1 else -1 for found in near])
    for band in BANDS:
        magnitudes = np.ma.filled(np.ma.asarray(MaskedColumn(table[f"{band}_mag"]), dtype=np.float64), np.nan)
        result[band][single >= 0] = magnitudes[single[single >= 0]]
    return result
