"""Magnitudes in other bands."""

import numpy as np
import pytest

from lightcurver_ops.numerics.synthetic_magnitudes import (
    GAIA_BANDS,
    GAIA_RELATIONS,
    PANSTARRS_BANDS,
    magnitudes_from_gaia,
    magnitudes_from_panstarrs,
    nominal_scatter,
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
    assert magnitudes_from_gaia(band, 4.67, 0.41, -0.41) == pytest.approx(expected, abs=tolerance)


def test_relations_agree_with_each_other_through_relations_of_others():
    """SDSS to Johnson-Cousins by Lupton (2005, SDSS DR4 documentation, scatter 0.005 to 0.01 mag), Tycho to Johnson
    by ESA 1997 (SP-1200, vol. 1, eq. 1.3.20): neither knows of Gaia; each Gaia relation scatters by 0.03 or more."""
    colour = np.linspace(0.6, 1.6, 30)
    g, r, i, v, cousins_r, cousins_i, bt, vt = (
        magnitudes_from_gaia(band, 15.0, 15.0 + colour, 15.0)
        for band in ("g_sdss", "r_sdss", "i_sdss", "V", "R", "Ic", "B_T", "V_T")
    )
    np.testing.assert_allclose(v, g - 0.5784 * (g - r) - 0.0038, atol=0.05)
    np.testing.assert_allclose(cousins_r, r - 0.1837 * (g - r) - 0.0971, atol=0.05)
    np.testing.assert_allclose(cousins_i, r - 1.2444 * (r - i) - 0.3820, atol=0.05)
    np.testing.assert_allclose(v, vt - 0.09 * (bt - vt), atol=0.05)


def test_bluer_bands_are_fainter_for_a_red_star():
    order = ["B_T", "g_sdss", "V_T", "V", "r_sdss", "R", "Ic"]
    values = [float(magnitudes_from_gaia(band, 15.0, 15.9, 14.2)) for band in order]
    assert values == sorted(values, reverse=True)


@pytest.mark.parametrize("band", GAIA_RELATIONS)
def test_outside_the_range_or_without_colour_there_is_no_magnitude(band):
    low, high = GAIA_RELATIONS[band].colour_range
    colour = np.array([low - 0.01, low + 0.01, high - 0.01, high + 0.01, np.nan])
    result = magnitudes_from_gaia(band, np.full(5, 15.0), 15.0 + colour, np.full(5, 15.0))
    np.testing.assert_array_equal(np.isfinite(result), [False, True, True, False, False])
    masked = np.ma.masked_array([15.5, 15.5], mask=[True, False])
    np.testing.assert_array_equal(
        np.isnan(magnitudes_from_gaia(band, [15.0, 15.0], masked, [14.5, 14.5])), [True, False]
    )


def test_g_needs_no_colour():
    g = np.ma.masked_array([14.0, 15.0], mask=[False, True])
    np.testing.assert_array_equal(magnitudes_from_gaia("G", g, [np.nan] * 2, [np.nan] * 2), [14.0, np.nan])


def test_atlas_bands_are_mixtures_of_pan_starrs_ones():
    stars = {"g": [16.0, np.nan], "r": [15.0, 15.0], "i": [14.5, 14.0], "z": [14.2, 13.5], "y": [14.1, 13.0]}
    np.testing.assert_allclose(
        magnitudes_from_panstarrs("c_panstarrs", stars), [0.49 * 16 + 0.51 * 15, np.nan]
    )
    np.testing.assert_allclose(
        magnitudes_from_panstarrs("o_panstarrs", stars), [0.55 * 15 + 0.45 * 14.5, 14.55]
    )
    for letter in "grizy":
        np.testing.assert_array_equal(magnitudes_from_panstarrs(f"{letter}_panstarrs", stars), stars[letter])


def test_unknown_bands_are_refused_with_those_known():
    with pytest.raises(ValueError, match=r"'u_sdss'.*g_sdss"):
        magnitudes_from_gaia("u_sdss", 1.0, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"'g_sdss'.*c_panstarrs"):
        magnitudes_from_panstarrs("g_sdss", {})


def test_every_configurable_band_has_a_scatter():
    assert all(0.0 < nominal_scatter(band) < 0.1 for band in (*GAIA_BANDS, *PANSTARRS_BANDS))
