"""The connection `lightcurver_db`: where the bookkeeping is."""

import pytest
import sqlalchemy as sa

from lightcurver_ops.airflow.connection import CONNECTION_ID, bookkeeping_url
from lightcurver_ops.bookkeeping.engine import open_engine, reading
from lightcurver_ops.errors import ConfigurationError


@pytest.fixture
def connection(monkeypatch):
    """Defines the Airflow connection, as an environment variable does."""
    return lambda uri: monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION_ID.upper()}", uri)


def test_without_the_connection_the_lens_says_where(monkeypatch):
    assert bookkeeping_url() is None


def test_a_sqlite_file(connection, tmp_path):
    path = tmp_path / "a directory" / "lens.db"
    connection(f'{{"conn_type": "sqlite", "host": "{path}"}}')
    engine = open_engine(bookkeeping_url())
    with reading(engine) as opened:
        assert opened.execute(sa.text("select 1")).scalar_one() == 1
    engine.dispose()
    assert path.exists()


@pytest.mark.parametrize("conn_type", ["postgres", "postgresql"])
def test_postgres_with_a_password_of_odd_signs(connection, conn_type):
    connection(
        f'{{"conn_type": "{conn_type}", "host": "db.example.org", "port": 5433, "login": "obs", '
        '"password": "p@ss/w:rd %", "schema": "lenses"}'
    )
    url = sa.make_url(bookkeeping_url())
    assert url.drivername == "postgresql+psycopg"
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "obs", "p@ss/w:rd %", "db.example.org", 5433, "lenses",
    )  # fmt: skip


def test_postgres_as_it_runs(connection, postgres_url):
    url = sa.make_url(postgres_url)
    connection(
        f'{{"conn_type": "postgres", "host": "{url.host}", "port": {url.port}, "login": "{url.username}", '
        f'"schema": "{url.database}"}}'
    )
    engine = open_engine(bookkeeping_url())
    with reading(engine) as opened:
        assert opened.execute(sa.text("select current_database()")).scalar_one() == url.database
    engine.dispose()


def test_another_kind_of_database_is_refused_without_its_password(connection):
    connection('{"conn_type": "mysql", "host": "db", "login": "obs", "password": "s3cret"}')
    with pytest.raises(
        ConfigurationError, match=r"lightcurver_db has the type 'mysql', expected sqlite or post"
    ) as caught:
        bookkeeping_url()
    assert "s3cret" not in str(caught.value)
