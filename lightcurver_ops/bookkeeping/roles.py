"""Roles of a Postgres database: a writer, whose programs reduce frames, and a reader, for the web pages.

Both have rights on our tables alone, and none to change their structure: that is for their owner.
"""

import re
from dataclasses import dataclass

import sqlalchemy as sa

from lightcurver_ops.bookkeeping.engine import shown, writing
from lightcurver_ops.bookkeeping.tables import VERSION_TABLE, metadata
from lightcurver_ops.errors import ConfigurationError

WRITER, READER = "lcops_writer", "lcops_reader"
_NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
_CHANGES = ("INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER")


@dataclass(frozen=True)
class Role:
    """A role of the server.

    Args:
        name: lower case, so that it needs no quotes anywhere.
        password: to be set; None: it stays as it is.
    """

    name: str
    password: str | None = None

    def __repr__(self) -> str:
        return f"Role({self.name!r})"


def set_up(engine: sa.Engine, writer: Role, reader: Role) -> list[str]:
    """Make two roles that do not exist yet, and give them their rights; may be repeated. Returns what was done.

    A password goes to the server as a SCRAM verifier, so that it stands in no log of the server either.

    Raises:
        ConfigurationError: not a Postgres database, not the owner of the tables, unsuitable names, or a reader who
            can write nevertheless.
    """
    if engine.dialect.name != "postgresql":
        raise ConfigurationError(
            f"{shown(engine)} is an embedded file, which has no roles: the rights of the file decide"
        )
    if writer.name == reader.name:
        raise ConfigurationError(
            f"writer and reader are both called '{writer.name}': give them different names"
        )
    done = []
    with writing(engine) as connection:
        if not sa.inspect(connection).has_table(VERSION_TABLE):
            raise ConfigurationError(f"{shown(engine)} has no tables yet: `lcops db upgrade` first")
        if not is_owner(connection):  # to whom Postgres only whispers that it gave nothing
            raise ConfigurationError(
                f"{shown(engine)}: this role does not own the tables: connect as their owner"
            )
        for role in (writer, reader):
            _check(connection, role)
            if connection.execute(_role_named(role.name)).first() is None:
                connection.exec_driver_sql(f"CREATE ROLE {role.name} LOGIN")
                done.append(f"role {role.name} made")
            if role.password is not None:
                connection.exec_driver_sql(f"ALTER ROLE {role.name} PASSWORD '{_verifier(connection, role)}'")
                done.append(f"password of {role.name} set")
        _open(connection, writer.name, reader.name)
        _grant(connection, [writer.name], [reader.name])
        done += [f"{writer.name} may read and write rows", f"{reader.name} may read rows"]
        _verify(connection, reader.name)
    return done


def keep_grants(connection: sa.Connection) -> None:
    """Give whoever had rights on the tables the same ones on those that a migration has just made."""
    if connection.dialect.name != "postgresql" or not sa.inspect(connection).has_table("lenses"):
        return
    query = sa.text(
        "SELECT r.rolname AS role, bool_or(a.privilege_type = 'INSERT') AS writes "
        "FROM pg_class c, aclexplode(c.relacl) a, pg_roles r "
        "WHERE c.oid = to_regclass('lenses') AND r.oid = a.grantee AND a.grantee <> c.relowner GROUP BY r.rolname"
    )
    rows = connection.execute(query).all()
    names = [row for row in rows if _NAME.fullmatch(row.role)]
    _grant(
        connection, [row.role for row in names if row.writes], [row.role for row in names if not row.writes]
    )


def _role_named(name: str) -> sa.Select:
    return (
        sa.select(sa.text("rolsuper"))
        .select_from(sa.text("pg_roles"))
        .where(sa.text("rolname = :name"))
        .params(name=name)
    )


def _check(connection: sa.Connection, role: Role) -> None:
    if not _NAME.fullmatch(role.name):
        raise ConfigurationError(
            f"'{role.name}' is not a name for a role: lower-case letters, digits and _, no digit first"
        )
    if connection.execute(sa.text("SELECT current_user")).scalar_one() == role.name:
        raise ConfigurationError(
            f"'{role.name}' is the role that gives the rights: connect as the owner of the tables, who is neither "
            "writer nor reader"
        )
    known = connection.execute(_role_named(role.name)).first()
    if known is not None and known.rolsuper:
        raise ConfigurationError(
            f"'{role.name}' is a superuser, whom nothing is forbidden: choose another role"
        )


def _verifier(connection: sa.Connection, role: Role) -> str:
    driver = connection.connection.dbapi_connection
    assert driver is not None
    assert role.password is not None
    encrypted = driver.pgconn.encrypt_password(role.password.encode(), role.name.encode(), b"scram-sha-256")
    return encrypted.decode()


def _open(connection: sa.Connection, writer: str, reader: str) -> None:
    """Let both in, and take from PUBLIC what Postgres gives to it: temporary tables, and before 15 new tables."""
    row = connection.execute(
        sa.text("SELECT quote_ident(current_database()) AS name, quote_ident(current_schema()) AS schema")
    ).one()
    for statement in (
        f"REVOKE TEMPORARY ON DATABASE {row.name} FROM PUBLIC",
        f"REVOKE CREATE ON SCHEMA {row.schema} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {row.name} TO {writer}, {reader}",
        f"GRANT USAGE ON SCHEMA {row.schema} TO {writer}, {reader}",
    ):
        connection.exec_driver_sql(statement)


def _grant(connection: sa.Connection, writers: list[str], readers: list[str]) -> None:
    """Rights on each of our tables, not on whatever else is in the schema."""
    there = set(sa.inspect(connection).get_table_names())
    tables = [name for name in metadata.tables if name in there]
    sequences = [
        name
        for table in tables
        if "id" in metadata.tables[table].c
        and (
            name := connection.execute(
                sa.text("SELECT pg_get_serial_sequence(:t, 'id')"), {"t": table}
            ).scalar()
        )
    ]
    everything = ", ".join(f'"{name}"' for name in (*tables, VERSION_TABLE))
    rows = ", ".join(f'"{name}"' for name in tables)
    for role in writers:
        connection.exec_driver_sql(f"GRANT SELECT ON {everything} TO {role}")
        connection.exec_driver_sql(f"GRANT INSERT, UPDATE, DELETE ON {rows} TO {role}")
        connection.exec_driver_sql(
            f"GRANT SELECT, USAGE, UPDATE ON SEQUENCE {', '.join(sequences)} TO {role}"
        )
    for role in readers:
        connection.exec_driver_sql(f"REVOKE ALL ON {everything} FROM {role}")
        connection.exec_driver_sql(f"REVOKE ALL ON SEQUENCE {', '.join(sequences)} FROM {role}")
        connection.exec_driver_sql(f"GRANT SELECT ON {everything} TO {role}")


def is_owner(connection: sa.Connection) -> bool:
    """Whether this connection's role owns our tables, which must be there."""
    query = "SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = to_regclass('lenses')"
    return bool(connection.execute(sa.text(query)).scalar_one())


def rights(connection: sa.Connection, there: set[str]) -> tuple[bool, bool]:
    """Whether this connection's role may read, and change, every one of our tables that are there."""
    query = sa.text(
        "SELECT coalesce(bool_and(has_table_privilege(t, 'SELECT')), false) AS reads, "
        "coalesce(bool_and(has_table_privilege(t, 'INSERT') AND has_table_privilege(t, 'UPDATE') "
        "AND has_table_privilege(t, 'DELETE')), false) AS writes "
        "FROM (SELECT quote_ident(n) AS t FROM unnest(CAST(:tables AS text[])) n) names"
    )
    row = connection.execute(query, {"tables": [name for name in metadata.tables if name in there]}).one()
    return row.reads, row.writes


def _verify(connection: sa.Connection, reader: str) -> None:
    """Rights may come from elsewhere: from a role that the reader is a member of, or from PUBLIC."""
    found = [
        f"{change} on {table}"
        for table in metadata.tables
        for change in _CHANGES
        if connection.execute(
            sa.text("SELECT has_table_privilege(:role, quote_ident(:table), :change)"),
            {"role": reader, "table": table, "change": change},
        ).scalar()
    ]
    for function, what in (("schema", "CREATE"), ("database", "CREATE"), ("database", "TEMPORARY")):
        name = "current_schema()" if function == "schema" else "current_database()"
        if connection.execute(
            sa.text(f"SELECT has_{function}_privilege(:role, {name}, :what)"), {"role": reader, "what": what}
        ).scalar():
            found.append(f"{what} in the {function}")
    if found:
        raise ConfigurationError(
            f"'{reader}' can write nevertheless ({found[0]}, {len(found)} rights in all), as a member of another role, "
            "or by a right of PUBLIC; nothing was changed: take that away, or choose another role"
        )
