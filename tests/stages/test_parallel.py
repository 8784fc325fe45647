"""Frame-wise work in processes: errors stay with their frame, killed workers cost one more try."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightcurver_ops.errors import BadFrame, ConfigurationError, TemporaryFailure
from lightcurver_ops.stages.parallel import AHEAD, map_tasks


def work(task):
    kind, value = task
    if kind == "bad":
        raise BadFrame(f"frame {value} is bad")
    if kind == "surprise":
        return 1 / value
    if kind == "configuration":
        raise ConfigurationError("change something")
    if kind == "memory":
        raise MemoryError("no more")
    if kind == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "die once" and not Path(value).exists():
        Path(value).write_text("died")
        os.kill(os.getpid(), signal.SIGKILL)
    return value


@pytest.mark.parametrize("processes", [1, 2])
def test_errors_stay_with_their_task(processes):
    tasks = [("good", 1), ("bad", 2), ("surprise", 0), ("good", 4)]
    outcomes = list(map_tasks(work, tasks, processes))
    assert [task for task, _ in outcomes] == tasks
    assert [outcome.result for _, outcome in outcomes] == [1, None, None, 4]
    assert isinstance(outcomes[1][1].error, BadFrame)
    assert str(outcomes[2][1].error) == "ZeroDivisionError: division by zero"


@pytest.mark.parametrize(
    ("kind", "error"), [("configuration", ConfigurationError), ("memory", TemporaryFailure)]
)
def test_what_all_would_meet_ends_the_stage(kind, error):
    with pytest.raises(error):
        list(map_tasks(work, [("good", 1), (kind, 0), ("good", 2)], 2))


def test_a_killed_worker_costs_one_more_try(tmp_path):
    tasks = [("good", 1), ("die once", str(tmp_path / "flag")), ("good", 3)]
    assert [outcome.result for _, outcome in map_tasks(work, tasks, 2)] == [1, str(tmp_path / "flag"), 3]


def test_a_task_that_kills_its_worker_twice_fails_alone():
    outcomes = dict(map_tasks(work, [("good", 1), ("die", 2), ("good", 3)], 2))
    assert outcomes["good", 1].result == 1
    assert outcomes["good", 3].result == 3
    assert "died twice on this task" in str(outcomes["die", 2].error)


def named(task):
    if task == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


def test_the_others_go_on_in_parallel_after_a_killed_worker():
    outcomes = dict(map_tasks(named, list(range(40)), 2))
    assert [task for task, outcome in outcomes.items() if outcome.error] == [3]
    workers = {outcome.result for outcome in outcomes.values() if outcome.error is None}
    assert len(workers) <= 2 + 2 + AHEAD * 2  # two pools, and those that were tried alone


def test_no_task_is_no_work():
    assert list(map_tasks(work, [], 2)) == []


CHILD = """
import os, sys, time
sys.path.insert(0, {tests!r})
from lightcurver_ops.stages.parallel import map_tasks
from test_parallel import report_and_sleep
if __name__ == "__main__":
    list(map_tasks(report_and_sleep, [{directory!r}] * 2, 2))
"""


def report_and_sleep(directory):
    Path(directory, str(os.getpid())).touch()
    time.sleep(60)


@pytest.mark.skipif(sys.platform != "linux", reason="workers die with their parent on Linux only")
def test_workers_do_not_outlive_a_killed_parent(tmp_path):
    script = tmp_path / "child.py"
    pids = tmp_path / "pids"
    pids.mkdir()
    script.write_text(CHILD.format(tests=str(Path(__file__).parent), directory=str(pids)))
    parent = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 60
    while len(list(pids.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = [int(path.name) for path in pids.iterdir()]
    assert len(workers) == 2
    parent.kill()
    parent.wait()
    while any(_runs(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_runs(pid) for pid in workers)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False
