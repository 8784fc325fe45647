"""Temporary directories, and what killed processes left of them."""

import os
import subprocess
import sys
import time

import pytest

from lightcurver_ops import processes
from lightcurver_ops.storage.scratch import scratch_directory, sweep_scratch

STAYS = """
import sys, time
from lightcurver_ops.storage.scratch import scratch_directory
with scratch_directory(sys.argv[1]) as directory:
    (directory / "half").write_text("of it")
    print(directory, flush=True)
    time.sleep(600)
"""


def test_it_is_there_as_long_as_it_is_needed(tmp_path):
    with scratch_directory(tmp_path) as directory:
        assert directory.parent == tmp_path
        assert not list(directory.iterdir())
        (directory / "file").write_text("")
        assert sweep_scratch(tmp_path) == []
    assert not list(tmp_path.iterdir())
    with pytest.raises(FileNotFoundError), scratch_directory(tmp_path / "nowhere"):
        pass


def test_the_next_process_removes_what_a_killed_one_left(tmp_path):
    command = [sys.executable, "-c", STAYS, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    left = process.stdout.readline().strip()
    assert sweep_scratch(tmp_path) == []
    process.kill()
    process.communicate()
    assert [str(path) for path in tmp_path.iterdir()] == [left]
    with scratch_directory(tmp_path) as directory:
        assert list(tmp_path.iterdir()) == [directory]


def test_what_cannot_be_judged_from_here_goes_by_age(tmp_path):
    recent, old, elsewhere = (
        tmp_path / f".lcops-scratch-{mark}-abcdefgh" for mark in ("00000000.1.1", "00000000.2.1", "odd")
    )
    for path in (recent, old, elsewhere):
        path.mkdir()
        (path / "file").write_text("")
    long_ago = time.time() - 2 * processes.LOST_AFTER_S
    for path in (old, elsewhere):
        os.utime(path, (long_ago, long_ago))
    assert sweep_scratch(tmp_path) == [old]
    assert set(tmp_path.iterdir()) == {recent, elsewhere}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_somebody_else_stays(tmp_path):
    path = tmp_path / ".lcops-scratch-00000000.1.1-abcdefgh"
    path.mkdir()
    os.utime(path, (0, 0))
    os.chown(path, 12345, -1)
    assert sweep_scratch(tmp_path) == []
