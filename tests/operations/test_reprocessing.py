"""Reducing again: what is forgotten, which nights follow, what is recorded of a user's decisions."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lightcurver_ops.bookkeeping import frames, ledger, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.reprocessing import Reprocessing, prepare_reprocessing
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import STAGE_NAMES, STAGES, run_pipeline, stage_number
from tests.operations.conftest import OLD

IMPORT, PSF, NORM = (
    "read_convert_skysub_character_catalog",
    "psf_modeling",
    "calculate_normalization_coefficient",
)


@pytest.fixture
def lens(season_copy):
    """The small season, up to date; its raw files were never noticed, as after `lcops run`."""
    season = season_copy()
    for path in season.raw:
        os.utime(path, (OLD, OLD))
    lens = season.lens()
    run_pipeline(lens, last=stage_number(IMPORT))
    yield lens
    lens.close()


def units(lens):
    """stage: units that the ledger has."""
    with reading(lens.engine) as connection:
        return {name: set(ledger.products_of(connection, lens.name, name)) for name in STAGE_NAMES}


def rows(lens):
    with reading(lens.engine) as connection:
        return frames.all_frames(connection, lens.name)


def exclusions(lens):
    with reading(lens.engine) as connection:
        return stars.exclusions_of(connection, lens.name)


def night_of(row):
    """All frames are taken around midnight in Chile, 4 to 6 h UTC."""
    return (datetime(1858, 11, 16) + timedelta(days=int(row.mjd))).date().isoformat()


def ask(lens, from_stage=PSF, by="ada", **wanted):
    return prepare_reprocessing(lens, Reprocessing(from_stage, **wanted), by)


def test_all_again_from_a_stage_on(lens):
    before = units(lens)
    nights = sorted({night_of(row) for row in rows(lens)})
    assert ask(lens, redo=True) == nights
    after = units(lens)
    number = stage_number(PSF)
    assert {name: after[name] for name in STAGE_NAMES[:number]} == {
        name: before[name] for name in STAGE_NAMES[:number]
    }
    assert all(before[name] and not after[name] for name in STAGE_NAMES[number:])


def test_only_what_is_missing_forgets_nothing(lens):
    before = units(lens)
    assert len(ask(lens)) == 3
    assert units(lens) == before


@pytest.mark.parametrize(
    ("first", "last", "chosen"),
    [(0, 0, [0]), (1, 2, [1, 2]), (1, None, [1, 2]), (None, 1, [0, 1]), (None, None, [0, 1, 2])],
)
def test_some_nights(lens, first, last, chosen):
    nights = sorted({night_of(row) for row in rows(lens)})
    pick = lambda index: None if index is None else nights[index]  # noqa: E731
    assert ask(lens, redo=True, first_night=pick(first), last_night=pick(last)) == [
        nights[one] for one in chosen
    ]
    after = units(lens)
    kept = {row.image_relpath for row in rows(lens) if nights.index(night_of(row)) not in chosen}
    assert after["psf_modeling"] == after["star_photometry"] == kept
    # What is made of all frames together is made again in any case.
    assert all(not after[name] for name in STAGE_NAMES[stage_number(NORM) :])
    assert len(after["stamp_extraction"]) == len(after[IMPORT]) == 6


def test_from_the_first_stages_on(lens):
    nights = sorted({night_of(row) for row in rows(lens)})
    assert ask(lens, "0", redo=True, first_night=nights[2]) == [nights[2]]
    after = units(lens)
    assert after["initialize_database"] == {"*"}
    assert after[IMPORT] == {row.original_image_path for row in rows(lens) if night_of(row) != nights[2]}
    assert after["plate_solving"] == {row.image_relpath for row in rows(lens) if night_of(row) != nights[2]}


def test_nights_between_which_there_is_no_frame(lens):
    before = units(lens)
    assert ask(lens, redo=True, first_night="2001-01-01", last_night="2001-12-31") == []
    after = units(lens)
    assert after["psf_modeling"] == before["psf_modeling"]
    assert after["star_photometry"] == before["star_photometry"]


def test_excluded_frames_by_number_name_and_pattern(lens):
    first, second, *_, last = rows(lens)
    pattern = f"*_{int(last.mjd)}_*"  # both frames of the last night
    ask(
        lens,
        exclude_frames=[str(first.id), Path(second.original_image_path).name, pattern],
        comment="a satellite",
    )
    out = {row.id: row for row in rows(lens) if row.eliminated}
    assert set(out) == {
        first.id,
        second.id,
        *(row.id for row in rows(lens) if night_of(row) == night_of(last)),
    }
    assert len(out) == 4
    for row in out.values():
        assert (row.comment, row.eliminated_by) == ("a satellite", "user ada")


def test_excluded_stars(lens):
    ask(lens, exclude_stars=["b", "a"], comment="they vary", by="grace")
    now = datetime.now(UTC)
    found = exclusions(lens)
    assert [(row.name, row.comment, row.decided_by) for row in found] == [
        ("a", "they vary", "grace"),
        ("b", "they vary", "grace"),
    ]
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        ids = {star.name: star.gaia_id for star in stars.stars_of(connection, lens.name, selection)}
    assert {row.name: row.star_gaia_id for row in found} == {name: ids[name] for name in ("a", "b")}
    for row in found:
        assert abs(now - row.decided_at.replace(tzinfo=UTC)) < timedelta(hours=1)
    with reading(lens.engine) as connection:
        assert STAGES[stage_number(PSF)](lens).state(connection).count("stale") == 6
    # A second decision about the same star takes the place of the first.
    ask(lens, exclude_stars=["a"], comment="it is a galaxy")
    assert [(row.comment, row.decided_by) for row in exclusions(lens) if row.name == "a"] == [
        ("it is a galaxy", "ada")
    ]


WRONG = [
    ({"from_stage": "psf_modelling"}, r"there is no stage 'psf_modelling'; did you mean 'psf_modeling'\?"),
    ({"first_night": "yesterday"}, r"night = 'yesterday': write the date on which the night began at the telescope"),
    ({"last_night": "20231205"}, r"night = '20231205': write the date .* as YYYY-MM-DD"),
    ({"first_night": "2023-12-05", "last_night": "2023-12-04"},
     r"first_night 2023-12-05 is after last_night 2023-12-04"),
    ({"exclude_frames": ["1"]}, r"comment: say why frames or stars are excluded"),
    ({"exclude_stars": ["a"], "comment": "  "}, r"comment: say why frames or stars are excluded"),
    ({"exclude_frames": ["1", "nothing*"], "comment": "bad"},
     r"small: no frame matches nothing\*; `lcops frames list` lists them"),
    ({"exclude_frames": ["1"], "exclude_stars": ["a", "zz", "yy"], "comment": "bad"},
     r"small: no reference star is called zz, yy; there are a, b, c, "),
]  # fmt: skip


def test_what_is_wrong_is_said_and_nothing_is_changed(lens):
    before = units(lens)
    for wanted, message in WRONG:
        with pytest.raises(ConfigurationError, match=message):
            ask(lens, **{"redo": True, **wanted})
        assert units(lens) == before, wanted
        assert not any(row.eliminated for row in rows(lens)), wanted
        assert exclusions(lens) == [], wanted


def test_stars_before_there_are_any(season):
    lens = season.lens()
    ensure_initialized(lens)
    with pytest.raises(ConfigurationError, match="no reference star is called a; there are none yet"):
        ask(lens, exclude_stars=["a"], comment="it varies")
    lens.close()
