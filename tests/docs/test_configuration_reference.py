"""The generated configuration reference: complete, and right about what is made again."""

import re

import pytest

from docs.tools import configuration
from lightcurver_ops.config import LensConfig, ObservatoryConfig
from lightcurver_ops.config.messages import _all_keys
from lightcurver_ops.stages.pipeline import STAGE_NAMES, STAGES

PAGE = configuration.reference()
KEYS = [*configuration.keys_of(LensConfig), *configuration.keys_of(ObservatoryConfig)]


def entry(key: str) -> str:
    return PAGE.split(f"#### `{key}`\n")[1].split("\n#")[0]


@pytest.mark.parametrize("model", [LensConfig, ObservatoryConfig])
def test_every_key_of_the_models_is_there(model):
    groups = {key.name for key in KEYS if key.section is not None and "." not in key.name}
    for key in _all_keys(model):  # the list of the messages, which is not ours
        heading = f"### {key}:\n" if key in groups else f"#### `{key}`\n"
        assert heading in PAGE


def test_every_key_has_a_meaning_a_type_and_a_default():
    for key in KEYS:
        if key.section is not None and "." not in key.name:
            continue
        text = entry(key.name)
        assert re.search(r"^\n\S.{8,}", text), f"{key.name} has no description"
        assert re.search(r"\*type:\* \S", text), key.name
        assert "**required**" in text or re.search(r"\*default:\* `.+`", text), key.name


def test_every_number_has_a_unit_or_is_known_to_have_none():
    numbers = {key.name for key in KEYS if key.section is None and configuration.is_number(key)}
    assert numbers == set(configuration.UNITS)
    assert "*unit:* arcsec / px" in entry("plate_solving.plate_scale_interval")


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("psf.solver", "*type:* `lcops` or `starred` · *default:* `lcops`"),
        (
            "psf.subsampling_factor",
            "*type:* integer (at least 1, at most 5) · *unit:* small px / px · *default:* `2`",
        ),
        ("roi.ra", "*type:* number (at least 0, below 360) · *unit:* deg, ICRS · **required**"),
        ("cutouts.stamp_size_ROI", "integer (at least 8, at most 512, a multiple of 2)"),
        ("plate_solving.plate_scale_interval", "[number, number] (the smaller first)"),
        ("psf.max_elongation", "number (at least 1), or `null`"),
        ("telescope.timezone", "text (an IANA name), or `null`"),
        (
            "stars.stars_to_use_control",
            "integer (at least 0, at most 3), or list of text (at most 3 of them)",
        ),
    ],
)
def test_types_ranges_and_defaults(key, shown):
    assert shown in entry(key)


def test_a_key_names_the_stages_that_read_it():
    assert "*made again:* `psf_modeling`\n" in entry("psf.n_iter_pixels") + "\n"
    assert "*made again:* nothing" in entry("compute.processes")
    for stage in STAGES:
        for key in stage.config_keys:
            assert stage.name in configuration.made_again(key)
    assert {name for key in KEYS for name in configuration.made_again(key.name)} == set(STAGE_NAMES)


def test_keys_that_act_through_what_they_choose_are_keys_of_no_stage():
    names = {key.name for key in KEYS}
    for key in configuration.THROUGH:
        assert key in names
        assert configuration.made_again(key) == []
