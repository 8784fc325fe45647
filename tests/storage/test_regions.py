import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.storage.regions import (
    ROI,
    Cutout,
    FramePsf,
    objects_in,
    psf_path,
    read_psf,
    read_regions,
    rebuild_index,
    regions_path,
    write_psf,
    write_regions,
)

WCS_HEADER = WCS(
    Header(
        {
            "CTYPE1": "RA---TAN",
            "CTYPE2": "DEC--TAN",
            "CRVAL1": 10.0,
            "CRVAL2": 20.0,
            "CDELT1": -1e-4,
            "CDELT2": 1e-4,
        }
    )
).to_header()


def cutout(seed: int, size: int = 24) -> Cutout:
    rng = np.random.default_rng(seed)
    return Cutout(
        data=rng.normal(size=(size, size)).astype(np.float32),
        noisemap=rng.uniform(1, 2, (size, size)).astype(np.float32),
        good=rng.uniform(size=(size, size)) > 0.1,
        wcs=WCS_HEADER,
        position=(100.25 + seed, 200.75),
        origin=(88 + seed, 189),
    )


STARS = {"4501234567890123456": cutout(1), "TYC 1234-567-1": cutout(2), ROI: cutout(3, 32)}


def test_cutouts_come_back(tmp_path):
    path = regions_path(tmp_path, "one")
    write_regions(path, STARS, (400, 600))
    assert objects_in(path) == tuple(sorted(STARS))
    names = list(STARS)[:2]
    stack = read_regions(path, names)
    for index, name in enumerate(names):
        for field in ("data", "noisemap", "good"):
            np.testing.assert_array_equal(getattr(stack, field)[index], getattr(STARS[name], field))
        assert tuple(stack.position[index]) == STARS[name].position
        assert tuple(stack.origin[index]) == STARS[name].origin
        assert WCS(stack.wcs[index]).wcs.compare(WCS(WCS_HEADER).wcs)
    assert stack.frame_shape == (400, 600)
    assert read_regions(path, [ROI]).data.shape == (1, 32, 32)


def test_missing_objects_and_damaged_files_are_named(tmp_path):
    path = regions_path(tmp_path, "one")
    with pytest.raises(BadFrame, match=r"one\.h5.*stamp_extraction"):
        objects_in(path)
    write_regions(path, STARS, (400, 600))
    with pytest.raises(BadFrame, match="no cutout of 77; it has"):
        read_regions(path, [ROI, "77"])
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(BadFrame, match=r"one\.h5.*damaged"):
        read_regions(path, [ROI])


def test_psfs_of_several_selections_live_together(tmp_path):
    path = psf_path(tmp_path, "one")
    one, two = (FramePsf(np.full((48, 48), value), np.full((48, 48), value + 1)) for value in (1.0, 3.0))
    write_psf(path, "a_b_c", one)
    write_psf(path, "d", two)
    write_psf(path, "a_b_c", two)
    np.testing.assert_array_equal(read_psf(path, "a_b_c").narrow, two.narrow)
    np.testing.assert_array_equal(read_psf(path, "d").full, two.full)
    with pytest.raises(BadFrame, match="psf_modeling"):
        read_psf(path, "e")


def test_distortion_of_first_order_is_read_as_one_of_second_order(tmp_path):
    path, pixels = psf_path(tmp_path, "one"), np.ones((48, 48))
    write_psf(path, "old", FramePsf(pixels, pixels, np.arange(1.0, 7.0)))
    write_psf(path, "new", FramePsf(pixels, pixels, np.arange(15.0)))
    expected = [[1, 2, 0, 0, 0], [3, 4, 0, 0, 0], [5, 6, 0, 0, 0]]
    np.testing.assert_array_equal(read_psf(path, "old").distortion.reshape(3, 5), expected)
    np.testing.assert_array_equal(read_psf(path, "new").distortion, np.arange(15.0))


def test_the_index_reads_like_one_file_from_anywhere(tmp_path):
    work = tmp_path / "work"
    for stem in ("one", "two"):
        write_regions(regions_path(work, stem), STARS, (400, 600))
    write_psf(psf_path(work, "two"), "ref", FramePsf(np.ones((48, 48)), np.ones((48, 48))))
    rebuild_index(work, ["one", "two", "without_cutouts"])
    # A moved workdir, and another current directory than anybody's.
    moved = work.rename(tmp_path / "elsewhere")
    code = f"""
import h5py
with h5py.File({str(moved / "regions.h5")!r}) as f:
    assert sorted(f["frames"]) == ["one", "two"]
    frame = f["frames"]["one"]
    assert frame["data"]["ROI"].shape == (32, 32)
    assert sorted(frame) == ["cosmicsmask", "data", "frame_shape", "image_pixel_coordinates", "noisemap", "wcs"]
    print(frame["data"]["4501234567890123456"][3, 4], f["frames"]["two"]["narrow_psf"]["ref"].shape)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=os.sep)
    value, _, shape = run.stdout.partition(" ")
    assert float(value) == STARS["4501234567890123456"].data[3, 4]
    assert shape.strip() == "(48, 48)"


def test_masks_in_the_file_are_one_where_bad(tmp_path):
    path = regions_path(tmp_path, "one")
    write_regions(path, STARS, (400, 600))
    with h5py.File(path) as file:
        np.testing.assert_array_equal(file["cosmicsmask"][ROI][()], ~STARS[ROI].good)


def _write_frames(work: Path, stems: list[str]) -> None:
    for stem in stems:
        write_regions(regions_path(work, stem), {ROI: cutout(len(stem), 32)}, (400, 600))
        rebuild_index(work, sorted(path.stem for path in (work / "regions").glob("[!.]*.h5")))


def test_two_tasks_write_different_frames_at_once(tmp_path):
    stems = [[f"{task}{number}" for number in range(12)] for task in ("a", "b")]
    context = multiprocessing.get_context("spawn")
    tasks = [context.Process(target=_write_frames, args=(tmp_path, some)) for some in stems]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join()
    assert [task.exitcode for task in tasks] == [0, 0]
    rebuild_index(tmp_path, stems[0] + stems[1])
    with h5py.File(tmp_path / "regions.h5") as file:
        assert sorted(file["frames"]) == sorted(stems[0] + stems[1])
        assert all(file["frames"][stem]["data"][ROI].shape == (32, 32) for stem in file["frames"])


def _add_psfs(path: Path, letter: str, psf: FramePsf, start) -> None:
    start.wait()
    for number in range(15):
        write_psf(path, f"{letter}{number}", psf)


def test_two_tasks_that_add_psfs_of_a_frame_lose_none(tmp_path):
    path = psf_path(tmp_path, "frame")
    psf = FramePsf(np.ones((4, 4)), np.ones((4, 4)), np.zeros(15), np.zeros(3))
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    tasks = [context.Process(target=_add_psfs, args=(path, letter, psf, start)) for letter in "ab"]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(120)
        assert task.exitcode == 0
    for letter in "ab":
        for number in range(15):
            read_psf(path, f"{letter}{number}")
