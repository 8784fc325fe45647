"""The real solve-field with index files of a local catalogue."""

import contextlib
import os
import pickle
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest

from lightcurver_ops.astrometry import index_files
from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.geometry import plate_scale
from lightcurver_ops.astrometry.solve_field import SolveFieldSolver
from lightcurver_ops.astrometry.verification import verify
from lightcurver_ops.errors import BadFrame, ConfigurationError, TemporaryFailure

INTERVAL = (0.6, 0.8)


@pytest.fixture(scope="module")
def installed():
    for program in ("solve-field", "build-astrometry-index"):
        try:
            index_files.find_program(program)
        except ConfigurationError as error:
            pytest.skip(str(error))


@pytest.fixture(scope="module")
def solved_frame(sim, installed, tmp_path_factory):
    """A plate model, a request without its catalogue, and index files of that catalogue."""
    model, request = sim.frame(1, INTERVAL, angle=160.0, mirrored=False)
    directory = tmp_path_factory.mktemp("index")
    index = index_files.build_index(request.catalogue, directory, request.shape, INTERVAL)
    return model, request, index


def fake_program(directory: Path, script: str, monkeypatch) -> None:
    """A solve-field that fails in a way that the real one cannot be made to."""
    path = directory / "solve-field"
    path.write_text("#!/bin/sh\n" + script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{directory}{os.pathsep}{os.environ['PATH']}")


def ended(pid: int) -> bool:
    """Whether a process is gone (or a zombie that nobody has waited for yet) within ten seconds."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("mirrored", [False, True])
def test_both_parities_with_and_without_a_catalogue(sim, solved_frame, mirrored):
    _, request, index = solved_frame
    rng = np.random.default_rng(5)
    model = sim.camera((150.05, 2.03), 0.7, 70.0, mirrored)
    request = sim.make_request(rng, model, request.catalogue, INTERVAL, hint=(150.0, 2.0))
    for catalogue, most in ((request.catalogue, 20), (None, 8)):
        solution = SolveFieldSolver(index).solve(replace(request, catalogue=catalogue))
        assert sim.corner_errors_px(solution.wcs, model).max() < 0.8
        assert solution.n_matched > most
        assert solution.rms_arcsec < 0.4 * 0.7
        assert solution.wcs.sip is None


def test_distortion_polynomial_on_demand(sim, solved_frame):
    model, request, index = solved_frame
    solution = SolveFieldSolver(index, sip_order=2).solve(request)
    assert solution.wcs.sip is not None
    assert sim.corner_errors_px(solution.wcs, model).max() < 3.0
    assert "MJD-OBS" not in solution.header


def test_wrong_hints_are_never_solved(solved_frame):
    _, request, index = solved_frame
    solver = SolveFieldSolver(index, cpu_limit_s=1)
    for change in (
        {"hint_ra": 200.0, "hint_dec": -30.0},
        {"plate_scale_interval": (0.1, 0.3)},
        {"plate_scale_interval": (1.5, 3.0)},
        {"hint_ra": 150.2, "radius_deg": 0.05},
    ):
        with pytest.raises(BadFrame, match=r"no solution|was asked for"):
            solver.solve(replace(request, **change))


def test_sources_of_another_field_are_not_solved(sim, solved_frame):
    _, request, index = solved_frame
    _, other = sim.frame(77, INTERVAL)
    with pytest.raises(BadFrame, match="no solution"):
        SolveFieldSolver(index, cpu_limit_s=1).solve(replace(other, catalogue=request.catalogue))


def test_a_solution_that_the_catalogue_contradicts_is_refused(sim, solved_frame):
    _, request, index = solved_frame
    wrong = sim.random_sky(np.random.default_rng(9), (150.0, 2.0), 0.4, 6000)
    with pytest.raises(BadFrame, match="no more than chance"):
        SolveFieldSolver(index).solve(replace(request, catalogue=wrong))


def test_few_and_no_sources(solved_frame):
    _, request, index = solved_frame
    for n in (0, 1, 3):
        few = replace(request, x=request.x[:n], y=request.y[:n], flux=request.flux[:n])
        with pytest.raises(BadFrame):
            SolveFieldSolver(index, cpu_limit_s=1).solve(few)


def test_no_index_files(solved_frame, tmp_path):
    (tmp_path / "other.fits").write_text("not an index")
    with pytest.raises(ConfigurationError, match=r"has 0 astrometry.net index files .*index_dir: null"):
        SolveFieldSolver(tmp_path).solve(solved_frame[1])
    with pytest.raises(TemporaryFailure, match="cannot be read"):
        SolveFieldSolver(tmp_path / "nowhere").solve(solved_frame[1])


def test_index_files_of_another_size_are_not_used(solved_frame):
    _, request, index = solved_frame
    with pytest.raises(
        ConfigurationError, match=r"has 4 astrometry.net index files .*quads of 75 to 6\.6e\+02 arcmin"
    ):
        SolveFieldSolver(index).solve(replace(request, plate_scale_interval=(60, 60.1)))


def test_program_missing_says_which_package(solved_frame, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match=r"apt install astrometry\.net"):
        SolveFieldSolver(solved_frame[2]).solve(solved_frame[1])


def test_a_killed_a_hanging_and_a_failing_program(solved_frame, tmp_path, monkeypatch):
    _, request, index = solved_frame
    fake_program(tmp_path, "kill -9 $$", monkeypatch)
    with pytest.raises(TemporaryFailure, match="killed"):
        SolveFieldSolver(index).solve(request)
    child = tmp_path / "child"
    fake_program(tmp_path, f"sleep 600 & echo $! > {child}; wait", monkeypatch)
    with pytest.raises(TemporaryFailure, match="overloaded"):
        SolveFieldSolver(index, wall_limit_s=0.5).solve(request)
    assert ended(int(child.read_text()))
    fake_program(tmp_path, "echo error: broken; exit 3", monkeypatch)
    with pytest.raises(BadFrame, match="status 3: error: broken"):
        SolveFieldSolver(index).solve(request)


def test_nothing_is_left_in_the_temporary_directory(solved_frame, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    SolveFieldSolver(solved_frame[2]).solve(solved_frame[1])
    assert not list(tmp_path.iterdir())


SOLVES = """
import pickle
solver, request = pickle.load(open("task", "rb"))
solver.solve(request)
"""


def descendants(pid: int) -> list[psutil.Process]:
    """All processes that another one started; none where it is gone."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def test_the_program_ends_with_a_killed_run_and_the_next_run_removes_what_it_left(
    solved_frame, tmp_path, monkeypatch
):
    """The real program, which searches the whole sky in vain."""
    _, request, index = solved_frame
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    hard = replace(
        request, hint_ra=200.0, hint_dec=-30.0, radius_deg=180.0, plate_scale_interval=(0.01, 100.0)
    )
    (tmp_path / "task").write_bytes(pickle.dumps((SolveFieldSolver(index, cpu_limit_s=600), hard)))
    process = subprocess.Popen(
        [sys.executable, "-c", SOLVES], cwd=tmp_path, env={**os.environ, "TMPDIR": str(temporary)}
    )
    try:
        deadline = time.monotonic() + 100
        is_held = False
        while not is_held and time.monotonic() < deadline:
            for one in descendants(process.pid):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if one.name() == "astrometry-engine":
                        one.suspend()  # it will not be done before the run is killed
                        is_held = True
            time.sleep(0.005)
        assert is_held
        family = descendants(process.pid)
    finally:
        process.kill()
        process.wait()
    assert all(ended(one.pid) for one in family)
    assert len(list(temporary.iterdir())) == 1
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    SolveFieldSolver(index).solve(request)
    assert not list(temporary.iterdir())


def test_index_is_made_once_and_again_when_anything_changes(sim, installed, tmp_path):
    sky = sim.random_sky(np.random.default_rng(2), (30.0, 46.0), 1.0, 200)
    first = index_files.build_index(sky, tmp_path, (500, 650), (4.5, 6.0))
    made = {p: p.stat().st_mtime_ns for p in first.iterdir()}
    assert made
    assert index_files.build_index(sky, tmp_path, (500, 650), (4.5, 6.0)) == first
    assert {p: p.stat().st_mtime_ns for p in first.iterdir()} == made
    moved = Catalogue(sky.ra + 1e-6, sky.dec, sky.mag)
    assert index_files.build_index(moved, tmp_path, (500, 650), (4.5, 6.0)) != first
    assert index_files.build_index(sky, tmp_path, (500, 650), (1.0, 2.0)) != first
    assert all(p.name.startswith("index_") for p in tmp_path.iterdir())  # no scratch left


def test_quads_cover_the_frames_that_show_stars(sim):
    sky = sim.random_sky(np.random.default_rng(2), (30.0, 46.0), 1.0, 2000)
    sizes = index_files.quad_sizes(sky, (500, 650), (5.0, 5.3))
    assert sizes[0][0] <= 0.15 * 500 * 5.0 / 60 <= sizes[0][1]
    assert sizes[-1][1] == pytest.approx(0.8 * np.hypot(500, 650) * 5.3 / 60)
    assert [small for small, _ in sizes[1:]] == [large for _, large in sizes[:-1]]
    # 0.2 stars per square arcmin: frames of one square arcmin show none, and need no quads.
    assert index_files.quad_sizes(sky, (500, 650), (0.1, 5.3))[0][0] > 0.5


def test_index_of_too_few_stars_and_in_an_impossible_place(sim, installed, tmp_path):
    sky = sim.random_sky(np.random.default_rng(2), (30.0, 46.0), 1.0, 4)
    with pytest.raises(ConfigurationError, match="4 stars"):
        index_files.build_index(sky, tmp_path, (500, 650), (4.5, 6.0))
    (tmp_path / "file").write_text("")
    sky = sim.random_sky(np.random.default_rng(2), (30.0, 46.0), 1.0, 40)
    with pytest.raises(TemporaryFailure, match="cannot write"):
        index_files.build_index(sky, tmp_path / "file", (500, 650), (4.5, 6.0))


def test_real_frames_through_a_local_index(installed, hatp32_requests, hatp32_catalogue, tmp_path):
    shape, interval = hatp32_requests[0].shape, hatp32_requests[0].scale_interval
    index = index_files.build_index(hatp32_catalogue, tmp_path, shape, interval)
    solver = SolveFieldSolver(index, cpu_limit_s=3)
    for request in hatp32_requests:
        solution = solver.solve(request)
        check = verify(solution.wcs, request.shape, request.x, request.y, request.catalogue)
        assert check.n_matched >= 20
        assert check.rms_pixels < 0.5
        assert plate_scale(solution.wcs, request.shape) == pytest.approx(5.164, abs=0.01)
    with pytest.raises(BadFrame):
        solver.solve(replace(hatp32_requests[0], hint_ra=100.0, hint_dec=-20.0))
