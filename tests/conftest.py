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

pytest_plugins = ["tests.seasons", "tests.receivers"]


def _postgres_bin() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    initdb = shutil.which("initdb")
    return Path(initdb).resolve().parent if initdb else None


@pytest.fixture(scope="session")
def postgres_server():
    """URL of a throw-away Postgres server on loopback, started without root rights, stopped at the end."""
    binaries = _postgres_bin()
    if binaries is None:
        pytest.skip(
            "no Postgres binaries (Debian: apt install postgresql): the tests on Postgres are skipped"
        )
    account: dict = {}
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("Postgres does not run as root, and there is no user postgres to drop to")
        account = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # Not pytest's own directory: the server's user may not enter it.
    directory = Path(tempfile.mkdtemp(prefix="lcops-postgres-"))
    if account:
        os.chown(directory, account["user"], account["group"])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    data = directory / "data"

    def call(*command: str) -> None:
        result = subprocess.run(command, capture_output=True, text=True, cwd="/", check=False, **account)
        assert result.returncode == 0, result.stderr

    call(str(binaries / "initdb"), "-D", str(data), "-U", "lcops", "-A", "trust", "-E", "UTF8", "--locale=C")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off"
    call(
        str(binaries / "pg_ctl"), "-D", str(data), "-w", "-l", str(directory / "log"), "-o", options, "start"
    )
    try:
        yield f"postgresql+psycopg://lcops@127.0.0.1:{port}"
    finally:
        call(str(binaries / "pg_ctl"), "-D", str(data), "-w", "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)


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
