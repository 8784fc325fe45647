"""Choice and names of the reference stars."""

import itertools

import numpy as np
import pytest

from lightcurver_ops.catalogs.regions import separation_deg
from lightcurver_ops.catalogs.selection import (
    Cuts,
    choose,
    select_reference_stars,
    star_name,
)
from lightcurver_ops.errors import ConfigurationError, QualityGate

ROI = (0.05, 40.0)


def test_names_go_on_after_z():
    assert [star_name(i) for i in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        *["a", "b", "z", "aa", "ab", "az", "ba", "zz", "aaa"]
    ]
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert [star_name(i) for i in range(26, 702)] == [
        "".join(p) for p in itertools.product(letters, repeat=2)
    ]


def test_stars_are_sorted_and_named_by_distance(field):
    stars = select_reference_stars(field, *ROI, Cuts()).table
    distance = separation_deg(stars["ra"], stars["dec"], *ROI) * 3600
    np.testing.assert_allclose(stars["distance_to_roi_arcsec"], distance)
    assert np.all(np.diff(distance) >= 0)
    assert list(stars["name"][:3]) == ["a", "b", "c"]
    assert len(set(stars["name"])) == len(field)


def test_row_order_of_the_catalogue_does_not_matter(field):
    field["ra"][10], field["dec"][10] = field["ra"][20], field["dec"][20]
    shuffled = field[np.random.default_rng(5).permutation(len(field))]
    first, second = (select_reference_stars(t, *ROI, Cuts(max_gmag=18)).table for t in (field, shuffled))
    assert list(first["source_id"]) == list(second["source_id"])


def test_every_cut_counts_what_it_removes(field):
    cuts = Cuts(
        min_gmag=12,
        max_gmag=18,
        max_astrometric_excess_noise=1.0,
        max_astrometric_excess_noise_significance=2.0,
        min_phot_g_mean_flux_over_error=300,
        exclusion_radius_arcsec=300.0,
    )
    stars = select_reference_stars(field, *ROI, cuts)
    noise = np.ma.filled(field["astrometric_excess_noise"], np.nan)
    g = np.asarray(field["phot_g_mean_mag"])
    passing = (
        (separation_deg(field["ra"], field["dec"], *ROI) * 3600 > 300)
        & (g >= 12)
        & (g <= 18)
        & (noise <= 1.0)
        & (np.asarray(field["astrometric_excess_noise_sig"]) <= 2.0)
        & (np.asarray(field["phot_g_mean_flux_over_error"]) >= 300)
    )
    assert set(stars.table["source_id"]) == set(field["source_id"][passing])
    assert (
        sum(stars.removed.values()) + sum(stars.unknown.values()) + len(stars.table) == stars.n_queried == 300
    )
    assert all(n > 0 for n in stars.removed.values())
    reached = (separation_deg(field["ra"], field["dec"], *ROI) * 3600 > 300) & (g >= 12) & (g <= 18)
    assert stars.unknown["max_astrometric_excess_noise"] == np.sum(reached & np.isnan(noise)) > 0
    assert f"{len(stars.table)} of 300 stars remain" in stars.account()


def test_a_cut_on_an_absent_column_is_an_error_and_null_is_not(field):
    field.remove_column("astrometric_excess_noise")
    with pytest.raises(ConfigurationError) as error:
        select_reference_stars(field, *ROI, Cuts(max_astrometric_excess_noise=1.0))
    assert "no column astrometric_excess_noise" in str(error.value)
    assert "max_astrometric_excess_noise: null" in str(error.value)
    assert len(select_reference_stars(field, *ROI, Cuts()).table) == 300


def test_too_few_stars_says_which_cut_removed_how_many(field):
    with pytest.raises(QualityGate) as error:
        select_reference_stars(field, *ROI, Cuts(max_gmag=10.1, min_number_stars=20))
    n = int(np.sum(np.asarray(field["phot_g_mean_mag"]) <= 10.1))
    assert f"{n} of 300 stars remain (max_gmag removed {300 - n})" in str(error.value)
    assert error.value.measured["n_stars"] == n
    assert error.value.measured["removed_by_max_gmag"] == 300 - n


def test_no_star_at_all_is_too_few(field):
    with pytest.raises(QualityGate, match="0 of 0 stars remain"):
        select_reference_stars(field[:0], *ROI, Cuts())


def test_distance_is_taken_at_the_epoch_of_the_frames(field):
    """A star on the ROI in 2016 that moved 20 arcsec away passes an exclusion radius of 10."""
    field["ra"][0], field["dec"][0], field["pmra"][0], field["pmdec"][0] = *ROI, 0.0, 4000.0
    cuts = Cuts(exclusion_radius_arcsec=10.0)
    assert field["source_id"][0] not in select_reference_stars(field, *ROI, cuts).table["source_id"]
    late = select_reference_stars(field, *ROI, cuts, epoch_mjd=51544.5 + 21 * 365.25).table
    assert late["distance_to_roi_arcsec"][
        list(late["source_id"]).index(field["source_id"][0])
    ] == pytest.approx(20.0)


NAMES = [star_name(i) for i in range(30)]


@pytest.mark.parametrize(
    ("use", "exclude", "expected"),
    [
        (3, [], ["a", "b", "c"]),
        (3, "ac", ["b", "d", "e"]),
        (100, [], NAMES),
        (["d", "aa", "b"], [], ["b", "d", "aa"]),
        ("dba", [], ["a", "b", "d"]),
        (["a", "b", "a"], ["b"], ["a"]),
    ],
)
def test_choice_of_stars(use, exclude, expected):
    assert choose(NAMES, use, exclude) == expected


@pytest.mark.parametrize(
    ("use", "exclude", "complaint"),
    [
        (["a", "zz"], [], "'zz'; there are a, b"),
        (3, ["q1"], "'q1'; there are a, b"),
        (0, [], "1 or more"),
        (["a"], ["a"], "no reference star is left"),
        ([], [], "no reference star is left"),
    ],
)
def test_impossible_choices(use, exclude, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        choose(NAMES, use, exclude)
