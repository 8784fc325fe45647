"""The commented configuration: valid as written, and each of its comments is a valid key."""

import re

import pytest

from lightcurver_ops.config import LensConfig, load_lens
from lightcurver_ops.config.template import lens_template
from lightcurver_ops.errors import ConfigurationError

VALUES = {
    "name": "demo",
    "workdir": "./demo",
    "raw": {"raw_dirs": ["raw"]},
    "roi": {"ra": 10.0, "dec": -20.5, "point_sources": {"A": [10.0, -20.5]}},
}


def test_the_template_is_a_valid_configuration(tmp_path):
    path = tmp_path / "lens.yaml"
    path.write_text(lens_template(VALUES))
    lens = load_lens(path)
    assert lens.name == "demo"
    assert lens.workdir == tmp_path / "demo"
    assert lens.raw.raw_dirs == [str(tmp_path / "raw")]
    assert lens.roi.point_sources == {"A": (10.0, -20.5)}


def test_every_comment_that_looks_like_a_key_shows_the_default(tmp_path):
    text = lens_template(VALUES)
    telescope = text.index("#telescope:")
    end = text.index("\n\n", telescope)
    text = text[:telescope] + text[end:]  # it has no default: the user fills it in
    uncommented = re.sub(r"(?m)^(\s*)#(\w+: .*)$", r"\1\2", text)
    assert uncommented.count("\n") == text.count("\n")
    (tmp_path / "commented.yaml").write_text(text)
    (tmp_path / "uncommented.yaml").write_text(uncommented)
    assert load_lens(tmp_path / "uncommented.yaml") == load_lens(tmp_path / "commented.yaml")


def test_every_key_of_the_models_is_in_the_template():
    text = lens_template(VALUES)

    def keys(model, depth=0):
        for name, field in model.model_fields.items():
            yield name
            nested = [item for item in [field.annotation, *getattr(field.annotation, "__args__", ())] if
                      hasattr(item, "model_fields")]  # fmt: skip
            if nested and depth == 0:
                yield from keys(nested[0], 1)

    missing = [key for key in keys(LensConfig) if not re.search(rf"(?m)^[#\s]*{key}:", text)]
    assert missing == []


def test_what_must_be_filled_in_is_refused_until_it_is(tmp_path):
    path = tmp_path / "lens.yaml"
    path.write_text(lens_template({"name": "demo", "workdir": ".", "raw": {}, "roi": {}}))
    with pytest.raises(
        ConfigurationError, match=r"line \d+: roi.ra is still to be filled in \(Right ascension"
    ):
        load_lens(path)
