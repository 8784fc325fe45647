"""Frame-wise work in parallel processes: started with spawn, never forked, dying with their parent."""

import logging
import multiprocessing
import os
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

from lightcurver_ops.errors import BadFrame, LightcurverError, TemporaryFailure
from lightcurver_ops.processes import die_with_parent

log = logging.getLogger(__name__)

AHEAD = 2
"""Tasks per process that are handed out before their turn to be yielded."""


@dataclass(frozen=True)
class Outcome:
    """What became of one task: its result, or its error."""

    result: Any = None
    error: Exception | None = None


def default_processes() -> int:
    """One process per core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_tasks(
    function: Callable[[Any], Any], tasks: Sequence[Any], processes: int | None
) -> Iterator[tuple[Any, Outcome]]:
    """Apply ``function`` to tasks, yielding (task, outcome) in the order of the tasks.

    A :class:`BadFrame` and an unexpected exception become the outcome of their task; a worker that is killed
    costs one more try of the few tasks that were handed out, one at a time, so that the culprit is found; those after
    them go on in parallel.

    Raises:
        ConfigurationError, TemporaryFailure: raised by any task: the others would meet the same.
    """
    processes = min(processes or default_processes(), len(tasks))
    if processes <= 1:
        for task in tasks:
            yield task, _checked(_guarded(function, task))
        return
    executor, left, held = _executor(processes), deque(tasks), deque[tuple[Any, Future]]()
    try:
        while left or held:
            try:
                while left and len(held) < AHEAD * processes:
                    held.append((left[0], executor.submit(_guarded, function, left[0])))
                    left.popleft()
                outcome = held[0][1].result()
            except BrokenProcessPool:
                executor.shutdown(wait=True, cancel_futures=True)
                for task, future in held:  # one of these was at work in it
                    yield task, _checked(_alone(function, task) if _is_lost(future) else future.result())
                held.clear()
                executor = _executor(processes)
                continue
            yield held.popleft()[0], _checked(outcome)
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _is_lost(future: Future) -> bool:
    return future.cancelled() or future.exception() is not None


def _executor(processes: int) -> ProcessPoolExecutor:
    context = multiprocessing.get_context("spawn")
    level = logging.getLogger("lightcurver_ops").getEffectiveLevel()
    return ProcessPoolExecutor(
        processes, mp_context=context, initializer=_prepare_worker, initargs=(os.getpid(), level)
    )


def _alone(function: Callable[[Any], Any], task: Any) -> Outcome:
    log.warning("a worker process died; trying its task again on its own")
    with _executor(1) as executor:
        try:
            return executor.submit(_guarded, function, task).result()
        except BrokenProcessPool:
            return Outcome(
                error=RuntimeError(
                    "the worker process died twice on this task (out of memory, or a crash in a library); "
                    "see the system's log, or lower compute.processes"
                )
            )


def _checked(outcome: Outcome) -> Outcome:
    if isinstance(outcome.error, LightcurverError) and not isinstance(outcome.error, BadFrame):
        raise outcome.error
    return outcome


def _guarded(function: Callable[[Any], Any], task: Any) -> Outcome:
    try:
        return Outcome(result=function(task))
    except LightcurverError as error:
        return Outcome(error=error)
    except MemoryError as error:
        return Outcome(error=TemporaryFailure(f"out of memory: {error}; lower compute.processes"))
    except Exception as error:  # one frame's surprise must not cost the others
        log.error("%s", traceback.format_exc())
        return Outcome(error=RuntimeError(f"{type(error).__name__}: {error}"))


def _prepare_worker(parent: int, log_level: int) -> None:
    logging.getLogger("lightcurver_ops").setLevel(log_level)
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends workers at once and without a traceback
    die_with_parent(parent)
