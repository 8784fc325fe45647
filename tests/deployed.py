"""The services of the compose files as plain processes on loopback, where no Docker engine runs.

Commands, environments, health checks, dependencies, secrets and what is restarted are those of the files; what is
replaced is what a container would be: its paths, its addresses and its host's name.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from lightcurver_ops.airflow.local import wait_for
from lightcurver_ops.demo import free_port
from tests.conftest import postgres_account, postgres_bin
from tests.docker.compose_files import DOCKER, SEVERAL_MACHINES, composed

REPOSITORY = DOCKER.parent
# Where the Dockerfile puts what is in the repository.
_IN_IMAGE = {f"/opt/lcops/{name}": REPOSITORY / name for name in ("dags", "plugins", "docker")}
PORTS = {"postgres": 5432, "redis": 6379, "api-server": 8080}
_HEALTHY_S = 600.0


@dataclass
class Service:
    """One service: how its process is started, and the one that runs."""

    name: str
    spec: dict[str, Any]
    environment: dict[str, str]
    directory: Path
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = False
    starts: int = 0
    again_at: float = 0.0

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text(errors="replace") if path.exists() else ""


class Deployment:
    """A deployment on this machine.

    What a subclass may have as it is in containers: `files`, `_ports`, `_address`, `_here`, `_inside`,
    `_main_process`.

    Args:
        volumes: directories of named volumes; of those that are not named, directories of its own.
        variables: of the compose files.
        more: variables for the environment of all processes, beside those of the compose files.
    """

    files = SEVERAL_MACHINES

    def __init__(
        self, volumes: dict[str, Path], variables: dict[str, str], more: dict[str, str] | None = None
    ):
        # Not pytest's own directory: the user of Postgres may not enter it.
        self.directory = Path(tempfile.mkdtemp(prefix="lcops-deployment-"))
        self.directory.chmod(0o755)
        self.ports = self._ports()
        self._volumes = volumes
        self.secrets = self.directory / "secrets"
        hosts = {f"LCOPS_{name.upper()}": self._address(name) for name in ("postgres", "redis")}
        subprocess.run(
            ["sh", DOCKER / "make-secrets.sh", self.secrets],
            check=True,
            env={**os.environ, **hosts},
            stdout=subprocess.DEVNULL,
        )
        own = {
            "LCOPS_SECRETS": str(self.secrets),
            "LCOPS_CONTROL_ADDRESS": "127.0.0.1",
            **dict.fromkeys(("LCOPS_RAW", "LCOPS_WORK", "LCOPS_CONFIG", "LCOPS_BACKUPS"), "/nowhere"),
            **{f"LCOPS_NFS{name}": "/nowhere" for name in ("", "_RAW", "_WORK", "_CONFIG", "_DAGS", "_LOGS")},
        }
        self.model = composed(self.files, {**own, **variables})
        self._more = more or {}
        self._places: dict[str, dict[str, Path]] = {}
        self.services = {name: self._service(name, spec) for name, spec in self.model["services"].items()}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._tending = threading.Thread(target=self._tend, daemon=True)
        self._tending.start()

    def _ports(self) -> dict[str, int]:
        return {name: free_port() for name in PORTS}

    def _address(self, name: str) -> str:
        """Where services find another one: host:port."""
        return f"127.0.0.1:{self.ports[name]}"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text()

    def volume(self, name: str) -> Path:
        path = self._volumes.get(name, self.directory / "volumes" / name)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _service(self, name: str, spec: dict[str, Any]) -> Service:
        directory = self.directory / "services" / name
        places: dict[str, Path] = {**_IN_IMAGE, "/run/secrets": directory / "secrets"}
        path = [str(Path(sys.executable).parent), os.environ["PATH"]]
        (directory / "secrets").mkdir(parents=True)
        for secret in spec.get("secrets", ()):  # a container sees its own alone
            shutil.copy(self.secrets / secret, directory / "secrets" / secret)
        for temporary in spec.get("tmpfs", ()):
            places[temporary.split(":")[0]] = place = (
                directory / "tmpfs" / temporary.split(":")[0].lstrip("/")
            )
            place.mkdir(parents=True)
        for entry in spec["volumes"]:
            source, target = entry.split(":")[:2]
            if source.startswith("."):
                places[target] = DOCKER / source
                if target.startswith("/usr/local/bin/"):
                    path.insert(0, str(places[target].parent))
            else:
                places[target] = self.volume(source)
        if spec["image"].startswith("postgres:"):
            path.insert(0, str(postgres_bin()))
        self._places[name] = places
        environment = {
            "PATH": os.pathsep.join(path),
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(places.get("/airflow", directory)),
            "HOSTNAME": name,
            "AIRFLOW__CORE__HOSTNAME_CALLABLE": "tests.container_name.container_name",
            **{
                key: "127.0.0.1" if key == "PGHOST" else self._here(name, str(value))
                for key, value in spec.get("environment", {}).items()
            },
            **self._more,
        }
        return Service(name, spec, environment, directory)

    def _inside(self, _service: Service, command: Sequence[str]) -> list[str]:
        """What starts a command of a service here."""
        return list(command)

    def _here(self, service: str, text: str) -> str:
        """A text of the files with the paths, addresses and ports of this machine; each is replaced once."""
        places = sorted(self._places[service], key=len, reverse=True)
        numbers = {str(port): str(self.ports[name]) for name, port in PORTS.items()}
        pattern = "|".join(
            [r"(?P<host>\b(?:" + "|".join(PORTS) + r"):(?=\d))", r"(?P<any>\b0\.0\.0\.0\b)",
             r"(?P<place>(?<![\w.])(?:" + "|".join(map(re.escape, places)) + r")(?![\w-]))",
             r"(?P<port>\b(?:" + "|".join(numbers) + r")\b)"]
        )  # fmt: skip

        def replaced(match: re.Match[str]) -> str:
            if match["host"]:
                return "127.0.0.1:"
            if match["any"]:
                return "127.0.0.1"
            return numbers[match["port"]] if match["port"] else str(self._places[service][match["place"]])

        return re.sub(pattern, replaced, text)

    # Starting

    def up(self, *names: str) -> None:
        """Start services and what they depend on, when it is as they want it."""
        for name in names:
            service = self.services[name]
            for other, how in service.spec.get("depends_on", {}).items():
                self.up(other)
                if how["condition"] == "service_healthy":
                    self.wait_until_healthy(other)
            if service.wanted or (service.spec["restart"] == "no" and service.starts):
                continue
            if service.spec["restart"] == "no":
                self.run(name)
            else:
                with self._lock:
                    service.wanted = True
                    self._start(service)

    def run(self, name: str, *command: str, timeout: float = 300) -> str:
        """Run a service's command, or another one in its place, to its end; returns what it said."""
        service = self.services[name]
        service.starts += 1
        result = subprocess.run(
            self._inside(service, command or self._command(service)), env=service.environment, cwd=service.directory,
            capture_output=True, text=True, timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        with (service.directory / "log").open("a") as log:
            log.write(result.stdout + result.stderr)
        assert result.returncode == 0, f"{name}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def is_healthy(self, name: str) -> bool:
        """What the service's own health check says."""
        service = self.services[name]
        kind, *test = service.spec["healthcheck"]["test"]
        command = ["sh", "-c", test[0]] if kind == "CMD-SHELL" else test
        result = subprocess.run(
            self._inside(service, [self._here(name, word) for word in command]), env=service.environment,
            cwd=service.directory, capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        return result.returncode == 0

    def wait_until_healthy(self, *names: str) -> None:
        for name in names:
            assert wait_for(lambda name=name: self.is_healthy(name), _HEALTHY_S, 2.0), self._said(name)

    def _command(self, service: Service) -> list[str]:
        return [self._here(service.name, word) for word in service.spec["command"]]

    def _start(self, service: Service) -> None:
        service.starts += 1
        command, account = self._command(service), {}
        if service.name == "postgres":
            command, account = self._postgres(service, command)
        with (service.directory / "log").open("ab") as log:
            service.process = subprocess.Popen(
                self._inside(service, command), env=service.environment, cwd=service.directory,
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **account,
            )  # fmt: skip

    def _postgres(self, service: Service, command: list[str]) -> tuple[list[str], dict[str, Any]]:
        """What the image's entrypoint does before the server starts; root rights are given up."""
        data = self._places["postgres"]["/var/lib/postgresql/data"]
        account = postgres_account()
        here = ["-D", str(data), "-c", f"unix_socket_directories={data}", "-c", "fsync=off"]
        if not (data / "PG_VERSION").exists():
            if account:
                for path in (data, *service.directory.rglob("*"), service.directory):
                    os.chown(path, account["user"], account["group"])
            data.chmod(0o700)
            say: dict[str, Any] = {"cwd": "/", "stdout": subprocess.DEVNULL, **account}
            environment = service.environment
            arguments = environment["POSTGRES_INITDB_ARGS"].split()
            subprocess.run(
                ["initdb", "-D", str(data), "-U", environment["POSTGRES_USER"], "--no-sync", "--auth-local=trust",
                 "--auth-host=scram-sha-256", f"--pwfile={environment['POSTGRES_PASSWORD_FILE']}", *arguments],
                env=environment, check=True, **say,
            )  # fmt: skip
            control = ["pg_ctl", "-D", str(data), "-w", "-l", str(service.directory / "first.log")]
            options = f"-c listen_addresses='' -c unix_socket_directories={data} -c fsync=off"
            subprocess.run([*control, "-o", options, "start"], env=environment, check=True, **say)
            script = self._places["postgres"]["/docker-entrypoint-initdb.d/databases.sh"]
            subprocess.run(["sh", str(script)], env={**environment, "PGHOST": str(data)}, check=True, **say)
            subprocess.run([*control, "-m", "fast", "stop"], env=environment, check=True, **say)
        own = ["-p", str(self.ports["postgres"]), "-c", "listen_addresses=127.0.0.1"]
        return [*command, *here, *own], account

    # What happens to containers

    def kill(self, name: str) -> None:
        """SIGKILL everything in a container at once; it is then restarted as its file says."""
        service = self.services[name]
        assert service.process is not None
        _kill_tree(service.process.pid)
        service.process.wait()

    def stop(self, name: str, grace: float = 30.0) -> None:
        """End a service as `docker compose stop` does."""
        service = self.services[name]
        with self._lock:
            service.wanted = False
        if service.process is None:
            return
        # The signal that the image asks for: Postgres then does not wait for its clients.
        with contextlib.suppress(psutil.NoSuchProcess):
            self._main_process(service).send_signal(signal.SIGINT if name == "postgres" else signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            service.process.wait(grace)
        _kill_tree(service.process.pid)
        service.process.wait()

    def _main_process(self, service: Service) -> psutil.Process:
        assert service.process is not None
        return psutil.Process(service.process.pid)

    def restart(self, name: str, pause: float = 0.0) -> None:
        """As `docker compose restart`, away for a while in between."""
        self.stop(name)
        time.sleep(pause)
        self.up(name)
        self.wait_until_healthy(name)

    def down(self) -> None:
        """End everything, and remove what is not the caller's."""
        self._over.set()
        self._tending.join()
        for name in reversed(list(self.services)):
            self.stop(name, grace=20.0 if name in PORTS else 5.0)
        shutil.rmtree(self.directory, ignore_errors=True)

    def _tend(self) -> None:
        while not self._over.wait(0.5):
            with self._lock:
                for service in self.services.values():
                    if service.wanted and service.process is not None and service.process.poll() is not None:
                        assert service.spec["restart"] == "unless-stopped"
                        if service.again_at == 0.0:  # Docker waits longer each time
                            service.again_at = time.monotonic() + 0.1 * 2 ** min(service.starts, 9)
                        elif time.monotonic() > service.again_at:
                            service.again_at = 0.0
                            self._start(service)

    def _said(self, name: str) -> str:
        return f"{name}:\n" + "\n".join(self.services[name].log.splitlines()[-30:])


def _kill_tree(pid: int) -> None:
    """SIGKILL a process and all that it started, also what started sessions of its own, and wait for their end."""
    try:
        processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    assert wait_for(lambda: all(_is_over(process) for process in processes), 30, 0.05)


def _is_over(process: psutil.Process) -> bool:
    """Whether a process has ended, maybe without anybody having asked how."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
