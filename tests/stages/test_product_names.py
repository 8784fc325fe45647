"""Products of different filters never share a file."""

import itertools

from lightcurver_ops.config import load_lens
from lightcurver_ops.stages.calculate_normalization_coefficient import filter_part, prepared_path

NAMES = [
    "r",
    "R",
    "SDSS r",
    "SDSS_r",
    "SDSS-r",
    "SDSS  r",
    "SDSS/r",
    "Hα",
    "Hβ",
    "H_",
    "r'",
    'r"',
    "i.MP9702",
    "B+ND4",
]


def test_every_filter_has_files_of_its_own(season):
    config = load_lens(season.config_path)
    paths = {name: prepared_path(config, name) for name in NAMES}
    for one, other in itertools.combinations(NAMES, 2):
        assert paths[one] != paths[other], (one, other)
    assert all(path.parent == paths["r"].parent for path in paths.values())


def test_names_that_can_be_files_stay_as_they_are():
    assert [filter_part(name) for name in ("r", "SDSS_r", "i.MP9702", "B+ND4")] == [
        "r",
        "SDSS_r",
        "i.MP9702",
        "B+ND4",
    ]
    assert filter_part("SDSS r").startswith("SDSS_r~")
