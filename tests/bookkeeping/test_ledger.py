"""The ledger: states of units, attempts, runs that were lost."""

import subprocess
from datetime import timedelta

import pytest
import sqlalchemy as sa

from lightcurver_ops import processes
from lightcurver_ops.bookkeeping import ledger, schema
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.hashing import hash_of, hash_of_file
from lightcurver_ops.bookkeeping.tables import lenses, stage_runs
from lightcurver_ops.errors import BadFrame


@pytest.fixture
def connection(engine):
    schema.upgrade(engine)
    with writing(engine) as connection:
        connection.execute(sa.insert(lenses).values(name="demo", roi_ra=1.0, roi_dec=2.0, workdir="/data"))
        yield connection


def test_attempts_count_up_until_the_inputs_change(connection):
    for _ in range(3):
        ledger.record(
            connection, "demo", "import", "a.fits", "h1", status=ledger.FAILED, error=BadFrame("broken")
        )
    product = ledger.products_of(connection, "demo", "import")["a.fits"]
    assert (product.attempts, product.status, product.reason, product.error_class) == (
        3,
        "failed",
        "broken",
        "BadFrame",
    )
    ledger.record(connection, "demo", "import", "a.fits", "h2")
    product = ledger.products_of(connection, "demo", "import")["a.fits"]
    assert (product.attempts, product.status, product.reason) == (1, "done", None)
    assert ledger.done_hashes(connection, "demo", "import") == {"a.fits": "h2"}


def test_forget_makes_units_missing(connection):
    for unit in ("a", "b"):
        ledger.record(connection, "demo", "psf", unit, "h")
    ledger.forget(connection, "demo", ["psf"], {"a"})
    assert set(ledger.products_of(connection, "demo", "psf")) == {"b"}
    ledger.forget(connection, "demo", ["psf"])
    assert ledger.products_of(connection, "demo", "psf") == {}


def test_a_run_whose_process_is_gone_is_interrupted(connection):
    long_ago = ledger.now() - timedelta(seconds=2 * processes.LOST_AFTER_S)
    world, pid, start = processes.own_mark().split(".")
    ended = subprocess.Popen(["true"])
    ended.wait()
    cases = {  # mark, when it began: what becomes of it
        (f"{world}.{ended.pid}.1", None): "interrupted",
        (f"{world}.{pid}.{int(start, 16) - 1:x}", None): "interrupted",  # its number was given to another
        (processes.own_mark(), long_ago): "running",
        (f"00000000.{ended.pid}.1", None): "running",  # of another container, of the same name
        (f"00000000.{ended.pid}.1", long_ago): "interrupted",
        (None, None): "running",  # of an earlier version
        (None, long_ago): "interrupted",
    }
    expected = {}
    for (mark, started_at), status in cases.items():
        run = ledger.begin_run(connection, "demo", "psf", 3)
        changes = {"process": mark} | ({"started_at": started_at} if started_at else {})
        connection.execute(sa.update(stage_runs).where(stage_runs.c.id == run).values(changes))
        expected[run] = status
    alive = ledger.begin_run(connection, "demo", "psf", 3)
    states = {row.id: row.status for row in connection.execute(sa.select(stage_runs))}
    assert states == {**expected, alive: "running"}
    ledger.end_run(connection, alive, "done", n_done=3, n_failed=0, message="3 of 3 done")
    assert ledger.last_run(connection, "demo", "psf").status == "done"


def test_upsert_replaces_only_the_columns_given(connection, engine):
    ledger.upsert(connection, lenses, [{"name": "demo", "roi_ra": 5.0, "roi_dec": 6.0, "workdir": "/new"}])
    ledger.upsert(connection, lenses, [{"name": "second", "roi_ra": 0.0, "roi_dec": 0.0, "workdir": "/x"}])
    rows = {row.name: row.workdir for row in connection.execute(sa.select(lenses))}
    assert rows == {"demo": "/new", "second": "/x"}


def test_hashes_depend_on_values_not_on_order_of_keys(tmp_path):
    assert hash_of({"a": 1, "b": [1.5, None]}) == hash_of({"b": [1.5, None], "a": 1})
    assert hash_of(1, 2) != hash_of([1, 2])
    assert hash_of("1") != hash_of(1)
    assert hash_of(tmp_path) == hash_of(str(tmp_path))
    with pytest.raises(TypeError, match="cannot be part of a hash"):
        hash_of(object())
    path = tmp_path / "file"
    assert hash_of_file(path) == "absent"
    path.write_text("content")
    assert hash_of_file(path) not in ("absent", hash_of_file(tmp_path / "other"))


def test_reading_sees_no_half_written_transaction(engine):
    schema.upgrade(engine)
    with writing(engine) as connection:
        connection.execute(sa.insert(lenses).values(name="demo", roi_ra=1.0, roi_dec=2.0, workdir="/data"))
        with reading(engine) as other:
            assert other.execute(sa.select(lenses)).all() == []
