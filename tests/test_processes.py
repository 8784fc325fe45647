"""Marks of processes, also of other containers; programs that must not outlive us."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightcurver_ops import processes

namespaces = pytest.mark.skipif(
    shutil.which("unshare") is None or os.geteuid() != 0, reason="needs unshare, and root"
)
TELLS_ITS_MARK = """
import time
from lightcurver_ops import processes
print(processes.own_mark(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def telling(request):
    """Starts a process that prints its mark and stays; returns it and the mark."""

    def start(*wrapper):
        process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", TELLS_ITS_MARK], stdout=subprocess.PIPE, text=True
        )
        request.addfinalizer(process.communicate)
        request.addfinalizer(process.kill)
        return process, process.stdout.readline().strip()

    return start


def test_a_process_is_running_until_it_ends(telling):
    process, mark = telling()
    assert mark == processes.mark_of(process.pid)
    assert processes.pid_of(mark) == process.pid
    assert (processes.is_running(mark), processes.has_ended(mark)) == (True, False)
    assert not processes.is_lost(mark, 0.0)  # however long nothing was heard of it
    process.kill()
    while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
        time.sleep(0.01)
    assert (processes.is_running(mark), processes.has_ended(mark)) == (False, True)  # not yet reaped
    assert not processes.is_taken(mark)
    process.wait()
    assert (processes.is_running(mark), processes.has_ended(mark)) == (False, True)
    assert not processes.is_taken(mark)
    assert processes.is_lost(mark, time.time())


def test_another_process_that_got_the_number_is_not_taken_for_the_first():
    world, pid, start = processes.own_mark().split(".")
    earlier = f"{world}.{pid}.{int(start, 16) - 1:x}"
    assert processes.has_ended(earlier)
    assert not processes.is_running(earlier)
    assert processes.is_taken(earlier)
    assert not processes.is_taken(processes.own_mark())
    assert not processes.has_ended(processes.own_mark())


def test_a_fork_has_a_mark_of_its_own():
    own = processes.own_mark()
    child = os.fork()
    if child == 0:
        os._exit(0 if processes.pid_of(processes.own_mark()) == os.getpid() else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert processes.own_mark() == own


@namespaces
def test_a_container_is_another_world_though_its_host_name_is_the_same(telling):
    """Numbers of processes mean nothing there: two workers of a compose file may have the same host name."""
    _, mark = telling("unshare", "--pid", "--fork", "--kill-child")
    assert processes.pid_of(mark) == 1
    assert processes.own_mark().split(".")[0] != mark.split(".")[0]
    assert (processes.is_running(mark), processes.has_ended(mark)) == (False, False)
    assert processes.is_taken(mark)  # process 1 is another one here
    assert not processes.is_lost(mark, time.time())
    assert processes.is_lost(mark, time.time() - 2 * processes.LOST_AFTER_S)
    assert processes.is_lost(None, time.time() - 2 * processes.LOST_AFTER_S)
    assert not processes.is_lost(None, time.time())


def test_a_guarded_program_says_how_it_ended(tmp_path):
    path = tmp_path / "output"

    def run(*command: str) -> int:
        with path.open("wb") as stream:
            return processes.run_guarded(command, stream, 60.0)

    assert run("sh", "-c", "echo here; echo there >&2; exit 3") == 3
    assert path.read_text() == "here\nthere\n"
    for number in (signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM):
        assert run("sh", "-c", f"kill -{number:d} $$") == -number
    for status in (1, 128 + signal.SIGKILL, 255):  # what a program says of itself is no signal
        assert run("sh", "-c", f"exit {status}") == status
    assert run("cat") == 0  # nothing to read
    assert run("/nowhere/program") == 127
    assert path.read_text() == "/nowhere/program: No such file or directory\n"


# A program, and one that it starts, in a process that will be killed.
RUNS = """
import sys
from lightcurver_ops.processes import run_guarded
script = "sleep 600 & echo $$ $! > pids.part; mv pids.part pids; wait"
run_guarded(["sh", "-c", script], open("output", "wb"), float(sys.argv[1]))
"""


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("end", ["killed", "timed out"])
def test_a_guarded_program_and_what_it_starts_end_with_us(tmp_path, end):
    limit = "600" if end == "killed" else "3"
    process = subprocess.Popen(
        [sys.executable, "-c", RUNS, limit], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "pids").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    started = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert len(started) == 2
    if end == "killed":
        assert all(runs(pid) for pid in started)
        process.kill()
    errors = process.communicate()[1]
    assert end == "killed" or "TimeoutExpired" in errors
    while any(runs(pid) for pid in started) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(runs(pid) for pid in started)
