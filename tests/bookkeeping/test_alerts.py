"""Alerts: raised once per event, whoever notices it first."""

import json
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from lightcurver_ops.bookkeeping import alerts, schema
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import lenses


@pytest.fixture
def bookkeeping(engine):
    schema.upgrade(engine)
    with writing(engine) as connection:
        for name in ("demo", "other"):
            connection.execute(sa.insert(lenses).values(name=name, roi_ra=1.0, roi_dec=2.0, workdir="/data"))
    return engine


def claim(engine, key, lens="demo"):
    return alerts.claim(engine, lens, key, "stage_failed", "subject", "body")


def rows_of(engine, lens="demo"):
    with reading(engine) as connection:
        return alerts.alerts_of(connection, lens)


def test_an_event_raises_one_alert(bookkeeping):
    number = claim(bookkeeping, "run/1")
    assert claim(bookkeeping, "run/1") is None
    (row,) = rows_of(bookkeeping)
    assert (row.id, row.key, row.kind, row.subject, row.body, row.delivery) == (
        number, "run/1", "stage_failed", "subject", "body", None,
    )  # fmt: skip
    second = claim(bookkeeping, "run/2")
    assert [one.id for one in rows_of(bookkeeping)] == [number, second]
    assert claim(bookkeeping, "run/1", lens="other") is not None
    assert len(rows_of(bookkeeping, "other")) == 1


def test_of_many_who_notice_at_once_one_raises_it(bookkeeping):
    numbers: list[int | None] = []
    start = threading.Barrier(8)

    def notice():
        start.wait()
        numbers.append(claim(bookkeeping, "run/1"))

    threads = [threading.Thread(target=notice) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(numbers) == 8
    assert sorted(number is None for number in numbers) == [False] + 7 * [True]


def test_an_alert_of_a_lens_that_is_not_in_the_bookkeeping_is_not_taken_for_raised(bookkeeping):
    with pytest.raises(IntegrityError):
        claim(bookkeeping, "run/1", lens="nobody")
    assert rows_of(bookkeeping, "nobody") == []


def test_alerts_of_a_run_by_the_beginning_of_their_keys(bookkeeping):
    claim(bookkeeping, "a_b/50%/psf")

    def any_with(prefix, lens="demo"):
        with reading(bookkeeping) as connection:
            return alerts.any_with_prefix(connection, lens, prefix)

    assert any_with("a_b/50%/")
    assert any_with("a_b/50%/psf")
    assert not any_with("b/50%/")
    assert not any_with("axb/50%/")  # _ and % are themselves
    assert not any_with("a_b/%")
    assert not any_with("a_b/50%/", lens="other")


def test_what_became_of_an_alert(bookkeeping):
    first, second = claim(bookkeeping, "run/1"), claim(bookkeeping, "run/2")
    with writing(bookkeeping) as connection:
        alerts.save_delivery(connection, second, json.dumps({"email": "delivered"}))
    assert [(row.id, row.delivery) for row in rows_of(bookkeeping)] == [
        (first, None),
        (second, '{"email": "delivered"}'),
    ]
