"""Work in a process of its own, with the worker as it is: errors, logs, secrets, and the end of it all."""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException

from lightcurver_ops.airflow import child as module
from lightcurver_ops.airflow import forked
from lightcurver_ops.airflow.child import Child, StageFailed, StageRefused
from lightcurver_ops.bookkeeping.engine import writing
from lightcurver_ops.bookkeeping.tables import frames
from lightcurver_ops.config import load_lens
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized

NIGHT_MJD = 61109.2
OWN_LOG = "lightcurver_ops.airflow.child"


@pytest.fixture(autouse=True, params=["fresh interpreter", "fork"])
def way(request, monkeypatch):
    """Both ways to start a worker; a test process has threads, so that it would not fork by itself."""
    monkeypatch.setattr(module, "can_fork", lambda: request.param == "fork")
    return request.param


@pytest.fixture
def request_of(observatory):
    """Makes a request about the lens `plain`."""

    def make(action="look_at_night", **more):
        common = {
            "lens": "plain",
            "config": str(observatory.lens_file("plain")),
            "processes": 1,
            "database": None,
        }
        usual = {"night": "2026-03-09", "stages": [], "watch": {"settle_seconds": 0}}
        return {"action": action, **common, **usual, **more}

    return make


@pytest.fixture
def program(observatory):
    """Makes the worker run a program of the test's own: as the header parser of its lens."""

    def make(code):
        parser = observatory.directory / "parser.py"
        parser.write_text(
            f"import os, signal, subprocess, sys, time\nDIRECTORY = {str(observatory.directory)!r}\n"
            f"def parse_header(header):\n{code}\n"
            f"    return dict(mjd={NIGHT_MJD}, gain=1.0, exptime=1.0, filter='r')\n"
        )
        raw = observatory.directory / "raw" / "plain"
        observatory.add_lens("plain", raw={"raw_dirs": [str(raw)], "header_parser": str(parser)})
        observatory.add_frame("plain", NIGHT_MJD)

    return make


def wait_until(condition, patience=60.0):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def runs(pid):
    """Whether a process is there and not dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


class InBackground:
    """Asks in a thread; `error` is what came of it."""

    def __init__(self, request):
        self.child = Child()
        self.error = self.answer = None
        self._thread = threading.Thread(target=self._ask, args=(request,))
        self._thread.start()

    def _ask(self, request):
        try:
            self.answer = self.child.ask(request)
        except BaseException as error:
            self.error = error

    def join(self):
        self._thread.join(60)
        assert not self._thread.is_alive()


def test_an_answer(observatory, request_of):
    observatory.add_frame("plain", NIGHT_MJD)
    answer = Child().ask(request_of())
    assert (answer["night"], answer["frames"], answer["waits"]) == ("2026-03-09", 1, False)


def test_nothing_to_do_is_a_skip(observatory, request_of, caplog):
    with pytest.raises(AirflowSkipException, match="plain: plate_solving: everything is up to date"):
        Child().ask(request_of("stage", stage="plate_solving"))


def test_a_configuration_error_is_refused_with_its_words(observatory, request_of):
    observatory.lens_file("plain").write_text("name: plain\nroj: {}\n")
    with pytest.raises(
        StageRefused, match=r"plain.yaml, line 2: unknown key 'roj'; did you mean 'roi'\?"
    ) as caught:
        Child().ask(request_of())
    assert caught.value.error_class == "ConfigurationError"
    assert isinstance(caught.value, AirflowFailException)


def test_a_quality_gate_is_refused(observatory, request_of):
    lens = Lens(load_lens(observatory.lens_file("plain")))
    ensure_initialized(lens)
    with writing(lens.engine) as connection:
        for number in range(3):
            connection.execute(sa.insert(frames).values(**frame_row(number)))
    lens.close()
    for request in (
        request_of("stage", stage="calculate_common_and_total_footprint", gates=["plate_solving"]),
        request_of("look_at_season", first="calculate_common_and_total_footprint", gates=["plate_solving"]),
    ):
        with pytest.raises(StageRefused, match="only 0 of 3 frames are plate solved") as caught:
            Child().ask(request)
        assert caught.value.error_class == "QualityGate"


def frame_row(number):
    """A frame that could not be solved; what the gate does not look at is anything."""
    needed = {
        column.name: column for column in frames.columns if not column.nullable and not column.primary_key
    }
    anything = {
        int: number,
        float: 1.0,
        str: f"{number}",
        bool: False,
        datetime: datetime(2026, 3, 10, tzinfo=UTC),
    }
    row = {name: anything[column.type.python_type] for name, column in needed.items()}
    return {**row, "lens": "plain", "attempted_plate_solve": True, "plate_solved": False, "eliminated": False}


def test_a_temporary_failure_can_be_tried_again_and_names_no_password(request_of, caplog):
    caplog.set_level(logging.DEBUG)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"postgresql+psycopg://lcops:s3cret@127.0.0.1:{port}/lenses"
    with pytest.raises(StageFailed, match=r"bookkeeping: .* does not answer") as caught:
        Child().ask(request_of(database=url))
    assert not isinstance(caught.value, AirflowFailException)
    assert isinstance(caught.value, AirflowException)
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in caplog.text


def test_the_password_is_on_no_command_line_and_in_no_log(request_of, caplog):
    """A server that takes the connection and says nothing holds the worker while we look at it."""
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"postgresql+psycopg://lcops:s3cret@127.0.0.1:{server.getsockname()[1]}/lenses"
        work = InBackground(request_of("stage", stage="plate_solving", database=url))
        server.settimeout(60)
        connection, _ = server.accept()
        pid = work.child._process.pid
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode()
        connection.close()
        work.join()
    shown = " ".join(command)
    assert (
        "lightcurver_ops.operations.worker plate_solving plain" in shown
    )  # for people who look at the processes
    assert "s3cret" not in shown + environment
    assert isinstance(work.error, StageFailed)
    assert "s3cret" not in str(work.error) + caplog.text


@pytest.mark.parametrize(
    ("name", "hint"),
    [("SIGKILL", r"SIGKILL \(out of memory\? see"), ("SIGSEGV", "SIGSEGV; what it had made is kept")],
)
def test_a_killed_process_can_be_tried_again(program, request_of, name, hint):
    program(f"    os.kill(os.getpid(), signal.{name})")
    with pytest.raises(StageFailed, match=hint):
        Child().ask(request_of())


def test_an_unforeseen_error_can_be_tried_again_and_its_traceback_is_in_the_log(request_of, caplog):
    caplog.set_level(logging.INFO)
    request = request_of()
    del request["night"]
    with pytest.raises(StageFailed, match=r"ended with status 1 and no answer: a fault in the program"):
        Child().ask(request)
    assert "KeyError: 'night'" in caplog.text


def test_a_worker_that_does_not_start_is_told_with_its_words(request_of, monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "WORKER", "lightcurver_ops.no_such_module")
    monkeypatch.setattr(forked, "WORKER", "lightcurver_ops.no_such_module")
    with pytest.raises(StageFailed, match="ended with status 1"):
        Child().ask(request_of(raw_ids=list(range(100_000))))  # more than a pipe holds
    assert "no_such_module" in caplog.text


def test_log_lines_keep_their_levels(program, request_of, caplog):
    caplog.set_level(logging.DEBUG)
    lines = [
        "ERROR one went wrong",
        "CRITICAL worse",
        "DEBUG a detail",
        "a line of a library",
        "WARNINGS are many",
    ]
    text = "\n".join([*lines, ""])
    program(f"    sys.stderr.write({text!r})\n    raise ValueError('no time')")
    Child().ask(request_of())
    seen = {record.getMessage(): record.levelname for record in caplog.records if record.name == OWN_LOG}
    expected = {
        "one went wrong": "ERROR", "worse": "CRITICAL", "a detail": "DEBUG",
        "a line of a library": "INFO", "WARNINGS are many": "INFO",
    }  # fmt: skip
    assert expected.items() <= seen.items()
    assert [level for text, level in seen.items() if "1 raw files, 1 new" in text] == ["INFO"]
    assert [level for text, level in seen.items() if text.startswith("of unknown night")] == ["WARNING"]


def test_log_lines_come_while_the_work_goes_on(program, request_of, observatory, caplog):
    caplog.set_level(logging.INFO)
    program(
        "    sys.stderr.write('INFO begun\\n')\n"
        "    sys.stderr.flush()\n"
        "    while not os.path.exists(DIRECTORY + '/go'): time.sleep(0.02)"
    )
    work = InBackground(request_of())
    wait_until(lambda: "begun" in [record.getMessage() for record in caplog.records])
    assert work.answer is None
    (observatory.directory / "go").touch()
    work.join()
    assert work.answer["frames"] == 1


HOLDS = """\
    other = subprocess.Popen(["sleep", "600"])
    with open(DIRECTORY + "/pids.part", "w") as file:
        file.write(f"{os.getpid()} {other.pid}")
    os.rename(DIRECTORY + "/pids.part", DIRECTORY + "/pids")
    time.sleep(600)
"""


@pytest.fixture
def held(program, observatory):
    """The worker and a process that it started; they would run for minutes."""
    program(HOLDS)
    path = observatory.directory / "pids"
    started = []

    def pids():
        wait_until(path.exists)
        started.extend(int(pid) for pid in path.read_text().split())
        assert all(runs(pid) for pid in started)
        return list(started)

    yield pids
    for pid in started:
        if runs(pid):
            os.kill(pid, signal.SIGKILL)


def test_the_end_is_the_end_of_all_processes(request_of, held):
    work = InBackground(request_of())
    pids = held()
    assert work.child._process.pid == pids[0]
    work.child.end()
    work.join()
    assert isinstance(work.error, StageFailed)
    assert "SIGKILL" in str(work.error)
    wait_until(lambda: not any(runs(pid) for pid in pids))
    work.child.end()  # a second time it does nothing


def test_what_interrupts_the_task_ends_its_work(request_of, held, monkeypatch):
    """A time-out of Airflow is an exception in the middle of waiting."""

    class TimeOut(BaseException):
        pass

    def interrupt(*_):
        raise TimeOut

    previous = signal.signal(signal.SIGUSR1, interrupt)
    pids = []

    def send():
        pids.extend(held())
        os.kill(os.getpid(), signal.SIGUSR1)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        with pytest.raises(TimeOut):
            Child().ask(request_of())
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, previous)
    assert len(pids) == 2
    wait_until(lambda: not any(runs(pid) for pid in pids))


def test_a_task_that_is_killed_takes_its_work_along(request_of, held, way):
    code = (
        "import sys, json\nfrom lightcurver_ops.airflow.child import Child\n"
        f"Child({way == 'fork'}).ask(json.load(sys.stdin))\n"
    )
    task = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    task.stdin.write(json.dumps(request_of()).encode())
    task.stdin.close()
    worker, _ = held()
    task.kill()
    task.wait()
    wait_until(lambda: not runs(worker))


@pytest.mark.parametrize(("given", "expected"), [(None, "1"), ("4", "4")])
def test_a_task_takes_one_core_unless_told_otherwise(
    program, request_of, observatory, monkeypatch, given, expected
):
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    program("    open(DIRECTORY + '/threads', 'w').write(os.environ['OMP_NUM_THREADS'])")
    Child().ask(request_of())
    assert (observatory.directory / "threads").read_text() == expected


def test_nothing_is_left_in_the_temporary_directory(request_of, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    Child().ask(request_of())
    with pytest.raises(StageRefused):
        Child().ask(request_of(action="stage", stage="nonsense"))
    assert list((tmp_path / "scratch").iterdir()) == []
