"""All lenses of a database at a glance, from a few queries for all of them together."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import all_lenses as rows
from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.stages.pipeline import STAGE_NAMES
from lightcurver_ops.stages.publication_summary import summary_of

USED, REJECTED, WAITING = "used", "rejected", "waiting"
_IMPORT, _FRAME_STAGES = STAGE_NAMES[1], (STAGE_NAMES[5], STAGE_NAMES[6], STAGE_NAMES[7])


@dataclass(frozen=True)
class Curve:
    """A light curve in brief: `images` as `summary_of` has them."""

    filter: str
    version: int
    n_epochs: int
    images: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Failure:
    """A stage whose last run failed."""

    stage: str
    message: str


@dataclass
class LensOverview:
    """What a list of lenses shows of one."""

    lens: str
    night: str | None = None
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys((USED, REJECTED, WAITING), 0))
    seeing: float | None = None
    """arcsec, median of the frames of the last night."""
    failures: list[Failure] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)

    @property
    def n_in(self) -> int:
        return sum(self.counts.values())

    @property
    def n_epochs(self) -> int:
        return sum(curve.n_epochs for curve in self.curves)

    @property
    def largest_change(self) -> float:
        """sigma, of all images and filters; 0 where none is known."""
        changes = (image["sigma"] for curve in self.curves for image in curve.images.values())
        return max((abs(change) for change in changes if change is not None), default=0.0)


def overview(engine: sa.Engine, night_of: Callable[[str, float], str | None]) -> dict[str, LensOverview]:
    """lens: what there is to see of it, for all lenses of a database.

    A frame is used where the newest light curve has it; rejected where a stage or a user kept it out, or where a light
    curve that is younger than its star fluxes leaves it out; else it waits.

    Args:
        engine: of the database.
        night_of: the night of an MJD at the telescope of a lens, for frames of which no raw file was noticed.
    """
    with reading(engine) as connection:
        rows.follow_indexes(connection)
        result = {name: LensOverview(name) for name in rows.lens_names(connection)}
        for name, night in rows.last_nights(connection).items():
            result[name].night = night
        raw = rows.raw_of_last_nights(connection)
        frames = rows.frames_of_last_nights(connection)
        imported = {(frame.lens, frame.original_image_path) for frame in frames}
        missing = [row.id for row in raw if (row.lens, row.path) not in imported]
        imports = rows.imports_of(connection, missing, _IMPORT)
        solved = {frame.id for frame in frames if _may_be_used(frame)}
        in_curve = rows.frames_in_newest_publications(connection, solved)
        made = rows.products_of_frames(connection, solved - in_curve, _FRAME_STAGES)
        newest = rows.newest_publications(connection)
        failed = rows.failed_stages(connection, STAGE_NAMES)
        summaries = {
            row.id: _summary(row.n_epochs, row.images) or summary_of(connection, row.id) for row in newest
        }
    _count(result, raw, imports, frames, _fates(frames, made, newest, in_curve), night_of)
    for row in newest:
        curve = Curve(row.filter, row.version, **summaries[row.id])
        result[row.lens].curves.append(curve)
    for row in sorted(failed, key=lambda row: STAGE_NAMES.index(row.stage)):
        result[row.lens].failures.append(Failure(row.stage, row.message or row.status))
    return result


def _summary(n_epochs: int | None, images: str | None) -> dict[str, Any] | None:
    return None if n_epochs is None or images is None else {"n_epochs": n_epochs, "images": _decoded(images)}


@lru_cache(maxsize=4096)
def _decoded(images: str) -> dict[str, Any]:
    """A summary as data: most of them are those of the last time."""
    return json.loads(images)


def _may_be_used(frame: sa.Row) -> bool:
    return not frame.eliminated and frame.plate_solved and bool(frame.roi_in_footprint)


def _fates(
    frames: list[sa.Row], made: list[sa.Row], newest: list[sa.Row], in_curve: set[int]
) -> dict[int, str]:
    """frame id: used, rejected or waiting.

    Args:
        frames: of the last nights.
        made: what stages made of those that may be used and are in no newest light curve.
        newest: light curves.
        in_curve: frames in these.
    """
    published = {(row.lens, row.filter): ledger.as_utc(row.made_at) for row in newest}
    products: dict[int, dict[str, sa.Row]] = {}
    for row in made:
        products.setdefault(row.frame_id, {})[row.stage] = row

    def fate(frame: sa.Row) -> str:
        if frame.id in in_curve:
            return USED
        if not _may_be_used(frame):
            waits = not (frame.eliminated or frame.plate_solved or frame.attempted_plate_solve)
            return WAITING if waits else REJECTED
        known = products.get(frame.id, {})
        if any(product.status != ledger.DONE for product in known.values()):
            return REJECTED
        measured, curve = known.get(_FRAME_STAGES[-1]), published.get((frame.lens, frame.filter))
        left_out = measured is not None and curve is not None and curve > ledger.as_utc(measured.made_at)
        return REJECTED if left_out else WAITING

    return {frame.id: fate(frame) for frame in frames}


def _count(
    result: dict[str, LensOverview],
    raw: list[sa.Row],
    imports: dict[int, str],
    frames: list[sa.Row],
    fates: dict[int, str],
    night_of: Callable[[str, float], str | None],
) -> None:
    """Enter the counts and the seeing of the last nights."""
    imported: dict[str, dict[str, sa.Row]] = {}
    for frame in frames:
        imported.setdefault(frame.lens, {})[frame.original_image_path] = frame
    of_night: dict[str, list[sa.Row]] = {}
    for row in raw:
        own = imported.get(row.lens, {}).get(row.path)
        if own is not None:
            of_night.setdefault(row.lens, []).append(own)
        else:
            waits = imports.get(row.id, ledger.DONE) == ledger.DONE
            result[row.lens].counts[WAITING if waits else REJECTED] += 1
    for lens, known in imported.items():
        if result[lens].night is None:  # no raw file was noticed
            nights = {frame.id: night_of(lens, frame.mjd) for frame in known.values()}
            result[lens].night = max((night for night in nights.values() if night is not None), default=None)
            of_night[lens] = [frame for frame in known.values() if nights[frame.id] == result[lens].night]
    for lens, chosen in of_night.items():
        for frame in chosen:
            result[lens].counts[fates[frame.id]] += 1
        seeing = sorted(frame.seeing_arcseconds for frame in chosen if frame.seeing_arcseconds is not None)
        result[lens].seeing = seeing[len(seeing) // 2] if seeing else None
