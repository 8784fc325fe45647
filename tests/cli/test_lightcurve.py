"""`lcops lightcurve`: what is shown is what the pipeline wrote."""

import io

import numpy as np
import pytest

from lightcurver_ops.storage.tables import read_table


@pytest.mark.parametrize(("per", "rows"), [("night", 3), ("epoch", 6)])
def test_table_and_csv_agree_with_the_products(lcops, reduced_season, tmp_path, per, rows):
    written = read_table(reduced_season.work / f"prepared_roi_cutouts/small_r_photometry_per_{per}.csv")
    shown = lcops("lightcurve", reduced_season.config_path, "--per", per)
    assert (shown.code, shown.err) == (0, "")
    title, header, *lines = shown.out.splitlines()
    assert title.startswith("small, filter r, version 1 of ")
    assert title.endswith(" UTC")
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
    ],
)
def test_what_is_not_there_is_told(lcops, reduced_season, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    result = lcops("lightcurve", reduced_season.config_path, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_before_any_run(lcops, season):
    result = lcops("lightcurve", season.config_path)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"lcops: small has no light curve yet: `lcops run {season.config_path}` makes it\n"
