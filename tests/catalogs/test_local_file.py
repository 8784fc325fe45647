"""A catalogue in a file of the user's."""

import gzip
import shutil

import numpy as np
import pytest
from astropy import units as u
from astropy.table import MaskedColumn, Table

from lightcurver_ops.catalogs.base import GAIA_UNITS
from lightcurver_ops.catalogs.local_file import LocalFile
from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.errors import ConfigurationError

EVERYWHERE = Disk(0.0, 0.0, 180.0)
WRITERS = {"ecsv": "ascii.ecsv", "fits": "fits", "csv": "ascii.csv", "parquet": "parquet"}


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_table(field, tmp_path, suffix):
    path = tmp_path / f"stars.{suffix}"
    field.write(path, format=WRITERS[suffix])
    table = LocalFile(path).query(EVERYWHERE)
    assert table.colnames == list(GAIA_UNITS)
    for name, unit in GAIA_UNITS.items():
        assert table[name].unit == unit, name
        np.testing.assert_array_equal(
            np.ma.getmaskarray(table[name]), np.ma.getmaskarray(field[name]), err_msg=name
        )
        known = ~np.ma.getmaskarray(field[name])
        np.testing.assert_array_equal(
            table[name].data.data[known], np.asarray(field[name])[known], err_msg=name
        )
    assert table["source_id"].dtype == np.int64


def test_compressed_text_is_read(field, tmp_path):
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    (tmp_path / "stars.ecsv.gz").write_bytes(gzip.compress((tmp_path / "stars.ecsv").read_bytes()))
    assert len(LocalFile(tmp_path / "stars.ecsv.gz").query(EVERYWHERE)) == len(field)


def test_the_bulk_download_of_the_gaia_archive(tmp_path):
    """CSV under an ECSV header, `null` for what is missing, gzip; its column types stand in the header."""
    lines = [
        "# %ECSV 1.0", "# ---", "# delimiter: ','", "# datatype:",
        "# - {name: source_id, datatype: int64}", "# - {name: ra, unit: deg, datatype: float64}",
        "# - {name: dec, unit: deg, datatype: float64}", "# - {name: pmra, unit: mas / yr, datatype: float64}",
        "# - {name: phot_g_mean_mag, unit: mag, datatype: float32}", "# - {name: libname_gspphot, datatype: string}",
        "source_id,ra,dec,pmra,phot_g_mean_mag,libname_gspphot",
        '4295806720,44.99615537864534,0.005615226341865997,null,17.641426,"MARCS"',
        "34361129088,45.00432028915398,0.021047763781174733,3.5,15.36,null",
    ]  # fmt: skip
    path = tmp_path / "GaiaSource_000000-003111.csv.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    table = LocalFile(path).query(EVERYWHERE)
    assert list(table["source_id"]) == [4295806720, 34361129088]
    assert list(np.ma.getmaskarray(table["pmra"])) == [True, False]
    assert table["phot_g_mean_mag"][1] == pytest.approx(15.36)


def test_tables_as_services_write_them(field, tmp_path):
    """VOTable, upper-case names, quoted numbers and null in CSV."""
    field.write(tmp_path / "stars.vot", format="votable")
    assert len(LocalFile(tmp_path / "stars.vot").query(EVERYWHERE)) == len(field)
    path = tmp_path / "stars.csv"
    path.write_text(
        'SOURCE_ID,RA,DEC,PHOT_G_MEAN_MAG,PMRA\n"123","10.5","-3.25","17.0","null"\n"124","10.6","-3.2","null","1.5"\n'
    )
    table = LocalFile(path).query(EVERYWHERE)
    assert list(table["source_id"]) == [123, 124]
    assert table["dec"][0] == -3.25
    assert list(np.ma.getmaskarray(table["pmra"])) == [True, False]
    assert list(np.ma.getmaskarray(table["phot_g_mean_mag"])) == [False, True]


def test_right_ascensions_in_hours_are_recognised(field, tmp_path):
    here = Disk(float(field["ra"][0]), float(field["dec"][0]), 0.01)
    hours = field.copy()
    hours["ra"] = np.asarray(field["ra"]) / 15
    hours["ra"].unit = None
    hours.write(tmp_path / "hours.ecsv", format="ascii.ecsv")
    field.write(tmp_path / "degrees.ecsv", format="ascii.ecsv")
    assert len(LocalFile(tmp_path / "hours.ecsv").query(here)) == 0
    assert LocalFile(tmp_path / "hours.ecsv").has_hours_for(here)
    assert not LocalFile(tmp_path / "degrees.ecsv").has_hours_for(here)
    hours["ra"].unit = "hourangle"
    hours.write(tmp_path / "said.ecsv", format="ascii.ecsv")
    assert len(LocalFile(tmp_path / "said.ecsv").query(here)) > 0


def test_nan_is_unknown_absent_stays_absent_and_the_epoch_has_a_default(field, tmp_path):
    small = field["source_id", "ra", "dec", "phot_g_mean_mag", "pmra"]
    small["phot_g_mean_mag"][3] = np.nan
    small.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    table = LocalFile(tmp_path / "stars.ecsv").query(EVERYWHERE)
    assert table.colnames == ["source_id", "ra", "dec", "ref_epoch", "pmra", "phot_g_mean_mag"]
    assert np.ma.getmaskarray(table["phot_g_mean_mag"]).sum() == 1
    assert np.ma.getmaskarray(table["phot_g_mean_mag"])[3]
    assert np.all(table["ref_epoch"] == 2016.0)


def test_a_text_column_without_any_value_is_all_unknown(tmp_path):
    (tmp_path / "stars.csv").write_text(
        "source_id,ra,dec,phot_g_mean_mag,pmra,ref_epoch\n1,2,3,14,,\n2,3,4,15,,2000\n"
    )
    table = LocalFile(tmp_path / "stars.csv").query(EVERYWHERE)
    assert np.ma.getmaskarray(table["pmra"]).all()
    assert list(table["ref_epoch"]) == [2016.0, 2000.0]


def test_units_are_converted(field, tmp_path):
    field["ra"] = field["ra"].to(u.hourangle)
    field["pmdec"] = MaskedColumn(field["pmdec"] / 1000, unit=u.arcsec / u.yr)
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    table = LocalFile(tmp_path / "stars.ecsv").query(EVERYWHERE)
    np.testing.assert_allclose(table["ra"], field["ra"] * 15, rtol=1e-14)
    np.testing.assert_allclose(table["pmdec"].compressed(), field["pmdec"].compressed() * 1000)
    np.testing.assert_array_equal(table["pmdec"].mask, field["pmdec"].mask)


def test_region_magnitude_and_epoch_decide_the_answer(field, tmp_path):
    field["pmra"][0], field["pmdec"][0] = 0.0, 10_000.0
    field["ra"][0], field["dec"][0], field["phot_g_mean_mag"][0] = 0.05, 40.0, 12.0
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    catalog = LocalFile(tmp_path / "stars.ecsv")
    disk = Disk(0.05, 40.0, 0.2)
    table = catalog.query(disk, max_gmag=15.0)
    expected = disk.contains(field["ra"], field["dec"]) & (field["phot_g_mean_mag"] <= 15.0)
    assert set(table["source_id"]) == set(field["source_id"][expected])
    assert 5 < len(table) < len(field)
    # 100 years later the fast star is 1000 arcsec north: outside, though its catalogue position stays
    late = catalog.query(disk, max_gmag=15.0, epoch_mjd=51544.5 + 116 * 365.25)
    assert field["source_id"][0] in table["source_id"]
    assert field["source_id"][0] not in late["source_id"]


def test_identity_is_the_content(field, tmp_path):
    field.write(tmp_path / "a.ecsv", format="ascii.ecsv")
    shutil.copy(tmp_path / "a.ecsv", tmp_path / "b.ecsv")
    field[1:].write(tmp_path / "c.ecsv", format="ascii.ecsv")
    a, b, c = (LocalFile(tmp_path / f"{x}.ecsv").identity() for x in "abc")
    assert a == b != c


def test_missing_columns_are_named_with_those_found(tmp_path):
    Table({"id": [1], "ra": [1.0], "dec": [2.0]}).write(tmp_path / "stars.csv")
    with pytest.raises(ConfigurationError) as error:
        LocalFile(tmp_path / "stars.csv").query(EVERYWHERE)
    for part in ("stars.csv", "source_id, phot_g_mean_mag", "id, ra, dec"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("stars.ecsv", None, "does not exist"),
        ("stars.fits", b"", "cannot be read"),
        ("stars.fits", b"SIMPLE  = not really a FITS file" * 100, "cannot be read"),
        ("stars.parquet", b"PAR1garbage", "cannot be read"),
        ("stars.ecsv", b"ra dec\n1 2\n", "cannot be read"),
        ("stars.ecsv", b"\x00\xff\xfe", "cannot be read"),
        ("stars.dat", b"1 2 3", "suffix"),
    ],
)
def test_unreadable_files_are_said_to_be(tmp_path, name, content, complaint):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigurationError, match=complaint) as error:
        LocalFile(tmp_path / name).query(EVERYWHERE)
    assert name in str(error.value)
    assert "gaia_catalog_file" in str(error.value)


@pytest.mark.parametrize(
    ("column", "values", "complaint"),
    [
        ("source_id", [1, 1, 2], "more than once"),
        ("source_id", [1.5, 2.0, 3.0], "integers"),
        ("source_id", ["one", "two", "three"], "integers"),
        ("dec", [0.0, 95.0, 0.0], "90 degrees"),
        ("ra", ["00:01", "00:02", "00:03"], "numbers"),
    ],
)
def test_columns_that_do_not_hold_what_they_say(tmp_path, column, values, complaint):
    good = {"source_id": [1, 2, 3], "ra": [1.0, 2.0, 3.0], "dec": [0.0] * 3, "phot_g_mean_mag": [15.0] * 3}
    Table({**good, column: values}).write(tmp_path / "stars.csv")
    with pytest.raises(ConfigurationError, match=complaint):
        LocalFile(tmp_path / "stars.csv").query(EVERYWHERE)


def test_rows_without_position_are_left_out(field, tmp_path):
    field["ra"] = MaskedColumn(field["ra"], mask=np.arange(len(field)) < 2)
    field.write(tmp_path / "stars.ecsv", format="ascii.ecsv")
    assert len(LocalFile(tmp_path / "stars.ecsv").query(EVERYWHERE)) == len(field) - 2
