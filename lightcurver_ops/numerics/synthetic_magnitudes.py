"""Magnitudes of stars in the usual bands, from Gaia's photometry or from Pan-STARRS's.

Relations G - X = sum_i c_i (BP - RP)^i: Gaia EDR3 documentation, section 5.5.1 (J. M. Carrasco and M. Bellazzini),
coefficients and scatter in tables 5.6 and 5.7 (5.8 and 5.9 in the edition for DR3); validity ranges and their
footnotes: Riello et al. 2021, A&A 649, A3, table C.1. Pan-STARRS to ATLAS c and o: Tonry et al. 2018, PASP 130,
064505, eq. 2. Magnitudes in Gaia, Johnson-Cousins and Tycho bands are Vega's, SDSS, Pan-STARRS and ATLAS ones are AB.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class Relation:
    """G - X as a polynomial in BP - RP.

    Args:
        coefficients: of rising powers.
        colour_range: BP - RP between which it holds for stars of any luminosity class.
        scatter: mag, of single stars around it.
    """

    coefficients: tuple[float, ...]
    colour_range: tuple[float, float]
    scatter: float


# g, r (SDSS) and R are published up to 3, 3 and 4, but above 2 for M giants only; a star of this colour is usually
# a dwarf, and nothing in the catalogue tells, so the range ends at 2.
GAIA_RELATIONS: Mapping[str, Relation] = {
    "g_sdss": Relation((0.2199, -0.6365, -0.1548, 0.0064), (0.3, 2.0), 0.0745),
    "r_sdss": Relation((-0.09837, 0.08592, 0.1907, -0.1701, 0.02263), (0.0, 2.0), 0.03776),
    "i_sdss": Relation((-0.293, 0.6404, -0.09609, -0.002104), (0.5, 2.0), 0.04092),
    "V": Relation((-0.02704, 0.01424, -0.2156, 0.01426), (-0.5, 5.0), 0.03017),
    "R": Relation((-0.02275, 0.3961, -0.1243, -0.01396, 0.003775), (0.0, 2.0), 0.03167),
    "Ic": Relation((0.01753, 0.76, -0.0991), (-0.5, 4.5), 0.03765),
    "B_T": Relation((-0.004288, -0.8547, 0.1244, -0.9085, 0.4843, -0.06814), (-0.3, 3.0), 0.07063),
    "V_T": Relation((-0.01077, -0.0682, -0.2387, 0.02342), (-0.35, 4.0), 0.0535),
}
GAIA_BANDS = ("G", *GAIA_RELATIONS)
NOMINAL_SCATTER = 0.03
"""Mag: of G in place of the frames' own band, where no relation gives a scatter."""
PANSTARRS_BANDS = tuple(f"{band}_panstarrs" for band in "grizyco")
_ATLAS = {"c": (("g", 0.49), ("r", 0.51)), "o": (("r", 0.55), ("i", 0.45))}


def magnitudes_in_band(band: str, g: ArrayLike, bp_rp: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Magnitudes in a band from Gaia DR3's mean magnitudes.

    Args:
        band: one of `GAIA_BANDS`.
        g: phot_g_mean_mag; masked or NaN: unknown.
        bp_rp: phot_bp_mean_mag - phot_rp_mean_mag, of the same shape.

    Returns:
        magnitudes, and the scatter of single stars around the relation (mag), of that shape; both NaN where G or the
        colour is unknown or the colour is outside the relation's range. Band G is G itself, whatever the colour.

    Raises:
        ValueError: an unknown band.
    """
    g, colour = _known(g), _known(bp_rp)
    if band == "G":
        return g.copy(), np.where(np.isfinite(g), NOMINAL_SCATTER, np.nan)
    if band not in GAIA_RELATIONS:
        raise ValueError(
            f"no relation from Gaia's photometry to the band {band!r}: one of {', '.join(GAIA_BANDS)}"
        )
    relation = GAIA_RELATIONS[band]
    low, high = relation.colour_range
    valid = np.isfinite(g) & (colour >= low) & (colour <= high)
    magnitude = g - np.polynomial.polynomial.polyval(colour, relation.coefficients)
    return np.where(valid, magnitude, np.nan), np.where(valid, relation.scatter, np.nan)


def panstarrs_band(band: str, magnitudes: Mapping[str, ArrayLike]) -> np.ndarray:
    """Magnitudes in a band from Pan-STARRS DR1's, those of ATLAS's c and o included.

    Args:
        band: one of `PANSTARRS_BANDS`.
        magnitudes: {"g": [S], "r": [S], ...} in the Pan-STARRS system; masked or NaN: unknown.

    Returns:
        Magnitudes [S], NaN where unknown.

    Raises:
        ValueError: an unknown band.
    """
    if band not in PANSTARRS_BANDS:
        raise ValueError(f"{band!r} is no Pan-STARRS band: one of {', '.join(PANSTARRS_BANDS)}")
    letter = band[0]
    parts = _ATLAS.get(letter, ((letter, 1.0),))
    return np.sum([weight * _known(magnitudes[name]) for name, weight in parts], axis=0)


def _known(values: ArrayLike) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)
