"""`lcops lightcurve`: what is shown is what the pipeline wrote."""

import io
import json
import re

import numpy as np
import pytest
import sqlalchemy as sa
from astropy.table import Table

from lightcurver_ops.bookkeeping.engine import writing
from lightcurver_ops.constants import POGSON
from lightcurver_ops.storage.tables import read_table


@pytest.mark.parametrize(("per", "rows"), [("night", 3), ("epoch", 6)])
def test_table_and_csv_agree_with_the_products(lcops, reduced_season, tmp_path, per, rows):
    written = read_table(reduced_season.work / f"prepared_roi_cutouts/small_r_photometry_per_{per}.csv")
    shown = lcops("lightcurve", reduced_season.config_path, "--per", per)
    assert (shown.code, shown.err) == (0, "")
    title, common, header, *lines = shown.out.splitlines()
    assert title.startswith("small, filter r, version 1 of ")
    assert title.endswith(" UTC")
    assert re.fullmatch(
        r"# error that all points of an image share, beside their own: A \d+\.\d mmag, B \d+\.\d mmag", common
    )
    assert header.split() == ["mjd", "A", "mag", "A", "+-", "B", "mag", "B", "+-"]
    numbers = np.array([[float(word) for word in line.split()] for line in lines])
    columns = ["mjd", "A_mag", "A_d_mag", "B_mag", "B_d_mag"]
    assert numbers.shape == (rows, 5)
    assert np.abs(numbers - np.stack([written[column] for column in columns], axis=1)).max() < 6e-5
    path = tmp_path / "shown.csv"
    path.write_text(lcops("lightcurve", reduced_season.config_path, "--per", per, "--format", "csv").out)
    read = read_table(path)
    for column in (
        "mjd",
        *(f"{label}_{name}" for label in "AB" for name in ("flux", "d_flux", "mag", "d_mag")),
    ):
        np.testing.assert_allclose(read[column], written[column], rtol=1e-9)


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot_writes_a_figure(lcops, reduced_season, tmp_path, suffix):
    path = tmp_path / f"curve.{suffix}"
    result = lcops("lightcurve", reduced_season.config_path, "--plot", path)
    assert (result.code, result.out, result.err) == (0, "", f"figure: {path}\n")
    assert path.read_bytes()[:5] in {b"\x89PNG\r", b"%PDF-", b"<?xml"}


def test_plot_and_csv_in_one(lcops, reduced_season, tmp_path):
    path = tmp_path / "curve.png"
    result = lcops("lightcurve", reduced_season.config_path, "--plot", path, "--format", "csv")
    assert path.exists()
    assert np.genfromtxt(io.StringIO(result.out), delimiter=",", names=True).shape == (3,)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--version", 7], "small has no version 7 of filter r; the newest is 1"),
        (["--filter", "z"], "small has no light curve in filter z; there are: r"),
        (["--plot", "curve.xyz"], "curve.xyz"),
        (
            ["--covariance"],
            "--covariance: the format table has no place for it; choose csv, ecsv, parquet or votable",
        ),
        (["--covariance", "--format", "pycs3"], "--covariance: the format pycs3 has no place for it"),
    ],
)
def test_what_is_not_there_is_told(lcops, reduced_season, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = lcops("lightcurve", reduced_season.config_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.parametrize("per", ["night", "epoch"])
def test_a_file_has_the_common_errors_and_if_asked_the_covariances(lcops, reduced_season, tmp_path, per):
    read = {}
    for more in ((), ("--covariance",)):
        path = tmp_path / f"curve{len(more)}.ecsv"
        assert (
            lcops("lightcurve", reduced_season.config_path, "--per", per, "--output", path, *more).code == 0
        )
        read[len(more)] = Table.read(path)
    assert set(read[1].colnames) - set(read[0].colnames) == {"cov_A_B"}
    table = read[1]
    written = json.loads(
        (reduced_season.work / "prepared_roi_cutouts/small_r_common_errors.json").read_text()
    )
    common = table.meta["common_errors"]
    assert list(common) == list(written) == ["A", "B"]
    for label in common:
        error = common[label]["flux_uncertainty"]
        assert error == written[label]["flux_uncertainty"] > 0
        assert common[label]["mag_uncertainty"] == pytest.approx(
            POGSON * error / np.median(table[f"{label}_flux"]), rel=0.1
        )
    both = [common[label]["flux_uncertainty"] for label in "AB"]
    assert abs(common["A"]["flux_covariances"]["B"]) <= np.prod(both)
    assert table["cov_A_B"].unit == "electron2 / s2"
    correlation = table["cov_A_B"] / (table["A_d_flux"] * table["B_d_flux"])
    assert np.all(np.abs(correlation) < 1)
    assert np.any(correlation != 0)


def test_a_light_curve_from_before_errors_had_two_parts(lcops, season_copy, tmp_path):
    season = season_copy()
    lens = season.lens()
    with writing(lens.engine) as connection:
        connection.execute(sa.text("update publications set common_errors = null, rows_sha256 = null"))
        connection.execute(sa.text("update light_curve_points set flux_covariances = null"))
    lens.close()
    shown = lcops("lightcurve", season.config_path)
    assert (shown.code, shown.err) == (0, "")
    assert "share" not in shown.out
    path = tmp_path / "old.ecsv"
    assert lcops("lightcurve", season.config_path, "--output", path, "--covariance").code == 0
    table = Table.read(path)
    assert table.meta["common_errors"] is None
    assert "cov_A_B" not in table.colnames
    explained = lcops("explain", season.config_path, "--frame", 1)
    assert (explained.code, explained.err) == (0, "")
    assert re.search(r"^A( +\d+\.\d{4}){4} +-$", explained.out, re.MULTILINE)


def test_before_any_run(lcops, season):
    result = lcops("lightcurve", season.config_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"lcops: small has no light curve yet: `lcops run {season.config_path}` makes it\n"
