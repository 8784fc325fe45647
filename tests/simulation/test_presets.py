"""The lenses to choose from are what they say, and their arcs pass through their images."""

from dataclasses import replace

import numpy as np
import pytest

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.simulation import LensOptions, SeasonOptions, lens_preset, simulate_season
from lightcurver_ops.simulation.lensing import lensed_host
from lightcurver_ops.simulation.presets import PRESETS, choose_lens


def separations(lens):
    places = np.array(lens.offsets_arcsec)
    distances = np.hypot(*(places[:, None] - places[None]).transpose(2, 0, 1))
    return distances[np.triu_indices(len(places), 1)]


@pytest.mark.parametrize("name", list(PRESETS))
def test_images_show_the_source_and_arcs_pass_through_them(name):
    lens = lens_preset(name)
    places = np.array(lens.offsets_arcsec)
    np.testing.assert_allclose(
        np.transpose(lens.mass.source_of(*places.T)),
        np.tile(lens.mass.source_arcsec, (len(places), 1)),
        atol=1e-6,
    )
    arcs = lensed_host(lens.mass, lens.host)
    outside = max(arcs.xValue(*(1.6 * place)) for place in places)
    assert min(arcs.xValue(*place) for place in places) > 2 * outside
    assert list(lens.magnitudes) == sorted(lens.magnitudes)
    assert min(lens.delays_days) == 0


def test_they_are_what_they_are_called():
    lenses = {name: lens_preset(name) for name in PRESETS}
    assert {name: len(lens.labels) for name, lens in lenses.items()} == {
        "cross": 4,
        "fold": 4,
        "double": 2,
        "wide": 4,
        "faint": 4,
    }
    assert separations(lenses["fold"]).min() < 0.6
    assert separations(lenses["cross"]).min() > 1.0
    assert separations(lenses["wide"]).max() == pytest.approx(5.0, abs=0.1)
    assert lenses["faint"].magnitudes[-1] == pytest.approx(21.0, abs=0.05)


def test_arcs_and_profile_can_be_chosen():
    assert choose_lens() == LensOptions()
    assert choose_lens(arcs=21.5).host.magnitude == 21.5
    assert choose_lens("fold").host is None
    assert choose_lens("fold", arcs=20.3).host.magnitude == 20.3
    assert choose_lens("fold", profile="exponential").galaxy.sersic_index == 1.0
    assert choose_lens("cross", profile="de-vaucouleurs").galaxy.sersic_index == 4.0
    assert choose_lens("cross", profile="bulge-disc").galaxy.disc_fraction > 0
    with pytest.raises(
        ConfigurationError, match="no lens 'ring': there are cross, fold, double, wide, faint"
    ):
        lens_preset("ring")


def test_the_default_lens_is_that_of_the_default_mass():
    lens = LensOptions()
    found = lens.mass.images().places
    for place in lens.offsets_arcsec:
        assert np.hypot(*(found - place).T).min() < 2e-3


def test_a_season_with_arcs_keeps_them_in_its_truth(tmp_path):
    lens = choose_lens("double", arcs=20.0)
    options = SeasonOptions(shape=(64, 64), lens=lens, n_nights=1, exposures_per_night=1)
    truth = simulate_season(options, tmp_path)
    with_arcs = truth.roi().galaxy.sum()
    without = replace(truth, options=replace(options, lens=replace(lens, host=None))).roi().galaxy.sum()
    assert with_arcs - without == pytest.approx(10 ** (0.4 * (25.5 - 20.0)), rel=0.05)
