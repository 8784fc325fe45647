"""Reducing again: from some stage on, some nights, without some frames or stars; each decision is recorded."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger, stars
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations import decisions
from lightcurver_ops.operations.arrivals import notice_raw_files
from lightcurver_ops.operations.nights import parse_night
from lightcurver_ops.stages.base import WHOLE_LENS, Lens, is_called
from lightcurver_ops.stages.pipeline import STAGES, stage_number


@dataclass(frozen=True)
class Reprocessing:
    """What a user asks for."""

    from_stage: str
    redo: bool = False
    """Make everything again from that stage on; else only what is missing or out of date."""
    first_night: str | None = None
    last_night: str | None = None
    exclude_frames: list[str] = field(default_factory=list)
    """Numbers, names or patterns."""
    exclude_stars: list[str] = field(default_factory=list)
    """Names of reference stars."""
    comment: str = ""


@dataclass(frozen=True)
class Unwanted:
    """What a reprocessing leaves out."""

    frames: list[sa.Row]
    stars: list[sa.Row]


def check_reprocessing(connection: sa.Connection, lens: Lens, wanted: Reprocessing) -> Unwanted:
    """The frames and stars that a user means; nothing is changed.

    Raises:
        ConfigurationError: no such stage, frame, star or night, or a decision without a comment.
    """
    stage_number(wanted.from_stage)
    first, last = _range(wanted)
    for night in (first, last):
        parse_night(night)
    if first > last:
        raise ConfigurationError(f"first_night {first} is after last_night {last}")
    if wanted.exclude_frames or wanted.exclude_stars:
        decisions.reason_of(wanted.comment)
    every = frames.all_frames(connection, lens.name) if wanted.exclude_frames else []
    unwanted = _frames_called(lens, every, wanted.exclude_frames)
    return Unwanted(unwanted, stars_called(connection, lens, wanted.exclude_stars))


def _range(wanted: Reprocessing) -> tuple[str, str]:
    return wanted.first_night or "0001-01-01", wanted.last_night or "9999-12-31"


def prepare_reprocessing(lens: Lens, wanted: Reprocessing, by: str, watch: Watch | None = None) -> list[str]:
    """Enter the decisions, forget the products that are to be made again; returns the nights concerned.

    Args:
        lens: which.
        wanted: what the user asks for.
        by: who.
        watch: when a raw file is complete; default: as an observatory has it that says nothing.

    Raises:
        ConfigurationError: as `check_reprocessing`.
    """
    with reading(lens.engine) as connection:
        check_reprocessing(connection, lens, wanted)
    notice_raw_files(lens, watch or Watch())  # frames that `lcops run` imported have no night yet
    with reading(lens.engine) as connection:
        raw = raw_rows.known_raw_files(connection, lens.name)
        every = frames.all_frames(connection, lens.name)
    first, last = _range(wanted)
    inside = {path for path, row in raw.items() if row.night is not None and first <= row.night <= last}
    units = {WHOLE_LENS, *inside, *(row.image_relpath for row in every if row.original_image_path in inside)}
    with writing(lens.engine) as connection:
        unwanted = check_reprocessing(connection, lens, wanted)
        if unwanted.frames:
            decisions.eliminate_frames(connection, lens.name, unwanted.frames, wanted.comment, by)
        if unwanted.stars:
            decisions.exclude_stars(connection, lens.name, unwanted.stars, wanted.comment, by)
        if wanted.redo:
            for stage in STAGES[max(stage_number(wanted.from_stage), 1) :]:
                ledger.forget(connection, lens.name, [stage.name], units if stage.frame_wise else None)
    return sorted({row.night for path, row in raw.items() if path in inside})


def _frames_called(lens: Lens, rows: list[sa.Row], names: list[str]) -> list[sa.Row]:
    found: dict[int, sa.Row] = {}
    for name in names:
        matches = [row for row in rows if is_called(row, name)]
        if not matches:
            raise ConfigurationError(f"{lens.name}: no frame matches {name}; `lcops frames list` lists them")
        found |= {row.id: row for row in matches}
    return list(found.values())


def stars_called(connection: sa.Connection, lens: Lens, names: list[str]) -> list[sa.Row]:
    """The reference stars of these names.

    Raises:
        ConfigurationError: a name that no reference star has.
    """
    if not names:
        return []
    selection = stars.current_selection(connection, lens.name)
    known = (
        {star.name: star for star in stars.stars_of(connection, lens.name, selection)} if selection else {}
    )
    strangers = [name for name in names if name not in known]
    if strangers:
        raise ConfigurationError(
            f"{lens.name}: no reference star is called {', '.join(strangers)}; there are "
            f"{', '.join(known) or 'none yet'}"
        )
    return [known[name] for name in names]
