"""`lcops simulate`: a season that can be checked and run."""

import re

from lightcurver_ops.simulation import load_truth

OPTIONS = ("--name", "tiny", "--nights", 1, "--exposures", 2, "--size", 128, "--seeing", 1.4, "--seed", 3)


def test_what_it_prints_can_be_typed(lcops, tmp_path):
    done = lcops("simulate", tmp_path / "season", *OPTIONS)
    assert (done.code, done.err) == (0, "")
    assert "2 raw frames in" in done.out
    assert len(list((tmp_path / "season" / "raw").glob("tiny_*.fits"))) == 2
    for name in ("truth.ecsv", "catalogue.ecsv", "tiny.yaml"):
        assert (tmp_path / "season" / name).is_file()
    check, run = (command.split() for command in re.findall(r"lcops ((?:check|run) .+)", done.out))
    accepted = lcops(*check)
    assert accepted.code == 0, accepted.err
    assert "2 raw frames found" in accepted.out
    assert (
        "read_convert_skysub_character_catalog: 1 of 1 done"
        in lcops(*run, "--to", 1, "--frames", "*_001").out
    )


def test_a_lens_its_arcs_and_a_telescope_can_be_chosen(lcops, tmp_path):
    chosen = (
        "--lens",
        "wide",
        "--arcs",
        20.5,
        "--galaxy",
        "bulge-disc",
        "--psf-varies",
        0.02,
        "--optics",
        0.3,
    )
    done = lcops("simulate", tmp_path, "--nights", 1, "--exposures", 1, "--size", 128, *chosen)
    assert (done.code, done.err) == (0, "")
    options = load_truth(tmp_path).options
    assert options.lens.mass.einstein_radius_arcsec == 2.5
    assert (options.lens.host.magnitude, options.lens.galaxy.disc_fraction) == (20.5, 0.5)
    assert (options.psf_varies, options.optics.pattern) == (0.02, 0.3)
    # Its cutouts hold it.
    assert "stamp_size_ROI: 32" in (tmp_path / "demo.yaml").read_text()
    assert lcops("simulate", tmp_path / "other", "--lens", "ring").code == 2


def test_the_same_again_and_another_into_the_same_place(lcops, tmp_path):
    assert lcops("simulate", tmp_path, *OPTIONS).code == 0
    assert lcops("simulate", tmp_path, *OPTIONS).code == 0
    other = lcops("simulate", tmp_path, *OPTIONS[:-1], 4)
    assert other.code == 2
    assert "other options (seed)" in other.err


def test_a_place_that_cannot_be_written(lcops, tmp_path):
    (tmp_path / "file").write_text("")
    result = lcops("simulate", tmp_path / "file" / "season", *OPTIONS)
    assert (result.code, result.out) == (2, "")
    assert "cannot be written" in result.err


def test_wrong_numbers(lcops, tmp_path):
    for option, value in (("--nights", 0), ("--size", 64), ("--seeing", 9)):
        result = lcops("simulate", tmp_path / "season", option, value)
        assert result.code == 2
        assert option in result.err
    assert not (tmp_path / "season").exists()
