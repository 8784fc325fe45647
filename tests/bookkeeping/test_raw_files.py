"""Raw files that were noticed: one row per lens and path, found by night and by number."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import raw_files, schema
from lightcurver_ops.bookkeeping.engine import writing
from lightcurver_ops.bookkeeping.tables import lenses

AT = datetime(2026, 3, 10, 4, 5, 6, tzinfo=UTC)


def row(path, night, mjd, lens="demo", **values):
    return {"lens": lens, "path": path, "size": 5, "modified": "7", "mjd": mjd, "night": night,
            "problem": None if night else "no date", "noticed_at": AT, "read_as": "x", **values}  # fmt: skip


@pytest.fixture
def connection(engine):
    schema.upgrade(engine)
    with writing(engine) as connection:
        for name in ("demo", "other"):
            connection.execute(sa.insert(lenses).values(name=name, roi_ra=1.0, roi_dec=2.0, workdir="/data"))
        raw_files.save_raw_files(
            connection,
            [
                row("/raw/b.fits", "2026-03-09", 2.0),
                row("/raw/a.fits", "2026-03-09", 3.0),
                row("/raw/c.fits", "2026-03-12", 6.0),
                row("/raw/x.fits", None, None),
                row("/raw/b.fits", "2026-03-20", 2.0, lens="other"),
            ],
        )
        yield connection


def test_raw_files_are_known_by_lens_and_path(connection):
    known = raw_files.known_raw_files(connection, "demo")
    assert set(known) == {"/raw/a.fits", "/raw/b.fits", "/raw/c.fits", "/raw/x.fits"}
    assert (known["/raw/a.fits"].night, known["/raw/a.fits"].mjd, known["/raw/a.fits"].size) == (
        "2026-03-09",
        3.0,
        5,
    )
    assert (known["/raw/x.fits"].night, known["/raw/x.fits"].problem) == (None, "no date")
    assert list(raw_files.known_raw_files(connection, "other")) == ["/raw/b.fits"]
    assert raw_files.known_raw_files(connection, "nobody") == {}


def test_a_file_that_changed_keeps_its_number(connection):
    before = raw_files.known_raw_files(connection, "demo")
    changed = row("/raw/a.fits", "2026-03-11", 5.0, size=2**40, modified="8", problem=None)
    raw_files.save_raw_files(connection, [changed, row("/raw/new.fits", "2026-03-11", 5.5)])
    after = raw_files.known_raw_files(connection, "demo")
    assert after["/raw/a.fits"].id == before["/raw/a.fits"].id
    assert (after["/raw/a.fits"].night, after["/raw/a.fits"].size, after["/raw/a.fits"].modified) == (
        "2026-03-11", 2**40, "8",
    )  # fmt: skip
    assert after.keys() - before.keys() == {"/raw/new.fits"}
    assert after["/raw/b.fits"] == before["/raw/b.fits"]
    assert raw_files.known_raw_files(connection, "other")["/raw/b.fits"].night == "2026-03-20"
    raw_files.save_raw_files(connection, [])
    assert raw_files.known_raw_files(connection, "demo") == after


def paths(rows):
    return [one.path for one in rows]


def test_the_files_of_a_night_by_time(connection):
    assert paths(raw_files.raw_files_of_night(connection, "demo", "2026-03-09")) == [
        "/raw/b.fits",
        "/raw/a.fits",
    ]
    assert raw_files.raw_files_of_night(connection, "demo", "2026-03-20") == []


def test_files_by_their_numbers_of_this_lens_alone(connection):
    known = raw_files.known_raw_files(connection, "demo")
    other = raw_files.known_raw_files(connection, "other")["/raw/b.fits"].id
    wanted = [known["/raw/c.fits"].id, known["/raw/a.fits"].id, other, 10**6]
    assert paths(raw_files.raw_files_by_id(connection, "demo", wanted)) == ["/raw/a.fits", "/raw/c.fits"]
    assert raw_files.raw_files_by_id(connection, "demo", []) == []


def test_the_last_night_with_a_file(connection):
    for night, last in (
        ("2026-03-08", None),
        ("2026-03-09", "2026-03-09"),
        ("2026-03-11", "2026-03-09"),
        ("2026-12-31", "2026-03-12"),
    ):
        assert raw_files.last_night_until(connection, "demo", night) == last
