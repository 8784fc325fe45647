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


@pytest.mark.parametrize(
    "section",
    [
        "raw: {raw_dirs: [raw], aws_secret_access_key: geheim}\n",
        "raw: {raw_dirs: [raw], s3_secret: geheim}\n",
        "raw: {raw_dirs: [raw], storage_options: {key: geheim, secret: geheim}}\n",
        "raw: {raw_dirs: ['s3://geheim:geheim@bucket/lens']}\n",
        "raw: {raw_dirs: ['s3://geheim@bucket/lens']}\n",
        "raw: {raw_dirs: ['ftp://user:geheim@host/lens']}\n",
        "raw: {raw_dirs: ['https://host/lens?X-Amz-Signature=geheim']}\n",
        "raw: {raw_dirs: ['s3://bucket'], s3_endpoint_url: 'https://user:geheim@host'}\n",
    ],
)
def test_credentials_are_refused_and_not_repeated(write, section):
    with pytest.raises(ConfigurationError) as found:
        load_lens(write(MINIMAL.replace("raw:\n  raw_dirs: [raw]\n", section)))
    assert "credentials do not belong into this file, which many can read: take them out" in str(found.value)
    assert "AWS_ACCESS_KEY_ID" in str(found.value)
    assert ", line 3" in str(found.value)
    assert "geheim" not in str(found.value)


def test_credentials_in_the_file_of_an_observatory(write):
    for text in (
        "watch: {raw_roots: ['s3://geheim:geheim@bucket']}\n",
        "watch: {aws_secret_access_key: geheim}\n",
    ):
        with pytest.raises(ConfigurationError, match="credentials do not belong into this file") as found:
            load_observatory(write(text))
        assert "geheim" not in str(found.value)


def test_addresses_of_stores(write):
    text = "raw: {raw_dirs: ['s3a://bucket/lens'], s3_endpoint_url: ENDPOINT, cache_dir: cache}\n"
    text = MINIMAL.replace("raw:\n  raw_dirs: [raw]\n", text)
    lens = load_lens(write(text.replace("ENDPOINT", "'https://s3.example.org:9000'")))
    assert lens.raw.raw_dirs == ["s3://bucket/lens"]
    assert lens.raw.s3_endpoint_url == "https://s3.example.org:9000"
    assert lens.raw.cache_dir.is_absolute()
    with pytest.raises(ConfigurationError, match=r"raw.s3_endpoint_url = 's3.example.org'"):
        load_lens(write(text.replace("ENDPOINT", "s3.example.org")))


@pytest.mark.parametrize(
    ("labels", "refused"), [(("A", "A_d"), True), (("A", "A_count"), True), (("A", "Ad"), False)]
)
def test_images_whose_columns_would_be_the_same(write, labels, refused):
    sources = ", ".join(f"{label}: [1, 1]" for label in labels)
    path = write(MINIMAL.replace("{A: [10.0, -20.0], B_2: [10.0001, -20.0]}", f"{{{sources}}}"))
    if not refused:
        assert tuple(load_lens(path).roi.point_sources) == labels
        return
    with pytest.raises(ConfigurationError, match=rf"the images A and {labels[1]} would share columns"):
        load_lens(path)


def test_labels_without_control_characters(write):
    path = write(MINIMAL.replace("B_2:", r'"B\n":'))
    with pytest.raises(ConfigurationError, match="point_sources"):
        load_lens(path)
