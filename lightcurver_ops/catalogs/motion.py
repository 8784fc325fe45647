"""Where a star is at the time of an exposure."""

import numpy as np
from numpy.typing import ArrayLike

MAS = np.radians(1.0 / 3.6e6)


def positions_at(
    ra: ArrayLike, dec: ArrayLike, pmra: ArrayLike, pmdec: ArrayLike, ref_epoch: ArrayLike, mjd: ArrayLike
) -> tuple[np.ndarray, np.ndarray]:
    """Positions moved by proper motion, in space rather than in coordinates, hence also at the poles.

    Uniform motion along the tangent of the sphere, no parallax and no radial velocity: the direction of
    r + mu t, with mu = pmra * east + pmdec * north (ESA 1997, The Hipparcos and Tycho Catalogues, SP-1200,
    vol. 1, eq. 1.5.17 with these two terms left out; both stay below 1 mas per century but for the nearest stars).

    Args:
        ra, dec: ICRS degrees at `ref_epoch`, shape [S].
        pmra, pmdec: mas per year, pmra with the factor cos(dec), shape [S]; NaN or masked: taken as zero.
        ref_epoch: Julian year, scalar or [S].
        mjd: MJD (UTC), any shape [E...] or scalar.

    Returns:
        ra, dec: ICRS degrees, shape [S, E...] ([S] for a scalar mjd).
    """
    ra, dec, pmra, pmdec, ref_epoch = np.broadcast_arrays(
        *(np.ma.filled(np.ma.asarray(v, dtype=np.float64), np.nan) for v in (ra, dec, pmra, pmdec, ref_epoch))
    )
    mjd = np.asarray(mjd, dtype=np.float64)
    alpha, delta = np.radians(ra), np.radians(dec)
    zero = np.zeros_like(alpha)
    position = np.stack([np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)])
    east = np.stack([-np.sin(alpha), np.cos(alpha), zero])
    north = np.stack([-np.sin(delta) * np.cos(alpha), -np.sin(delta) * np.sin(alpha), np.cos(delta)])
    motion = MAS * (np.nan_to_num(pmra) * east + np.nan_to_num(pmdec) * north)

    per_epoch = (...,) + (None,) * mjd.ndim
    years = 2000.0 + (mjd - 51544.5) / 365.25 - ref_epoch[per_epoch]
    x, y, z = position[per_epoch] + motion[per_epoch] * years
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))
