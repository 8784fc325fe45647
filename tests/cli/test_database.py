"""`lcops db`: upgrade, status, copy, roles, and that no password is seen."""

import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import schema
from lightcurver_ops.bookkeeping.engine import open_engine
from tests.seasons import copied


@pytest.fixture
def lens_files(reduced_season, tmp_path):
    """Two lenses with their files, the second one a copy of the first one under another name."""
    first = copied(reduced_season, tmp_path / "first")
    second = copied(reduced_season, tmp_path / "second")
    second.configure(name="second")
    with sqlite3.connect(second.work / "database.sqlite3") as connection:
        connection.execute("update lenses set name = 'second'")
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            columns = [row[1] for row in connection.execute(f'pragma table_info("{table}")')]
            if "lens" in columns:
                connection.execute(f"update \"{table}\" set lens = 'second'")
    connection.close()
    return [first, second]


def dump(season):
    with sqlite3.connect(season.work / "database.sqlite3") as connection:
        lines = sorted(connection.iterdump())
    connection.close()
    return lines


def test_an_observatory_moves_to_postgres_and_back(lcops, lens_files, postgres_url):
    paths = [season.config_path for season in lens_files]
    for path in paths:
        assert lcops("status", path).code == 0  # enters where the copied working directory is
    before = [dump(season) for season in lens_files]
    made = lcops("db", "upgrade", postgres_url)
    assert (made.code, made.out) == (0, f"{postgres_url}: schema (none) -> {schema.newest_revision()}\n")
    assert lcops("db", "upgrade", postgres_url).out.endswith(
        f"is up to date, schema {schema.newest_revision()}\n"
    )
    there = lcops("db", "copy", *paths, "--to", postgres_url)
    assert there.code == 0
    lines = there.out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["small", "second"]
    assert all("copied, then compared one by one: all equal" in line for line in lines)
    assert there.err.count("still names sqlite:///") == 2
    for season in lens_files:
        season.configure(database=postgres_url)
    status = lcops("db", "status", *paths)
    assert status.code == 0
    assert status.out.count("database  ") == 1
    assert "engine    PostgreSQL " in status.out
    assert f"schema    {schema.newest_revision()}, up to date" in status.out
    assert "role      lcops, reads and writes, owns the tables" in status.out
    assert [line.split()[:3] for line in status.out.splitlines()[-2:]] == [
        ["second", "6", "1"],
        ["small", "6", "1"],
    ]
    # Frames are called by the numbers that they had; under the second lens their ids are others.
    listed = [lcops("frames", "list", path).out for path in paths]
    assert listed[0] == listed[1]
    assert lcops("frames", "why", paths[1], "3").out.startswith("frames/")
    in_csv = [lcops("frames", "list", path, "--csv").out.splitlines()[1].split(",")[:2] for path in paths]
    assert in_csv == [["1", "small"], ["1", "second"]]
    for season in lens_files:
        (season.work / "database.sqlite3").rename(season.work / "old.sqlite3")
    back = lcops("db", "copy", *paths, "--from", "configured", "--to", "embedded")
    assert back.code == 0
    assert [dump(season) for season in lens_files] == before
    again = lcops("db", "copy", *paths)
    assert again.code == 0
    assert again.out.count("is there already") == 2


def test_copies_that_are_refused(lcops, lens_files, postgres_url, tmp_path):
    path = lens_files[0].config_path
    same = lcops("db", "copy", path)
    assert same.code == 2
    assert "--from and --to are both sqlite:///" in same.err
    assert "write `database:` into the file" in same.err
    nowhere = lcops("db", "copy", path, "--to", "nowhere")
    assert (nowhere.code, nowhere.err) == (
        2,
        "lcops: 'nowhere' is neither 'embedded' nor 'configured' nor a URL\n",
    )
    lens_files[0].configure(database=postgres_url)
    assert lcops("db", "copy", path).code == 0
    with sqlite3.connect(lens_files[0].work / "database.sqlite3") as connection:
        connection.execute("update frames set airmass = 9")
    connection.close()
    other = lcops("db", "copy", path)
    assert other.code == 2
    assert "has other rows of it (6 frames" in other.err
    assert lcops("db", "copy", path, "--replace").code == 0


def test_status_and_upgrade_of_files(lcops, lens_files, tmp_path):
    path = lens_files[0].config_path
    engine = open_engine(f"sqlite:///{lens_files[0].work / 'database.sqlite3'}")
    schema.downgrade(engine, "0002")
    engine.dispose()
    newest = schema.newest_revision()
    old = lcops("db", "status", path)
    assert f"schema    0002, expected {newest}: `lcops db upgrade`" in old.out
    assert "engine    SQLite 3." in old.out
    assert "role" not in old.out
    assert lcops("db", "upgrade", path).out.endswith(f": schema 0002 -> {newest}\n")
    assert "small" in lcops("db", "status", path).out.splitlines()[-1]
    shutil.rmtree(lens_files[0].work)
    for command in ("status", "upgrade"):
        assert "not there yet; the first `lcops run` makes it" in lcops("db", command, path).out
    assert not lens_files[0].work.exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "postgresql://u:geheim@127.0.0.1:1/x"],
        ["upgrade", "postgresql://u@127.0.0.1:1/x?password=geheim"],
        ["roles", "postgresql://u:geheim@127.0.0.1:1/x"],
        ["copy", "LENS", "--to", "postgresql://u:geheim@127.0.0.1:1/x"],
        ["copy", "LENS", "--from", "postgresql://u@127.0.0.1:1/x?sslpassword=geheim"],
    ],
)
def test_a_password_on_the_command_line_is_refused_and_not_repeated(lcops, season, arguments):
    result = lcops("db", *(season.config_path if text == "LENS" else text for text in arguments))
    assert result.code == 2
    assert "a password on the command line is seen by everybody on this machine" in result.err
    assert "~/.pgpass" in result.err
    assert "geheim" not in result.err + result.out


def test_a_password_of_the_configuration_is_shown_by_no_command(lcops, season):
    season.configure(database="postgresql://u:geheim@127.0.0.1:1/x?password=geheim&sslpassword=geheim",
                     database_read_only="postgresql://r:geheim@127.0.0.1:1/x")  # fmt: skip
    for arguments in (
        ["db", "status"],
        ["db", "upgrade"],
        ["db", "roles"],
        ["db", "copy"],
        ["run"],
        ["check"],
    ):
        result = lcops("-vv", *arguments, season.config_path)
        assert result.code in (2, 4) or arguments == ["check"]
        assert "geheim" not in result.out + result.err
        assert result.out + result.err != ""


@pytest.fixture
def role_names(monkeypatch, shared_postgres):
    suffix = os.urandom(4).hex()
    return f"w_{suffix}", f"r_{suffix}"


def test_roles_with_passwords_from_the_environment(
    lcops, role_names, postgres_url, monkeypatch, shared_postgres
):
    writer, reader = role_names
    monkeypatch.setenv("LCOPS_WRITER_PASSWORD", "geheim w")
    monkeypatch.setenv("LCOPS_READER_PASSWORD", "geheim r")
    early = lcops("db", "roles", postgres_url, "--writer", writer, "--reader", reader)
    assert (early.code, early.out) == (2, "")
    assert "has no tables yet: `lcops db upgrade` first" in early.err
    lcops("db", "upgrade", postgres_url)
    result = lcops("-vv", "db", "roles", postgres_url, "--writer", writer, "--reader", reader)
    assert result.code == 0
    assert result.out.splitlines()[-2:] == [f"{writer} may read and write rows", f"{reader} may read rows"]
    assert "geheim" not in result.out + result.err + shared_postgres.log
    url = sa.make_url(postgres_url).set(username=reader)
    shown = url.render_as_string()
    refused = lcops("db", "status", shown)
    assert refused.code == 2
    assert "lets us not in" in refused.err
    monkeypatch.setenv("PGPASSWORD", "geheim r")
    assert f"role      {reader}, reads only" in lcops("db", "status", shown).out
    monkeypatch.setenv("PGPASSWORD", "geheim w")
    upgraded = lcops("db", "upgrade", url.set(username=writer).render_as_string())
    assert upgraded.code == 0  # nothing to do


def test_roles_that_ask_for_passwords_show_them_to_nobody(role_names, postgres_url, shared_postgres):
    """On a real terminal: what is typed is not shown, and is on no command line."""
    import pty

    engine = open_engine(postgres_url)
    schema.upgrade(engine)
    engine.dispose()
    writer, reader = role_names
    program = str(Path(sys.executable).parent / "lcops")
    command = [
        program,
        "db",
        "roles",
        postgres_url,
        "--writer",
        writer,
        "--reader",
        reader,
        "--ask-passwords",
    ]
    terminal, inside = pty.openpty()
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside, start_new_session=True)
    os.close(inside)
    seen = b""
    answers = [b"geheim w\n", b"geheim w\n", b"geheim r\n", b"geheim r\n"]
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:
            break
        seen += piece
        if seen.endswith(b": ") and answers:  # what is typed before is thrown away
            assert b"geheim" not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
            os.write(terminal, answers.pop(0))
    os.close(terminal)
    assert (process.wait(), answers) == (0, []), seen.decode()
    assert b"geheim" not in seen
    assert f"password of {reader} set".encode() in seen
    assert "geheim" not in shared_postgres.log
    url = sa.make_url(postgres_url).set(username=reader, password="geheim r")
    engine = open_engine(url.render_as_string(hide_password=False))
    assert schema.current_revision(engine) == schema.newest_revision()
    engine.dispose()
