"""restore.sh puts both databases back, or leaves both as they were; with a real Postgres."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import postgres_bin

SCRIPT = Path(__file__).parents[2] / "docker" / "postgres" / "restore.sh"


@pytest.fixture
def restoring(postgres_server, tmp_path):
    """The script on two databases of the tests' server, with a backup of both in which a table says 'backup'."""
    url, mark = sa.make_url(postgres_server), os.urandom(4).hex()
    names = {name: f"{name}_{mark}" for name in ("airflow", "lenses")}
    admin = sa.create_engine(f"{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    secrets, backups = tmp_path / "secrets", tmp_path / "backups" / "20260101T000000Z"
    secrets.mkdir()
    backups.mkdir(parents=True)
    (secrets / "postgres_password").write_text("none is asked for")
    environment = {
        **os.environ, "LCOPS_SECRETS": str(secrets), "LCOPS_BACKUPS": str(backups.parent),
        "PATH": f"{postgres_bin()}:{os.environ['PATH']}", "PGHOST": str(url.host), "PGPORT": str(url.port),
    }  # fmt: skip
    for own in names.values():
        with admin.connect() as connection:
            connection.execute(sa.text(f"create database {own}"))
        write(postgres_server, own, "backup")
        dump = [
            "pg_dump",
            "--format=custom",
            f"--file={backups / own}.dump",
            f"--username={url.username}",
            own,
        ]
        subprocess.run(dump, env=environment, check=True)
        write(postgres_server, own, "later")
    script = tmp_path / "restore.sh"
    text = SCRIPT.read_text().replace("PGUSER=postgres", f"PGUSER={url.username}")
    pairs = " ".join(f"{own}:{url.username}" for own in names.values())
    text = re.sub(
        r"\b(airflow|lenses)(?=(_restored|_replaced)?[';\s])", lambda found: names[found[1]], text
    ).replace("airflow:" + names["airflow"] + " lenses:lenses_owner", pairs)
    assert pairs in text
    script.write_text(text)

    def run():
        return subprocess.run(
            ["sh", script, backups.name], env=environment, capture_output=True, text=True, check=False
        )

    yield run, {own: f"{postgres_server}/{own}" for own in names.values()}
    with admin.connect() as connection:
        for own in names.values():
            for ending in ("", "_restored", "_replaced"):
                connection.execute(sa.text(f"drop database if exists {own}{ending} with (force)"))
    admin.dispose()


def write(server, database, word):
    engine = sa.create_engine(f"{server}/{database}")
    with engine.begin() as connection:
        connection.execute(sa.text("create table if not exists said (word text)"))
        connection.execute(sa.text("delete from said"))
        connection.execute(sa.text("insert into said values (:word)"), {"word": word})
    engine.dispose()


def said(urls):
    words = []
    for url in urls.values():
        engine = sa.create_engine(url)
        with engine.connect() as connection:
            words.append(connection.execute(sa.text("select word from said")).scalar_one())
        engine.dispose()
    return words


def test_both_come_back(restoring):
    run, urls = restoring
    assert said(urls) == ["later", "later"]
    done = run()
    assert done.returncode == 0, done.stderr
    assert said(urls) == ["backup", "backup"]


@pytest.mark.parametrize("busy", [0, 1])
def test_where_one_is_in_use_neither_is_replaced(restoring, busy):
    run, urls = restoring
    engine = sa.create_engine(list(urls.values())[busy])
    with engine.connect() as connection:
        connection.execute(sa.text("select 1"))
        done = run()
    engine.dispose()
    assert done.returncode != 0
    assert "being accessed by other users" in done.stderr
    assert said(urls) == ["later", "later"]
    assert run().returncode == 0  # what the first one left does not stand in the way
    assert said(urls) == ["backup", "backup"]
