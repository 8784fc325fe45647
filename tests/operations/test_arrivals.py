"""New raw frames: noticed when complete, given to their nights; the nights that wait, and their work."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger, raw_files
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import raw_files as table
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.operations.arrivals import (
    Waiting,
    is_complete,
    nights_waiting,
    nights_without_frames,
    notice_raw_files,
    season_waits,
    units_of_raw_ids,
    work_of_night,
)
from lightcurver_ops.operations.nights import night_at
from lightcurver_ops.simulation import faults
from lightcurver_ops.stages.base import Lens, RunOptions
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import STAGE_NAMES, STAGES, run_pipeline, stage_number
from lightcurver_ops.stages.raw_listing import RawFile
from lightcurver_ops.storage.header import read_header_fields
from lightcurver_ops.storage.raw import read_raw_header

IMPORT, SOLVE = STAGE_NAMES[1:3]
READY = Watch(settle_seconds=0)


def noticed(lens):
    """file name: row, of what the bookkeeping has of raw files."""
    with reading(lens.engine) as connection:
        return {
            Path(path).name: row for path, row in raw_files.known_raw_files(connection, lens.name).items()
        }


def nights(lens):
    return {name: row.night for name, row in noticed(lens).items()}


def ids(lens, *names):
    return [noticed(lens)[name].id for name in names]


# Noticing


def test_each_frame_goes_to_the_night_of_its_header(site, lens):
    site.frame("demo/evening.fits", "2026-04-05T00:30:00")  # 21:30 of April 4 in Chile
    site.frame("demo/morning.fits", "2026-04-05T09:30:00")  # and 05:30 of the morning after
    site.frame("demo/deep/down/next.fits", "2026-04-06T03:00:00")
    found = notice_raw_files(lens, READY)
    assert (found.listed, found.new, found.incomplete, found.unplaced) == (3, 3, 0, {})
    assert nights(lens) == {
        "evening.fits": "2026-04-04",
        "morning.fits": "2026-04-04",
        "next.fits": "2026-04-05",
    }
    row = noticed(lens)["evening.fits"]
    fields = read_header_fields(
        read_raw_header(row.path), lens.config.raw.header.model_dump(exclude_none=True), row.path
    )
    assert row.mjd == fields.mjd == pytest.approx(61135 + 30.5 / 1440)  # the middle of the exposure
    assert row.size == Path(row.path).stat().st_size
    assert abs(datetime.now(UTC) - row.noticed_at.replace(tzinfo=UTC)) < timedelta(hours=1)


def test_what_is_known_is_not_read_again_and_what_changed_is(site, lens):
    changed, same = site.frame("demo/a.fits"), site.frame("demo/b.fits")
    notice_raw_files(lens, READY)
    before = noticed(lens)
    assert notice_raw_files(lens, READY).new == 0
    assert noticed(lens) == before
    site.frame("demo/a.fits", "2026-03-12T03:00:00", modified=changed.stat().st_mtime + 1)
    site.frame("demo/c.fits", "2026-03-13T03:00:00")
    found = notice_raw_files(lens, READY)
    assert (found.listed, found.new) == (3, 2)
    after = noticed(lens)
    assert nights(lens) == {"a.fits": "2026-03-11", "b.fits": "2026-03-09", "c.fits": "2026-03-12"}
    assert after["a.fits"].id == before["a.fits"].id  # tasks know files by their numbers
    assert after[same.name] == before[same.name]


def test_a_corrected_key_gives_known_files_their_right_night(site, lens):
    site.frame("demo/a.fits", "2026-03-10T18:00:00")  # 15:00 in Chile, 18:00 in UTC
    notice_raw_files(lens, READY)
    assert nights(lens) == {"a.fits": "2026-03-10"}
    before = noticed(lens)["a.fits"]
    telescope = lens.config.telescope.model_copy(update={"timezone": "Pacific/Auckland"})
    other = Lens(lens.config.model_copy(update={"telescope": telescope}))
    assert notice_raw_files(other, READY).new == 1
    assert nights(lens) == {"a.fits": "2026-03-10"}  # 07:00 on March 11 there
    assert noticed(lens)["a.fits"].read_as != before.read_as
    header = lens.config.raw.header.model_copy(
        update={"mjd": lens.config.raw.header.mjd.model_copy(update={"keyword": "NO-SUCH"})}
    )
    broken = Lens(
        lens.config.model_copy(update={"raw": lens.config.raw.model_copy(update={"header": header})})
    )
    assert list(notice_raw_files(broken, READY).unplaced) == [before.path]
    assert nights(lens) == {"a.fits": None}
    assert notice_raw_files(lens, READY).new == 1
    assert nights(lens) == {"a.fits": "2026-03-10"}
    for one in (other, broken):
        one.close()


def test_a_file_that_goes_before_anyone_has_seen_it_is_forgotten(site, lens, monkeypatch):
    """And no other: nights are known by the raw files of frames, also when these have moved on."""
    paths = {name: site.frame(f"demo/{name}.fits") for name in ("frame", "bad", "waits", "stays")}
    notice_raw_files(lens, READY)
    with writing(lens.engine) as connection:
        for name, status in (("frame", ledger.DONE), ("bad", ledger.QUARANTINED)):
            ledger.record(connection, "demo", IMPORT, str(paths[name]), "hash", status=status)
    for name in ("frame", "bad", "waits"):
        paths[name].unlink()
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "now", lambda: datetime.now(UTC) - timedelta(hours=1))
        notice_raw_files(lens, READY)  # it looked before the file was noticed: it came later
    assert "waits.fits" in noticed(lens)
    notice_raw_files(lens, READY)
    assert set(noticed(lens)) == {"frame.fits", "bad.fits", "stays.fits"}


def test_a_file_that_grows_while_we_look_is_not_complete(site, lens, monkeypatch):
    """Whatever the clock of the file server says."""
    path = site.frame("demo/a.fits")
    monkeypatch.setattr(time, "sleep", lambda _seconds: path.write_bytes(path.read_bytes() + b" "))
    found = notice_raw_files(lens, Watch(settle_seconds=60), now=time.time() + 3600)
    assert (found.new, found.incomplete) == (0, 1)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    assert notice_raw_files(lens, Watch(settle_seconds=60), now=time.time() + 3600).new == 1


def test_a_file_is_complete_when_it_has_settled(site, lens):
    path = site.frame("demo/a.fits")
    os.utime(path, (1000, 1000))
    watch = Watch(settle_seconds=60)
    early = notice_raw_files(lens, watch, now=1059.0)
    assert (early.new, early.incomplete) == (0, 1)
    assert noticed(lens) == {}
    late = notice_raw_files(lens, watch, now=1060.0)
    assert (late.new, late.incomplete) == (1, 0)
    os.utime(path, (2000, 2000))  # it grows again
    assert notice_raw_files(lens, watch, now=2001.0).incomplete == 1
    assert notice_raw_files(lens, watch, now=2060.0).new == 1


def test_without_a_time_the_clock_decides(site, lens):
    site.frame("demo/old.fits")
    site.frame("demo/fresh.fits", modified=time.time() + 1000)
    found = notice_raw_files(lens, Watch())
    assert (found.new, found.incomplete) == (1, 1)
    assert list(noticed(lens)) == ["old.fits"]


def test_a_file_is_complete_when_its_marker_is_there(site, lens):
    path = site.frame("demo/a.fits")
    watch = Watch(marker_suffix=".done")
    assert notice_raw_files(lens, watch).incomplete == 1  # however old it is
    marker = path.with_name("a.fits.done")
    marker.touch()
    found = notice_raw_files(lens, watch)
    # The marker itself matches the pattern *.fit* too, and is no frame.
    assert (found.listed, found.new, found.incomplete) == (1, 1, 0)
    assert list(noticed(lens)) == ["a.fits"]


def test_an_object_in_a_store_is_complete_and_its_marker_too(tmp_path):
    raw = RawFile("memory://complete/a.fits", 1, "None")
    assert is_complete(raw, Watch(settle_seconds=1e9), now=0.0)
    watch = Watch(marker_suffix=".done")
    assert not is_complete(raw, watch, now=0.0)
    with fsspec.open("memory://complete/a.fits.done", "wb") as file:
        file.write(b"")
    assert is_complete(raw, watch, now=0.0)


def test_frames_in_a_store(site):
    path = site.frame("elsewhere/a.fits", "2026-03-10T03:00:00")
    with fsspec.open("memory://arrivals/night/a.fits", "wb") as file:
        file.write(path.read_bytes())
    lens = Lens(site.config(raw={"raw_dirs": ["memory://arrivals"]}))
    ensure_initialized(lens)
    assert notice_raw_files(lens, Watch()).new == 1
    assert nights(lens) == {"a.fits": "2026-03-09"}
    assert notice_raw_files(lens, Watch()).new == 0
    lens.close()


def test_a_frame_of_unknown_night_says_why(site, lens):
    site.frame("demo/good.fits")
    site.frame("demo/blind.fits", begin=None)
    (site.directory / "raw/demo/page.fits").write_text("<html>404</html>")
    found = notice_raw_files(lens, READY)
    assert found.new == 3
    assert {Path(path).name: path in problem for path, problem in found.unplaced.items()} == {
        "blind.fits": True,
        "page.fits": True,
    }
    rows = noticed(lens)
    assert rows["good.fits"].problem is None
    assert (rows["blind.fits"].night, rows["blind.fits"].mjd) == (None, None)
    assert "DATE-OBS" in rows["blind.fits"].problem
    assert "not a FITS file" in rows["page.fits"].problem
    site.frame("demo/page.fits", "2026-03-10T03:00:00")  # copied again
    assert notice_raw_files(lens, READY).unplaced == {}
    assert (noticed(lens)["page.fits"].night, noticed(lens)["page.fits"].problem) == ("2026-03-09", None)


def test_the_summary_of_a_look(site, lens):
    site.frame("demo/a.fits")
    assert notice_raw_files(lens, READY).summary() == "1 raw files, 1 new or changed"
    site.frame("demo/b.fits", begin=None)
    site.frame("demo/c.fits", modified=time.time() + 1000)
    assert (
        notice_raw_files(lens, READY).summary()
        == "3 raw files, 1 new or changed, 1 still being written, 1 of unknown night"
    )


def test_a_directory_that_is_not_there_and_one_without_files(site, lens):
    assert notice_raw_files(lens, READY).listed == 0
    (site.directory / "raw/demo").rmdir()
    with pytest.raises(ConfigurationError, match=r"raw/demo is not a directory; name the one that holds"):
        notice_raw_files(lens, READY)


def test_a_header_parser_that_cannot_be_loaded_stops_the_look(site):
    site.frame("demo/a.fits")
    lens = Lens(site.config(raw={"raw_dirs": ["../raw/demo"], "header_parser": "parser.py"}))
    ensure_initialized(lens)
    with pytest.raises(ConfigurationError, match=r"parser\.py: no such Python file"):
        notice_raw_files(lens, READY)
    assert noticed(lens) == {}
    lens.close()


def test_nights_without_frames(site, lens):
    assert nights_without_frames(lens, "2026-03-09") == (0, None)
    site.frame("demo/a.fits", "2026-02-27T03:00:00")
    site.frame("demo/b.fits", "2026-03-10T03:00:00")
    site.frame("demo/c.fits", begin=None)
    notice_raw_files(lens, READY)
    assert nights_without_frames(lens, "2026-02-25") == (0, None)
    assert nights_without_frames(lens, "2026-02-26") == (0, "2026-02-26")
    assert nights_without_frames(lens, "2026-03-01") == (3, "2026-02-26")
    assert nights_without_frames(lens, "2026-03-09") == (0, "2026-03-09")
    assert nights_without_frames(lens, "2026-03-13") == (4, "2026-03-09")


# The work of nights, on the small season: two frames a night


@pytest.fixture
def small(season):
    lens = season.lens()
    ensure_initialized(lens)
    yield lens
    lens.close()


def nights_of(season):
    """night: names of its raw files; the simulation names files by the date of their morning."""
    result = {}
    for path in season.raw:
        day = datetime(1858, 11, 16) + timedelta(days=int(path.stem.split("_")[2]))
        result.setdefault(day.date().isoformat(), []).append(path.name)
    return result


def run_stages(lens, raw_ids, stages=(IMPORT, SOLVE)):
    """Run stages for some raw files; the result of the last."""
    for number in map(stage_number, stages):
        options = RunOptions(units=units_of_raw_ids(lens, raw_ids), check=False)
        (result,) = run_pipeline(lens, first=number, last=number, options=options)
    return result


def test_the_work_of_a_night(season, small):
    first, second, third = nights_of(season)
    notice_raw_files(small, READY)
    for night, names in nights_of(season).items():
        work = work_of_night(small, night, [IMPORT, SOLVE])
        assert (work.night, work.raw_ids, work.n_frames, work.waits) == (night, ids(small, *names), 2, True)
        assert not work_of_night(small, night, [SOLVE]).waits  # nothing imported, nothing to solve
    work = work_of_night(small, first, [IMPORT, SOLVE])
    assert work.chunks(1) == [[number] for number in work.raw_ids]
    assert work.chunks(2) == work.chunks(20) == [work.raw_ids]
    assert set(nights_waiting(small)) == {first, second, third}
    run_stages(small, work.raw_ids, [IMPORT])
    assert not work_of_night(small, first, [IMPORT]).waits
    assert work_of_night(small, first, [IMPORT, SOLVE]).waits
    assert first in nights_waiting(small)  # imported, not solved
    run_stages(small, work.raw_ids)
    assert not work_of_night(small, first, [IMPORT, SOLVE]).waits
    assert work_of_night(small, first, STAGE_NAMES[1:]).waits
    assert set(nights_waiting(small)) == {second, third}
    with reading(small.engine) as connection:
        rows = frames.all_frames(connection, small.name)
    assert sorted(Path(row.original_image_path).name for row in rows) == nights_of(season)[first]
    assert units_of_raw_ids(small, work.raw_ids) == {
        *(str(path) for path in season.raw[:2]),
        *(row.image_relpath for row in rows),
    }


def test_a_night_without_frames_has_no_work(small):
    notice_raw_files(small, READY)
    work = work_of_night(small, "2001-01-01", STAGE_NAMES)
    assert (work.raw_ids, work.n_frames, work.waits, work.chunks(5)) == ([], 0, False, [])


def test_late_frames_go_to_their_own_night(season, small):
    late = season.raw[1]
    kept = late.read_bytes()
    late.unlink()
    first, second, third = nights_of(season)
    notice_raw_files(small, READY)
    for night in (first, second, third):
        run_stages(small, work_of_night(small, night, [IMPORT, SOLVE]).raw_ids)
    assert nights_waiting(small) == {}
    late.write_bytes(kept)  # weeks later
    assert nights_waiting(small) == {}  # nobody has noticed it yet
    assert notice_raw_files(small, READY).new == 1
    (night,) = nights_waiting(small)
    assert late.name in nights_of(season)[night]
    assert nights_waiting(small)[night].noticed is not None
    run_stages(small, work_of_night(small, night, [IMPORT, SOLVE]).raw_ids)
    assert nights_waiting(small) == {}


def test_a_file_of_unknown_night_is_taken_by_whichever_night_runs_next(season, small):
    blind = season.directory / "raw" / "blind.fits"
    blind.write_text("no FITS file")
    notice_raw_files(small, READY)
    (number,) = ids(small, "blind.fits")
    _, second, third = nights_of(season)
    assert number in work_of_night(small, third, [IMPORT]).raw_ids
    work = work_of_night(small, second, [IMPORT])
    assert number in work.raw_ids
    assert work.n_frames == 2
    alone = work_of_night(small, "2001-01-01", [IMPORT])
    assert (alone.raw_ids, alone.n_frames, alone.waits) == ([number], 0, True)
    result = run_stages(small, work.raw_ids, [IMPORT])
    assert result.report.done == 2
    assert list(result.report.quarantined) == [str(blind)]
    # It was looked at, and is nobody's business until it changes.
    assert number not in work_of_night(small, third, [IMPORT]).raw_ids
    assert not work_of_night(small, "2001-01-01", [IMPORT]).waits


def test_a_file_of_unknown_night_waits_tonight(season, small):
    for path in season.raw:
        path.unlink()
    (season.directory / "raw" / "blind.fits").write_text("no FITS file")
    notice_raw_files(small, READY)
    before = night_at(datetime.now(UTC), "Etc/GMT+5").isoformat()
    waiting = list(nights_waiting(small))
    assert waiting in ([before], [night_at(datetime.now(UTC), "Etc/GMT+5").isoformat()])


def noticed_at(lens, moment, *names):
    """Pretend that files were noticed at another time."""
    with writing(lens.engine) as connection:
        condition = table.c.id.in_(ids(lens, *names))
        connection.execute(sa.update(table).where(condition).values(noticed_at=moment))


def test_the_same_arrivals_have_the_same_name_until_they_are_imported(season, small):
    notice_raw_files(small, READY)
    first, second, third = nights_of(season)
    before = nights_waiting(small)
    assert list(before) == [first, second, third]
    assert None not in {waiting.noticed for waiting in before.values()}
    notice_raw_files(small, READY)
    assert nights_waiting(small) == before
    one, other = work_of_night(small, first, [IMPORT]).raw_ids
    run_stages(small, [one])
    assert nights_waiting(small) == before  # half of it is done
    run_stages(small, [other], [IMPORT])
    assert nights_waiting(small) == {**before, first: Waiting(None)}  # only a plate solution is missing
    run_stages(small, [other])
    assert nights_waiting(small) == {second: before[second], third: before[third]}


def test_other_arrivals_have_another_name(season, small):
    notice_raw_files(small, READY)
    first, second, third = nights_of(season)
    noticed_at(small, datetime(2026, 3, 10, 4, 5, 6, tzinfo=UTC), *(path.name for path in season.raw))
    before = nights_waiting(small)
    assert before == dict.fromkeys([first, second, third], Waiting("20260310T040506"))
    for night in (first, second):
        run_stages(small, work_of_night(small, night, [IMPORT, SOLVE]).raw_ids)
    os.utime(season.raw[0], (1e9, 1e9))  # copied again
    faults.other_pixels(season.raw[2], season.raw[2].with_name("late.fits"))
    notice_raw_files(small, READY)
    after = nights_waiting(small)
    assert list(after) == [first, second, third]
    for night in (first, second):
        assert after[night].noticed > before[night].noticed
    assert after[third] == before[third]


def test_what_failed_or_is_out_of_date_is_no_new_arrival(season, small):
    notice_raw_files(small, READY)
    noticed_at(small, datetime(2026, 3, 10, 4, 5, 6, tzinfo=UTC), *(path.name for path in season.raw))
    first, second, _ = nights_of(season)
    run_stages(small, work_of_night(small, first, [IMPORT, SOLVE]).raw_ids)
    with writing(small.engine) as connection:
        plan = STAGES[1](small).plan(connection)
        for path in map(str, season.raw[2:4]):
            error = TemporaryFailure("the disk is full")
            ledger.record(connection, small.name, IMPORT, path, plan[path], status=ledger.FAILED, error=error)
    assert nights_waiting(small)[second] == Waiting(None)
    assert first not in nights_waiting(small)
    season.configure(plate_solving={"search_radius": 0.11})
    changed = season.lens()
    assert nights_waiting(changed)[first] == Waiting(None)
    changed.close()
    season.configure(background={"n_boxes": 7})
    changed = season.lens()
    assert nights_waiting(changed)[first] == Waiting("20260310T040506")  # as when it came
    changed.close()


def test_whether_the_season_waits(season_copy):
    season = season_copy()
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    joint, model = "calculate_normalization_coefficient", "model_calibrated_cutouts"
    assert not season_waits(lens, joint)
    with writing(lens.engine) as connection:
        ledger.forget(connection, lens.name, [model])
    assert season_waits(lens, model)
    assert season_waits(lens, joint)
    lens.close()


def test_an_eliminated_frame_is_for_the_season_not_for_its_night(season_copy):
    season = season_copy()
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    notice_raw_files(lens, READY)
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        frames.eliminate(connection, [row.id], "trail", "user test")
    assert season_waits(lens, "calculate_normalization_coefficient")
    for night in nights_of(season):
        assert not work_of_night(lens, night, STAGE_NAMES[1:8]).waits
    assert nights_waiting(lens) == {}
    lens.close()
