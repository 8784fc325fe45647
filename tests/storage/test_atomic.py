import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from astropy.io.fits import Header

from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.storage.atomic import atomic_path, sweep_temporaries, write_bytes
from lightcurver_ops.storage.frames import write_frame
from lightcurver_ops.storage.hdf5 import write_hdf5
from lightcurver_ops.storage.tables import write_table


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small file system cannot be mounted here (needs root): {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_directories_are_made_and_content_replaced(tmp_path):
    final = tmp_path / "a" / "b" / "file.txt"
    write_bytes(final, b"old")
    with atomic_path(final) as temporary:
        temporary.write_text("new")
        assert final.read_text() == "old"
        assert temporary.suffix == ".txt"
        assert temporary.parent == final.parent
    assert final.read_text() == "new"
    assert names(final.parent) == ["file.txt"]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_a_failing_block_leaves_the_old_file(tmp_path, kind):
    final = tmp_path / "file"
    write_bytes(final, b"old")

    def fail():
        with atomic_path(final) as temporary:
            temporary.write_bytes(b"half")
            raise kind("stop")

    with pytest.raises(kind):
        fail()
    assert final.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


WRITERS = {
    "bytes": lambda path: write_bytes(path, b"x" * 2_000_000),
    "frame": lambda path: write_frame(path, np.zeros((700, 700)), Header()),
    "hdf5": lambda path: write_hdf5(path, lambda file: file.create_dataset("a", data=np.ones(500_000))),
    "table": lambda path: write_table(path, {"mjd": np.linspace(0, 1, 200_000)}),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk_is_temporary_and_harms_nothing(small_disk, kind):
    final = small_disk / "product"
    write_bytes(final, b"old")
    with pytest.raises(TemporaryFailure, match=r"product: .*No space left.*1\.0 MB free.*run again"):
        WRITERS[kind](final)
    assert final.read_bytes() == b"old"
    assert names(small_disk) == ["product"]
    write_bytes(final, b"x" * 500_000)
    assert final.stat().st_size == 500_000


def test_a_full_disk_met_by_another_library(small_disk):
    def write():
        with atomic_path(small_disk / "product.npy") as temporary:
            np.save(temporary, np.ones(300_000))

    with pytest.raises(TemporaryFailure, match="MB free"):
        write()
    assert names(small_disk) == []


def test_a_read_only_file_system_is_for_the_user(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(ConfigurationError, match=f"{small_disk} must be writable"):
        write_bytes(small_disk / "file", b"x")
    with pytest.raises(ConfigurationError, match="must be writable"):
        write_bytes(small_disk / "new" / "file", b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not bind root")
def test_a_forbidden_directory_is_for_the_user(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="must be writable"):
        write_bytes(tmp_path / "file", b"x")


def test_a_file_in_the_place_of_a_directory(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="another path"):
        write_bytes(tmp_path / "file" / "below", b"x")


@pytest.mark.parametrize("number", [errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_other_faults_of_the_disk_are_temporary(tmp_path, number):
    def write():
        with atomic_path(tmp_path / "file"):
            raise OSError(number, os.strerror(number))

    with pytest.raises(TemporaryFailure, match=os.strerror(number)):
        write()


def test_faults_of_other_files_are_not_ours(tmp_path):
    def write():
        with atomic_path(tmp_path / "file"):
            raise PermissionError(errno.EACCES, "denied", "/somewhere/else")

    with pytest.raises(PermissionError):
        write()


SLOW_WRITE = """
import sys, time
from lightcurver_ops.storage import atomic
from lightcurver_ops.storage.atomic import atomic_path
with atomic_path(sys.argv[1]) as temporary:
    with temporary.open("wb") as file:
        file.write(b"half of it")
        file.flush()
        print("writing", flush=True)
        time.sleep(60)
"""


def test_a_killed_writer_leaves_the_old_file_whole_and_is_swept(tmp_path):
    final = tmp_path / "file"
    write_bytes(final, b"old")
    writer = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITE, str(final)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "writing\n"
    (leftover,) = set(tmp_path.iterdir()) - {final}
    assert sweep_temporaries(tmp_path) == []
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    assert final.read_bytes() == b"old"
    assert leftover.read_bytes() == b"half of it"
    assert sweep_temporaries(tmp_path.parent) == [leftover]
    assert names(tmp_path) == ["file"]


def test_leftovers_of_other_machines_are_swept_by_age(tmp_path):
    recent, old, foreign = (
        tmp_path / name
        for name in (
            ".lcops-00000000.1.1-0123abcd-a.fits",
            ".lcops-00000000.2.1-0123abcd-b.fits",
            ".lcops-notes",
        )
    )
    for path in (recent, old, foreign):
        path.write_text("")
    two_days_ago = time.time() - 2 * 86400
    os.utime(old, (two_days_ago, two_days_ago))
    os.utime(foreign, (two_days_ago, two_days_ago))
    assert sweep_temporaries(tmp_path) == [old]
    assert names(tmp_path) == [recent.name, foreign.name]


def _write_often(path: Path, letter: bytes, start) -> None:
    start.wait()
    for _ in range(60):
        write_bytes(path, letter * 200_000)


def test_two_processes_writing_at_once_leave_one_whole_file(tmp_path):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(3)
    final = tmp_path / "file"
    write_bytes(final, b"a" * 200_000)
    writers = [context.Process(target=_write_often, args=(final, letter, start)) for letter in (b"a", b"b")]
    for writer in writers:
        writer.start()
    start.wait()
    while any(writer.is_alive() for writer in writers):
        content = final.read_bytes()
        assert content in (b"a" * 200_000, b"b" * 200_000)
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert names(tmp_path) == ["file"]
