"""What a run of a stage costs: time, processor time, memory, of this process and of those that it starts."""

import os
import resource
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import psutil

_INTERVAL_S = 0.5
_MIB = 2**20
# ru_maxrss is in kB, on macOS in bytes.
_MAXRSS = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Costs:
    """Of a run of a stage."""

    seconds: float
    cpu_seconds: float
    """Of all cores; of the processes that it has started, those that have ended count."""
    peak_mib: float
    """Memory in use at a time; what processes share counts for each of them."""


class Meter:
    """Measures from its making until `stop`."""

    def __init__(self) -> None:
        self._begun = time.monotonic(), _cpu_seconds()
        self._largest_before = _largest()
        self._peak = _in_use()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="costs", daemon=True)
        self._thread.start()

    def stop(self) -> Costs:
        """The costs until now."""
        self._over.set()
        self._thread.join()
        # Of each process the kernel knows its own peak, which may lie between two looks.
        grown = [now for before, now in zip(self._largest_before, _largest(), strict=True) if now > before]
        peak = max([self._peak, _in_use(), *grown])
        began, cpu = self._begun
        return Costs(time.monotonic() - began, _cpu_seconds() - cpu, peak / _MIB)

    def _watch(self) -> None:
        while not self._over.wait(_INTERVAL_S):
            self._peak = max(self._peak, _in_use())


def _cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _largest() -> list[int]:
    """The peaks of this process, and of the largest one that it has started and that has ended, bytes."""
    return [
        resource.getrusage(whose).ru_maxrss * _MAXRSS
        for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]


def _in_use() -> int:
    """Bytes of this process, and of all that it has started."""
    own = psutil.Process()
    used = own.memory_info().rss
    with suppress(psutil.Error):
        for process in own.children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                used += process.memory_info().rss
    return used
