"""The bookkeeping of a reduced lens, with rows in every table."""

import sqlite3

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import decisions, ledger, withheld
from lightcurver_ops.bookkeeping.engine import open_engine, writing
from lightcurver_ops.bookkeeping.raw_files import save_raw_files

RAW = {"size": 1, "modified": "1", "read_as": "1", "noticed_at": ledger.now()}


@pytest.fixture(scope="session")
def source(reduced_season, tmp_path_factory):
    """The file of a reduced lens, with rows in every table that has some in an observatory; not to be changed."""
    path = tmp_path_factory.mktemp("source") / "database.sqlite3"
    with sqlite3.connect(reduced_season.work / "database.sqlite3") as connection:
        connection.execute("vacuum into ?", (str(path),))
    connection.close()
    engine = open_engine(f"sqlite:///{path}")
    with writing(engine) as connection:
        save_raw_files(connection, [{**RAW, "lens": "small", "path": f"/raw/{k} ä☆.fits"} for k in range(3)])
        decisions.enter(connection, "small", decisions.ELIMINATE, [("frames/a.fits", "a.fits")], "why", "x")
        connection.execute(
            sa.text("insert into alerts (lens, key, kind, subject, body, raised_at) "
                    "values ('small', 'k', 'k', 's', 'b', '2026-03-10 01:02:03.000004')")
        )  # fmt: skip
        connection.execute(
            sa.text("insert into star_exclusions values "
                    "('small', '1', 'a', 'why', 'user x', '2026-03-10 01:02:03.000004')")
        )  # fmt: skip
        connection.execute(
            sa.text("insert into control_stars values "
                    "('small', 'hash', 'r', '1', 1, null, 'hash', '0', '2026-03-10 01:02:03.000004')")
        )  # fmt: skip
        row = {"lens": "small", "filter": "r", "n_epochs": 6, "file": "kept.csv", **ledger.provenance("hash")}
        withheld.withhold(connection, row, ["it missed a gate"])
    engine.dispose()
    return path
