"""YAML files to models: every message names file, line, key, value, what is allowed, and the nearest key."""

import pytest

from lightcurver_ops.config import load_lens, load_observatory
from lightcurver_ops.config.loading import load_lens_with_notices
from lightcurver_ops.errors import ConfigurationError

MINIMAL = """\
name: demo
workdir: work
raw:
  raw_dirs: [raw]
roi:
  ra: 10.0
  dec: -20.0
  point_sources: {A: [10.0, -20.0], B_2: [10.0001, -20.0]}
"""


@pytest.fixture
def write(tmp_path):
    def write(text, name="lens.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_defaults_cover_everything_else(write, tmp_path):
    lens = load_lens(write(MINIMAL))
    assert lens.psf.subsampling_factor == 2
    assert lens.cutouts.stamp_size_stars == 24
    assert lens.database_url == f"sqlite:///{tmp_path / 'work' / 'database.sqlite3'}"
    assert lens.roi_name == "demo"
    assert lens.telescope is None


def test_models_are_frozen(write):
    lens = load_lens(write(MINIMAL))
    with pytest.raises(ValueError, match="frozen"):
        lens.name = "other"


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("treshold: 3\n", r"line 9: unknown key 'treshold'; did you mean 'detection.threshold'\?"),
        ("psf: {subsamplingfactor: 3}\n", r"unknown key 'psf.subsamplingfactor'; did you mean 'subsampling_factor'\?"),
        ("psf: {solver: fast}\n", r"psf.solver = 'fast': Input should be 'lcops' or 'starred'"),
        ("psf: {subsampling_factor: two}\n", r"psf.subsampling_factor = 'two': Input should be a valid integer"),
        ("cutouts: {stamp_size_ROI: 31}\n", r"stamp_size_ROI = 31: Input should be a multiple of 2"),
        ("stars: {gaia_provider: file}\n", r"gaia_provider: file needs gaia_catalog_file"),
        ("stars: {min_gmag: 20, max_gmag: 15}\n", r"min_gmag \(20.0\) is the bright limit"),
        ("plate_solving: {plate_scale_interval: [3, 1]}\n", r"first number must be smaller than the second"),
        ("normalization: {fluxes_fit_exclude_strategy: {sigma_clip: 3, interval: [0, 1]}}\n", "give either"),
        ("roi_model: {fix_point_source_astrometry: -1}\n", "fix_point_source_astrometry = -1"),
        ("raw: {raw_dirs: [x]}\n", r"line 9: the key 'raw' is given twice \(first in line 3\)"),
        ("name: [\n", r"line 10, column 1: this is not valid YAML"),
        ("zzz: 1\n", "unknown key 'zzz'; known here are: .*workdir"),
        ("telescope: {name: VST, latitude: -124, longitude: 0, elevation: 0}\n", "telescope.latitude = -124: Input"),
    ],
)  # fmt: skip
def test_messages(write, addition, message):
    path = write(MINIMAL + addition)
    with pytest.raises(ConfigurationError, match=message) as error:
        load_lens(path)
    assert str(path) in str(error.value)


def test_all_findings_are_reported_at_once(write):
    path = write("name: demo\nraw: {raw_dirs: []}\nroi: {ra: 500}\n")
    with pytest.raises(ConfigurationError) as error:
        load_lens(path)
    text = str(error.value)
    for expected in ("'workdir' is required", "raw.raw_dirs", "roi.ra = 500", "'roi.dec' is required"):
        assert expected in text


def test_missing_unreadable_and_empty_files(tmp_path, write):
    with pytest.raises(ConfigurationError, match="there is no such configuration file; `lcops init"):
        load_lens(tmp_path / "none.yaml")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_lens(tmp_path)
    with pytest.raises(ConfigurationError, match="'name' is required"):
        load_lens(write(""))
    with pytest.raises(ConfigurationError, match="expected `key: value` lines, found list"):
        load_lens(write("- a\n- b\n"))


def test_an_empty_group_means_its_defaults(write):
    assert load_lens(write(MINIMAL + "psf:\nstars:\n")) == load_lens(write(MINIMAL))


def test_an_integer_prior_is_a_prior_not_a_boolean(write):
    lens = load_lens(write(MINIMAL + "roi_model: {fix_point_source_astrometry: 1}\n"))
    assert lens.roi_model.fix_point_source_astrometry == 1.0
    assert not isinstance(lens.roi_model.fix_point_source_astrometry, bool)
    lens = load_lens(write(MINIMAL + "roi_model: {fix_point_source_astrometry: true}\n"))
    assert lens.roi_model.fix_point_source_astrometry is True


def test_nothing_to_model_is_an_error(write):
    text = MINIMAL.replace("  point_sources: {A: [10.0, -20.0], B_2: [10.0001, -20.0]}\n", "")
    with pytest.raises(ConfigurationError, match=r"roi.point_sources is empty .* nothing to model"):
        load_lens(write(text + "roi_model: {further_optimize_background: false}\n"))


def test_an_observatory_gives_defaults_that_a_lens_may_override(write, tmp_path):
    (tmp_path / "lenses").mkdir()
    write(
        "name: leonhard\n"
        "defaults:\n"
        "  psf: {subsampling_factor: 3, field_distortion: true}\n"
        "  stars: {gaia_provider: file, gaia_catalog_file: gaia.ecsv}\n",
        "observatory.yaml",
    )
    path = write(
        "observatory: ../observatory.yaml\n" + MINIMAL + "psf: {subsampling_factor: 2}\n", "lenses/demo.yaml"
    )
    loaded = load_lens_with_notices(path)
    assert loaded.observatory == (tmp_path / "lenses/../observatory.yaml")
    assert loaded.lens.psf.subsampling_factor == 2
    assert loaded.lens.psf.field_distortion
    assert loaded.lens.stars.gaia_catalog_file == tmp_path / "gaia.ecsv"
    assert loaded.lens.workdir == tmp_path / "lenses" / "work"
    assert load_observatory(tmp_path / "observatory.yaml").lenses == ["lenses/*.yaml"]


def test_an_unknown_key_in_the_observatory(write):
    with pytest.raises(ConfigurationError, match=r"unknown key 'lense'; did you mean 'lenses'\?"):
        load_observatory(write("lense: [a]\n"))


def test_a_url_is_not_taken_for_a_path(write):
    lens = load_lens(write(MINIMAL.replace("[raw]", "['s3://bucket/lens', raw]")))
    assert lens.raw.raw_dirs[0] == "s3://bucket/lens"


def test_a_finding_about_the_whole_file_does_not_repeat_its_secrets(tmp_path):
    path = tmp_path / "lens.yaml"
    path.write_text(
        "name: x\nworkdir: work\ndatabase: postgresql://user:secret@host/db\nraw: {raw_dirs: [raw]}\n"
        "roi: {ra: 1, dec: 1}\nroi_model: {further_optimize_background: false}\n"
    )
    with pytest.raises(ConfigurationError, match="there is nothing to model") as found:
        load_lens(path)
    assert "secret" not in str(found.value)
