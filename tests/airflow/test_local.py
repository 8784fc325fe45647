"""A local Airflow: what it ends, and what it leaves alone."""

import json
import subprocess
import sys

import pytest

from lightcurver_ops import processes
from lightcurver_ops.airflow.local import LocalAirflow

# Its command line has the words of a component of Airflow; it says when it can take a signal.
STAYS = [
    sys.executable,
    "-c",
    "import time; print('ready', flush=True); time.sleep(600)",
    "airflow",
    "scheduler",
]


@pytest.fixture
def airflow(tmp_path):
    return LocalAirflow(tmp_path, tmp_path / "observatory.yaml", tmp_path)


@pytest.fixture
def process():
    process = subprocess.Popen(
        STAYS, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def started(airflow, mark) -> None:
    (airflow.home / "processes.json").write_text(json.dumps({"scheduler": mark}))


def test_what_it_started_is_ended(airflow, process, caplog):
    started(airflow, processes.mark_of(process.pid))
    assert airflow.running() == {"scheduler": process.pid}
    airflow.stop()
    assert process.poll() is not None
    assert caplog.text == ""
    assert not (airflow.home / "processes.json").exists()


@pytest.mark.parametrize("kind", ["its number was given to another", "of another machine"])
def test_a_foreign_process_is_left_alone_and_said(airflow, process, caplog, kind):
    world, pid, start = processes.mark_of(process.pid).split(".")
    earlier = f"{world}.{pid}.{int(start, 16) - 1:x}"
    mark = earlier if kind.startswith("its number") else f"00000000.{pid}.{start}"
    started(airflow, mark)
    assert airflow.running() == {}
    airflow.end("scheduler")
    started(airflow, mark)
    airflow.stop()
    assert f"scheduler: process {pid} is not the one that was started here: it is left alone" in caplog.text
    assert process.poll() is None
    assert not (airflow.home / "processes.json").exists()


def test_a_number_alone_of_an_earlier_version_says_nothing(airflow, process):
    started(airflow, process.pid)
    airflow.stop()
    assert process.poll() is None


def test_passwords_are_made_once_and_not_by_airflow_which_logs_them(tmp_path):
    users = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin, vera:user"}
    first = LocalAirflow(tmp_path, tmp_path / "observatory.yaml", tmp_path, variables=users)
    first._make_passwords()
    made = {user: first.password(user) for user in ("admin", "vera")}
    assert len(set(made.values())) == 2
    assert first._password_file.stat().st_mode & 0o077 == 0
    more = {"AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,vera:user,eve:viewer"}
    second = LocalAirflow(tmp_path, tmp_path / "observatory.yaml", tmp_path, variables=more)
    second._make_passwords()
    assert {user: second.password(user) for user in made} == made
    assert second.password("eve") not in made.values()
    (tmp_path / first._password_file.name).write_text("")  # killed while it was written
    first._make_passwords()
    assert len(first.password()) >= 16
