"""Magnitudes in other bands."""

from typing import get_args

import numpy as np
import pytest

from lightcurver_ops.config.sections import Band
from lightcurver_ops.numerics.synthetic_magnitudes import (
    GAIA_BANDS,
    GAIA_RELATIONS,
    PANSTARRS_BANDS,
    magnitudes_in_band,
    panstarrs_band,
)


@pytest.mark.parametrize(
    ("band", "expected", "tolerance"),
    # The Sun by Willmer 2018 (ApJS 236, 47), apparent at 10 pc: r, i (SDSS, AB), V, R, Ic (Vega);
    # G = 4.67 and BP - RP = 0.82 by Casagrande & VandenBerg 2018 (MNRAS 479, L102).
    [
        ("r_sdss", 4.65, 0.06),
        ("i_sdss", 4.53, 0.06),
        ("V", 4.81, 0.05),
        ("R", 4.43, 0.07),
        ("Ic", 4.10, 0.07),
    ],
)
def test_the_sun(band, expected, tolerance):
    assert magnitudes_in_band(band, 4.67, 0.82)[0] == pytest.approx(expected, abs=tolerance)


def test_relations_agree_with_each_other_through_relations_of_others():
    """SDSS to Johnson-Cousins by Lupton (2005, SDSS DR4 documentation, scatter 0.005 to 0.01 mag), Tycho to Johnson
    by ESA 1997 (SP-1200, vol. 1, eq. 1.3.20): neither knows of Gaia; each Gaia relation scatters by 0.03 or more."""
    colour = np.linspace(0.6, 1.6, 30)
    g, r, i, v, cousins_r, cousins_i, bt, vt = (
        magnitudes_in_band(band, np.full(30, 15.0), colour)[0]
        for band in ("g_sdss", "r_sdss", "i_sdss", "V", "R", "Ic", "B_T", "V_T")
    )
    np.testing.assert_allclose(v, g - 0.5784 * (g - r) - 0.0038, atol=0.05)
    np.testing.assert_allclose(cousins_r, r - 0.1837 * (g - r) - 0.0971, atol=0.05)
    np.testing.assert_allclose(cousins_i, r - 1.2444 * (r - i) - 0.3820, atol=0.05)
    np.testing.assert_allclose(v, vt - 0.09 * (bt - vt), atol=0.05)


def test_bluer_bands_are_fainter_for_a_red_star():
    order = ["B_T", "g_sdss", "V_T", "V", "r_sdss", "R", "Ic"]
    values = [float(magnitudes_in_band(band, 15.0, 1.7)[0]) for band in order]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("band", GAIA_RELATIONS)
def test_outside_the_range_or_without_colour_there_is_no_magnitude(band):
    low, high = GAIA_RELATIONS[band].colour_range
    colour = np.array([low - 0.01, low + 0.01, high - 0.01, high + 0.01, np.nan])
    result, scatter = magnitudes_in_band(band, np.full(5, 15.0), colour)
    np.testing.assert_array_equal(np.isfinite(result), [False, True, True, False, False])
    np.testing.assert_array_equal(np.isfinite(scatter), np.isfinite(result))
    assert 0.02 < scatter[1] < 0.08
    masked = np.ma.masked_array([1.0, 1.0], mask=[True, False])
    np.testing.assert_array_equal(np.isnan(magnitudes_in_band(band, [15.0, 15.0], masked)[0]), [True, False])
    np.testing.assert_array_equal(np.isnan(magnitudes_in_band(band, masked, [1.0, 1.0])[1]), [True, False])


def test_g_needs_no_colour():
    g = np.ma.masked_array([14.0, 15.0], mask=[False, True])
    magnitude, scatter = magnitudes_in_band("G", g, [np.nan] * 2)
    np.testing.assert_array_equal(magnitude, [14.0, np.nan])
    np.testing.assert_array_equal(scatter, [0.03, np.nan])


def test_atlas_bands_are_mixtures_of_pan_starrs_ones():
    stars = {"g": [16.0, np.nan], "r": [15.0, 15.0], "i": [14.5, 14.0], "z": [14.2, 13.5], "y": [14.1, 13.0]}
    np.testing.assert_allclose(panstarrs_band("c_panstarrs", stars), [0.49 * 16 + 0.51 * 15, np.nan])
    np.testing.assert_allclose(panstarrs_band("o_panstarrs", stars), [0.55 * 15 + 0.45 * 14.5, 14.55])
    for letter in "grizy":
        np.testing.assert_array_equal(panstarrs_band(f"{letter}_panstarrs", stars), stars[letter])


def test_unknown_bands_are_refused_with_those_known():
    with pytest.raises(ValueError, match=r"'u_sdss'.*g_sdss"):
        magnitudes_in_band("u_sdss", 1.0, 1.0)
    with pytest.raises(ValueError, match=r"'g_sdss'.*c_panstarrs"):
        panstarrs_band("g_sdss", {})


def test_every_configurable_band_is_known():
    configurable = get_args(Band)
    assert {*GAIA_BANDS, *PANSTARRS_BANDS} == set(configurable)
