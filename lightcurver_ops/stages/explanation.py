"""The origin of one point of a light curve, or of one frame: what `lcops explain` shows."""

import hashlib
import json
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import Lens, is_called, joined
from lightcurver_ops.stages.light_curve_products import Columns, published_columns
from lightcurver_ops.stages.provenance import Origins, without_nan
from lightcurver_ops.stages.publication_diff import frame_differences
from lightcurver_ops.stages.publishing import provenance_of

FARTHEST_DAYS = 0.5
"""A time farther from every point than this is a mistake, and not answered with another night."""


def explain_mjd(
    connection: sa.Connection, lens: Lens, publication: sa.Row, mjd: float, per: str
) -> dict[str, Any]:
    """The origin of the point nearest to a time, as plain data.

    Args:
        connection: in a transaction that reads.
        lens: whose.
        publication: whose rows were checked.
        mjd: MJD UTC.
        per: ``night`` or ``epoch``.

    Raises:
        ConfigurationError: no point lies within half a day; the message has the nearest ones.
    """
    import numpy as np

    _, epochs, nights = published_columns(connection, publication.id)
    columns = nights if per == "night" else epochs
    times = np.asarray(columns["mjd"], dtype=float)
    if not times.size:
        raise ConfigurationError(
            f"{lens.name}, filter {publication.filter}, version {publication.version} has no point"
        )
    distance = np.abs(times - mjd)
    nearest = int(np.argmin(distance))
    if not distance[nearest] <= FARTHEST_DAYS:
        raise ConfigurationError(
            f"{lens.name}, filter {publication.filter}, version {publication.version} has no {per} at MJD {mjd:g}: the "
            f"nearest is {times[nearest]:.5f}, {distance[nearest]:.3f} d away; there are {times.size} from "
            f"{times.min():.5f} to {times.max():.5f}"
        )
    ids = _frames_of(epochs, nearest, per)
    return _explained(connection, lens, publication, per, columns, nearest, ids, mjd)


def explain_frame(
    connection: sa.Connection, lens: Lens, publication: sa.Row | None, name: str
) -> dict[str, Any]:
    """The origin of a frame and of its point, where it has one.

    Args:
        connection, lens: as `explain_mjd`.
        publication: of the frame's filter; None: there is none yet.
        name: number, name or pattern of the frame.

    Raises:
        ConfigurationError: no frame is called so, or several are.
    """
    import numpy as np

    row = frame_called(connection, lens, name)
    columns: Columns = {}
    where = np.zeros(0, dtype=int)
    if publication is not None:
        columns = published_columns(connection, publication.id)[1]
        where = np.flatnonzero(np.asarray(columns["frame_id"]) == row.number)
    place = int(where[0]) if where.size else None
    return _explained(connection, lens, publication, "epoch", columns, place, [row.number], None)


def frame_called(connection: sa.Connection, lens: Lens, name: str) -> sa.Row:
    """The frame that a user means; errors as `explain_frame`."""
    from lightcurver_ops.bookkeeping.frames import all_frames

    rows = [row for row in all_frames(connection, lens.name) if is_called(row, name)]
    if not rows:
        raise ConfigurationError(f"{lens.name}: no frame matches {name}; `lcops frames list` lists them")
    if len(rows) > 1:
        raise ConfigurationError(
            f"{lens.name}: {len(rows)} frames match {name}: {joined([row.image_relpath for row in rows], 5)}; name one"
        )
    return rows[0]


def _frames_of(epochs: Columns, point: int, per: str) -> list[int]:
    """The frames of a point."""
    import numpy as np

    from lightcurver_ops.numerics.nights import group_into_nights

    ids = np.asarray(epochs["frame_id"])
    if per == "epoch":
        return [int(ids[point])]
    return [int(one) for one in ids[group_into_nights(epochs["mjd"]) == point]]


def _explained(
    connection: sa.Connection,
    lens: Lens,
    publication: sa.Row | None,
    per: str,
    columns: Columns,
    place: int | None,
    frame_numbers: list[int],
    asked: float | None,
) -> dict[str, Any]:
    origins = Origins(connection, lens)
    names = {row.number: relpath for relpath, row in origins.frames.items()}
    relpaths = [names[number] for number in frame_numbers]
    filter_name = origins.frames[relpaths[0]].filter
    today = origins.document(filter_name, relpaths)
    then = provenance_of(lens.workdir, publication) if publication is not None else None
    shared = then if then is not None else today
    result: dict[str, Any] = {"lens": lens.name, "filter": filter_name, "per": per}
    if publication is not None:
        result |= {
            "version": publication.version,
            "published": ledger.as_utc(publication.made_at).isoformat(timespec="seconds"),
            "snapshot": then is not None,
            "common_errors": json.loads(publication.common_errors or "null"),
        }
    if place is not None:
        mjd = float(columns["mjd"][place])
        result |= {"mjd": mjd, "point": {name: _plain(values[place]) for name, values in columns.items()}}
        if asked is not None:
            result |= {"asked_mjd": asked, "distance_days": abs(mjd - asked)}
            result["left_out"] = _left_out(origins, filter_name, frame_numbers, asked, mjd, per)
    result["frames"] = [_frame(origins, relpath, then, today) for relpath in relpaths]
    result |= {
        key: shared.get(key)
        for key in (
            "code_version", "libraries", "stages", "configuration", "configuration_hash", "catalogue",
            "photometric_band", "star_selection", "stars", "stars_of_the_normalization", "errors", "model",
        )
    }  # fmt: skip
    result["ledger"] = today["ledger"]
    return without_nan(result)


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _left_out(
    origins: Origins, filter_name: str, used: list[int], asked: float, mjd: float, per: str
) -> list[dict[str, Any]]:
    """Exposures that are not in the point though they are as near to the time as it is, and why."""
    within = FARTHEST_DAYS if per == "night" else abs(mjd - asked)
    return [
        {"frame": relpath, "mjd": row.mjd, "reason": origins.unused[relpath]}
        for relpath, row in origins.frames.items()
        if row.filter == filter_name
        and row.number not in used
        and origins.unused[relpath] is not None
        and abs(row.mjd - (mjd if per == "night" else asked)) <= within
    ]


def _frame(
    origins: Origins, relpath: str, then: dict[str, Any] | None, today: dict[str, Any]
) -> dict[str, Any]:
    """A frame as it was when it was published, else as it is; what has changed since, its ledger as it is now."""
    now = today["frames"][relpath]
    published = then["frames"].get(relpath) if then is not None else None
    since = []
    state = _raw_state(now["raw"])
    if published is not None and published["raw"]["file"] != now["raw"]["file"]:
        state = f"now {now['raw']['file']}: {state}"
    if published is not None and then is not None:
        since = [difference.text for difference in frame_differences(published, now, then, today)]
    return {
        "frame": relpath,
        "id": origins.frames[relpath].number,
        **(published if published is not None else now),
        "raw_file_now": state,
        "eliminated": now["eliminated"],
        "eliminated_by": now["eliminated_by"],
        "comment": now["comment"],
        "used": origins.unused[relpath] is None,
        "why_not_used": origins.unused[relpath],
        "changed_since": since,
        "ledger": now["ledger"],
    }


def _raw_state(raw: dict[str, Any]) -> str:
    """What became of a raw file since it was imported."""
    if raw["sha256"] is None:
        return "not recorded at its import: import it again to have its hash"
    if "://" in raw["file"]:
        return "in a store, not looked at"
    try:
        with Path(raw["file"]).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    return (
        "unchanged since its import" if found == raw["sha256"] else f"CHANGED since its import: now {found}"
    )
