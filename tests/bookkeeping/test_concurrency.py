"""Eight processes that write to one lens and to several: nothing is lost, on either engine."""

import multiprocessing
from collections import Counter

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import tables
from lightcurver_ops.bookkeeping.engine import reading
from tests.bookkeeping.processes import COMMON, TIMES, reduce

PROCESSES = 8


def test_eight_writers_lose_nothing(engine, database_url):
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(PROCESSES)
    workers = [
        context.Process(target=reduce, args=(database_url, number, start)) for number in range(PROCESSES)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0] * PROCESSES

    writers = {COMMON: range(PROCESSES)} | {f"lens {k}": (2 * k, 2 * k + 1) for k in range(PROCESSES // 2)}
    with reading(engine) as connection:

        def rows(table):
            return connection.execute(sa.select(table)).all()

        assert {row.name for row in rows(tables.lenses)} == set(writers)
        for lens, numbers in writers.items():
            count = len(numbers)
            own = {f"{number}/{time}" for number in numbers for time in range(TIMES)}
            shared = {f"{time}" for time in range(TIMES)}

            def mine(table, lens=lens):
                return [row for row in rows(table) if row.lens == lens]

            assert Counter(row.image_relpath for row in mine(tables.frames)) == Counter([*own, *shared])
            assert Counter(row.path for row in mine(tables.raw_files)) == Counter([*own, "first", "second"])
            # Every time that a unit was tried counts.
            attempts = {row.unit: row.attempts for row in mine(tables.products)}
            assert attempts == dict.fromkeys(own, 1) | dict.fromkeys(shared, count)
            runs = mine(tables.stage_runs)
            assert Counter(row.status for row in runs) == {"done": count * TIMES}
            versions = [row.version for row in mine(tables.publications)]
            assert sorted(versions) == list(range(1, count * TIMES + 1))
            assert Counter(row.key for row in mine(tables.alerts)) == Counter(shared)
