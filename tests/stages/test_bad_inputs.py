"""Each bad input gives a clear message, and harms nothing else."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa
from astropy.io import fits
from astropy.table import Table

from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.raw_files import known_raw_files
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import ConfigurationError, QualityGate, TemporaryFailure
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.simulation import faults
from lightcurver_ops.stages.base import RunOptions
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.stages.usage import usage

IMPORT = "read_convert_skysub_character_catalog"
SOLVE = stage_number("plate_solving")
FOOTPRINT = stage_number("calculate_common")
STARS = stage_number("query_gaia")

FAULTS = {
    "truncated": r"truncated",
    "not_fits": r"not_fits.fits.*(not|no).*FITS",
    "without_exposure_time": r"without_exposure_time.fits.*EXPTIME",
    "all_nan": r"all_nan.fits.*(NaN|finite)",
    "constant": r"constant.fits.*(constant|same value|one value)",
    "saturated": r"saturated.fits.*saturat",
    "duplicate": r"duplicate.fits: the same exposure as .*under another name",
    "other_field": r"not plate solved: .*other_field.*no match",
}


def make(season, fault):
    return getattr(faults, fault)(season.raw[1], season.directory / "raw" / f"z_{fault}.fits")


def reasons(lens):
    """Why each file or frame is not used."""
    with reading(lens.engine) as connection:
        never = ledger.products_of(connection, lens.name, IMPORT)
        return {
            **{Path(unit).stem: product.reason for unit, product in never.items() if product.reason},
            **{Path(item.frame.image_relpath).stem: item.reason for item in usage(connection, lens.config)},
        }


def test_bad_frames_are_quarantined_with_a_reason_and_the_others_go_on(season):
    good = [path.stem for path in season.raw]
    before = {path: path.read_bytes() for path in season.raw}
    for fault in FAULTS:
        make(season, fault)
    season.configure(plate_solving={"min_success_fraction": 0.5})
    lens = season.lens()
    run_pipeline(lens, last=STARS)
    found = reasons(lens)
    for fault, pattern in FAULTS.items():
        assert found[f"z_{fault}"], fault
        assert re.search(pattern, found[f"z_{fault}"], re.IGNORECASE | re.DOTALL), found[f"z_{fault}"]
    with reading(lens.engine) as connection:
        usable = [Path(row.image_relpath).stem for row in frames.usable_frames(connection, lens.name)]
    assert usable == good
    assert {path: path.read_bytes() for path in before} == before
    lens.close()


def test_a_link_out_of_the_raw_directories_is_not_followed(season):
    outside = season.raw[0].rename(season.directory / "elsewhere.fits")
    link = season.directory / "raw" / "small_link.fits"
    link.symlink_to(outside)
    lens = season.lens()
    report = run_pipeline(lens, last=stage_number(IMPORT))[1].report
    assert report.done == 5
    assert list(report.quarantined) == [str(link)]
    notice_raw_files(lens, Watch(settle_seconds=0))
    with reading(lens.engine) as connection:
        noticed = known_raw_files(connection, lens.name)
    assert noticed[str(link)].night is None
    for said in (noticed[str(link)].problem, report.quarantined[str(link)]):
        assert "is a link to a file outside of raw.raw_dirs" in said
    lens.close()


def test_names_that_no_database_keeps_are_left_out_by_themselves(season):
    raw = season.directory / "raw"
    odd = Path(os.fsdecode(os.fsencode(raw) + b"/z_\xff.fits"))
    faults.other_pixels(season.raw[0], odd)
    deep = raw / ("d" * 200) / ("e" * 200)
    deep.mkdir(parents=True)
    faults.other_pixels(season.raw[1], deep / "z_deep.fits")
    faults.other_pixels(season.raw[2], raw / "z_filter.fits")
    with fits.open(raw / "z_filter.fits", mode="update") as hdus:
        hdus[0].header["FILTER"] = "Bessell R with a remark of the observer, long"
    lens = season.lens()
    report = run_pipeline(lens, last=stage_number(IMPORT))[1].report
    assert report.done == len(season.raw)
    assert not report.failures
    said = "\n".join(report.quarantined.values())
    assert r"/raw/z_\xff.fits: its name is not UTF-8" in said
    assert re.search(r"z_deep\.fits: its path has \d+ characters, expected at most 400: move it up", said)
    assert "of 45 characters, expected at most 40" in said
    notice_raw_files(lens, Watch(settle_seconds=0))
    with reading(lens.engine) as connection:
        problems = {row.path: row.problem for row in known_raw_files(connection, lens.name).values()}
    assert len(problems) == len(season.raw) + 3
    assert sum(bool(problem) for problem in problems.values()) == 3
    assert all(len(path) <= 400 for path in problems)
    lens.close()


def test_a_frame_that_was_too_large_is_tried_again_with_another_limit(season):
    season.configure(raw={"max_pixels": 100})
    lens = season.lens()
    with pytest.raises(QualityGate, match=r"px in HDU 0, more than 100 \(raw\.max_pixels\)"):
        run_pipeline(lens, last=stage_number(IMPORT))
    lens.close()
    season.configure(raw={"max_pixels": 50_000})
    lens = season.lens()
    assert run_pipeline(lens, last=stage_number(IMPORT))[1].report.done == len(season.raw)
    lens.close()


def test_what_is_odd_about_frames_is_said_by_the_run(season):
    """Once for each kind: a keyword that stands twice, a gain, and a read noise, that the sky contradicts."""
    for path in season.raw[:2]:
        with fits.open(path, mode="update") as hdus:
            hdus[0].header.append(("EXPTIME", 30.0), end=True)
            hdus[0].header["RON"] = 1e4
    season.configure(
        raw={"header": {"gain": {"constant": 360}}, "read_noise": {"keyword": "RON", "unit": "adu"}}
    )
    lens = season.lens()
    notes = "\n".join(run_pipeline(lens, last=stage_number(IMPORT))[1].report.notes)
    lens.close()
    assert re.search(
        r"WARNING: 2 frames: the header has EXPTIME 2 times \(.*, 30\.0\): the first is used \(frames/", notes
    )
    assert re.search(
        rf"WARNING: {len(season.raw)} frames: the sky of \d+ electrons.*is the gain 360 too large\?", notes
    )
    assert re.search(
        r"WARNING: 2 frames: the sky scatters by .* electrons per pixel, less than its read noise of 3600000.0 alone",
        notes,
    )
    missing = len(season.raw) - 2
    assert (
        f"WARNING: {missing} frames: no read noise to compare with: its header has no keyword 'RON'" in notes
    )


def test_an_image_of_another_shape_is_pointed_out(season):
    make(season, "other_shape")
    lens = season.lens()
    results = run_pipeline(lens, last=stage_number(IMPORT))
    assert (
        "1 frames are not 200 x 200 px as the others: frames/z_other_shape.fits"
        in results[1].report.summary()
    )
    lens.close()


def test_other_pixels_under_the_same_name_are_imported_anew(season):
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    target = season.raw[2]
    faults.other_pixels(season.raw[2], target)
    results = run_pipeline(lens, last=stage_number(IMPORT))
    assert results[1].report.done == 1
    with reading(lens.engine) as connection:
        assert len(frames.all_frames(connection, lens.name)) == len(season.raw)
    lens.close()


def test_a_frame_that_another_run_inserts_at_the_same_moment_is_imported_once(season, monkeypatch):
    """Postgres says so of the unique pixels where two insert the same frame at once; here the first insert does."""
    save, met = frames.save_frame, []

    def save_after_another(connection, row):
        if not met:
            met.append(row["image_relpath"])
            raise sa.exc.IntegrityError("INSERT INTO frames", {}, Exception("uq_frames_lens_pixel_hash"))
        save(connection, row)

    monkeypatch.setattr(frames, "save_frame", save_after_another)
    lens = season.lens()
    results = run_pipeline(lens, last=stage_number(IMPORT))
    assert (results[1].report.done, results[1].report.failures) == (len(season.raw), {})
    with reading(lens.engine) as connection:
        assert [row.image_relpath for row in frames.all_frames(connection, lens.name)].count(met[0]) == 1
    lens.close()


def test_an_empty_raw_directory(season):
    for path in season.raw:
        path.unlink()
    lens = season.lens()
    with pytest.raises(ConfigurationError, match="no file matches"):
        run_pipeline(lens)
    lens.close()


def test_raw_files_that_moved_on_do_no_harm(season):
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    for path in season.raw:
        path.unlink()
    results = run_pipeline(lens, last=stage_number(IMPORT))
    assert all(result.report is None for result in results)
    lens.close()


def test_too_few_frames_solved_is_a_gate_that_stays_shut(season):
    for number in range(4):
        faults.other_field(season.raw[number], season.directory / "raw" / f"elsewhere_{number}.fits")
    lens = season.lens()
    for _ in range(2):  # also when there is nothing new to solve
        with pytest.raises(QualityGate, match=r"only 6 of 10 frames are plate solved.*elsewhere_0") as error:
            run_pipeline(lens)
        assert error.value.measured == {"solved": 6, "attempted": 10}
    with reading(lens.engine) as connection:
        rows = [row for row in frames.all_frames(connection, lens.name) if "elsewhere" in row.image_relpath]
    with lens.engine.begin() as connection:
        frames.eliminate(connection, [row.id for row in rows], "another field", "user test")
    run_pipeline(lens, last=FOOTPRINT)
    lens.close()


def test_too_few_stars(season):
    season.configure(stars={"min_gmag": 17.0, "max_gmag": 17.2, "min_number_stars": 12})
    lens = season.lens()
    with pytest.raises(
        QualityGate, match=r"too few reference stars: \d+ of \d+ stars remain .*min_gmag removed"
    ):
        run_pipeline(lens)
    lens.close()


def test_a_catalogue_without_the_needed_columns(season):
    path = season.directory / "catalogue.ecsv"
    table = Table.read(path)
    table.remove_column("phot_g_mean_mag")
    table.write(path, overwrite=True)
    lens = season.lens()
    with pytest.raises(
        ConfigurationError, match=r"catalogue.ecsv.* lacks the column.* phot_g_mean_mag; it has source_id"
    ):
        run_pipeline(lens)
    lens.close()


def test_a_cut_on_a_column_that_the_catalogue_lacks(season):
    path = season.directory / "catalogue.ecsv"
    table = Table.read(path)
    table.remove_column("astrometric_excess_noise")
    table.write(path, overwrite=True)
    lens = season.lens()
    with pytest.raises(
        ConfigurationError, match=r"max_astrometric_excess_noise is 3.0, but the catalogue has no column"
    ):
        run_pipeline(lens)
    lens.close()


def test_an_unwritable_workdir(season):
    (season.directory / "occupied").write_text("a file")
    season.configure(workdir="./occupied/work")
    lens = season.lens()
    with pytest.raises(ConfigurationError, match=r"occupied/work.*cannot be made"):
        run_pipeline(lens)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a file system takes root")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [("ro", ConfigurationError, "cannot be"), ("size=700k", TemporaryFailure, "(full|space|grow)")],
)
def test_a_read_only_and_a_full_disk(season, options, error, message):
    season.work.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(season.work)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode()}")
    try:
        lens = season.lens()
        with pytest.raises(error, match=message):
            run_pipeline(lens)
        lens.close()
        if error is TemporaryFailure:
            subprocess.run(["mount", "-o", "remount,size=50m", str(season.work)], check=True)
            lens = season.lens()
            run_pipeline(lens, last=STARS)
            with reading(lens.engine) as connection:
                assert len(frames.usable_frames(connection, lens.name)) == len(season.raw)
            lens.close()
    finally:
        subprocess.run(["umount", "-l", str(season.work)], check=True)


def test_a_header_parser_of_the_user(season):
    parser = season.directory / "parse_header.py"
    parser.write_text(
        "def parse_header(header):\n"
        "    from astropy.time import Time\n"
        "    return {'mjd': Time(header['DATE-OBS']).mjd, 'gain': header['GAIN'], 'exptime': header['EXPTIME'],\n"
        "            'filter': header['FILTER']}\n"
    )
    season.configure(raw={"header_parser": str(parser)})
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    with reading(lens.engine) as connection:
        assert len(frames.all_frames(connection, lens.name)) == len(season.raw)
    parser.write_text("def parse_header(header):\n    return {'mjd': 0}\n")
    with pytest.raises(QualityGate, match=r"6 of them: parse_header returned no gain, exptime \(it"):
        run_pipeline(lens, last=stage_number(IMPORT))
    with reading(lens.engine) as connection:
        products = ledger.products_of(connection, lens.name, IMPORT)
    assert all("gain" in (product.reason or "") for product in products.values())
    lens.close()


def test_only_the_frames_asked_for(season):
    lens = season.lens()
    name = season.raw[0].name
    results = run_pipeline(lens, last=SOLVE, options=RunOptions(frames=(name,)))
    assert [result.report.done for result in results[1:]] == [1, 1]
    lens.close()


def test_a_raw_file_that_breaks_and_is_repaired(season):
    target = season.raw[3]
    content = target.read_bytes()
    lens = season.lens()
    run_pipeline(lens, last=SOLVE)
    target.write_bytes(content[: len(content) // 2])
    season.configure(plate_solving={"min_success_fraction": 0.5})
    run_pipeline(lens, last=SOLVE)
    assert "no longer readable" in reasons(lens)[target.stem]
    target.write_bytes(content)
    run_pipeline(lens, last=STARS)
    with reading(lens.engine) as connection:
        assert len(frames.usable_frames(connection, lens.name)) == len(season.raw)
    lens.close()
