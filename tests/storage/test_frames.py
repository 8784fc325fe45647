import numpy as np
import pytest
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.sources import extract_sources
from lightcurver_ops.storage.frames import (
    read_frame,
    read_header,
    read_sources,
    write_frame,
    write_sources,
    write_wcs,
)
from lightcurver_ops.storage.raw import read_raw

RNG = np.random.default_rng(1)
IMAGE = RNG.normal(size=(50, 70)).astype(np.float32)


def tan_header(crval=(30.0, 46.0), crpix=(35.5, 25.5), scale=1e-3) -> Header:
    header = Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    for axis in (0, 1):
        header[f"CRVAL{axis + 1}"], header[f"CRPIX{axis + 1}"] = crval[axis], crpix[axis]
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -scale, 0.0, 0.0, scale
    return header


@pytest.fixture
def path(tmp_path):
    return tmp_path / "frames" / "one.fits"


def test_pixels_and_masks_come_back(path):
    image = IMAGE.copy()
    image[3, 4] = np.nan
    saturated = np.zeros(image.shape, dtype=bool)
    saturated[10:12, 20] = True
    saturated[3, 4] = True
    write_frame(path, image, Header({"EXPTIME": 60.0}), saturated=saturated)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.image, image)
    assert frame.image.dtype == np.float64
    np.testing.assert_array_equal(frame.saturated, saturated)
    assert np.argwhere(frame.bad).tolist() == [[3, 4]]
    assert frame.header["EXPTIME"] == 60.0
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert hdus[0].header["BITPIX"] == -32
        assert hdus["MASK"].data.dtype == np.uint8
        assert hdus["MASK"].data[3, 4] == 3


def test_cards_that_no_longer_hold_are_left_out(path, tmp_path):
    raw = fits.PrimaryHDU((IMAGE * 100).astype(np.int16))
    raw.header.update(
        {"EXPTIME": 60.0, "BLANK": -5, "OBJECT": "M 31", "HIERARCH ESO TEL AIRM": 1.2, "CPDIS1": "LOOKUP"}
    )
    raw.header["BSCALE"], raw.header["BZERO"] = 0.5, 10.0
    raw.header["COMMENT"] = "kept"
    raw.header["HISTORY"] = "kept too"
    raw.writeto(tmp_path / "raw.fits")
    read = read_raw(tmp_path / "raw.fits")
    write_frame(path, read.data, read.header)
    frame = read_frame(path)
    np.testing.assert_allclose(frame.image, read.data, rtol=1e-6)
    assert frame.header["OBJECT"] == "M 31"
    assert frame.header["ESO TEL AIRM"] == 1.2
    assert list(frame.header["COMMENT"]) == ["kept"]
    assert list(frame.header["HISTORY"]) == ["kept too"]
    assert not {"BSCALE", "BZERO", "BLANK", "CPDIS1"} & set(frame.header)


def test_invalid_cards_are_left_out_and_free_format_is_mended(path):
    cards = [
        "EXPTIME = 060.00 / nonstandard",
        "BROKEN  = 'no end of it",
        "LST-OBS = 17:04:23",
        "GOOD    =                    1",
    ]
    header = Header.fromstring("".join(card.ljust(80) for card in cards))
    write_frame(path, IMAGE, header)
    stored = read_header(path)
    assert stored["EXPTIME"] == 60.0
    assert stored["GOOD"] == 1
    assert "LST-OBS" not in stored
    with fits.open(path) as hdus:
        hdus.verify("exception")


def test_trim_moves_the_wcs(path):
    header = tan_header()
    header["CRPIX1A"] = 9.0
    write_frame(path, IMAGE[3:-3, 5:-5], header, trim=(3, 5))
    stored = read_header(path)
    np.testing.assert_allclose(
        WCS(stored).pixel_to_world_values(10, 12),
        WCS(header).pixel_to_world_values(15, 15),
        rtol=0,
        atol=1e-12,
    )
    assert stored["CRPIX1A"] == 4.0
    assert header["CRPIX1"] == 35.5


def test_the_raw_wcs_can_be_left_behind(path):
    header = tan_header()
    header["OBJECT"] = "M 31"
    write_frame(path, IMAGE, header, keep_wcs=False)
    stored = read_header(path)
    assert not WCS(stored).has_celestial
    assert stored["OBJECT"] == "M 31"


def test_a_new_wcs_replaces_every_trace_of_the_old(path):
    old = tan_header()
    old.update(
        {
            "CROTA2": 12.0,
            "CDELT1": 1.0,
            "A_ORDER": 2,
            "A_2_0": 1e-4,
            "PV1_1": 0.3,
            "EQUINOX": 1950.0,
            "CTYPE1A": "X",
        }
    )
    old["DATE-OBS"], old["MJD-OBS"], old["OBJECT"] = "2017-12-20", 58107.0, "M 31"
    write_frame(path, IMAGE, old)
    new = WCS(tan_header(crval=(200.0, -5.0), crpix=(1.0, 2.0), scale=2e-3)).to_header()
    new["DATE-OBS"], new["HISTORY"] = "1999-01-01", "solver"
    write_wcs(path, new)
    frame = read_frame(path)
    np.testing.assert_array_equal(frame.image, IMAGE)
    x, y = np.array([0.0, 69.0]), np.array([49.0, 3.0])
    np.testing.assert_allclose(
        WCS(frame.header).all_pix2world(x, y, 0), WCS(new).all_pix2world(x, y, 0), rtol=0, atol=1e-11
    )
    assert not {"CROTA2", "A_ORDER", "A_2_0", "PV1_1", "CD1_1", "CTYPE1A", "HISTORY"} & set(frame.header)
    assert (frame.header["DATE-OBS"], frame.header["OBJECT"]) == ("2017-12-20", "M 31")


def test_writing_the_wcs_twice_changes_nothing(path):
    write_frame(path, IMAGE, Header())
    write_wcs(path, tan_header())
    once = path.read_bytes()
    write_wcs(path, tan_header())
    assert path.read_bytes() == once


def test_sources_come_back(tmp_path):
    y, x = np.mgrid[:200, :200]
    image = RNG.normal(size=(200, 200))
    for cx, cy in ((40, 50), (100, 120), (150, 60)):
        image += 100 * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / 4)
    found = extract_sources(image, 1.0, 100.0, 5.0, 5)
    assert len(found) == 3
    write_sources(tmp_path / "s.fits", found)
    read = read_sources(tmp_path / "s.fits")
    for name in ("x", "y", "flux", "peak", "a", "b", "theta", "fwhm", "ellipticity", "npix", "flag"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name))
        assert getattr(read, name).dtype.isnative


def test_no_sources_at_all(tmp_path):
    none = extract_sources(np.zeros((50, 50)), 1.0, 1.0, 5.0, 5)
    write_sources(tmp_path / "s.fits", none)
    assert len(read_sources(tmp_path / "s.fits")) == 0


@pytest.mark.parametrize("damage", ["missing", "truncated", "not FITS", "empty"])
@pytest.mark.parametrize("reader", [read_frame, read_header, read_sources])
def test_damaged_frames_are_named(path, damage, reader):
    if damage != "missing":
        write_frame(path, IMAGE, Header())
        content = path.read_bytes()
        cut = len(content) // 3 if reader is not read_header else 1000
        path.write_bytes({"truncated": content[:cut], "not FITS": b"x" * 5000, "empty": b""}[damage])
    with pytest.raises(BadFrame, match=r"one\.fits.*import the frame again"):
        reader(path)
