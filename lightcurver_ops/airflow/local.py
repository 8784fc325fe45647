"""A complete Airflow on this machine, for trying things and for tests: `python -m lightcurver_ops.airflow.local`.

Its components are processes of their own, on loopback, with all that they keep below one directory.
"""

import json
import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from lightcurver_ops import processes
from lightcurver_ops.airflow.deployment import settings, write_dag_files, write_pools
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.operations.observatory import open_observatory

log = logging.getLogger(__name__)

# Logs are read from the disk that all share; their own servers would answer on every network of the machine.
COMPONENTS = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
_START_S = 120.0
_LOCAL_SETTINGS = "import lightcurver_ops.airflow.sqlite_backfill\n"


@dataclass
class LocalAirflow:
    """An Airflow on this machine.

    Args:
        home: AIRFLOW_HOME: metadata, logs, passwords, process numbers.
        observatory: path of the observatory's file.
        source: the repository, with its folders dags and plugins.
        port: of the API server.
        database: URL of the metadata; None: SQLite.
        variables: more settings, as environment variables.
    """

    home: Path
    observatory: Path
    source: Path
    port: int = 8080
    database: str | None = None
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Address of the web pages."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Of all its processes."""
        own = settings(
            self.home,
            self.home / "dags",
            self.source / "plugins",
            self.observatory,
            port=self.port,
            database=self.database,
            cores=os.cpu_count() or 2,
        )
        without = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW__")}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        return {**without, "PATH": path, **own, **self._keys(), **self.variables}

    def prepare(self) -> None:
        """Make home, DAG files, metadata and pools; what is there is upgraded."""
        observatory = open_observatory(self.observatory)
        (self.home / "config").mkdir(parents=True, exist_ok=True)
        (self.home / "logs").mkdir(exist_ok=True)
        (self.home / "config" / "airflow_local_settings.py").write_text(_LOCAL_SETTINGS)
        write_dag_files(self.source / "dags", self.home / "dags", len(observatory.lens_files()))
        self._make_passwords()
        self.airflow("db", "migrate")
        self.airflow("pools", "import", str(write_pools(observatory.config, self.home / "pools.json")))

    def airflow(self, *arguments: str, timeout: float = 600) -> str:
        """Run an `airflow` command; returns what it printed.

        Raises:
            TemporaryFailure: it failed; with its last lines.
        """
        result = subprocess.run(
            [sys.executable, "-m", "airflow", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            cwd=self.home,
        )
        if result.returncode != 0:
            tail = "\n".join((result.stdout + result.stderr).strip().splitlines()[-15:])
            raise TemporaryFailure(f"airflow {' '.join(arguments)} failed ({result.returncode}):\n{tail}")
        return result.stdout

    def start(self, *components: str) -> None:
        """Start components; by default all, the API server first: a task that cannot reach it has lost a try.

        Raises:
            ConfigurationError: the port is in use.
            TemporaryFailure: the API server does not come up.
        """
        for component in components or COMPONENTS:
            if component == "api-server":
                self._port_is_free()
            self._start(component)
            if component == "api-server" and not wait_for(lambda: bool(self.health()), _START_S):
                raise TemporaryFailure(
                    f"Airflow's API server is not up after {_START_S:.0f} s: see {self.home / 'logs'}"
                )

    def _start(self, component: str) -> None:
        with (self.home / "logs" / f"{component}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "airflow", *COMPONENTS[component]],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=self.home,
            )
        self._remember({**self._started(), component: processes.mark_of(process.pid)})

    def _port_is_free(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise ConfigurationError(
                    f"port {self.port} is in use: stop what uses it, or choose another one: make up PORT=8090"
                ) from error

    def wait_until_healthy(self, timeout: float = _START_S) -> None:
        """Wait until all components say that they are well.

        Raises:
            TemporaryFailure: they do not, in this time.
        """
        needed = ("metadatabase", "scheduler", "triggerer", "dag_processor")

        def healthy() -> bool:
            health = self.health()
            return all((health.get(name) or {}).get("status") == "healthy" for name in needed)

        if not wait_for(healthy, timeout):
            raise TemporaryFailure(f"Airflow is not up after {timeout:.0f} s: see {self.home / 'logs'}")

    def health(self) -> dict[str, Any]:
        """What the API server says of all components; empty where it does not answer."""
        try:
            return httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5).json()
        except (httpx.HTTPError, ValueError):
            return {}

    def running(self) -> dict[str, int]:
        """component: process number, of those that still run."""
        return {name: processes.pid_of(mark) for name, mark in self._running().items()}

    def _running(self) -> dict[str, str]:
        return {name: mark for name, mark in self._started().items() if processes.is_running(mark)}

    def _started(self) -> dict[str, str]:
        """component: mark of its process, of those that were started."""
        try:
            content = json.loads((self.home / "processes.json").read_text())
        except FileNotFoundError:
            return {}
        # An earlier version kept numbers alone, which say nothing of whose they are now.
        return {name: mark for name, mark in content.items() if re.fullmatch(processes.MARK, str(mark))}

    def kill(self, component: str) -> None:
        """SIGKILL a component, and what it started: a crash."""
        mark = self._running()[component]
        _signal_group(mark, signal.SIGKILL)
        self._reap(processes.pid_of(mark))

    def stop(self, timeout: float = 30.0) -> None:
        """End all components and what they started, and nothing else that has their process numbers by now."""
        for component, mark in self._started().items():
            if processes.is_taken(mark):
                log.warning(
                    "%s: process %d is not the one that was started here: it is left alone",
                    component,
                    processes.pid_of(mark),
                )
        self._end(self._running(), timeout)
        (self.home / "processes.json").unlink(missing_ok=True)

    def end(self, component: str, timeout: float = 30.0) -> None:
        """End a component, if it runs, and what it started."""
        running = self._running()
        self._end({name: mark for name, mark in running.items() if name == component}, timeout)
        self._remember({name: mark for name, mark in running.items() if name != component})

    def _end(self, running: dict[str, str], timeout: float) -> None:
        for mark in running.values():
            _signal_group(mark, signal.SIGINT)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline and any(_group_lives(mark) for mark in running.values()):
            for mark in running.values():
                self._reap(processes.pid_of(mark))
            time.sleep(0.2)
        for mark in running.values():
            _signal_group(mark, signal.SIGKILL)
            self._reap(processes.pid_of(mark))

    def password(self, user: str = "admin") -> str:
        """Of a user of the web pages."""
        return self._passwords()[user]

    def _passwords(self) -> dict[str, str]:
        try:
            return json.loads(self._password_file.read_text().strip() or "{}")
        except FileNotFoundError:
            return {}

    @property
    def _password_file(self) -> Path:
        """Where Airflow's simple auth manager looks."""
        return self.home / "simple_auth_manager_passwords.json.generated"

    def _make_passwords(self) -> None:
        """One for each user that has none: those that Airflow makes itself get into its log."""
        users = [
            entry.split(":")[0].strip()
            for entry in self.environment["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"].split(",")
        ]
        passwords = {**{user: secrets.token_urlsafe(12) for user in users}, **self._passwords()}
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(json.dumps(passwords) + "\n")

    def token(self, user: str = "admin") -> str:
        """What a login gives: for the header of the REST API, or the cookie of the web pages."""
        login = {"username": user, "password": self.password(user)}
        answer = httpx.post(f"{self.url}/auth/token", json=login, timeout=60)
        answer.raise_for_status()
        return answer.json()["access_token"]

    def api(self, user: str = "admin") -> httpx.Client:
        """A client of the REST API, logged in."""
        headers = {"Authorization": f"Bearer {self.token(user)}"}
        return httpx.Client(base_url=f"{self.url}/api/v2", headers=headers, timeout=60)

    def _remember(self, marks: dict[str, str]) -> None:
        (self.home / "processes.json").write_text(json.dumps(marks))

    def _keys(self) -> dict[str, str]:
        """Secrets that must be the same in all components, made once."""
        path = self.home / "keys.json"
        if not path.exists():
            self.home.mkdir(parents=True, exist_ok=True)
            keys = {
                "AIRFLOW__API__SECRET_KEY": secrets.token_hex(32),
                "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_hex(32),
                "AIRFLOW__CORE__FERNET_KEY": _fernet_key(),
            }
            path.touch(mode=0o600)
            path.write_text(json.dumps(keys))
        return json.loads(path.read_text())

    @staticmethod
    def _reap(pid: int) -> None:
        try:
            os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            return


def _fernet_key() -> str:
    from cryptography.fernet import Fernet

    return Fernet.generate_key().decode()


def _signal_group(mark: str, number: int) -> bool:
    """Send a signal to the group that a process leads, or has led; whether there was any of it."""
    # As long as one of a group lives, no other process gets its number.
    if processes.is_taken(mark):
        return False
    try:
        os.killpg(processes.pid_of(mark), number)
    except ProcessLookupError:
        return False
    return True


def _group_lives(mark: str) -> bool:
    return _signal_group(mark, 0)


def wait_for(condition: Callable[[], Any], timeout: float, pause: float = 0.5) -> bool:
    """Whether a condition came true in time."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause)
    return bool(condition())
