"""Decisions about frames and stars are recorded, whichever way they come, and once."""

import pytest

from lightcurver_ops.bookkeeping import decisions as record
from lightcurver_ops.bookkeeping import frames, stars
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations import decisions
from lightcurver_ops.operations.reprocessing import Reprocessing, prepare_reprocessing


@pytest.fixture
def lens(season_copy):
    lens = season_copy().lens()
    yield lens
    lens.close()


def recorded(lens):
    with reading(lens.engine) as connection:
        rows = record.decisions_of(connection, lens.name)
    return [(row.kind, row.name, row.comment, row.decided_by) for row in rows]


def test_the_form_for_reprocessing_records_what_it_decides_once(lens):
    with reading(lens.engine) as connection:
        frame = frames.all_frames(connection, lens.name)[0]
    wanted = Reprocessing("psf_modeling", exclude_frames=[str(frame.id)], exclude_stars=["a"], comment="odd ")
    for _ in range(2):  # a task that is tried again decides the same again
        prepare_reprocessing(lens, wanted, "Vera")
    name = frame.image_relpath.removeprefix("frames/")
    assert recorded(lens) == [
        (record.EXCLUDE, "a", "odd", "Vera"),
        (record.ELIMINATE, name, "odd", "Vera"),
    ]


def test_a_change_of_mind_is_a_decision_of_its_own(lens):
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        assert decisions.eliminate_frames(connection, lens.name, [row], "clouds", "me") == [row]
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        assert decisions.eliminate_frames(connection, lens.name, [row], "clouds", "me") == []
        assert decisions.eliminate_frames(connection, lens.name, [row], "a plane", "you") == [row]
        assert decisions.restore_frames(connection, lens.name, [row], "me", "no clouds") == [row]
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        assert decisions.restore_frames(connection, lens.name, [row], "me") == []
        star = stars.stars_of(connection, lens.name, stars.current_selection(connection, lens.name))[0]
        assert decisions.include_stars(connection, lens.name, [star], "me") == []
    assert [entry[2:] for entry in recorded(lens)] == [
        ("no clouds", "me"),
        ("a plane", "you"),
        ("clouds", "me"),
    ]


@pytest.mark.parametrize("comment", ["", "  \n"])
def test_leaving_out_wants_a_reason(lens, comment):
    with writing(lens.engine) as connection:
        row = frames.all_frames(connection, lens.name)[0]
        with pytest.raises(ConfigurationError, match="say why"):
            decisions.eliminate_frames(connection, lens.name, [row], comment, "me")
        with pytest.raises(ConfigurationError, match="say why"):
            decisions.exclude_stars(connection, lens.name, [], comment, "me")
    assert recorded(lens) == []
