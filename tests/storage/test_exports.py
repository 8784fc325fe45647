"""Exports read back with the libraries that other people read them with."""

import csv
import io
import json
import warnings

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy import units as u
from astropy.io.votable import parse
from astropy.table import Table
from pycs3.gen.lc_func import rdbimport

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.storage.exports import (
    Export,
    ExportColumn,
    left_out,
    to_csv,
    to_ecsv,
    to_parquet,
    to_pycs3,
    to_votable,
)

ODD = 'A "1", µ\'é <&>|#'
"""A label with what separates, quotes, comments and marks up in one format or another."""
META = {"lens": "demo", "filter": "r'", "version": 3, "images_deg": {ODD: [10.0, -20.0]}, "note": "a<b & 'c'"}


def export(labels=("A", ODD)):
    rng = np.random.default_rng(5)
    mjd = 60000 + np.sort(rng.random(6)) * 100
    columns = [ExportColumn("mjd", mjd, "d", "time", "time.epoch")]
    magnitudes = {}
    for j, label in enumerate(labels):
        flux, error = 100 + rng.random(6), 0.1 + rng.random(6)
        mag, d_mag = 18 + rng.random(6) / 3, 0.01 + rng.random(6) / 100
        if j == 1:
            mag[2], d_mag[2] = np.nan, np.nan
        magnitudes[label] = mag, d_mag
        columns += [
            ExportColumn(f"{label}_flux", flux, "electron / s", f"image {label}: flux", "phot.flux"),
            ExportColumn(
                f"{label}_d_flux", error, "electron / s", f"image {label}: error", "stat.error;phot.flux"
            ),
            ExportColumn(f"{label}_mag", mag, "mag", f"image {label}: magnitude", "phot.mag"),
            ExportColumn(f"{label}_d_mag", d_mag, "mag", f"image {label}: error", "stat.error;phot.mag"),
            ExportColumn(f"{label}_count_flux", np.arange(6), None, "exposures", "meta.number"),
        ]
    return Export(columns, META, list(labels), mjd + 0.003, magnitudes)


def assert_equal(read, column):
    np.testing.assert_array_equal(np.asarray(read, dtype=column.values.dtype), column.values)


@pytest.mark.filterwarnings("error")
def test_csv():
    written = export()
    header, *rows = csv.reader(io.StringIO(to_csv(written).decode()))
    assert header == [column.name for column in written.columns]
    for column, values in zip(written.columns, zip(*rows, strict=True), strict=True):
        assert_equal([float(value) for value in values], column)


@pytest.mark.filterwarnings("error")
def test_ecsv(tmp_path):
    written = export()
    path = tmp_path / "curve.ecsv"
    path.write_bytes(to_ecsv(written))
    table = Table.read(path)
    assert table.colnames == [column.name for column in written.columns]
    assert dict(table.meta) == META
    for column in written.columns:
        read = table[column.name]
        assert not hasattr(read, "mask")
        assert_equal(read, column)
        assert read.unit == (u.Unit(column.unit) if column.unit else None)
        assert read.description == column.description


@pytest.mark.filterwarnings("error")
def test_parquet(tmp_path):
    written = export()
    path = tmp_path / "curve.parquet"
    path.write_bytes(to_parquet(written))
    table = pq.read_table(path)
    assert table.column_names == [column.name for column in written.columns]
    assert json.loads(table.schema.metadata[b"lcops"]) == META
    for column in written.columns:
        field, read = table.schema.field(column.name), table[column.name]
        assert read.null_count == (np.isnan(column.values).sum() if column.values.dtype.kind == "f" else 0)
        assert_equal(read.to_numpy(), column)
        about = {key.decode(): value.decode() for key, value in field.metadata.items()}
        assert about.get("unit") == column.unit
        assert (about["description"], about["ucd"]) == (column.description, column.ucd)


@pytest.mark.filterwarnings("error")
def test_votable(tmp_path):
    written = export()
    path = tmp_path / "curve.vot"
    path.write_bytes(to_votable(written))
    file = parse(path, verify="exception")
    assert file.version == "1.4"
    (system,) = file.resources[0].time_systems
    assert (system.timescale, system.timeorigin) == ("UTC", "MJD-origin")
    votable = file.get_first_table()
    infos = {info.name: info.value for info in votable.infos}
    assert infos["note"] == META["note"]
    assert json.loads(infos["images_deg"]) == META["images_deg"]
    table = votable.to_table(use_names_over_ids=True)
    assert table.colnames == [column.name for column in written.columns]
    for column, field in zip(written.columns, votable.fields, strict=True):
        read = np.ma.asarray(table[column.name])
        assert_equal(read.filled(np.nan) if read.dtype.kind == "f" else read.data, column)
        unit = table[column.name].unit
        assert unit.is_equivalent(column.unit) if column.unit else unit is None
        assert (field.ucd, field.description) == (column.ucd, column.description)
    assert votable.fields[0].ref == system.ID
    assert Table.read(path, format="votable").colnames[:3] == ["mjd", "A_flux", "A_d_flux"]


def test_votable_for_pyvo(tmp_path):
    from pyvo.dal import DALResults

    written = export()
    path = tmp_path / "curve.vot"
    path.write_bytes(to_votable(written))
    results = DALResults(parse(path))
    assert results.fieldname_with_ucd("time.epoch") == "mjd"
    assert_equal(results.getcolumn("mjd"), written.columns[0])


def test_pycs3(tmp_path):
    written = export(("A", "B one"))
    path = tmp_path / "curve.rdb"
    path.write_bytes(to_pycs3(written))
    kept = np.arange(6) != 2  # B has no magnitude there
    assert left_out(written) == 1
    for label, name in (("A", "A"), ("B one", "B_one")):
        curve = rdbimport(
            str(path), object=label, magcolname=f"mag_{name}", magerrcolname=f"magerr_{name}", verbose=False
        )
        curve.validate()
        mag, error = written.magnitudes[label]
        np.testing.assert_array_equal(curve.jds, written.mhjd[kept])
        np.testing.assert_array_equal(curve.mags, mag[kept])
        np.testing.assert_array_equal(curve.magerrs, error[kept])
        assert curve.mask.all()


def test_pycs3_labels_that_blanks_would_part_or_join(tmp_path):
    written = export(("a b", "a_b", "a\u00a0b", ODD))
    header, underline = to_pycs3(written).decode().splitlines()[:2]
    assert header.split() == [
        "mhjd",
        *(
            f"{kind}_{name}"
            for name in ("a_b", "a_b_2", "a_b_3", ODD.replace(" ", "_"))
            for kind in ("mag", "magerr")
        ),
    ]
    assert [len(word) for word in underline.split()] == [len(word) for word in header.split()]
    path = tmp_path / "curve.rdb"
    path.write_bytes(to_pycs3(written))
    curve = rdbimport(str(path), magcolname="mag_a_b_3", magerrcolname="magerr_a_b_3", verbose=False)
    np.testing.assert_array_equal(curve.mags, written.magnitudes["a\u00a0b"][0][np.arange(6) != 2])


def test_pycs3_needs_two_epochs():
    written = export(("A",))
    written.magnitudes["A"][0][1:] = np.nan
    with pytest.raises(
        ConfigurationError, match=r"two epochs or more .* and there are 1; choose --per epoch"
    ):
        to_pycs3(written)


@pytest.mark.parametrize("write", [to_csv, to_ecsv, to_parquet, to_votable])
def test_infinite_errors_stay_infinite(write, tmp_path):
    """The error towards fainter of a flux that its own error reaches down to zero."""
    up = np.array([0.1, np.inf])
    written = Export([ExportColumn("A_d_mag_up", up, "mag", "error")], {}, [], np.zeros(2), {})
    path = tmp_path / "curve"
    path.write_bytes(write(written))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind = {to_csv: "ascii.csv", to_ecsv: "ascii.ecsv", to_parquet: "parquet", to_votable: "votable"}[
            write
        ]
        read = Table.read(path, format=kind)["A_d_mag_up"]
    np.testing.assert_array_equal(np.asarray(read), up)
