"""Numbered publications, where their points come from, what differs between two, and what is no longer as it was."""

import gzip
import hashlib
import json
import re
import shutil

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.coordinates import EarthLocation, SkyCoord
from astropy.table import Table
from astropy.time import Time

from lightcurver_ops.bookkeeping import frames, photometry
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import publications
from lightcurver_ops.operations.summary import summarize
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.storage.tables import read_table
from tests.seasons import Season, copied

ELIMINATED = 2
"""Index of the frame that version 3 lacks."""


@pytest.fixture(scope="module")
def published(reduced_season, tmp_path_factory) -> Season:
    """Four versions: as it is, without a background, without a frame, with other PSF stars; not to be changed."""
    season = copied(reduced_season, tmp_path_factory.mktemp("published") / "season")
    season.configure(roi_model={"further_optimize_background": False})  # quick
    lens = season.lens()
    run_pipeline(lens)
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[ELIMINATED]
        frames.eliminate(connection, [row.id], "satellite trail", "user test")
    run_pipeline(lens)
    lens.close()
    season.configure(stars={"stars_to_use_psf": 4})
    lens = season.lens()
    run_pipeline(lens)
    lens.close()
    return season


@pytest.fixture
def spoiled(published, tmp_path) -> Season:
    """A copy to be tampered with."""
    return copied(published, tmp_path / "season")


def rows_of(season, version):
    lens = season.lens()
    with reading(lens.engine) as connection:
        publication = photometry.publication_of(connection, lens.name, "r", version)
        points = photometry.named_points_of(connection, publication.id)
    lens.close()
    return publication, points


def execute(season, statement, **values):
    lens = season.lens()
    with writing(lens.engine) as connection:
        assert connection.execute(sa.text(statement), values).rowcount > 0
    lens.close()


# Publications


def test_versions_have_snapshots_that_nobody_can_write(published):
    for version in (1, 2, 3, 4):
        publication, points = rows_of(published, version)
        files = json.loads(publication.files)
        assert [name.rsplit("/", 1)[1] for name in files] == [
            f"v000{version}_light_curve.ecsv", f"v000{version}_provenance.json.gz"
        ]  # fmt: skip
        for relpath, sha256 in files.items():
            path = published.work / relpath
            assert path.stat().st_mode & 0o222 == 0
            assert hashlib.sha256(path.read_bytes()).hexdigest() == sha256
        table = Table.read(published.work / next(iter(files)))
        assert len(table) == (6 if version < 3 else 5)
        assert table.meta["version"] == version
        assert list(table.meta["common_errors"]) == ["A", "B"]
        covariance = [
            point["flux_covariances"]["B"] for (_, source), point in sorted(points.items()) if source == "A"
        ]
        np.testing.assert_array_equal(table["cov_A_B"], covariance)
        for label in "AB":
            flux = [point["flux"] for (_, source), point in sorted(points.items()) if source == label]
            np.testing.assert_array_equal(table[f"{label}_flux"], flux)


def test_the_versions_are_listed(lcops, spoiled):
    execute(spoiled, "delete from light_curve_points where publication_id = 3 and frame_id = 1")
    execute(spoiled, "update publications set files = null, rows_sha256 = null where version = 4")
    result = lcops("lightcurve", spoiled.config_path, "--versions")
    assert result.code == 0
    header, *lines = result.out.splitlines()
    assert header.split() == ["filter", "version", "published", "code", "configuration", "epochs", "state"]
    assert [line.split()[:2] for line in lines] == [["r", str(n)] for n in (1, 2, 3, 4)]
    assert [line.split()[5] for line in lines] == ["6", "6", "4", "5"]
    assert len({line.split()[4] for line in lines}) == 3  # versions 2 and 3 have one configuration
    for line, state in zip(
        lines, ("snapshot kept", "snapshot kept", "not those that were published", "no snapshot"), strict=True
    ):
        assert state in line
    assert "no light curve yet" in lcops("lightcurve", spoiled.config_path, "--versions", "--filter", "z").err


def test_unchanged_results_get_no_new_number(spoiled):
    before = rows_of(spoiled, None)
    lens = spoiled.lens()
    results = run_pipeline(lens, redo=stage_number("star_photometry"))
    lens.close()
    assert "r: light curve version 4 (unchanged)" in results[-1].report.notes
    assert rows_of(spoiled, None) == before
    assert len(list((spoiled.work / "publications/small_r").iterdir())) == 8


def test_a_version_stays_what_it_was_when_its_frames_change(lcops, spoiled):
    """The provenance is that of the snapshot, not what the bookkeeping says today."""
    shown = json.loads(lcops("explain", spoiled.config_path, "--frame", "1", "--version", 1, "--json").out)
    assert len(shown["frames"][0]["psf"]["stars"]) == 5
    assert shown["configuration"]["stars.stars_to_use_psf"] == 5
    assert "PSF stars" in "; ".join(shown["frames"][0]["changed_since"])
    newest = json.loads(lcops("explain", spoiled.config_path, "--frame", "1", "--json").out)
    assert len(newest["frames"][0]["psf"]["stars"]) == 4
    assert newest["frames"][0]["changed_since"] == []


@pytest.mark.parametrize(
    "statement",
    [
        "update light_curve_points set flux = flux * 1.000001 where publication_id = 2 and source = 'A'",
        "delete from light_curve_points where publication_id = 2 and frame_id = 1",
        "update publications set configuration = replace(configuration, 'false', 'true') where id = 2",
        "update publications set version = 7 where id = 2",
    ],
)
def test_changed_rows_are_told(lcops, spoiled, statement):
    execute(spoiled, statement)
    version = 7 if "version" in statement else 2
    for arguments in (("lightcurve",), ("explain", "--mjd", 60281.2)):
        command, *rest = arguments
        result = lcops(command, spoiled.config_path, "--version", version, *rest)
        assert (result.code, result.out) == (2, "")
        assert f"small, filter r, version {version}: its rows in the bookkeeping are not those" in result.err
        assert "Restore the bookkeeping from a backup" in result.err
    assert lcops("lightcurve", spoiled.config_path, "--version", 1).code == 0


@pytest.mark.parametrize("name", ["v0002_light_curve.ecsv", "v0002_provenance.json.gz"])
@pytest.mark.parametrize("fault", ["changed", "gone"])
def test_changed_files_are_told(lcops, spoiled, name, fault):
    path = spoiled.work / "publications/small_r" / name
    content = path.read_bytes()
    path.unlink()
    if fault == "changed":
        path.write_bytes(content[:-1] + b"x")
    if fault == "gone":  # the rows are what was published: they are shown
        result = lcops("lightcurve", spoiled.config_path, "--version", 2)
        assert (result.code, result.err) == (0, f"note: {path}, the snapshot of this version, is not there\n")
        if "provenance" not in name:
            return
        result = lcops("explain", spoiled.config_path, "--frame", 1, "--version", 2)
    else:
        result = lcops("lightcurve", spoiled.config_path, "--version", 2)
    assert (result.code, result.out) == (2, "")
    assert str(path) in result.err
    told = {"changed": "is not the file that was published", "gone": "cannot be read: No such file"}
    assert told[fault] in result.err
    assert "restore it from a backup" in result.err.lower()
    if "provenance" in name:
        assert lcops("lightcurve", spoiled.config_path, "--diff", 1, 2).code == 2
    listed = lcops("lightcurve", spoiled.config_path, "--versions").out.splitlines()
    told = {
        "changed": "is not the file that was published",
        "gone": f"not there: publications/small_r/{name}",
    }
    assert told[fault] in listed[2]


def test_the_morning_summary_tells_of_changed_rows(spoiled):
    execute(spoiled, "update light_curve_points set flux = 1 where publication_id = 4")
    lens = spoiled.lens()
    assert "version 4: its rows in the bookkeeping are not those" in summarize(lens, 5.0)["moved"][0]
    lens.close()


def test_a_version_without_snapshot_is_explained_from_the_bookkeeping(lcops, spoiled):
    """As those are that were published before there were snapshots."""
    execute(spoiled, "update publications set files = null, rows_sha256 = null where version = 3")
    result = lcops("explain", spoiled.config_path, "--frame", 1, "--version", 3)
    assert result.code == 0
    assert (
        "note: published before snapshots were kept; what follows is the bookkeeping of today" in result.out
    )
    result = lcops("lightcurve", spoiled.config_path, "--diff", 3, 4)
    assert result.code == 0
    assert "configuration: stars.stars_to_use_psf: 5 -> 4" in result.out
    assert "not known more precisely: one of them was published before snapshots were kept" in result.out
    assert "not known: no snapshot" in result.out


# Explaining


def test_everything_behind_a_point_of_a_night(lcops, published):
    mjd = read_table(published.work / "prepared_roi_cutouts/small_r_photometry_per_night.csv")["mjd"][0]
    result = lcops("explain", published.config_path, "--mjd", mjd + 0.01, "--version", 1, "--json")
    assert (result.code, result.err) == (0, "")
    shown = json.loads(result.out)
    assert shown["distance_days"] == pytest.approx(0.01, abs=1e-6)
    assert (shown["per"], shown["version"], shown["snapshot"]) == ("night", 1, True)
    lens = published.lens()
    with reading(lens.engine) as connection:
        rows = frames.all_frames(connection, lens.name)[:2]
        nights = photometry.publication_of(connection, lens.name, "r", 1)
        points = photometry.named_points_of(connection, nights.id)
    lens.close()
    assert [frame["frame"] for frame in shown["frames"]] == [row.image_relpath for row in rows]
    for frame, row in zip(shown["frames"], rows, strict=True):
        with open(row.original_image_path, "rb") as file:  # noqa: PTH123
            assert frame["raw"]["sha256"] == hashlib.sha256(file.read()).hexdigest()
        assert frame["raw"]["sha256_of_pixels"] == row.pixel_hash
        assert frame["raw_file_now"] == f"now {row.original_image_path}: unchanged since its import"
        point = points[frame["frame"], "A"]
        assert frame["normalization"]["coefficient"] == pytest.approx(point["coefficient"])
        assert frame["normalization"]["standard_error"] == pytest.approx(point["coefficient_uncertainty"])
        assert len(frame["normalization"]["stars"]) >= frame["normalization"]["n_stars"] > 0
        assert set(frame["normalization"]["stars"]) <= set(shown["stars"])
        assert set(frame["psf"]["stars"]) <= set(shown["stars"])
        assert (published.work / frame["psf"]["file"]).exists()
        assert frame["psf"]["chi2"] > 0
        assert frame["zero_point"]["n_stars"] > 0
        assert (frame["used"], frame["eliminated"]) == (True, False)
        stages = [entry["stage"] for entry in frame["ledger"]]
        assert {"read_convert_skysub_character_catalog", "plate_solving", "psf_modeling"} <= set(stages)
        assert {entry["status"] for entry in frame["ledger"]} == {"done"}
    assert {entry["stage"] for entry in shown["ledger"]} >= {"model_calibrated_cutouts"}
    assert shown["stages"]["model_calibrated_cutouts"] >= 2
    assert shown["configuration"]["roi_model.further_optimize_background"] is True
    assert re.fullmatch(r"[0-9a-f]{24}", shown["configuration_hash"])


def test_the_text_names_all_of_it(lcops, published):
    frame = f"small_r_{60281}_001"
    result = lcops("explain", published.config_path, "--frame", f"*{frame}*")
    assert (result.code, result.err) == (0, "")
    for expected in (
        r"small, filter r, version 4 of 20\d\d-",
        r"epoch at MJD 60281\.\d{5}, 1 frame$",
        r"^image +mag +\+- +flux \[e-/s\] +\+- +all points \+-$",
        r"^A +1\d\.\d{4} +0\.0\d{3} +\d+\.\d{4} +\d+\.\d{4} +\d+\.\d{4}$",
        rf"frames/{frame}\.fits \(frame 1\), MJD 60281\.\d+, 300 s: used",
        rf"raw file +.*/raw/{frame}\.fits: unchanged since its import",
        r"sha256 +[0-9a-f]{64}",
        r"plate solution +alternate_gaia_solve, \d+ stars, RMS 0\.\d+ arcsec",
        rf"PSF +psfs/{frame}\.h5: chi2 \d\.\d+, FWHM \d\.\d+ arcsec, 4 stars: \w+ \w+ \w+ \w+",
        r"normalization +\d\.\d{5} \+- 0\.\d{5}, from \d+ stars; measured: \w",
        r"zero point +2\d\.\d+ mag, scatter 0\.\d+, from \d+ stars of file",
        r"eliminated +no",
        r"psf_modeling +done +20\d\d-\S+ +\S+ +1 +\d+",
        r"code +lightcurver-ops \S+; .*numpy",
        r"stages +.*model_calibrated_cutouts \d",
        r"errors +as the model gives them",
        r"configuration +hash [0-9a-f]{24}",
        r"stars\.stars_to_use_psf: 4",
    ):
        assert re.search(expected, result.out, re.MULTILINE), expected


def test_a_frame_that_is_not_used(lcops, published):
    result = lcops("explain", published.config_path, "--frame", ELIMINATED + 1)
    assert result.code == 0
    assert "not in this version of the light curve" in result.out
    assert "NOT used: eliminated by user test: satellite trail" in result.out
    assert "eliminated      by user test: satellite trail" in result.out
    night = lcops("explain", published.config_path, "--mjd", 60286.18)
    assert "night at MJD 60286.18" in night.out
    assert re.search(
        r"not in the point: frames/small_r_60286_001.fits, MJD 60286.\d+: eliminated by", night.out
    )


def test_a_raw_file_that_changed_or_went_is_told(lcops, spoiled):
    first, second, *_ = spoiled.raw
    with first.open("ab") as file:
        file.write(bytes(2880))
    second.rename(spoiled.directory / "away.fits")
    result = lcops("explain", spoiled.config_path, "--mjd", 60281.19)
    assert f"now {first}: CHANGED since its import: now " in result.out
    assert "cannot be read: No such file or directory" in result.out


def test_an_epoch_and_a_night(lcops, published):
    exposures = read_table(published.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    mjd, flux = exposures["mjd"][1], exposures["A_flux"][1]
    shown = json.loads(lcops("explain", published.config_path, "--mjd", mjd, "--per", "epoch", "--json").out)
    assert (len(shown["frames"]), shown["distance_days"]) == (1, 0.0)
    assert shown["point"]["A_flux"] == pytest.approx(flux, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "say which point: either --mjd TIME or --frame FRAME"),
        (["--mjd", 60000, "--frame", 1], "say which point"),
        (["--mjd", 60000], "has no night at MJD 60000: the nearest is 60281.19"),
        (
            ["--mjd", 60283.0, "--per", "epoch"],
            r"has no epoch at MJD 60283: the nearest is 60281.19\d+, 1.80\d d away",
        ),
        (["--mjd", "nan"], "has no night at MJD nan"),
        (["--frame", "nosuch"], "small: no frame matches nosuch; `lcops frames list` lists them"),
        (["--frame", "*60281*"], "2 frames match *60281*"),
        (["--mjd", 60281.2, "--version", 9], "small has no version 9 of filter r; the newest is 4"),
    ],
)
def test_what_is_not_there_is_told(lcops, published, arguments, message):
    result = lcops("explain", published.config_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err or re.search(message, result.err)


def test_before_any_light_curve(lcops, season):
    result = lcops("explain", season.config_path, "--mjd", 60281.2)
    assert (result.code, result.out) == (2, "")
    assert "small has no light curve yet" in result.err
    lens = season.lens()
    run_pipeline(lens, last=1)
    lens.close()
    result = lcops("explain", season.config_path, "--frame", 1)
    assert result.code == 0
    for expected in ("there is no light curve yet", "PSF             none", "NOT used: not plate solved yet"):
        assert expected in result.out


# Comparing


def test_what_a_changed_key_changed(lcops, published):
    result = lcops("lightcurve", published.config_path, "--diff", 1, 2)
    assert (result.code, result.err) == (0, "")
    title, counts, causes, cause, *_ = result.out.splitlines()
    assert title == "small, filter r: version 1 -> 2"
    assert counts == "points: 0 added, 0 removed, 12 changed, 0 unchanged"
    assert (causes, cause) == (
        "causes:",
        "  configuration: roi_model.further_optimize_background: true -> false",
    )
    (_, old), (_, new) = rows_of(published, 1), rows_of(published, 2)
    place = ("frames/small_r_60281_001.fits", "A")
    sigma = (new[place]["flux"] - old[place]["flux"]) / old[place]["flux_uncertainty"]
    line = next(line for line in result.out.splitlines() if "60281_001.fits  A " in line)
    assert line.split()[7] == f"{sigma:+.2f}"


def test_what_an_elimination_changed(lcops, published):
    result = lcops("lightcurve", published.config_path, "--diff", 2, 3)
    assert "points: 0 added, 2 removed, 10 changed, 0 unchanged" in result.out
    assert "  frames: 1 fewer: frames/small_r_60286_001.fits" in result.out
    assert result.out.count("removed  eliminated by user test: satellite trail") == 2
    assert re.search(r"changed  normalization coefficient \d\.\d{5} -> \d\.\d{5}", result.out)
    assert "configuration" not in result.out
    back = lcops("lightcurve", published.config_path, "--diff", 3, 2)
    assert "points: 2 added, 0 removed, 10 changed, 0 unchanged" in back.out
    assert back.out.count("used now; before: eliminated by user test: satellite trail") == 2


def test_what_other_psf_stars_changed(lcops, published):
    result = lcops("lightcurve", published.config_path, "--diff", 3, 4)
    assert "  configuration: stars.stars_to_use_psf: 5 -> 4" in result.out
    assert "  PSF stars: in 5 of 5 frames" in result.out
    assert re.search(r"changed  PSF stars \(-\w+\)", result.out)


def test_other_code_is_a_cause(lcops, spoiled, monkeypatch):
    """A version of the package, of a stage and of a library that were others."""
    from lightcurver_ops.bookkeeping import ledger
    from lightcurver_ops.stages import provenance
    from lightcurver_ops.stages.model_calibrated_cutouts import ModelCalibratedCutouts

    monkeypatch.setattr(ModelCalibratedCutouts, "version", ModelCalibratedCutouts.version + 1)
    for module in (ledger, provenance):
        monkeypatch.setattr(module, "__version__", "9.9.9")
    versions = {**provenance._versions(), "sep": "0.0.1"}
    monkeypatch.setattr(provenance, "_versions", lambda: versions)
    lens = spoiled.lens()
    with writing(lens.engine) as connection:
        frames.restore(connection, [ELIMINATED + 1])
    run_pipeline(lens)
    lens.close()
    result = lcops("lightcurve", spoiled.config_path, "--diff", 4, 5)
    for expected in (
        r"points: 2 added",
        r"code: lightcurver-ops \S+ -> 9\.9\.9",
        r"code: version of the stage model_calibrated_cutouts: \d -> \d",
        r"code: library sep: \S+ -> 0\.0\.1",
        r"frames: 1 more: frames/small_r_60286_001\.fits",
    ):
        assert re.search(expected, result.out), expected


def test_an_image_that_is_not_measured_any_more():
    from lightcurver_ops.stages.publication_diff import _causes_of_point

    document, point = {"frames": {"f": {}}, "unused": {}}, {"flux": 1.0}
    assert _causes_of_point("f", None, point, document, document) == [
        "the image was not measured in this frame before"
    ]
    assert _causes_of_point("f", point, None, document, document) == [
        "the image is not measured in this frame any more"
    ]


def test_a_version_compared_with_itself_and_with_none(lcops, published):
    result = lcops("lightcurve", published.config_path, "--diff", 2, 2)
    assert result.out.splitlines()[1:] == [
        "points: 0 added, 0 removed, 0 changed, 12 unchanged",
        "the points are the same",
    ]
    result = lcops("lightcurve", published.config_path, "--diff", 2, 8)
    assert (result.code, result.out) == (2, "")
    assert "small has no version 8 of filter r; the newest is 4" in result.err


# Exports


@pytest.mark.parametrize("file_format", ["csv", "ecsv", "parquet", "votable", "pycs3"])
def test_exports_hold_what_is_published(lcops, published, tmp_path, file_format):
    suffix = {"votable": "vot", "pycs3": "rdb"}.get(file_format, file_format)
    path = tmp_path / f"curve.{suffix}"
    result = lcops("lightcurve", published.config_path, "--per", "epoch", "--output", path)
    assert (result.code, result.out, result.err) == (0, "", f"{file_format}: {path}\n")
    written = read_table(published.work / "prepared_roi_cutouts/small_r_photometry_per_epoch.csv")
    if file_format == "pycs3":
        from pycs3.gen.lc_func import rdbimport

        curve = rdbimport(str(path), magcolname="mag_B", magerrcolname="magerr_B", verbose=False)
        np.testing.assert_allclose(curve.mags, written["B_mag"], rtol=1e-9)
        np.testing.assert_allclose(curve.magerrs, written["B_d_mag"], rtol=1e-9)
        site = EarthLocation.from_geodetic(-70.73, -29.26, 2400.0)
        times = Time(written["mjd"], format="mjd", scale="utc", location=site)
        delay = times.light_travel_time(SkyCoord(70.5, -21.0, unit="deg"), "heliocentric")
        np.testing.assert_allclose(curve.jds, (times + delay).mjd, atol=1e-8)
        assert (np.abs(curve.jds - written["mjd"]) > 1e-4).all()  # minutes
        return
    kind = {"csv": "ascii.csv", "ecsv": "ascii.ecsv"}.get(file_format, file_format)
    table = Table.read(path, format=kind)
    for column in ("frame_id", "mjd", "zeropoint", "A_flux", "B_d_flux", "A_mag", "B_d_mag_up"):
        np.testing.assert_allclose(np.asarray(table[column]), written[column], rtol=1e-9)
    if file_format in {"ecsv", "votable"}:
        assert str(table["A_flux"].unit) == "electron / s"


def test_exports_say_how_to_get_them(lcops, published, tmp_path):
    result = lcops("lightcurve", published.config_path, "--format", "parquet")
    assert (result.code, result.out) == (2, "")
    assert "--format parquet is not text: say where to with --output FILE" in result.err
    result = lcops("lightcurve", published.config_path, "--output", tmp_path / "curve.txt")
    assert (result.code, result.out) == (2, "")
    assert "its ending does not say the format; give --format, or one of .csv, .ecsv" in result.err
    path = tmp_path / "curve.txt"
    assert lcops("lightcurve", published.config_path, "--format", "table", "--output", path).code == 0
    assert path.read_text() == lcops("lightcurve", published.config_path).out


def test_the_snapshot_of_a_version_says_which_it_is(published):
    document = json.loads(
        gzip.decompress((published.work / "publications/small_r/v0003_provenance.json.gz").read_bytes())
    )
    assert (document["lens"], document["filter"], document["version"]) == ("small", "r", 3)
    assert document["unused"] == {"frames/small_r_60286_001.fits": "eliminated by user test: satellite trail"}
    assert len(document["frames"]) == 5


@pytest.mark.parametrize("known", [4, 2])
def test_no_snapshot_is_ever_replaced(spoiled, caplog, known):
    """Of a run that was killed before its rows came; of versions that a restored, older bookkeeping does not know."""
    directory = spoiled.work / "publications/small_r"
    shutil.copy(directory / "v0004_light_curve.ecsv", directory / "v0005_light_curve.ecsv")
    before = {path.name: path.read_bytes() for path in directory.iterdir()}
    lens = spoiled.lens()
    with writing(lens.engine) as connection:
        connection.execute(sa.delete(publications).where(publications.c.version > known))
        frames.restore(connection, [ELIMINATED + 1])
    run_pipeline(lens)
    lens.close()
    after = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert {name: after[name] for name in before} == before
    assert sorted(after.keys() - before.keys()) == ["v0006_light_curve.ecsv", "v0006_provenance.json.gz"]
    assert Table.read(directory / "v0006_light_curve.ecsv").meta["version"] == 6
    assert rows_of(spoiled, None)[0].version == 6
    assert f"snapshots up to version 5, and the bookkeeping knows them up to {known} (" in caplog.text
    assert "the new light curve is version 6" in caplog.text


def with_a_secret(season):
    """As versions before this one left it: the URL of the pages in the first two snapshots."""
    lens = season.lens()
    for version in (1, 2):
        publication, _ = rows_of(season, version)
        files = json.loads(publication.files)
        (relpath,) = (one for one in files if one.endswith("provenance.json.gz"))
        document = json.loads(gzip.decompress((season.work / relpath).read_bytes()))
        document["configuration"]["database_read_only"] = "postgresql+psycopg://pages:hidden@db/lenses"
        content = gzip.compress(json.dumps(document, sort_keys=True, indent=1).encode(), mtime=0)
        (season.work / relpath).chmod(0o644)
        (season.work / relpath).write_bytes(content)
        files[relpath] = hashlib.sha256(content).hexdigest()
        with writing(lens.engine) as connection:
            photometry.set_files(connection, publication, files)
    lens.close()


def snapshots_that_say(season, text):
    return [
        path
        for path in sorted((season.work / "publications").rglob("*.json.gz"))
        if text in gzip.decompress(path.read_bytes()).decode()
    ]


def test_snapshots_forget_the_url_of_the_pages(lcops, spoiled, monkeypatch):
    with_a_secret(spoiled)
    assert len(snapshots_that_say(spoiled, "hidden")) == 2
    before = {version: rows_of(spoiled, version)[0] for version in (1, 2, 3, 4)}
    # Killed after the first new file, before the bookkeeping knows of it.
    kept = photometry.set_files

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(photometry, "set_files", killed)
    assert lcops("db", "upgrade", spoiled.config_path).code != 0
    monkeypatch.setattr(photometry, "set_files", kept)
    assert "hidden" in lcops("explain", spoiled.config_path, "--frame", "1", "--version", 1, "--json").out
    result = lcops("db", "upgrade", spoiled.config_path)
    assert result.code == 0
    assert "database_read_only was taken out of 2 snapshots in" in result.out
    assert snapshots_that_say(spoiled, "hidden") == []
    for version in (1, 2, 3, 4):
        publication, _ = rows_of(spoiled, version)
        assert (publication.rows_sha256 == before[version].rows_sha256) == (version > 2)
        assert (publication.files != before[version].files) == (version < 3)
        assert all((spoiled.work / relpath).exists() for relpath in json.loads(publication.files))
    assert lcops("explain", spoiled.config_path, "--frame", "1", "--version", 1).code == 0
    again = lcops("db", "upgrade", spoiled.config_path)
    assert "taken out" not in again.out
