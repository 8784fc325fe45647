"""Work in a process of its own, from an Airflow task: its log becomes the task's, its errors become Airflow's."""

import contextlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from lightcurver_ops.airflow.forked import WORKER, Forked, can_fork, shown_as
from lightcurver_ops.storage.scratch import scratch_directory

log = logging.getLogger(__name__)

_LEVELS = logging.getLevelNamesMapping()
_LINE = re.compile(r"(DEBUG|INFO|WARNING|ERROR|CRITICAL) (.*)", re.DOTALL)
# One task, one core: what runs side by side is for the pools to say.
_THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class StageFailed(AirflowException):
    """A failure that another try can cure; its text is for people."""


class StageRefused(AirflowFailException):
    """A failure that no other try cures: somebody must change something.

    Args:
        message: what happened and what to do.
        error_class: name of the class in errors.py.
    """

    def __init__(self, message: str, error_class: str = "ConfigurationError"):
        super().__init__(message)
        self.error_class = error_class


class Child:
    """One piece of work in a process of its own.

    Args:
        forks: whether the process is a fork of this one, which takes no time where its modules are imported already
            (`lightcurver_ops.airflow.preload`), or a fresh interpreter. None: fork where that is safe.
    """

    def __init__(self, forks: bool | None = None) -> None:
        self._process: subprocess.Popen[str] | Forked | None = None
        self._forks = can_fork() if forks is None else forks

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run the worker on a request and return its answer.

        Raises:
            AirflowSkipException: nothing was to do.
            StageRefused: no other try helps (configuration, quality gate, a frame that stops a whole stage).
            StageFailed: another try may help, or the process was killed.
        """
        with scratch_directory() as directory:
            answer = directory / "answer.json"
            status = self._run({**request, "answer": str(answer), "parent": os.getpid()})
            if not answer.exists():
                raise StageFailed(_why_it_died(status))
            content = json.loads(answer.read_text())
        if error := content.get("error"):
            raise as_airflow(error)
        return content

    def _run(self, request: dict[str, Any]) -> int:
        # In a session of its own, so that it and its workers can be ended together.
        start = Forked if self._forks else _fresh
        with start(request, {key: os.environ.get(key, value) for key, value in _THREADS.items()}) as process:
            self._process = process
            try:
                assert process.stderr is not None
                for line in process.stderr:
                    _forward(line.rstrip("\n"))
                return process.wait()
            finally:
                self.end()

    def end(self) -> None:
        """End the process and all that it started, if it still runs: a time-out, or a person, wants it so."""
        process = self._process
        if process is not None and process.poll() is None:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:  # it has not yet made its session
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def _fresh(request: dict[str, Any], environment: dict[str, str]) -> subprocess.Popen[str]:
    # It reads the request alone; what its command line says is for people who look at the processes.
    process = subprocess.Popen(
        [sys.executable, "-m", WORKER, *shown_as(request)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
        env={**os.environ, **environment},
    )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it died before it read all: its words say why
        process.stdin.write(json.dumps(request))
        process.stdin.close()
    return process


def _forward(line: str) -> None:
    match = _LINE.match(line)
    if match:
        log.log(_LEVELS[match[1]], "%s", match[2])
    else:
        log.info("%s", line)


def _why_it_died(status: int) -> str:
    if status < 0:
        name = signal.Signals(-status).name
        more = " (out of memory? see the system's log)" if name == "SIGKILL" else ""
        return f"the stage's process was ended by {name}{more}; what it had made is kept, the next try goes on there"
    return (
        f"the stage's process ended with status {status} and no answer: a fault in the program, shown in the log "
        "above; please report it"
    )


def as_airflow(error: dict[str, Any]) -> AirflowException:
    """What Airflow makes of an error in a worker's answer: its class decides."""
    if error["class"] == "NothingToDo":
        return AirflowSkipException(error["message"])
    if error["class"] == "TemporaryFailure":
        return StageFailed(error["message"])
    return StageRefused(error["message"], error["class"])
