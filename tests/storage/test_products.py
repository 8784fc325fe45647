import csv
import dataclasses
import json

import h5py
import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits import Header
from astropy.table import Table
from astropy.wcs import WCS

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.cutouts import wcs_of_cutout
from lightcurver_ops.numerics.noise import inflate_masked
from lightcurver_ops.storage.images import subsampled_wcs, write_model_image
from lightcurver_ops.storage.prepared import (
    PreparedCutouts,
    central,
    read_prepared,
    validate_prepared,
    write_prepared,
)
from lightcurver_ops.storage.tables import PER_EPOCH, product_path, read_table, write_json, write_table

RNG = np.random.default_rng(1)


def wcs_header(sip: bool = False) -> Header:
    suffix = "-SIP" if sip else ""
    header = Header(
        {"CTYPE1": f"RA---TAN{suffix}", "CTYPE2": f"DEC--TAN{suffix}", "CRVAL1": 10.0, "CRVAL2": 20.0}
    )
    header.update(
        {"CRPIX1": 16.3, "CRPIX2": 15.1, "CD1_1": -5e-5, "CD1_2": 1e-6, "CD2_1": 2e-6, "CD2_2": 5e-5}
    )
    if sip:
        header.update(
            {"A_ORDER": 3, "A_2_0": 2e-4, "A_1_2": -1e-6, "B_ORDER": 2, "B_0_2": 1e-4, "B_1_1": 3e-5}
        )
    return header


def prepared(n_epochs=4, n=32, k=2) -> PreparedCutouts:
    def column():
        return RNG.uniform(1, 2, n_epochs)

    return PreparedCutouts(
        frame_id=np.arange(n_epochs) + 10,
        data=RNG.normal(size=(n_epochs, n, n)),
        noisemap=RNG.uniform(1, 2, (n_epochs, n, n)),
        psf=RNG.uniform(size=(n_epochs, n * k, n * k)),
        full_psf=RNG.uniform(size=(n_epochs, n * k, n * k)),
        seeing=column(),
        sky_level_electron_per_second=column(),
        mjd=58000 + column(),
        global_zeropoint=25.5,
        global_zeropoint_scatter=0.01,
        coefficient=column(),
        relative_normalization_error=column(),
        roi_offset=RNG.uniform(-0.5, 0.5, (n_epochs, 2)),
        wcs=tuple(wcs_of_cutout(wcs_header(), 3 * index, 0) for index in range(n_epochs)),
        pixel_scale=column(),
        subsampling_factor=k,
        angle_to_north=column(),
    )


def test_the_middle_of_cutouts_is_where_it_was_on_the_sky():
    whole = prepared(n=32)
    part = central(whole, 24)
    validate_prepared(part, "part.h5")
    np.testing.assert_array_equal(part.data, whole.data[:, 4:28, 4:28])
    np.testing.assert_array_equal(part.noisemap, whole.noisemap[:, 4:28, 4:28])
    for cut, full in zip(part.wcs, whole.wcs, strict=True):
        np.testing.assert_allclose(
            WCS(cut).pixel_to_world_values(3, 5), WCS(full).pixel_to_world_values(7, 9)
        )
    assert central(whole, 32) is whole
    assert central(whole, 40) is whole


def test_prepared_cutouts_come_back(tmp_path):
    path, written = tmp_path / "prepared_roi_cutouts" / "cutouts.h5", prepared()
    write_prepared(path, written)
    read = read_prepared(path)
    for field in dataclasses.fields(PreparedCutouts):
        if field.name != "wcs":
            np.testing.assert_array_equal(getattr(read, field.name), getattr(written, field.name))
    assert isinstance(read.subsampling_factor, int)
    assert [WCS(one).wcs.crpix[0] for one in read.wcs] == [WCS(one).wcs.crpix[0] for one in written.wcs]
    with h5py.File(path) as file:
        assert set(file) == {field.name for field in dataclasses.fields(PreparedCutouts)} - {
            "psf_slope",
            "aperture_radius",
            "roi_offset_error",
        }


def test_the_error_of_the_place_comes_back(tmp_path):
    path, error = tmp_path / "cutouts.h5", RNG.uniform(0.001, 0.02, 4)
    write_prepared(path, dataclasses.replace(prepared(), roi_offset_error=error))
    np.testing.assert_array_equal(read_prepared(path).roi_offset_error, error)


def test_the_slope_of_a_psf_that_varies_comes_back(tmp_path):
    path, slope = tmp_path / "cutouts.h5", RNG.normal(size=(4, 2, 64, 64))
    write_prepared(path, dataclasses.replace(prepared(), psf_slope=slope))
    np.testing.assert_array_equal(read_prepared(path).psf_slope, slope)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeing": np.ones(3)}, "seeing has 3 entries for 4 frames"),
        ({"mjd": np.array([1, 2, np.nan, 4.0])}, "mjd has values that are not finite"),
        ({"noisemap": np.zeros((4, 32, 32))}, "noisemap has values of 0"),
        ({"noisemap": np.ones((4, 30, 30))}, "noisemap"),
        ({"frame_id": np.array([1, 2, 2, 3])}, "more than once"),
        ({"psf": np.ones((4, 64, 60))}, "psf"),
        ({"psf_slope": np.ones((4, 64, 64))}, "psf_slope"),
        ({"psf_slope": np.full((4, 2, 64, 64), np.nan)}, "psf_slope has values that are not finite"),
        ({"subsampling_factor": 0}, "subsampling_factor"),
        ({"coefficient": np.full(4, np.inf)}, "coefficient"),
    ],
)
def test_inconsistent_sets_are_not_written(tmp_path, changes, message):
    with pytest.raises(BadFrame, match=message):
        write_prepared(tmp_path / "cutouts.h5", dataclasses.replace(prepared(), **changes))
    assert list(tmp_path.iterdir()) == []


def test_a_band_without_catalogue_magnitudes_has_no_zero_point(tmp_path):
    unknown = dataclasses.replace(prepared(), global_zeropoint=np.nan, global_zeropoint_scatter=np.nan)
    write_prepared(tmp_path / "cutouts.h5", unknown)
    assert np.isnan(read_prepared(tmp_path / "cutouts.h5").global_zeropoint)


@pytest.mark.parametrize("masked_part", [0.0, 0.1, 0.7])
def test_masked_pixels_are_known_from_their_noise(masked_part):
    one = prepared()
    good = RNG.uniform(size=one.data.shape) >= masked_part
    data, noisemap = inflate_masked(one.data, one.noisemap, good)
    np.testing.assert_array_equal(dataclasses.replace(one, data=data, noisemap=noisemap).good, good)


def test_incomplete_files_are_named(tmp_path):
    path = tmp_path / "cutouts.h5"
    write_prepared(path, prepared())
    with h5py.File(path, "a") as file:
        del file["psf"]
    with pytest.raises(BadFrame, match="lacks the datasets psf"):
        read_prepared(path)
    with pytest.raises(BadFrame, match="prepare_calibrated_cutouts"):
        read_prepared(tmp_path / "none.h5")


def test_tables_keep_every_digit_and_read_elsewhere(tmp_path):
    path = product_path(tmp_path, "J0030_r", PER_EPOCH)
    assert path == tmp_path / "prepared_roi_cutouts" / "J0030_r_photometry_per_epoch.csv"
    columns = {
        "frame_id": np.array([3, 1, 2]),
        "mjd": np.array([59374.381451123456, 1 / 3, 1e-300]),
        "A_flux": np.array([216.1315, np.nan, -1.0]),
        "note": ["a,b", 'say "x"', ""],
    }
    write_table(path, columns)
    read = read_table(path)
    assert list(read) == list(columns)
    assert read["frame_id"].dtype == np.int64
    for name, column in columns.items():
        np.testing.assert_array_equal(read[name], column)
    other = Table.read(path, format="ascii.csv")
    np.testing.assert_array_equal(other["mjd"], columns["mjd"])
    np.testing.assert_array_equal(other["A_flux"], columns["A_flux"])
    with path.open(newline="") as file:
        assert next(csv.reader(file)) == list(columns)


def test_tables_of_unequal_columns_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        write_table(tmp_path / "a.csv", {"a": [1, 2], "b": [1]})
    assert list(tmp_path.iterdir()) == []


def test_damaged_tables_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1\n")
    for name in ("a.csv", "none.csv"):
        with pytest.raises(BadFrame, match=name):
            read_table(tmp_path / name)


def test_astrometry_as_json(tmp_path):
    write_json(
        tmp_path / "a.json", {"A": {"ra": np.float64(10.5), "offsets": np.arange(3)}, "n": np.int64(3)}
    )
    content = json.loads((tmp_path / "a.json").read_text())
    assert content == {"A": {"ra": 10.5, "offsets": [0, 1, 2]}, "n": 3}


@pytest.mark.parametrize("sip", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_small_pixels_tile_the_pixels_of_the_cutout(k, sip):
    cutout = WCS(wcs_header(sip))
    small = WCS(subsampled_wcs(wcs_header(sip), k))
    # The mean of the centres of the k x k small pixels of a pixel is its centre; edges coincide.
    pixel = np.array([0.0, 10.0, 31.0])
    for offset in np.arange(k):
        fine = pixel * k + offset
        coarse = (fine + 0.5) / k - 0.5
        np.testing.assert_allclose(
            small.all_pix2world(fine, fine[::-1], 0),
            cutout.all_pix2world(coarse, coarse[::-1], 0),
            rtol=0,
            atol=1e-10,
        )


def test_model_image_with_wcs_and_zero_point(tmp_path):
    image = RNG.normal(size=(64, 64))
    path = product_path(tmp_path, "J0030", "_high_res_model.fits")
    write_model_image(path, image, wcs_header(), 2, 25.25)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        np.testing.assert_allclose(hdus[0].data, image, rtol=1e-6)
        assert hdus[0].header["ZPT"] == 25.25
        np.testing.assert_allclose(
            WCS(hdus[0].header).all_pix2world(31.5, 31.5, 0),
            WCS(wcs_header()).all_pix2world(15.5, 15.5, 0),
            atol=1e-11,
        )
    write_model_image(path, image, wcs_header(), 2, np.nan)
    assert "ZPT" not in fits.getheader(path)
