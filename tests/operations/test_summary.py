"""The morning summary: frames in, used and rejected, failures, images that moved; all lenses in one message."""

import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import raw_files as table
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import TemporaryFailure
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.operations.summary import compose, summarize
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import run_pipeline, stage_number
from lightcurver_ops.storage.tables import read_table

IMPORT = "read_convert_skysub_character_catalog"
PER_NIGHT = "prepared_roi_cutouts/small_r_photometry_per_night.csv"
READY = Watch(settle_seconds=0)
MONTH = timedelta(days=30)


def noticed(lens, moment, path=None):
    """Pretend that raw files were noticed at another time."""
    condition = table.c.lens == lens.name
    if path is not None:
        condition &= table.c.path == str(path)
    with writing(lens.engine) as connection:
        connection.execute(sa.update(table).where(condition).values(noticed_at=moment))


@pytest.fixture
def reduced(season_copy):
    """The small season, up to date, its frames noticed long ago."""
    season = season_copy()
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    notice_raw_files(lens, READY)
    noticed(lens, datetime.now(UTC) - MONTH)
    yield season, lens
    lens.close()


def mornings(lens):
    """Seven in the morning in Chile after each night of the season."""
    with reading(lens.engine) as connection:
        nights = sorted({row.night for row in raw_rows.known_raw_files(connection, lens.name).values()})
    return {night: datetime.fromisoformat(f"{night}T12:00+00:00") + timedelta(days=1) for night in nights}


@pytest.mark.parametrize(
    ("moment", "night"),
    [
        ("2026-03-10T12:00", "2026-03-09"),  # nine in the morning in Santiago
        ("2026-03-10T10:00", "2026-03-09"),
        ("2026-03-10T08:00", "2026-03-08"),  # five: the telescope observes still
        ("2026-03-10T20:00", "2026-03-09"),
        ("2026-03-11T02:00", "2026-03-09"),
        ("2026-09-06T12:00", "2026-09-05"),
    ],
)
def test_the_night_is_the_one_that_ended_last(lens, moment, night):
    found = summarize(lens, 5.0, datetime.fromisoformat(moment).replace(tzinfo=UTC))
    assert found == {
        "lens": "demo", "night": night, "in": 0, "used": 0, "rejected": {}, "failures": {}, "moved": [], "alerts": [],
    }  # fmt: skip


def test_the_frames_of_the_night(reduced):
    _, lens = reduced
    noticed(lens, datetime(2001, 1, 1, tzinfo=UTC))
    for night, morning in mornings(lens).items():
        found = summarize(lens, 1e9, morning)
        assert (found["night"], found["in"], found["used"], found["rejected"]) == (night, 2, 2, {})
    quiet = summarize(lens, 1e9, max(mornings(lens).values()) + timedelta(days=1))
    assert (quiet["in"], quiet["used"]) == (0, 0)
    json.dumps(found)


def test_late_frames_are_counted_on_the_day_they_came(reduced):
    season, lens = reduced
    morning = datetime.now(UTC)
    assert summarize(lens, 1e9, morning)["in"] == 0
    noticed(lens, morning - timedelta(hours=23), season.raw[0])
    noticed(lens, morning - timedelta(hours=25), season.raw[1])
    assert summarize(lens, 1e9, morning)["in"] == 1
    assert summarize(lens, 1e9, morning + timedelta(hours=2))["in"] == 0


def test_rejected_frames_are_counted_by_reason(reduced):
    season, lens = reduced
    raw = season.directory / "raw"
    for name in ("x1.fits", "x2.fits"):
        (raw / name).write_text("no FITS file")
    run_pipeline(lens, first=1, last=1)
    (raw / "new.fits").write_bytes(season.raw[0].read_bytes())
    notice_raw_files(lens, READY)
    with writing(lens.engine) as connection:
        rows = {Path(row.original_image_path): row.id for row in frames.all_frames(connection, lens.name)}
        frames.eliminate(connection, [rows[season.raw[0]], rows[season.raw[2]]], "a satellite", "user ada")
    now = datetime.now(UTC)
    for path in season.raw[:4]:
        noticed(lens, now, path)
    found = summarize(lens, 1e9, now + timedelta(minutes=1))
    assert (found["in"], found["used"]) == (7, 2)
    unreadable = "not a FITS file: it starts with b'no FITS f', expected b'SIMPLE  ='"
    assert found["rejected"] == {
        "eliminated by user ada: a satellite": 2,
        unreadable: 2,  # equal reasons, whatever the file is called
        "not processed yet": 1,
    }


def test_long_reasons_are_cut(reduced):
    _, lens = reduced
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        frames.eliminate(connection, [row.id], "x" * 500, "user ada")
    noticed(lens, datetime.now(UTC), row.original_image_path)
    ((reason, count),) = summarize(lens, 1e9)["rejected"].items()
    assert (len(reason), count) == (100, 1)
    assert reason.endswith("xxx...")


def test_failures_that_are_not_over(lens):
    def run(stage, status, message):
        with writing(lens.engine) as connection:
            number = ledger.begin_run(connection, lens.name, stage, 3)
            error = TemporaryFailure(message) if status == "failed" else None
            ledger.end_run(connection, number, status, n_done=0, n_failed=3, message=message, error=error)

    run("psf_modeling", "failed", "out of memory")
    run("plate_solving", "failed", "no network")
    run("star_photometry", "interrupted", "")
    assert summarize(lens, 5.0)["failures"] == {
        "psf_modeling": "out of memory",
        "plate_solving": "no network",
        "star_photometry": "interrupted",
    }
    run("psf_modeling", "done", "3 of 3 done")
    run("star_photometry", "nothing_to_do", "")
    assert summarize(lens, 5.0)["failures"] == {"plate_solving": "no network"}


def test_images_that_moved(reduced):
    season, lens = reduced
    table = read_table(season.work / PER_NIGHT)
    change = {}
    for label in ("A", "B"):
        flux, error = table[f"{label}_flux"], table[f"{label}_d_flux"]
        change[label] = (flux[-1] - flux[-2]) / math.hypot(error[-1], error[-2])
    small, large = sorted(change, key=lambda label: abs(change[label]))
    between = (abs(change[small]) + abs(change[large])) / 2
    (sentence,) = summarize(lens, between)["moved"]
    magnitudes = table[f"{large}_mag"]
    assert sentence == (
        f"image {large}, filter r: {change[large]:+.1f} sigma, {magnitudes[-1] - magnitudes[-2]:+.3f} mag "
        "since the night before"
    )
    assert len(summarize(lens, 0.99 * abs(change[small]))["moved"]) == 2
    assert summarize(lens, 1.01 * abs(change[large]))["moved"] == []
    # A light curve that nobody made anew since yesterday is no news.
    assert summarize(lens, between, datetime.now(UTC) + timedelta(hours=30))["moved"] == []


def test_times_of_a_bookkeeping_in_another_time_zone(site, postgres_url):
    config = site.config(database=f"{postgres_url}?options=-c%20timezone%3DAsia/Tokyo")
    lens = Lens(config)
    ensure_initialized(lens)
    path = site.frame("demo/a.fits", "2001-01-01T04:00:00")
    notice_raw_files(lens, READY)
    now = datetime.now(UTC)
    noticed(lens, now - timedelta(hours=30), path)
    assert summarize(lens, 5.0, now)["in"] == 0
    noticed(lens, now - timedelta(hours=20), path)
    assert summarize(lens, 5.0, now)["in"] == 1
    lens.close()


# One message


def of_lens(name="demo", **values):
    return {"lens": name, "night": "2026-03-09", "in": 0, "used": 0, "rejected": {}, "failures": {}, "moved": [],
            **values}  # fmt: skip


def test_all_lenses_in_one_message():
    text = compose(
        [
            of_lens(
                "a",
                **{"in": 5},
                used=2,
                rejected={"trailed": 2, "clouds": 1},
                moved=["image A, filter r: +9.0 sigma"],
            ),
            of_lens("b", **{"in": 1}, used=1, failures={"psf_modeling": "out of memory"}),
            {"lens": "c", "error": {"class": "TemporaryFailure", "message": "the database does not answer"}},
        ],
        ["lenses/d.yaml, line 3: unknown key 'x'"],
    )
    assert text.splitlines() == [
        "Morning summary: 3 lenses, 6 frames, 3 used, 3 rejected; 2 lenses with failures",
        "",
        "a (night 2026-03-09): 5 in, 2 used, 3 rejected",
        "    rejected 2 x trailed",
        "    rejected 1 x clouds",
        "    MOVED image A, filter r: +9.0 sigma",
        "b (night 2026-03-09): 1 in, 1 used, 0 rejected",
        "    FAILED psf_modeling: out of memory",
        "c: cannot be summarized: the database does not answer",
        "",
        "Lens files that cannot be used:",
        "lenses/d.yaml, line 3: unknown key 'x'",
    ]


def test_a_message_about_one_and_about_none():
    assert compose([of_lens(**{"in": 1}, used=1)], []).splitlines()[0] == (
        "Morning summary: 1 lens, 1 frame, 1 used, 0 rejected; 0 lenses with failures"
    )
    assert (
        compose([], []).strip()
        == "Morning summary: 0 lenses, 0 frames, 0 used, 0 rejected; 0 lenses with failures"
    )
