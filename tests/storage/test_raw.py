import bz2
import gzip
import hashlib
import subprocess

import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.errors import BadFrame, ConfigurationError, FrameUnavailable
from lightcurver_ops.storage.raw import content_hash, file_hash, read_raw, read_raw_header
from tests.rights import without_rights

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(200, 4000, (60, 80))


def primary(pixels=PIXELS, **cards):
    hdu = fits.PrimaryHDU(np.asarray(pixels))
    hdu.header.update(cards)
    return hdu


@pytest.fixture
def raw(tmp_path):
    path = tmp_path / "raw.fits"
    primary(PIXELS.astype(np.int16), EXPTIME=60.0).writeto(path)
    return path


@pytest.mark.parametrize(
    "dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32, np.float64]
)
def test_every_encoding_gives_the_same_numbers(tmp_path, dtype):
    pixels = (PIXELS % 256).astype(dtype)
    primary(pixels).writeto(tmp_path / "a.fits")
    image = read_raw(tmp_path / "a.fits")
    assert image.data.dtype == np.float64
    assert image.data.dtype.isnative
    np.testing.assert_array_equal(image.data, PIXELS % 256)


def test_scaling_and_blank(tmp_path):
    hdu = primary(PIXELS.astype(np.int16))
    hdu.header["BSCALE"], hdu.header["BZERO"], hdu.header["BLANK"] = 0.5, 100.0, int(PIXELS[3, 4])
    hdu.writeto(tmp_path / "a.fits")
    data = read_raw(tmp_path / "a.fits").data
    blank = np.isin(PIXELS, PIXELS[3, 4])
    assert np.isnan(data[blank]).all()
    np.testing.assert_allclose(data[~blank], (0.5 * PIXELS + 100)[~blank])


def test_blank_of_unsigned_integers(tmp_path):
    hdu = primary((PIXELS - 32768).astype(np.int16))
    hdu.header["BZERO"], hdu.header["BLANK"] = 32768, int(PIXELS[3, 4]) - 32768
    hdu.writeto(tmp_path / "a.fits")
    data = read_raw(tmp_path / "a.fits").data
    assert np.isnan(data[3, 4])
    rest = ~np.isin(PIXELS, PIXELS[3, 4])
    np.testing.assert_array_equal(data[rest], PIXELS[rest])


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_compressed_files_under_any_name(raw, tmp_path, compress):
    for name in ("raw.fits.gz", "raw.bin"):
        (tmp_path / name).write_bytes(compress(raw.read_bytes()))
        np.testing.assert_array_equal(read_raw(tmp_path / name).data, PIXELS)


def test_tile_compressed(tmp_path):
    path = tmp_path / "raw.fits.fz"
    compressed = fits.CompImageHDU(PIXELS.astype(np.int16), compression_type="RICE_1")
    fits.HDUList([fits.PrimaryHDU(), compressed]).writeto(path)
    np.testing.assert_array_equal(read_raw(path).data, PIXELS)
    np.testing.assert_array_equal(read_raw(path, hdu_data=1).data, PIXELS)


def test_headers_of_several_hdus_are_merged(tmp_path):
    first = fits.PrimaryHDU()
    first.header.update({"EXPTIME": 60.0, "FILTER": "r", "GAIN": 1.0})
    second = fits.ImageHDU(PIXELS.astype(np.float32))
    second.header.update({"GAIN": 2.5, "CRPIX1": 7.0})
    fits.HDUList([first, second]).writeto(tmp_path / "a.fits")
    image = read_raw(tmp_path / "a.fits", hdu_data=1, hdus_header=[0, 1])
    assert [image.header[key] for key in ("EXPTIME", "FILTER", "GAIN", "CRPIX1")] == [60.0, "r", 2.5, 7.0]
    np.testing.assert_array_equal(image.data, PIXELS)


def test_planes_of_length_one_are_dropped(tmp_path):
    primary(PIXELS[None, None].astype(np.float32)).writeto(tmp_path / "a.fits")
    np.testing.assert_array_equal(read_raw(tmp_path / "a.fits").data, PIXELS)


def test_remote_files(raw):
    import fsspec

    with fsspec.open("memory://night/raw.fits", "wb") as file:
        file.write(raw.read_bytes())
    np.testing.assert_array_equal(read_raw("memory://night/raw.fits").data, PIXELS)
    assert file_hash("memory://night/raw.fits") == file_hash(raw)
    with pytest.raises(BadFrame, match="does not exist"):
        read_raw("memory://night/other.fits")


def test_an_unknown_kind_of_url():
    with pytest.raises(ConfigurationError, match="nosuch"):
        read_raw("nosuch://bucket/raw.fits")


def corrupt(path, kind):
    whole = path.read_bytes()
    hdus = {
        "nan": primary(np.full((20, 20), np.nan)),
        "constant": primary(np.full((20, 20), 7.0)),
        "cube": primary(np.ones((3, 20, 20))),
        "line": primary(np.arange(50.0)),
        "header": fits.PrimaryHDU(),
    }
    if kind in hdus:
        hdus[kind].writeto(path, overwrite=True)
    elif kind == "table":
        table = fits.BinTableHDU.from_columns([fits.Column("a", "D", array=np.arange(3.0))])
        fits.HDUList([primary(), table]).writeto(path, overwrite=True)
    else:
        path.write_bytes(
            {
                "empty": b"",
                "text": b"<html>404 not found</html>",
                "png": b"\x89PNG\r\n\x1a\n" + bytes(5000),
                "in the header": whole[:1000],
                "after the header": whole[:2880],
                "in the data": whole[: 2880 + 3000],
                "in gzip": gzip.compress(whole)[:-2000],
                "garbled gzip": gzip.compress(whole)[:500] + bytes(3000),
            }[kind]
        )


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "empty"),
        ("text", r"not a FITS file.*html"),
        ("png", "not a FITS file"),
        ("in the header", "truncated"),
        ("after the header", "truncated"),
        ("in the data", "truncated"),
        ("in gzip", "truncated"),
        ("garbled gzip", "truncated"),
        ("nan", r"all 400 pixels are NaN"),
        ("constant", r"same value 7"),
        ("cube", r"shape \(3, 20, 20\).*two axes"),
        ("line", "two axes"),
        ("header", "no image in HDU 0"),
    ],
)
def test_bad_files_are_named_with_their_fault(raw, kind, message):
    corrupt(raw, kind)
    before = raw.read_bytes()
    with pytest.raises(BadFrame, match=message) as caught:
        read_raw(raw)
    assert str(raw) in str(caught.value)
    assert raw.read_bytes() == before


def test_hdus_that_are_not_images_or_not_there(raw):
    corrupt(raw, "table")
    with pytest.raises(BadFrame, match=r"no image in HDU 1; it holds 0: an image of 80 x 60; 1: no image"):
        read_raw(raw, hdu_data=1)
    with pytest.raises(BadFrame, match=r"no HDU 4, as hdu_data"):
        read_raw(raw, hdu_data=4)
    with pytest.raises(BadFrame, match=r"no HDU 3, as hdus_header"):
        read_raw(raw, hdus_header=[0, 3])


def test_missing_files_and_directories(tmp_path):
    with pytest.raises(BadFrame, match="does not exist"):
        read_raw(tmp_path / "none.fits")
    with pytest.raises(BadFrame, match="directory"):
        read_raw(tmp_path)


def test_a_file_that_this_user_may_not_read_is_tried_by_the_next_run(raw):
    raw.chmod(0)
    with without_rights():
        with pytest.raises(FrameUnavailable, match="permission denied; give this user the right to read it"):
            read_raw(raw)
        with pytest.raises(FrameUnavailable, match="permission denied"):
            read_raw_header(raw)


def test_saturated_frames(tmp_path):
    pixels = np.full((50, 50), 4095.0)
    pixels[:20] = RNG.integers(100, 4000, (20, 50))
    primary(pixels).writeto(tmp_path / "a.fits")
    with pytest.raises(BadFrame, match=r"saturated: 60 % of the pixels reach 4095 ADU"):
        read_raw(tmp_path / "a.fits", saturation_adu=4095)
    assert read_raw(tmp_path / "a.fits", saturation_adu=5000).data.shape == (50, 50)


def test_a_raw_file_is_never_written_to(raw):
    raw.chmod(0o444)
    before = (raw.read_bytes(), raw.stat().st_mtime_ns)
    image = read_raw(raw)
    image.data[:] = 0
    image.header["EXPTIME"] = 1
    assert (raw.read_bytes(), raw.stat().st_mtime_ns) == before


def test_the_same_pixels_have_the_same_hash(tmp_path):
    hashes = set()
    for name, hdu in {
        "int16": primary(PIXELS.astype(np.int16), OBJECT="one"),
        "uint16": primary(PIXELS.astype(np.uint16), OBJECT="two"),
        "float": primary(PIXELS.astype(np.float32)),
    }.items():
        hdu.writeto(tmp_path / f"{name}.fits")
        hashes.add(content_hash(read_raw(tmp_path / f"{name}.fits").data))
    assert len(hashes) == 1
    changed = PIXELS.astype(float)
    changed[3, 4] += 1
    assert content_hash(changed) not in hashes
    assert content_hash(PIXELS.T) not in hashes
    assert content_hash(PIXELS.reshape(80, 60)) not in hashes


def test_hash_does_not_know_kinds_of_nan_or_zero():
    one = np.array([0.0, np.nan])
    other = np.array([-0.0, -np.nan])
    assert content_hash(one) == content_hash(other)


def test_file_hash_is_the_one_of_coreutils(raw):
    tool = subprocess.run(["sha256sum", str(raw)], capture_output=True, text=True, check=True)
    assert file_hash(raw) == tool.stdout.split()[0] == hashlib.sha256(raw.read_bytes()).hexdigest()


# Headers alone


def header_as(kind, raw, tmp_path):
    """The raw frame of the fixture in another shape."""
    whole = raw.read_bytes()
    if kind == "remote":
        import fsspec

        with fsspec.open("memory://headers/raw.fits", "wb") as file:
            file.write(whole)
        return "memory://headers/raw.fits"
    path = tmp_path / f"{kind}.bin"
    if kind == "fpack":
        hdu = fits.CompImageHDU(
            PIXELS.astype(np.int16), header=fits.getheader(raw), compression_type="RICE_1"
        )
        first = fits.PrimaryHDU()
        first.header["EXPTIME"] = 60.0
        fits.HDUList([first, hdu]).writeto(path)
    else:
        path.write_bytes({"plain": whole, "gzip": gzip.compress(whole), "bzip2": bz2.compress(whole)}[kind])
    return path


@pytest.mark.parametrize("kind", ["plain", "gzip", "bzip2", "fpack", "remote"])
def test_a_header_without_its_pixels(raw, tmp_path, kind):
    path = header_as(kind, raw, tmp_path)
    header = read_raw_header(path)
    assert header["EXPTIME"] == 60.0
    assert header.tostring() == read_raw(path).header.tostring()
    if kind == "fpack":
        assert read_raw_header(path, hdus_header=[1])["NAXIS1"] == 80


def test_headers_of_several_hdus_are_merged_without_their_pixels(tmp_path):
    first = fits.PrimaryHDU(PIXELS.astype(np.int16))
    first.header.update({"EXPTIME": 60.0, "GAIN": 1.0})
    second = fits.ImageHDU(PIXELS.astype(np.float32))
    second.header.update({"GAIN": 2.5, "CRPIX1": 7.0})
    path = tmp_path / "a.fits"
    fits.HDUList([first, second]).writeto(path)
    header = read_raw_header(path, hdus_header=[0, 1])
    assert [header[key] for key in ("EXPTIME", "GAIN", "CRPIX1")] == [60.0, 2.5, 7.0]
    assert read_raw_header(path, hdus_header=[1, 0])["GAIN"] == 1.0
    assert "CRPIX1" not in read_raw_header(path)
    with pytest.raises(
        BadFrame, match=r"no HDU 3, as hdus_header asks for; it holds 0: an image of 80 x 60; 1: an"
    ):
        read_raw_header(path, hdus_header=[0, 3])


@pytest.mark.parametrize("kept", [2880, 2880 + 3000])
def test_the_header_of_a_file_whose_data_are_truncated(raw, kept):
    raw.write_bytes(raw.read_bytes()[:kept])
    assert read_raw_header(raw)["EXPTIME"] == 60.0
    with pytest.raises(BadFrame, match="truncated"):
        read_raw(raw)


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("empty", "not a FITS file: it starts with b''"),
        ("text", r"not a FITS file: it starts with b'<html>404'"),
        ("png", "not a FITS file"),
        ("in the header", r"cannot be read"),
        ("in gzip", "truncated or corrupt compressed file"),
        ("garbled gzip", "truncated or corrupt compressed file"),
    ],
)
def test_bad_headers_are_named_with_their_fault(raw, kind, message):
    corrupt(raw, kind)
    with pytest.raises(BadFrame, match=message) as caught:
        read_raw_header(raw)
    assert str(raw) in str(caught.value)


def test_compressed_files_that_hold_no_fits(tmp_path):
    path = tmp_path / "a.fits.gz"
    path.write_bytes(gzip.compress(b"<html>404 not found</html>"))
    with pytest.raises(BadFrame, match="not a FITS file"):
        read_raw_header(path)


def test_headers_of_missing_files(tmp_path):
    with pytest.raises(BadFrame, match="does not exist"):
        read_raw_header(tmp_path / "none.fits")
    with pytest.raises(BadFrame, match="is a directory"):
        read_raw_header(tmp_path)
    with pytest.raises(BadFrame, match="does not exist"):
        read_raw_header("memory://headers/none.fits")
    with pytest.raises(ConfigurationError, match="nosuch"):
        read_raw_header("nosuch://bucket/raw.fits")


def test_a_link_is_followed_within_the_raw_directories_only(tmp_path, raw):
    night, archive = tmp_path / "night", tmp_path / "archive"
    night.mkdir()
    archive.mkdir()
    raw = raw.rename(archive / "raw.fits")
    secret = tmp_path / "secret.txt"
    secret.write_text("password")
    (night / "link.fits").symlink_to(raw)
    (night / "twice.fits").symlink_to(night / "link.fits")
    (night / "secret.fits").symlink_to("../secret.txt")
    (night / "loop.fits").symlink_to(night / "loop.fits")
    (tmp_path / "other_name").symlink_to(night)
    for path in (night / "link.fits", night / "twice.fits", tmp_path / "other_name" / "link.fits"):
        for directories in ([night, archive], [str(tmp_path / "other_name"), archive], [tmp_path]):
            assert read_raw(path, inside=directories).data.shape == PIXELS.shape
            assert read_raw_header(path, inside=directories)["EXPTIME"] == 60
        for read in (read_raw, read_raw_header):
            with pytest.raises(BadFrame, match="is a link to a file outside"):
                read(path, inside=["s3://bucket/raw", night])
    for read in (read_raw, read_raw_header):
        with pytest.raises(BadFrame, match="is a link") as caught:
            read(night / "secret.fits", inside=[night])
        assert "passw" not in str(caught.value)
        with pytest.raises(BadFrame, match="cannot be read"):
            read(night / "loop.fits", inside=[night])
        with pytest.raises(BadFrame, match="does not exist"):
            read(night / "none.fits", inside=[night])
