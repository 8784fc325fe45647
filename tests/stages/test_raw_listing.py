"""Which files count as raw frames."""

import fsspec
import pytest

from lightcurver_ops.config.sections import Raw
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.raw_listing import list_raw_files


def names(raw, **options):
    return [file.path.rsplit("/", 1)[-1] for file in list_raw_files(raw, **options)]


def test_recursive_sorted_any_case_and_once(tmp_path):
    for name in ("b/2.FITS", "a/1.fits", "a/3.fit.gz", "a/.hidden.fits", "notes.txt", "a/4.fits.fz"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    raw = Raw(raw_dirs=[str(tmp_path), str(tmp_path / "a")])
    assert names(raw) == ["1.fits", "3.fit.gz", "4.fits.fz", "2.FITS"]
    assert [file.stem for file in list_raw_files(raw)] == ["1", "3", "4", "2"]


def test_the_pattern_decides(tmp_path):
    for name in ("lens_r_1.fits", "bias_1.fits"):
        (tmp_path / name).write_bytes(b"x")
    assert names(Raw(raw_dirs=[str(tmp_path)], files_match_pattern="LENS_*.fits")) == ["lens_r_1.fits"]


def test_long_urls_are_left_out_like_long_paths():
    filesystem = fsspec.filesystem("memory")
    filesystem.pipe_file("/long/" + "d" * 400 + "/1.fits", b"x")
    try:
        (file,) = list_raw_files(Raw(raw_dirs=["memory://long"]))
    finally:
        filesystem.rm("/long", recursive=True)
    assert len(file.path) <= 400
    assert "expected at most 400" in (file.problem or "")


def test_a_changed_file_is_seen_as_changed(tmp_path):
    path = tmp_path / "1.fits"
    path.write_bytes(b"x")
    raw = Raw(raw_dirs=[str(tmp_path)])
    before = list_raw_files(raw)
    assert list_raw_files(raw) == before
    path.write_bytes(b"xy")
    assert list_raw_files(raw) != before


def test_empty_and_missing_directories(tmp_path):
    raw = Raw(raw_dirs=[str(tmp_path)])
    with pytest.raises(ConfigurationError, match=r"no file matches '\*.fit\*' in .*; check the directories"):
        list_raw_files(raw)
    assert list_raw_files(raw, may_be_empty=True) == []
    with pytest.raises(
        ConfigurationError, match="is not a directory; name the one that holds the raw frames"
    ):
        list_raw_files(Raw(raw_dirs=[str(tmp_path / "none")]))


def test_urls_of_fsspec():
    with fsspec.open("memory://bucket/night/1.fits", "wb") as file:
        file.write(b"x")
    (file,) = list_raw_files(Raw(raw_dirs=["memory://bucket"]))
    assert file.path.startswith("memory://")
    assert file.path.endswith("bucket/night/1.fits")
    with pytest.raises(ConfigurationError, match="this kind of URL cannot be read here"):
        list_raw_files(Raw(raw_dirs=["carrier-pigeon://coop"]))
