"""The bookkeeping on Postgres, as Airflow's parts use it: tasks that wait for it, web pages that cannot write."""

import json
import os

import pytest
import sqlalchemy as sa
from airflow.sdk.exceptions import AirflowFailException

from lightcurver_ops.airflow.child import StageFailed
from lightcurver_ops.airflow.connection import CONNECTION_ID, READ_ONLY_ID, bookkeeping_url, page_url
from lightcurver_ops.airflow.lens_dags import LensDags
from lightcurver_ops.airflow.pages.lenses import opened
from lightcurver_ops.bookkeeping import roles
from lightcurver_ops.bookkeeping.copying import copy_lens
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.roles import Role
from lightcurver_ops.config import load_lens
from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.errors import LightcurverError
from lightcurver_ops.operations.observatory import find_lens
from lightcurver_ops.operations.summary import summarize
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.usage import usage
from tests.seasons import copied

NIGHT = "2026-03-09"
LOOK = "look_for_frames"


@pytest.fixture(autouse=True)
def _known(observatory, monkeypatch):
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(observatory.directory / "observatory.yaml"))


@pytest.fixture
def connect(monkeypatch):
    """Defines an Airflow connection, as an environment variable does."""

    def define(connection_id, url, role=None):
        parsed = sa.make_url(url)
        login, password = (role.name, role.password) if role else (parsed.username, "")
        fields = {"conn_type": "postgres", "host": parsed.host, "port": parsed.port, "schema": parsed.database,
                  "login": login, "password": password}  # fmt: skip
        monkeypatch.setenv(f"AIRFLOW_CONN_{connection_id.upper()}", json.dumps(fields))

    return define


def test_a_task_fails_for_a_retry_while_the_server_is_away(observatory, own_postgres, connect, context_of):
    connect(CONNECTION_ID, f"{own_postgres.url}/postgres")
    observatory.add_frame("plain", 61109.2)
    opened = observatory.open()
    look = LensDags(find_lens(opened, "plain"), opened).build()[0].get_task(LOOK)
    assert look.retries == 5
    own_postgres.stop()
    with pytest.raises(StageFailed, match=r"bookkeeping: .* does not answer: .*refused") as failed:
        look.execute(context_of(look, conf={"night": NIGHT}))
    assert not isinstance(failed.value, AirflowFailException)  # which Airflow would not retry
    own_postgres.start()
    assert look.execute(context_of(look, conf={"night": NIGHT}, try_number=2)) is not None


@pytest.fixture
def shared(reduced_season, observatory, postgres_url, connect, monkeypatch, tmp_path):
    """An observatory with a reduced lens in one database, known to Airflow by a role that writes and one that reads."""
    season = copied(reduced_season, tmp_path / "season")
    lens = season.lens()
    ensure_initialized(lens)
    lens.close()
    copy_lens(lens.config.embedded_url, postgres_url, "small")
    observatory.lens_file("small").write_text(season.config_path.read_text())
    suffix = os.urandom(4).hex()
    writer, reader = Role(f"writer_{suffix}", "w geheim"), Role(f"reader_{suffix}", "r geheim")
    engine = open_engine(postgres_url)
    roles.set_up(engine, writer, reader)
    engine.dispose()
    connect(CONNECTION_ID, postgres_url, writer)
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(observatory.path))
    return observatory, postgres_url, reader


def test_the_page_of_a_lens_reads_with_the_role_that_cannot_write(shared, connect):
    observatory, url, reader = shared
    assert page_url(Orchestration()) == bookkeeping_url()  # no other connection yet
    connect(READ_ONLY_ID, url, reader)
    config = load_lens(observatory.lens_file("small"))
    with opened(config) as lens:
        assert lens.engine.url.username == reader.name
        assert summarize(lens, 3.0)["lens"] == "small"
        with reading(lens.engine) as connection:
            assert [item.reason for item in usage(connection, lens.config)] == [None] * 6
    with opened(config, decide=True) as lens:
        assert lens.engine.url.username.startswith("writer")
    statements = ("insert into alerts select * from alerts", "update lenses set roi_ra = 1", "delete from frames",
                  "drop table alerts", "create table mine (x integer)")  # fmt: skip
    for statement in statements:
        with (
            pytest.raises(LightcurverError, match="this role must not do that") as refused,
            opened(config) as lens,
            writing(lens.engine) as connection,
        ):
            connection.exec_driver_sql(statement)
        assert "geheim" not in str(refused.value)


@pytest.mark.parametrize(
    ("in_the_file", "expected"),
    [
        ({}, "the connection that reads"),
        ({"database_read_only": "postgresql://mine@127.0.0.1:1/x"}, "mine"),
        (
            {
                "database": "postgresql://w@127.0.0.1:1/x",
                "database_read_only": "postgresql://mine@127.0.0.1:1/x",
            },
            "mine",
        ),
        # A lens that has a database of its own is not looked for in that of the connection.
        ({"database": "postgresql://own@127.0.0.1:1/x"}, "own"),
    ],
)
def test_which_role_reads(observatory, connect, in_the_file, expected):
    connect(CONNECTION_ID, "postgresql://writer@127.0.0.1:1/x")
    connect(READ_ONLY_ID, "postgresql://reader@127.0.0.1:1/x")
    config = load_lens(observatory.add_lens("plain", **in_the_file))
    with opened(config) as lens:
        assert lens.engine.url.username == expected.replace("the connection that reads", "reader")


def test_a_page_does_not_make_a_file(observatory):
    config = load_lens(observatory.lens_file("plain"))
    with opened(config) as lens:
        assert lens is None
    assert not config.workdir.exists()


def test_a_url_that_is_none_is_told_on_the_page_without_its_password(observatory):
    config = load_lens(observatory.add_lens("plain", database="nosuch://u:geheim@h/x"))
    with (
        pytest.raises(LightcurverError, match="not a URL that SQLAlchemy knows") as told,
        opened(config) as lens,
    ):
        _ = lens.engine
    assert "geheim" not in str(told.value)
