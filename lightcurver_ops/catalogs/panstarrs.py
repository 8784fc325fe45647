"""Pan-STARRS DR1 at VizieR (II/349/ps1): magnitudes of the reference stars in g, r, i, z, y."""

import numpy as np
from astropy.table import MaskedColumn, Table
from numpy.typing import ArrayLike

from lightcurver_ops.catalogs.base import disk_to_ask
from lightcurver_ops.catalogs.regions import Region, unit_vectors
from lightcurver_ops.catalogs.vizier import ask_vizier
from lightcurver_ops.errors import ConfigurationError

PANSTARRS_AT_VIZIER = "II/349/ps1"
SOUTHERN_LIMIT = -30.5
"""Degrees: the survey ends a little below declination -30 (Chambers et al. 2016, arXiv:1612.05560)."""
EPOCH = 2012.5
"""Julian year in the middle of the survey (2010 to 2015): move stars here before `match`."""
BANDS = ("g", "r", "i", "z", "y")
COLUMNS = {
    "objID": "source_id",
    "RAJ2000": "ra",
    "DEJ2000": "dec",
    **{f"{band}mag": f"{band}_mag" for band in BANDS},
    **{f"e_{band}mag": f"{band}_mag_error" for band in BANDS},
}
"""VizieR's names of the PSF magnitudes (AB) of the mean of the exposures."""


class Panstarrs:
    """Pan-STARRS DR1. It has no Gaia magnitudes: for zero points, not for the choice of stars.

    Args:
        server: host name of a VizieR mirror; None: astroquery's own choice.
    """

    name = "panstarrs"

    def __init__(self, server: str | None = None):
        self.server = server

    def identity(self) -> str:
        """Provider and catalogue."""
        return f"vizier:{PANSTARRS_AT_VIZIER}"

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """Sources of a region: source_id, ra, dec (ICRS degrees), `<band>_mag`, `<band>_mag_error` (AB).

        Raises:
            ConfigurationError: a region that the survey does not reach, or a limit in Gaia's G.
            TemporaryFailure: the network or the server failed.
        """
        if max_gmag is not None:
            raise ConfigurationError("Pan-STARRS has no Gaia G: query it without max_gmag.")
        disk = disk_to_ask(region, epoch_mjd, EPOCH)
        if disk.dec < SOUTHERN_LIMIT:
            raise ConfigurationError(
                f"Pan-STARRS ends at declination {SOUTHERN_LIMIT} and the region is centred on {disk.dec:.2f}: choose "
                "a zero_points: photometric_band that Gaia gives (G, g_sdss, r_sdss, i_sdss, V, R, Ic, B_T, V_T)."
            )
        answer = ask_vizier(PANSTARRS_AT_VIZIER, COLUMNS, disk, server=self.server)
        return answer[region.contains(answer["ra"], answer["dec"])]


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
