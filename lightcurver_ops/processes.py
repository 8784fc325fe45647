"""Which process is which, across containers and after its number was given to another; what must end with it.

A process is named by a mark, text that may stand in a file name or a row: its world (a container has process numbers
of its own, and may share its host name with others), its number, and when it started.
"""

import functools
import os
import signal
import socket
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

MARK = r"[0-9a-f]{8}\.\d+\.[0-9a-f]+"
"""Regular expression of a mark."""
LOST_AFTER_S = 86400.0
"""A process of a world that we do not see into is taken for lost when nothing was heard of it for this long."""
_GUARD = Path(__file__).with_name("guard.py")
_REAPABLE = 1


def own_mark() -> str:
    """The mark of this process."""
    return _mark_of(os.getpid())


def mark_of(pid: int) -> str:
    """The mark of a process of our own world that runs now."""
    return f"{_world()}.{pid}.{_start_of(pid):x}"


def has_ended(mark: str) -> bool:
    """Whether a process has ended for sure; False also where that cannot be seen from here."""
    world, pid, start = _parts(mark)
    if world != _world():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    now = _start_of(pid)
    return now not in (0, start)


def is_running(mark: str) -> bool:
    """Whether a process runs for sure; False also where that cannot be seen from here."""
    return _parts(mark)[0] == _world() and not has_ended(mark)


def is_taken(mark: str) -> bool:
    """Whether its number is, in our world, that of another process."""
    world, pid, start = _parts(mark)
    now = _start_of(pid)
    return now not in (0, _REAPABLE) and (world, now) != (_world(), start)


def is_lost(mark: str | None, heard_of: float) -> bool:
    """Whether a process can be taken for ended.

    Args:
        mark: of the process; None: not known.
        heard_of: when it last gave a sign (seconds since the epoch), which decides where it cannot be seen from here.
    """
    if mark is None or _parts(mark)[0] != _world():
        return time.time() - heard_of > LOST_AFTER_S
    return has_ended(mark)


def pid_of(mark: str) -> int:
    """The number that a process has in its own world."""
    return _parts(mark)[1]


@functools.lru_cache(maxsize=1)  # a fork has another number
def _mark_of(pid: int) -> str:
    return mark_of(pid)


def _parts(mark: str) -> tuple[str, int, int]:
    world, pid, start = mark.split(".")
    return world, int(pid), int(start, 16)


@functools.cache
def _world() -> str:
    world = [socket.gethostname()]
    with suppress(OSError):  # where there is no /proc, a machine is one world
        world += [
            Path("/proc/sys/kernel/random/boot_id").read_text(),
            str(Path("/proc/self/ns/pid").stat().st_ino),
        ]
    return f"{zlib.crc32(' '.join(world).encode()):08x}"


def _start_of(pid: int) -> int:
    """Clock ticks from the boot to the start of a process; _REAPABLE where it has ended; 0: not known, or none such.

    Not psutil's `create_time`: that is of the day, and changes when the machine's clock is set.
    """
    try:
        # The name of the program, in parentheses, may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return 0
    return _REAPABLE if fields[0] in (b"Z", b"X") else int(fields[19])


def die_with_parent(parent: int) -> None:
    """End this process when its parent ends, however that happens; what it left is completed by the next run."""
    if sys.platform != "linux":
        return
    import ctypes

    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)


def run_guarded(
    command: Sequence[str],
    output: IO[bytes],
    timeout_s: float,
    *,
    directory: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> int:
    """Run another program; neither it nor what it starts outlives this call, or this process, however that ends.

    A guard stands between, since only a process's own children can be told to die with it: it sees the end of its
    standard input, which this process alone holds, and ends the whole group.

    Args:
        command: program and arguments.
        output: takes what it says, on both streams.
        timeout_s: it is killed after this long.
        directory, environment: where, and with which variables, it runs; None: ours.

    Returns:
        Its exit status; negative: the signal that ended it.

    Raises:
        subprocess.TimeoutExpired: it was killed after the time.
        OSError: the guard cannot be started.
    """
    # Without the site's packages it starts in some milliseconds.
    guard = [sys.executable, "-I", "-S", str(_GUARD)]
    process = subprocess.Popen(
        [*guard, *command], stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
        cwd=directory, env=environment, start_new_session=True,
    )  # fmt: skip
    try:
        status = process.wait(timeout=timeout_s)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        process.stdin.close()
    return status
