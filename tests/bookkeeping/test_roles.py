"""Roles on a real Postgres: the writer writes rows, the reader reads them, neither changes tables."""

import os

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, roles, schema
from lightcurver_ops.bookkeeping.copying import copy_lens
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.inventory import inventory
from lightcurver_ops.bookkeeping.raw_files import save_raw_files
from lightcurver_ops.bookkeeping.roles import Role
from lightcurver_ops.bookkeeping.tables import VERSION_TABLE, lenses, metadata
from lightcurver_ops.errors import ConfigurationError

SECRETS = ("wr1ter's secret %", "r3ader's secret")


class Roles:
    """A database with both roles, and engines of each."""

    def __init__(self, url: str):
        self.url = sa.make_url(url)
        suffix = os.urandom(4).hex()  # roles are the server's, not the database's
        self.writer = Role(f"writer_{suffix}", SECRETS[0])
        self.reader = Role(f"reader_{suffix}", SECRETS[1])
        self.owner = open_engine(url)
        self._engines = [self.owner]

    def as_role(self, role: Role, password: str | None = None) -> sa.Engine:
        url = self.url.set(username=role.name, password=password or role.password)
        self._engines.append(open_engine(url.render_as_string(hide_password=False)))
        return self._engines[-1]

    def close(self) -> None:
        for engine in self._engines:
            engine.dispose()


@pytest.fixture
def both(postgres_url, source):
    both = Roles(postgres_url)
    copy_lens(f"sqlite:///{source}", postgres_url, "small")
    said = roles.set_up(both.owner, both.writer, both.reader)
    assert said == [
        f"role {both.writer.name} made", f"password of {both.writer.name} set",
        f"role {both.reader.name} made", f"password of {both.reader.name} set",
        f"{both.writer.name} may read and write rows", f"{both.reader.name} may read rows",
    ]  # fmt: skip
    yield both
    both.close()


def refused(engine, statement):
    with (
        pytest.raises(ConfigurationError, match=r"must not do that .*lcops db upgrade.*lcops db roles"),
        writing(engine) as connection,
    ):
        connection.exec_driver_sql(statement)


STRUCTURE = [
    "create table mine (x integer)", "create temporary table mine (x integer)", "create view mine as select 1",
    "alter table frames add column mine integer", "drop table alerts", "truncate alerts",
    "create index on frames (mjd)", "create schema mine", "create role mine",
    f"update {VERSION_TABLE} set version_num = '0001'", "copy frames from program 'true'",
    "comment on table frames is 'mine'",
]  # fmt: skip


def test_the_reader_reads_every_table_and_writes_none(both):
    engine = both.as_role(both.reader)
    with reading(engine) as connection:
        for table in metadata.sorted_tables:
            assert connection.execute(sa.select(table).limit(1)).first() is not None, table.name
        assert schema.revision_of(connection) == schema.newest_revision()
    for name, table in metadata.tables.items():
        first = next(iter(table.c)).name
        refused(engine, f'insert into "{name}" select * from "{name}"')
        refused(engine, f'update "{name}" set "{first}" = "{first}"')
        refused(engine, f'delete from "{name}"')
    for statement in [*STRUCTURE, "select nextval('frames_id_seq')", "select setval('frames_id_seq', 1)",
                      "lock table frames in exclusive mode", "select * from frames for update"]:  # fmt: skip
        refused(engine, statement)
    assert inventory(engine).role == f"{both.reader.name}, reads only"


def test_the_writer_writes_rows_and_changes_no_table(both, source, tmp_path):
    engine = both.as_role(both.writer)
    for statement in STRUCTURE:
        refused(engine, statement)
    with writing(engine) as connection:
        ledger.begin_run(connection, "small", "stage", 1)
        row = {"size": 1, "modified": "1", "read_as": "1", "noticed_at": ledger.now(), "lens": "small"}
        save_raw_files(connection, [{**row, "path": "/new"}])
        connection.execute(sa.text("delete from alerts"))
    url = engine.url.render_as_string(hide_password=False)
    copy_lens(f"sqlite:///{source}", url, "small", replace=True)  # which sets sequences
    assert inventory(engine).role == f"{both.writer.name}, reads and writes"
    assert inventory(both.owner).role == "lcops, reads and writes, owns the tables"


def test_a_transaction_that_only_reads_cannot_write_whatever_the_role(both):
    with (
        pytest.raises(ConfigurationError, match="read-only transaction"),
        reading(both.owner) as connection,
    ):
        connection.execute(sa.delete(lenses))


def test_passwords_work_and_are_nowhere(both, shared_postgres):
    wrong = both.as_role(both.reader, "wrong")
    with (
        pytest.raises(
            ConfigurationError, match=r"lets us not in: .*password auth.*correct user, password"
        ) as caught,
        reading(wrong),
    ):
        pass
    with reading(both.owner) as connection:
        stored = connection.execute(
            sa.text("select rolpassword from pg_authid where rolname = :name"), {"name": both.reader.name}
        ).scalar_one()
    assert stored.startswith("SCRAM-SHA-256$")
    assert "ALTER ROLE" in shared_postgres.log  # it logs every statement
    for secret in SECRETS:
        assert secret not in shared_postgres.log
        assert secret not in repr(both.writer) + repr(both.reader) + str(caught.value)


def test_it_may_be_repeated_and_keeps_what_it_is_not_told(both):
    again = roles.set_up(both.owner, Role(both.writer.name), Role(both.reader.name))
    assert again == [f"{both.writer.name} may read and write rows", f"{both.reader.name} may read rows"]
    for role in (both.writer, both.reader):
        with reading(both.as_role(role)) as connection:
            assert connection.execute(sa.select(lenses)).first() is not None
    roles.set_up(both.owner, Role(both.writer.name, "another"), Role(both.reader.name))
    with reading(both.as_role(both.writer, "another")) as connection:
        connection.execute(sa.select(lenses))


def test_tables_of_a_migration_are_for_both_roles(both):
    """Where an older schema is upgraded, the tables that come anew are readable, too."""
    schema.downgrade(both.owner, "0001")
    refused(both.as_role(both.reader), "delete from frames")
    with pytest.raises(ConfigurationError, match=r"must not do that .*`lcops db upgrade`"):
        schema.upgrade(both.as_role(both.writer))
    schema.upgrade(both.owner)
    with writing(both.as_role(both.writer)) as connection:
        row = {"size": 1, "modified": "1", "read_as": "1", "noticed_at": ledger.now(), "lens": "small"}
        save_raw_files(connection, [{**row, "path": "/new"}])
    with reading(both.as_role(both.reader)) as connection:
        assert connection.execute(sa.text("select count(*) from raw_files")).scalar_one() == 1
    for name in ("alerts", "raw_files"):
        refused(both.as_role(both.reader), f"delete from {name}")


def test_a_reader_who_can_write_by_other_rights_is_no_reader(both):
    with writing(both.owner) as connection:
        connection.exec_driver_sql(f"grant {both.writer.name} to {both.reader.name}")
    with pytest.raises(
        ConfigurationError, match=r"can write nevertheless \(INSERT on lenses, \d+ rights in all\)"
    ):
        roles.set_up(both.owner, Role(both.writer.name), Role(both.reader.name))


@pytest.mark.parametrize(
    ("writer", "reader", "message"),
    [
        ("same", "same", "writer and reader are both called 'same'"),
        ("lcops", "reader", "'lcops' is the role that gives the rights"),
        ("writer", 'x"; drop table frames', "is not a name for a role"),
        ("writer", "Upper", "'Upper' is not a name for a role"),
        ("writer", "root_of_all", "'root_of_all' is a superuser"),
    ],
)
def test_roles_that_cannot_be(postgres_url, writer, reader, message):
    engine = open_engine(postgres_url)
    schema.upgrade(engine)
    with writing(engine) as connection:
        connection.exec_driver_sql("drop role if exists root_of_all")
        connection.exec_driver_sql("create role root_of_all superuser")
    with pytest.raises(ConfigurationError, match=message):
        roles.set_up(engine, Role(writer), Role(reader))
    with reading(engine) as connection:
        names = connection.execute(sa.text("select rolname from pg_roles")).scalars().all()
    assert not {"same", "writer", "reader"} & set(names)
    engine.dispose()


def test_who_may_not_make_roles_is_told_so(both):
    with pytest.raises(
        ConfigurationError, match=r"this role does not own the tables: connect as their owner"
    ):
        roles.set_up(both.as_role(both.writer), Role("somebody"), Role("another"))
    with writing(both.owner) as connection:
        connection.exec_driver_sql(f"alter table lenses owner to {both.writer.name}")
    with pytest.raises(ConfigurationError, match=r"must not do that .*permission denied to create role"):
        roles.set_up(both.as_role(both.writer), Role("somebody"), Role("another"))


def test_an_embedded_file_has_no_roles(tmp_path):
    engine = open_engine(f"sqlite:///{tmp_path / 'database.sqlite3'}")
    with pytest.raises(ConfigurationError, match="is an embedded file, which has no roles"):
        roles.set_up(engine, Role("a"), Role("b"))
    engine.dispose()


def test_a_database_without_tables_has_nothing_to_grant(postgres_url):
    engine = open_engine(postgres_url)
    with pytest.raises(ConfigurationError, match=r"has no tables yet: `lcops db upgrade` first"):
        roles.set_up(engine, Role("a"), Role("b"))
    assert inventory(engine).role == "lcops"
    engine.dispose()


def test_the_owner_is_no_superuser(postgres_url):
    """As docs/database.md has it: who may make roles and owns the database."""
    name = f"owner_{os.urandom(4).hex()}"
    admin = sa.create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"create role {name} login createrole password 'x'")
        connection.exec_driver_sql(f"alter database {sa.make_url(postgres_url).database} owner to {name}")
    admin.dispose()
    both = Roles(sa.make_url(postgres_url).set(username=name, password="x").render_as_string(False))
    schema.upgrade(both.owner)
    roles.set_up(both.owner, both.writer, both.reader)
    with writing(both.as_role(both.writer)) as connection:
        connection.execute(sa.insert(lenses), {"name": "a", "roi_ra": 1.0, "roi_dec": 2.0, "workdir": "/"})
    with reading(both.as_role(both.reader)) as connection:
        assert connection.execute(sa.select(lenses.c.name)).scalars().all() == ["a"]
    for statement in STRUCTURE:
        refused(both.as_role(both.reader), statement)
    roles.set_up(both.owner, both.writer, both.reader)
    both.close()
