"""A server that goes away, and comes back, on a real Postgres: a failure that may pass, and nothing half done."""

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, schema
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.tables import lenses
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.stages.base import RunOptions
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.stages.read_convert_skysub_character_catalog import ReadConvertSkysubCharacterCatalog

LENS = {"name": "demo", "roi_ra": 1.0, "roi_dec": 2.0, "workdir": "/data"}


@pytest.fixture
def restartable(own_postgres):
    """An engine on a database of the server that may be stopped; the server runs afterwards."""
    engine = open_engine(f"{own_postgres.url}/postgres")
    schema.upgrade(engine)
    yield engine
    engine.dispose()
    if not own_postgres.is_running:
        own_postgres.start()


def n_lenses(engine):
    with reading(engine) as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(lenses)).scalar_one()


def terminate(engine, connection):
    pid = connection.connection.dbapi_connection.info.backend_pid
    with engine.connect() as other:
        other.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})


@pytest.mark.parametrize("when", ["before a statement", "before the commit"])
def test_a_connection_that_is_killed(engine_on_postgres, when):
    engine = engine_on_postgres

    def write():
        with writing(engine) as connection:
            connection.execute(sa.insert(lenses).values(**LENS))
            terminate(engine, connection)
            if when == "before a statement":
                ledger.begin_run(connection, "demo", "stage", 1)

    with pytest.raises(TemporaryFailure, match=r"the connection to postgresql.* was lost: .*; run again"):
        write()
    assert n_lenses(engine) == 0
    with writing(engine) as connection:  # by the same engine
        connection.execute(sa.insert(lenses).values(**LENS))
    assert n_lenses(engine) == 1


def test_an_idle_connection_that_is_killed_is_noticed_by_nobody(engine_on_postgres):
    with reading(engine_on_postgres) as connection:
        pid = connection.connection.dbapi_connection.info.backend_pid
    other = open_engine(engine_on_postgres.url.render_as_string(hide_password=False))
    with other.connect() as connection:
        connection.execute(sa.text("select pg_terminate_backend(:pid, 5000)"), {"pid": pid})
    other.dispose()
    assert n_lenses(engine_on_postgres) == 0


@pytest.fixture
def engine_on_postgres(postgres_url):
    engine = open_engine(postgres_url)
    schema.upgrade(engine)
    yield engine
    engine.dispose()


def test_a_server_that_stops_in_the_middle_of_a_stage(own_postgres, restartable, season):
    """What was made before is kept, and the next run makes the rest."""
    season.configure(database=restartable.url.render_as_string(hide_password=False))
    lens = season.lens()
    ensure_initialized(lens)

    def stop(_stage, done, _selected):
        if done == 2:
            own_postgres.stop()

    with pytest.raises(TemporaryFailure, match=r"does not answer: .*refused"):
        ReadConvertSkysubCharacterCatalog(lens).run(RunOptions(progress=stop))
    with pytest.raises(TemporaryFailure, match=r"does not answer: .*refused"):
        n_lenses(restartable)
    own_postgres.start()
    results = run_pipeline(lens, last=stage_number("read_convert"))
    assert results[-1].report.selected == results[-1].report.done == len(season.raw) - 2
    with reading(lens.engine) as connection:
        runs = connection.execute(sa.text("select status from stage_runs order by id")).scalars().all()
    # The lost run could not be ended: it is at work as long as its process lives.
    assert runs == ["done", "running", "done"]
    lens.close()


CASES = {
    "53100": (TemporaryFailure, r"cannot grow: .*; free some space and run again"),
    "53300": (TemporaryFailure, r"does not answer: "),
    "40P01": (TemporaryFailure, r"two processes changed the same rows at the same time: .*; run again"),
    "40001": (TemporaryFailure, r"two processes changed the same rows at the same time: .*; run again"),
    "57P01": (TemporaryFailure, r"does not answer: "),
    "42501": (ConfigurationError, r"this role must not do that"),
    "22003": (ConfigurationError, r"a value does not fit into its column"),
    "42P01": (ConfigurationError, r"has no up-to-date schema: .*`lcops db upgrade`"),
}


@pytest.mark.parametrize("code", CASES)
def test_what_the_server_says_of_itself(engine_on_postgres, code):
    """Errors that only a broken server has: a real one raises them when asked to."""
    error, message = CASES[code]
    with pytest.raises(error, match=message), writing(engine_on_postgres) as connection:
        connection.exec_driver_sql(f"do $$ begin raise exception 'as told' using errcode = '{code}'; end $$")


def test_a_lock_is_not_waited_for_for_ever(engine_on_postgres):
    def wait():
        with writing(engine_on_postgres) as connection:
            connection.exec_driver_sql("set local lock_timeout = '100ms'")
            connection.exec_driver_sql("lock table lenses in share mode")

    with writing(engine_on_postgres) as connection:
        assert connection.exec_driver_sql("show lock_timeout").scalar_one() == "1min"
        connection.execute(sa.insert(lenses).values(**LENS))
        with pytest.raises(TemporaryFailure, match="was locked for 60 s by another process"):
            wait()


def test_two_that_wait_for_each_other_end_as_a_temporary_failure_of_one(engine_on_postgres):
    import threading

    with writing(engine_on_postgres) as connection:
        connection.execute(sa.insert(lenses), [{**LENS, "name": name} for name in "ab"])
    both_hold = threading.Barrier(2)
    outcomes = []

    def work(first, second):
        try:
            with writing(engine_on_postgres) as connection:
                connection.execute(sa.update(lenses).where(lenses.c.name == first).values(roi_ra=3.0))
                both_hold.wait(timeout=30)
                connection.execute(sa.update(lenses).where(lenses.c.name == second).values(roi_ra=3.0))
            outcomes.append("done")
        except TemporaryFailure as error:
            outcomes.append(str(error))

    threads = [threading.Thread(target=work, args=names) for names in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes)[1] == "done"
    assert "two processes changed the same rows" in sorted(outcomes)[0]


def test_no_such_database_or_role_is_for_the_user_to_correct(postgres_server):
    for url in (
        f"{postgres_server}/nosuch",
        postgres_server.replace("lcops@", "nobody:geheim@") + "/postgres",
    ):
        engine = open_engine(url)
        with pytest.raises(ConfigurationError, match="lets us not in: ") as error, reading(engine):
            pass
        assert "geheim" not in str(error.value)
        engine.dispose()
