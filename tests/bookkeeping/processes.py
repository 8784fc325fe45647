"""What other processes do in the tests; apart, since a spawned process imports the module anew."""

import json
import os
import signal

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import alerts, ledger, schema
from lightcurver_ops.bookkeeping.copying import copy_lens
from lightcurver_ops.bookkeeping.engine import open_engine, writing
from lightcurver_ops.bookkeeping.frames import save_frame
from lightcurver_ops.bookkeeping.photometry import publish
from lightcurver_ops.bookkeeping.raw_files import save_raw_files
from lightcurver_ops.bookkeeping.tables import lenses

TIMES = 5
COMMON = "common"


def copy_and_die(source: str, target: str) -> None:
    """Copy the lens `small`, and be killed in the middle of it."""

    def on_execute(_connection, _cursor, statement, *_):
        if statement.startswith("INSERT INTO star_flux_in_frame"):
            os.kill(os.getpid(), signal.SIGKILL)

    sa.event.listen(sa.engine.Engine, "before_cursor_execute", on_execute)
    copy_lens(source, target, "small")


def reduce(url: str, number: int, start) -> None:
    """What tasks write, again and again: into a lens that all write to, and into one of two processes."""
    engine = open_engine(url)
    start.wait()
    schema.upgrade(engine)  # all at once, on an empty database
    for lens in (COMMON, f"lens {number // 2}"):
        with writing(engine) as connection:
            row = {"name": lens, "roi_ra": 1.0, "roi_dec": 2.0, "workdir": "/data"}
            ledger.upsert(connection, lenses, [row])
        for time in range(TIMES):
            _one_task(engine, lens, number, time)
    engine.dispose()


def _one_task(engine: sa.Engine, lens: str, number: int, time: int) -> None:
    own, shared = f"{number}/{time}", f"{time}"
    with writing(engine) as connection:
        run_id = ledger.begin_run(connection, lens, "stage", 2)
    with writing(engine) as connection:
        noticed = {"lens": lens, "size": 1, "modified": "1", "read_as": "1", "noticed_at": ledger.now()}
        paths = [own, "first", "second"]
        # Rows that others write at the same time, in another order.
        save_raw_files(
            connection, [{**noticed, "path": path} for path in (paths if number % 2 else paths[::-1])]
        )
    for unit in (own, shared):
        with writing(engine) as connection:
            frame = {
                "lens": lens, "image_relpath": unit, "original_image_path": unit, "sources_relpath": unit,
                "pixel_hash": unit, "mjd": 1.0, "exptime": 1.0, "gain": 1.0, "filter": "r", "width": 1, "height": 1,
                "n_sources": 1, **ledger.provenance("hash"),
            }  # fmt: skip
            save_frame(connection, frame)
            ledger.record(connection, lens, "stage", unit, "hash", run_id=run_id)
    with writing(engine) as connection:
        publication = {
            "configuration": "{}", "loss": 0.0, "converged": True,
            "control_stars": json.dumps({"of": own}),  # one result like no other
            "common_errors": None,
            **ledger.provenance("hash"),
        }  # fmt: skip
        publish(connection, lens, "r", publication, [])
    alerts.claim(engine, lens, shared, "kind", f"{number}", "body")
    with writing(engine) as connection:
        ledger.end_run(connection, run_id, "done", n_done=2, n_failed=0, message="")
