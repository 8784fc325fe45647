"""What a file claims is checked before it is believed; packed files are read, or refused by name."""

import bz2
import gzip
import io
import lzma
import re
import zipfile

import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.storage.raw import read_raw, read_raw_header
from tests.in_halves import said_of_halves

PIXELS = np.random.default_rng(1).integers(200, 4000, (60, 80)).astype(np.int16)


def content(*hdus):
    buffer = io.BytesIO()
    fits.HDUList([*hdus] or [fits.PrimaryHDU(PIXELS, fits.Header({"EXPTIME": 60.0}))]).writeto(buffer)
    return buffer.getvalue()


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, member in enumerate(members):
            archive.writestr(f"frame{number}.fits", member)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_packed_files_are_read(tmp_path, pack):
    path = tmp_path / "frame.packed"
    path.write_bytes(pack(content()))
    assert np.array_equal(read_raw(path).data, PIXELS)
    assert read_raw_header(path)["EXPTIME"] == 60.0


def test_the_header_of_an_fpacked_file_is_found_without_configuration(tmp_path):
    path = tmp_path / "frame.fits.fz"
    header = fits.Header({"EXPTIME": 60.0, "FILTER": "r"})
    path.write_bytes(content(fits.PrimaryHDU(), fits.CompImageHDU(PIXELS, header, compression_type="RICE_1")))
    assert np.array_equal(read_raw(path).data, PIXELS)
    assert read_raw(path).header["FILTER"] == read_raw_header(path)["FILTER"] == "r"


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (b"\x1f\x9d\x90" + bytes(100), r"packed by compress \(.Z\)"),
        (zipped(content(), content()), "a zip archive of 2 files, expected one"),
        (zipped(), "not a FITS file|0 files"),
        (zipped(content())[:-30], "truncated or corrupt compressed file"),
        (lzma.compress(content())[:-100], "truncated or corrupt compressed file"),
        (bz2.compress(content())[:-100], "truncated or corrupt compressed file"),
    ],
)
def test_what_cannot_be_unpacked_is_refused_by_name(tmp_path, stored, message):
    path = tmp_path / "frame.fits"
    path.write_bytes(stored)
    for read in (read_raw, read_raw_header):
        with pytest.raises(BadFrame, match=message) as caught:
            read(path)
        assert str(path) in str(caught.value)


def claiming(**cards):
    """A file whose header announces something else than its data."""
    card = {name: f"{name:<8}= {value:>20}".ljust(80).encode() for name, value in cards.items()}
    data = bytearray(content())
    for at in range(0, 2880, 80):
        name = bytes(data[at : at + 8]).decode().strip()
        if name in card:
            data[at : at + 80] = card[name]
    return bytes(data)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        (claiming(NAXIS=99999999999), r"a header announces 99999999999 axes, expected 0 to 999"),
        (claiming(NAXIS=-1), r"NAXIS of HDU 0 is -1, expected"),
        (claiming(NAXIS="2.5"), r"NAXIS of HDU 0 is 2\.5, expected"),
        (
            claiming(NAXIS1=400000, NAXIS2=400000),
            r"an image of 400000 x 400000 px in HDU 0, more than 10000 \(raw.max",
        ),
        (
            content(fits.PrimaryHDU(), fits.ImageHDU(PIXELS))[:2880] + b"x" * 80 + claiming(NAXIS=88888),
            "88888 axes",
        ),
        (gzip.compress(claiming(NAXIS1=400000)), r"an image of 400000 x 60 px"),
        (
            gzip.compress(content() + bytes(200_000)),
            r"unpacks to more than 0.04 MB, 4 bytes for each pixel.*10000 \(raw.max_pixels",
        ),
        (content(fits.PrimaryHDU(), fits.ImageHDU(np.zeros((200, 100)))), r"image of 100 x 200 px in HDU 1"),
    ],
)
def test_claims_are_refused_before_anything_is_allocated(tmp_path, stored, message):
    path = tmp_path / "frame.fits"
    path.write_bytes(stored)
    with pytest.raises(BadFrame, match=message) as caught:
        read_raw(path, max_pixels=10_000)
    assert str(path) in str(caught.value)


def test_a_packed_image_of_many_pixels_is_refused(tmp_path):
    """A few kilobytes of fpack announce what no memory holds."""
    whole = content(fits.PrimaryHDU(), fits.CompImageHDU(PIXELS, compression_type="RICE_1"))
    path = tmp_path / "frame.fits.fz"
    for keyword in (b"ZNAXIS1", b"ZTILE1 "):
        card = keyword + b" =            400000000"
        at = whole.index(keyword + b" =")
        path.write_bytes(whole[:at] + card.ljust(80) + whole[at + 80 :])
        with pytest.raises(BadFrame, match="announces an image of 400000000 x"):
            read_raw(path)


def test_a_mosaic_keeps_the_header_of_its_first_hdu(tmp_path):
    """Only of two HDUs is the first one the shell of the second."""
    chips = [
        fits.CompImageHDU(PIXELS + number, fits.Header({"GAIN": float(number)}), compression_type="RICE_1")
        for number in (1, 2)
    ]
    path = tmp_path / "mosaic.fits.fz"
    path.write_bytes(content(fits.PrimaryHDU(header=fits.Header({"GAIN": 9.0})), *chips))
    assert read_raw(path, hdu_data=2).header["GAIN"] == read_raw_header(path)["GAIN"] == 9.0


def test_headers_behind_large_images_are_checked_before_they_are_read(tmp_path):
    big = fits.PrimaryHDU(np.zeros((400, 500), dtype=np.int32))
    path = tmp_path / "frame.fits"
    path.write_bytes(
        content(big)
        + claiming(NAXIS=99999999999).replace(
            b"SIMPLE  =                    T", b"XTENSION= 'IMAGE   '           "
        )
    )
    with pytest.raises(BadFrame, match="announces 99999999999 axes"):
        read_raw_header(path, hdus_header=(0, 1))


def test_tables_beside_the_image_may_be_long(tmp_path):
    table = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=np.arange(3000.0))])
    path = tmp_path / "frame.fits"
    path.write_bytes(content(fits.PrimaryHDU(PIXELS), table))
    assert read_raw(path, max_pixels=PIXELS.size).data.shape == PIXELS.shape


def test_ten_thousand_damaged_files_are_refused_each_by_itself():
    """In processes whose memory is bounded: no other error than of the file, no crash, no endless loop."""
    for said in said_of_halves("tests.storage.damaged_fits", 10_000):
        (refused,), (megabytes,) = re.findall(r"'refused': (\d+)", said), re.findall(r"(\d+) MiB more", said)
        assert int(refused) > 1000
        assert int(megabytes) < 1536
