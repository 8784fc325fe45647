"""Fixtures that several parts of the tests share."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping.engine import open_engine

pytest_plugins = [
    "tests.seasons",
    "tests.receivers",
    "tests.catalog_server",
    "tests.stores",
    "tests.terminal",
]


# Modules that take minutes, of those beside end_to_end.
_MINUTES = ("test_benchmarks.py", "test_operators.py", "test_strategies.py", "test_psf.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first: what comes last keeps one process busy while the others have nothing to do."""
    items.sort(key=lambda item: ("end_to_end" not in item.path.parts, item.path.name not in _MINUTES))


def postgres_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


def postgres_account() -> dict:
    """Of subprocess: as whom the server runs, which refuses root."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("Postgres does not run as root, and there is no user postgres to drop to")
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


class PostgresServer:
    """A throw-away server on loopback, without root rights: user lcops is trusted, all others need their password."""

    def __init__(self) -> None:
        binaries = postgres_bin()
        if binaries is None:
            pytest.skip(
                "no Postgres binaries (Debian: apt install postgresql): the tests on Postgres are skipped"
            )
        self._binaries = binaries
        self._account = postgres_account()
        # Not pytest's own directory: the server's user may not enter it.
        self.directory = Path(tempfile.mkdtemp(prefix="lcops-postgres-"))
        if self._account:
            os.chown(self.directory, self._account["user"], self._account["group"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._data = self.directory / "data"
        self._call(
            "initdb", "-D", str(self._data), "-U", "lcops", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"
        )  # fmt: skip
        (self._data / "pg_hba.conf").write_text(
            "host all lcops 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
        )
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql+psycopg://lcops@127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self) -> None:
        options = (
            f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off "
            "-c log_statement=all"
        )
        self._call(
            "pg_ctl", "-D", str(self._data), "-w", "-l", str(self.directory / "log"), "-o", options, "start"
        )

    def stop(self) -> None:
        self._call("pg_ctl", "-D", str(self._data), "-w", "-m", "immediate", "stop")

    @property
    def is_running(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def remove(self) -> None:
        if self.is_running:
            self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _call(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        result = subprocess.run(
            command, capture_output=True, text=True, cwd="/", check=False, **self._account
        )
        assert result.returncode == 0, result.stderr


@pytest.fixture(scope="session")
def shared_postgres():
    """A server for the whole session: never stopped by a test."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def own_postgres():
    """A server that tests may stop and start."""
    server = PostgresServer()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def postgres_server(shared_postgres) -> str:
    """URL of the session's server, without database."""
    return shared_postgres.url


@pytest.fixture
def postgres_url(postgres_server):
    """URL of an empty database."""
    admin = sa.create_engine(f"{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    name = f"test_{os.urandom(6).hex()}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    yield f"{postgres_server}/{name}"
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request, tmp_path):
    """URL of an empty database, on each engine in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'database.sqlite3'}"
    return request.getfixturevalue("postgres_url")


@pytest.fixture
def engine(database_url):
    """An engine on an empty database, on each kind in turn."""
    engine = open_engine(database_url)
    yield engine
    engine.dispose()
