"""Files that no lens has: each is refused for what it is, in no time, and keeps nobody else from being read."""

import re
import subprocess
import sys

import pytest

from lightcurver_ops.config import load_lens, load_observatory
from lightcurver_ops.errors import ConfigurationError
from tests.in_halves import said_of_halves

LENS = """\
name: demo
workdir: work  # all products
database: null
raw:
  raw_dirs: [raw, "s3://bucket/raw"]
  header: {exptime: {keyword: EXPTIME, unit: s}, gain: {constant: 2.1}}
roi: {ra: 10.0, dec: -20.0, point_sources: {A: [10.0, -20.0], B: [10.0001, -20.0002]}}
telescope: {name: VST, longitude: -70.7, latitude: -29.2, elevation: 2400, timezone: America/Santiago}
psf: {subsampling_factor: 2, field_distortion: auto}
roi_model:
  starting_background: null
  constraints_on_frame_columns: {seeing_arcseconds: [0, 3]}
operations: {}
"""
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "workdir: {{ home }}\n",
            r"line 1: a key must be a word; a value that begins with { or \[ needs quotes",
        ),
        ("name: 2024-02-30\n", "this is not valid YAML"),
        ("name: !!float many\n", "this is not valid YAML"),
        ("name: !!timestamp many\n", "this is not valid YAML: a value does not go with its !!tag"),
        (
            "name: demo\nworkdir: ~nobody_of_this_name/x\n",
            "~nobody_of_this_name/x: there is no such user on this machine",
        ),
        ('name: demo\nworkdir: "a\\0b"\n', "cannot be a path: it has a character that no name has"),
        ("name: &a [*a]\n", "its aliases lead back to themselves or unfold to too much"),
        ("name: &a {b: *a}\n", "its aliases lead back to themselves or unfold to too much"),
        (BOMB, "its aliases lead back to themselves or unfold to too much"),
        ("[" * 5000, "its aliases lead back|not valid YAML|cannot be used"),
        ("name: *nothing\n", "this is not valid YAML"),
        ("name: !!python/object:os.system {}\n", "this is not valid YAML"),
        ("\x01name: demo\n", "this is not valid YAML"),
    ],
)
@pytest.mark.timeout(120)  # what is unfolded takes for ever
def test_what_no_lens_has(tmp_path, text, message):
    path = tmp_path / "lens.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        load_lens(path)
    with pytest.raises(ConfigurationError):
        load_observatory(path)


def test_aliases_that_are_of_use(tmp_path):
    path = tmp_path / "lens.yaml"
    path.write_text(
        "name: demo\nworkdir: work\nraw: {raw_dirs: &dirs [raw]}\nroi: {ra: &ra 10.0, dec: &dec -20.0, "
        "point_sources: {A: [*ra, *dec]}}\n"
    )
    assert load_lens(path).roi.point_sources == {"A": (10.0, -20.0)}


def test_two_thousand_damaged_files_are_loaded_or_refused():
    """In processes whose memory and time are bounded, with the lens beside them loaded."""
    for said in said_of_halves("tests.config.damaged_lenses", 2000):
        (refused,), (loaded,) = (re.findall(rf"'{kind}': (\d+)", said) for kind in ("refused", "loaded"))
        assert int(refused) + int(loaded) == 1000
        assert int(loaded) > 40


@pytest.mark.parametrize("text", ["[" * 200_000, "- " * 100_000, "{a: " * 100_000])
def test_levels_that_crash_the_parser_are_refused(tmp_path, text):
    """In a process of its own, which would end."""
    (tmp_path / "lens.yaml").write_text(text)
    program = "import sys; from lightcurver_ops.config import load_lens; load_lens(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "lens.yaml"], capture_output=True, check=False, text=True
    )
    assert "ConfigurationError" in done.stderr
    assert "its aliases lead back to themselves or unfold to too much" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: 1\n" * 250_000, "more than 1000000 bytes: is it a configuration?"),
        (f"name: 0x{'f' * 5000}\n", "a whole number has more than 64 bits"),
        (f"name: 1{':59' * 4000}\n", "a whole number has more than 64 bits"),
        ("".join(f"key{i}: 1\n" for i in range(4000)), "and 3974 findings more"),
        (
            "observatory: /dev/zero\n",
            "lens.yaml: /dev/zero: the configuration file cannot be read: it is no regular file",
        ),
        ("ROI: {lens: x}\n", "lens.yaml: roi.ra: Input should be a valid number"),
        ("ROI: {lens: {coordinates: 3}}\npsf: 3\npsf_n_iter_pixels: 5\n", "psf = 3: Input should be"),
        (
            "ROI: {}\nconstraints_on_normalization_coeff: 3\n",
            "lens.yaml: roi_model.constraints_on_normalization_coefficient: Input should be a valid tuple",
        ),
    ],
)
def test_what_only_hostile_files_have(tmp_path, text, message):
    path = tmp_path / "lens.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=re.escape(message)) as refused:
        load_lens(path)
    assert str(path) in str(refused.value)
    assert len(str(refused.value)) < 20_000


def test_what_no_message_foresees_is_that_files_fault(tmp_path, monkeypatch, caplog):
    from lightcurver_ops.config import loading

    def broken(*_):
        raise ZeroDivisionError("no reason")

    path = tmp_path / "lens.yaml"
    path.write_text(LENS)
    monkeypatch.setattr(loading, "_resolve_paths", broken)
    message = "lens.yaml: this configuration file cannot be used: ZeroDivisionError: no reason"
    with pytest.raises(ConfigurationError, match=message):
        load_lens(path)
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("key", ["database", "database_read_only"])
def test_a_secret_is_not_kept_and_not_said(tmp_path, key):
    path = tmp_path / "lens.yaml"
    text = LENS.replace("database: null\n", "")
    path.write_text(text + f"{key}: postgresql+psycopg://observer:hidden@db/lenses\n")
    lens = load_lens(path)
    assert getattr(lens, key).endswith("@db/lenses")
    for made in (
        repr(lens),
        str(lens),
        lens.model_dump_json(),
        str(lens.model_dump()),
        str(lens.with_settings(processes=2)),
    ):
        assert "hidden" not in made
    for wrong in (
        "[postgresql://observer:hidden@db/lenses]",
        "{url: postgresql://observer:hidden@db/lenses}",
        "17",
    ):
        path.write_text(text + f"{key}: {wrong}\n")
        with pytest.raises(ConfigurationError, match=f"{key}: Input should be a valid string") as raised:
            load_lens(path)
        assert "hidden" not in str(raised.value)
