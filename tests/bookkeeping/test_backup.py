"""The commands of docs/database.md that back a database up and restore it."""

import os
import re
import shlex
import sqlite3
import subprocess
from pathlib import Path

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping.copying import copy_lens, differences
from lightcurver_ops.bookkeeping.engine import open_engine, reading
from tests.conftest import postgres_bin

PAGE = (Path(__file__).parents[2] / "docs" / "database.md").read_text()


def documented(program: str) -> list[str]:
    """The line of the page that calls a program."""
    (line,) = re.findall(rf"^{program} .*$", PAGE, re.MULTILINE)
    return shlex.split(line.split("  #")[0])


def same(first_url: str, second_url: str) -> bool:
    first, second = open_engine(first_url), open_engine(second_url)
    with reading(first) as one, reading(second) as other:
        found = list(differences(one, other, "small"))
    first.dispose()
    second.dispose()
    return found == []


def test_postgres(source, postgres_url, postgres_server, tmp_path):
    copy_lens(f"sqlite:///{source}", postgres_url, "small")
    url = sa.make_url(postgres_url)
    name = f"restored_{os.urandom(4).hex()}"
    admin = sa.create_engine(f"{postgres_server}/postgres", isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"create database {name}"))
    for program, database in (("pg_dump", url.database), ("pg_restore", name)):
        connection_string = f"host={url.host} port={url.port} user={url.username} dbname={database}"
        command = [
            word.replace("postgresql://owner@host/lenses", connection_string) for word in documented(program)
        ]
        if not (postgres_bin() / program).exists():
            pytest.skip(f"no {program} (Debian: apt install postgresql-client)")
        command[0] = str(postgres_bin() / program)
        subprocess.run(command, check=True, cwd=tmp_path)
    assert same(postgres_url, f"{postgres_server}/{name}")
    with admin.connect() as connection:
        connection.execute(sa.text(f"drop database {name} with (force)"))
    admin.dispose()


def test_an_embedded_file(source, tmp_path):
    (statement,) = re.findall(r'"(vacuum into .*)"', PAGE)
    with sqlite3.connect(source) as connection:
        connection.execute(statement.replace("/backup/mylens.sqlite3", str(tmp_path / "backup.db")))
    connection.close()
    assert same(f"sqlite:///{source}", f"sqlite:///{tmp_path / 'backup.db'}")
