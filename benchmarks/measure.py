"""Time and peak memory, each measurement in a process of its own, and where it was measured."""

import multiprocessing
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lightcurver_ops.processes import die_with_parent
from lightcurver_ops.stages.parallel import default_processes

MIB = 2**20
_all_in_one = False
PACKAGES = ("lightcurver-ops", "jax", "jaxlib", "numpy", "scipy", "starred-astro")


def in_fresh_process(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns that runs in a new interpreter: nothing compiled yet, a peak of memory of its own.

    Raises:
        MemoryError: the process was killed, or had not enough memory.
    """
    if _all_in_one:
        return function(*arguments)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        1, mp_context=context, initializer=die_with_parent, initargs=(os.getpid(),)
    ) as pool:
        try:
            return pool.submit(function, *arguments).result()
        except BrokenProcessPool as error:
            raise MemoryError(f"the process of {function.__name__} was killed: not enough memory?") from error


@contextmanager
def all_in_one() -> Iterator[None]:
    """`in_fresh_process` stays in this process: for tests, where starting many costs more than what they do."""
    global _all_in_one  # noqa: PLW0603
    before = dict(os.environ)
    _all_in_one = True
    try:
        yield
    finally:
        _all_in_one = False
        os.environ.clear()
        os.environ.update(before)


class Watch:
    """Seconds of a block, the peak of memory of this process (MiB), and how far the block raised it.

    The peak counts interpreter, libraries and inputs; `added_mib` is what the block needed beyond these.
    """

    def __enter__(self) -> "Watch":
        self._peak = peak_mib()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.perf_counter() - self._start
        self.peak_mib = peak_mib()
        self.added_mib = self.peak_mib - self._peak


def peak_mib() -> float:
    """The most memory that this process has had resident so far, MiB."""
    # On Linux ru_maxrss of a new process starts at the peak of the process that started it; VmHWM does not.
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return float(lines["VmHWM"].split()[0]) / 1024
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB


def device_peak_mib() -> float | None:
    """The most memory that arrays of jax had on a GPU so far, MiB; None on a CPU, and where jax was not needed."""
    if "jax" not in sys.modules:
        return None
    import jax

    statistics = jax.local_devices()[0].memory_stats()
    return statistics["peak_bytes_in_use"] / MIB if statistics else None


def environment() -> dict[str, str]:
    """Processor, device of jax, versions, and how busy the machine is."""
    found = {
        "processor": _processor(),
        "cores": f"{default_processes()} of {os.cpu_count()}",
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "threads": os.environ.get("OMP_NUM_THREADS", "not limited (OMP_NUM_THREADS)"),
        # In a process of its own: this one stays small, and never holds a GPU.
        "device of jax": in_fresh_process(_device),
        "arrays of stages 7 and 11": in_fresh_process(_arrays),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "commit": _commit(),
    }
    return found | {name: version(name) for name in PACKAGES}


def _device() -> str:
    import jax

    device = jax.local_devices()[0]
    return f"{device.platform.upper()}, {len(jax.local_devices())} x {device.device_kind}"


def _arrays() -> str:
    from lightcurver_ops.numerics.device import CHOICE, device

    return f"{device().xp.__name__} (${CHOICE}: {os.environ.get(CHOICE, 'auto')})"


def warmed_up(function: Callable[[], Any]) -> tuple[Any, float, float | None]:
    """What a function returns, its seconds without compilations, and these: where jax compiles, it is called twice."""
    from lightcurver_ops.numerics.device import device

    with Watch() as first:
        result = function()
    if not device().fixed:
        return result, first.seconds, None
    with Watch() as again:
        result = function()
    return result, again.seconds, max(first.seconds - again.seconds, 0.0)


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    root = Path(__file__).parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
