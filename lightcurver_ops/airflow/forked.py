"""A worker as a fork of an Airflow task: it starts at once, with the modules that its parents imported."""

import faulthandler
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
from types import TracebackType
from typing import Any, NoReturn, Self

from setproctitle import setproctitle

WORKER = "lightcurver_ops.operations.worker"
# Kept, since their end would close the descriptors that are ours by then.
_STREAMS_OF_THE_TASK: list[Any] = []


def can_fork() -> bool:
    """Whether a fork of this process is sound: it has one thread, and no jax, which has threads of its own."""
    return hasattr(os, "fork") and threading.active_count() == 1 and "jax" not in sys.modules


def shown_as(request: dict[str, Any]) -> list[str]:
    """What people who look at the processes see of a request."""
    return [request.get("stage", request["action"]), request.get("lens", "")]


class Forked:
    """A worker, as much like `subprocess.Popen` as `Child` needs.

    Args:
        request: what to do.
        environment: variables that it has in addition.

    Attributes:
        pid: of the process, which leads a session of its own.
        stderr: what it says, as text.
    """

    def __init__(self, request: dict[str, Any], environment: dict[str, str]):
        self._status: int | None = None
        reads, writes = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _be_worker(request, environment, writes)
        os.close(writes)
        self.stderr = os.fdopen(reads, encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stderr.close()
        self.wait()

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        """Wait for its end; its exit status, negative for a signal."""
        status = self._wait(0)
        assert status is not None
        return status

    def _wait(self, options: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status


def _be_worker(request: dict[str, Any], environment: dict[str, str], stderr: int) -> NoReturn:
    status = 1
    try:
        os.setsid()
        _forget_the_task(stderr)
        os.environ.update(environment)
        setproctitle(" ".join([WORKER, *shown_as(request)]))  # short: there may be little room
        worker = importlib.import_module(WORKER)
        sys.modules["__main__"] = worker  # for processes that it spawns
        worker.serve(request)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        try:
            sys.stderr.flush()
        finally:
            os._exit(status)  # nothing of the task is to be ended twice


def _forget_the_task(stderr: int) -> None:
    """Its signals, its standard streams, its logging; its connections stay open, unused, and end with this process."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_DFL)
    faulthandler.disable()
    signal.setitimer(signal.ITIMER_REAL, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for source, target in ((nothing, 0), (nothing, 1), (stderr, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(stderr)
    _STREAMS_OF_THE_TASK.extend((sys.stdin, sys.stdout, sys.stderr))
    sys.stdin = os.fdopen(0, closefd=False)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
    root = logging.getLogger()
    root.handlers.clear()
    root.setLevel(logging.WARNING)
