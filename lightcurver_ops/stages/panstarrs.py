"""Pan-STARRS magnitudes of the reference stars."""

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.config import LensConfig
from lightcurver_ops.stages.catalogs import PANSTARRS_MARGIN, panstarrs_of
from lightcurver_ops.stages.star_columns import star_column


def panstarrs_magnitudes(
    config: LensConfig, chosen: list[sa.Row], band: str
) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes [S] and their errors [S] in a ``*_panstarrs`` band; NaN where Pan-STARRS has no single source.

    Raises:
        TemporaryFailure: the service does not answer.
        ConfigurationError: the field lies outside the survey, or is not in the cache of a lens that is offline.
    """
    from lightcurver_ops.catalogs import panstarrs
    from lightcurver_ops.catalogs.motion import positions_at
    from lightcurver_ops.catalogs.regions import Disk
    from lightcurver_ops.numerics.synthetic_magnitudes import panstarrs_band

    if not chosen:
        return np.zeros(0), np.zeros(0)

    radius = max(star.distance_to_roi_arcsec for star in chosen) / 3600 + PANSTARRS_MARGIN
    table = panstarrs_of(config).query(Disk(config.roi.ra, config.roi.dec, radius))
    mjd = 51544.5 + (panstarrs.EPOCH - 2000.0) * 365.25
    ra, dec, pmra, pmdec, ref_epoch = (
        star_column(chosen, name) for name in ("ra", "dec", "pmra", "pmdec", "ref_epoch")
    )
    ra, dec = positions_at(ra, dec, pmra, pmdec, ref_epoch, mjd)
    magnitude = panstarrs_band(band, panstarrs.match(table, ra, dec))
    return magnitude, np.full(len(chosen), np.nan)
