"""`lcops astrometry`: index files, and how each frame was solved."""

import re
import shutil

import pytest

from lightcurver_ops.simulation import faults

pytestmark = pytest.mark.skipif(
    shutil.which("build-astrometry-index") is None,
    reason="no astrometry.net (Debian: apt install astrometry.net)",
)


def test_index_before_any_frame_is_imported(lcops, season):
    config = season.config_path
    would = lcops("astrometry", "index", config, "--dry-run")
    assert would.code == 0
    assert re.match(
        r"would be built from \d+ stars of the catalogue\nin .*/work/astrometry_index/index_", would.out
    )
    assert not (season.work / "astrometry_index").exists()
    built = lcops("astrometry", "index", config)
    first, where, header, *files = built.out.splitlines()
    assert float(re.fullmatch(r"built from \d+ stars of the catalogue in (\d+\.\d\d) s", first)[1]) < 30
    assert header.split()[:3] == ["file", "quads", "from"]
    assert files
    assert all(re.match(r"index-\d\d\.fits +\d+\.\d\d +\d+\.\d\d +\d+ +\d+$", line) for line in files)
    found = lcops("astrometry", "index", config)
    assert found.out.splitlines() == [where, header, *files]  # built once
    assert where.split()[-1] in would.out
    # The very files that solve-field is given.
    season.configure(plate_solving={"strategy": "plate_solve"})
    assert lcops("run", "-q", config, "--to", "plate").code == 0
    assert [path.name for path in (season.work / "astrometry_index").iterdir()] == [where.rsplit("/", 1)[-1]]


def test_index_of_a_directory_of_the_user(lcops, season, tmp_path):
    config = season.config_path
    assert lcops("astrometry", "index", config).code == 0
    (own,) = (season.work / "astrometry_index").iterdir()
    (own / "readme.fits").write_text("no index file")
    season.configure(plate_solving={"index_dir": str(own)})
    assert lcops("astrometry", "index", config).out.startswith(f"index files in {own}\n")
    season.configure(plate_solving={"plate_scale_interval": [50, 60]})
    wrong = lcops("astrometry", "index", config)
    assert wrong.code == 2
    assert re.search(r"\d files? with quads of other sizes: not used", wrong.out)
    assert "has no index file whose quads suit the frames; null as plate_solving.index_dir" in wrong.err
    season.configure(plate_solving={"index_dir": str(tmp_path / "nowhere")})
    assert (
        "nowhere is not a directory; name the one with the index files"
        in lcops("astrometry", "index", config).err
    )


def test_show(lcops, season):
    config = season.config_path
    faults.other_field(season.raw[0], season.directory / "raw" / "elsewhere.fits")
    settings = {"strategy": "plate_solve", "fallbacks": [], "min_success_fraction": 0.5}
    season.configure(plate_solving=settings)
    assert lcops("run", "-q", config, "--to", 1).code == 0
    assert "elsewhere.fits: not tried yet\n" in lcops("astrometry", "show", config, "elsewhere").out
    told = lcops("run", config, "--to", "plate").err
    assert (
        "elsewhere.fits: no trustworthy solution. (1) plate_solve from the header: solve-field found no"
        in told
    )
    shown = lcops("astrometry", "show", config).out
    assert shown.endswith("7 frames, 6 plate solved, 1 not\n")
    number = r"\d+\.\d+"
    assert re.search(
        rf"{season.raw[2].name}: 0\.35\d\d arcsec/px, north -(2\.0|1\.9)\d deg from up, \d\d of \d\d "
        rf"catalogue stars on the frame matched, rms {number} arcsec = {number} px\n"
        rf"  1\. plate_solve, from the header: solved: \d\d stars, "
        rf"rms {number} arcsec = {number} px, chance 1e-\d+ \({number} s\)\n",
        shown,
    )
    unsolved = lcops("astrometry", "show", config, "--unsolved").out.splitlines()
    assert unsolved[0] == "frames/elsewhere.fits: not solved"
    assert [line.split(": ")[0] for line in unsolved[1:-1]] == [
        f"  {n}. plate_solve, from the {hint}" for n, hint in enumerate(("header", "ROI", "last solution"), 1)
    ]
    assert all("failed: solve-field found no solution for" in line for line in unsolved[1:-1])
    assert unsolved[-1] == "1 frame, 0 plate solved, 1 not"
    why = lcops("frames", "why", config, "elsewhere").out
    assert (
        "eliminated by plate_solving: not plate solved: frames/elsewhere.fits: no trustworthy solution."
        in why
    )
    assert lcops("frames", "restore", config, "elsewhere").code == 0
    assert (
        "not plate solved: `lcops astrometry show` says why"
        in lcops("frames", "why", config, "elsewhere").out
    )
    wrong = lcops("astrometry", "show", config, "nosuch")
    assert (wrong.code, wrong.out) == (2, "")
    assert f"no frame matches nosuch; `lcops frames list {config}` lists them" in wrong.err


def test_show_of_a_frame_that_nothing_verified(lcops, season):
    for path in season.raw[1:]:
        path.unlink()
    edit = {"alternate_plate_solve_gaia_radius": 9, "already_plate_solved": True, "allow_unverified": True}
    season.configure(plate_solving={**edit, "fallbacks": []})
    from astropy.io import fits

    with fits.open(season.raw[0], mode="update") as hdus:
        hdus[0].header.update(
            CTYPE1="RA---TAN", CTYPE2="DEC--TAN", CRVAL1=70.5, CRVAL2=-21.0, CRPIX1=100.5, CRPIX2=100.5,
            CD1_1=-0.35 / 3600, CD2_2=0.35 / 3600,
        )  # fmt: skip
    assert lcops("run", "-q", season.config_path, "--to", "plate").code == 0
    shown = lcops("astrometry", "show", season.config_path).out
    assert "not verified: too few catalogue stars\n" in shown
    assert (
        "already_plate_solved, from the header: solved: not verified: the WCS of already_plate_solved cannot"
        in shown
    )
