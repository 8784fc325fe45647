"""Rows of the table `stars` as arrays."""

from typing import TYPE_CHECKING

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.config import LensConfig

if TYPE_CHECKING:
    from lightcurver_ops.catalogs.merit import Candidates


def star_column(chosen: list[sa.Row], name: str) -> np.ndarray:
    """A column of rows of `stars`, [S]; NaN where it is unknown."""
    values = (getattr(star, name) for star in chosen)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)


def candidates_of(config: LensConfig, chosen: list[sa.Row]) -> "Candidates":
    """What the catalogue says of the stars, for the functions of `catalogs`."""
    from lightcurver_ops.catalogs.merit import Candidates, offsets

    columns = {
        ours: star_column(chosen, theirs)
        for ours, theirs in {
            "gmag": "gmag",
            "contamination": "contamination",
            "excess_noise": "astrometric_excess_noise",
            "excess_noise_sig": "astrometric_excess_noise_sig",
            "flux_over_error": "phot_g_mean_flux_over_error",
        }.items()
    }
    colour = star_column(chosen, "bmag") - star_column(chosen, "rmag")
    place = star_column(chosen, "ra"), star_column(chosen, "dec")
    east, north = offsets(*place, config.roi.ra, config.roi.dec)
    return Candidates(colour=colour, east=east, north=north, **columns)
