"""The morning summary: what the last night brought, lens by lens, and all of them in one message."""

import json
import math
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import alerts as alert_rows
from lightcurver_ops.bookkeeping import ledger, photometry
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import stage_runs
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.nights import night_at, timezone_name
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import STAGE_NAMES
from lightcurver_ops.stages.publishing import check_rows
from lightcurver_ops.stages.usage import usage

_DAY = timedelta(days=1)
_MORNING = timedelta(hours=6)
_LENGTH = 100


def summarize(lens: Lens, sigma: float, now: datetime | None = None) -> dict[str, Any]:
    """What the last day brought to a lens, as plain data.

    Args:
        lens: which.
        sigma: an image that changed by more is named.
        now: time of the summary; its night is the one that ended last, at 6 in the morning at the telescope.

    Returns:
        lens, night; frames `in`, `used`, and `rejected` {reason: number}, of that night and of files that came since
        yesterday; `failures` {stage: message} that are not over; `alerts`: those of the last day;
        `moved`: sentences about images that changed.
    """
    now = now or datetime.now(UTC)
    night = (night_at(now + _MORNING, timezone_name(lens.config)) - _DAY).isoformat()
    with reading(lens.engine) as connection:
        known = raw_rows.known_raw_files(connection, lens.name)
        paths = {
            path
            for path, row in known.items()
            if row.night == night or ledger.as_utc(row.noticed_at) > now - _DAY
        }
        reasons = _reasons(connection, lens)
        moved = _moved(connection, lens, sigma, now - _DAY)
        failures = _failures(connection, lens.name)
        alerts = [
            row
            for row in alert_rows.alerts_of(connection, lens.name)
            if ledger.as_utc(row.raised_at) > now - _DAY
        ]
    rejected = Counter(
        reason for path in paths if (reason := reasons.get(path, "not processed yet")) is not None
    )
    return {
        "lens": lens.name,
        "night": night,
        "in": len(paths),
        "used": len(paths) - sum(rejected.values()),
        "rejected": dict(rejected.most_common()),
        "failures": failures,
        "moved": moved,
        "alerts": [row.subject + ("" if _was_delivered(row) else " (NOT DELIVERED)") for row in alerts],
    }


def _was_delivered(alert: sa.Row) -> bool:
    """Whether a channel took it, or none is there to take it."""
    if alert.delivery is None:  # whoever raised it was killed before it could send it
        return False
    outcome = json.loads(alert.delivery)
    return not outcome or "not sent" in outcome or "delivered" in outcome.values()


def _reasons(connection: sa.Connection, lens: Lens) -> dict[str, str | None]:
    """raw path: why it is not used; None where it is."""
    imported = ledger.products_of(connection, lens.name, STAGE_NAMES[1])
    reasons: dict[str, str | None] = {
        path: without_names(product.reason or product.status, path)
        for path, product in imported.items()
        if product.status != ledger.DONE
    }
    for item in usage(connection, lens.config):
        path = item.frame.original_image_path
        reasons[path] = (
            None if item.reason is None else without_names(item.reason, path, item.frame.image_relpath)
        )
    return reasons


def without_names(reason: str, *names: str) -> str:
    """A reason without the name of its frame, so that equal ones are counted together."""
    for name in names:
        reason = reason.replace(f"{name}: ", "").replace(name, "")
    return reason if len(reason) <= _LENGTH else reason[: _LENGTH - 3] + "..."


def _failures(connection: sa.Connection, lens: str) -> dict[str, str]:
    """stage: message, of stages whose last run failed or was interrupted."""
    newest = (
        sa.select(sa.func.max(stage_runs.c.id)).where(stage_runs.c.lens == lens).group_by(stage_runs.c.stage)
    )
    rows = connection.execute(sa.select(stage_runs).where(stage_runs.c.id.in_(newest)))
    return {row.stage: row.message or row.status for row in rows if row.status in ("failed", "interrupted")}


def _moved(connection: sa.Connection, lens: Lens, sigma: float, since: datetime) -> list[str]:
    """Images of light curves published since then that changed from the night before the last one to the last."""
    from lightcurver_ops.stages.light_curve_products import published_columns
    from lightcurver_ops.stages.publication_summary import last_change

    sentences = []
    for filter_name in photometry.published_filters(connection, lens.name):
        publication = photometry.publication_of(connection, lens.name, filter_name)
        if publication is None or ledger.as_utc(publication.made_at) < since:
            continue
        try:
            check_rows(connection, publication)
        except ConfigurationError as changed:
            sentences.append(str(changed))
            continue
        labels, _, nights = published_columns(connection, publication.id)
        for label in labels:
            change = last_change(nights, label)
            if abs(change.sigma) > sigma:
                difference = f", {change.mag:+.3f} mag" if math.isfinite(change.mag) else ""
                sentences.append(
                    f"image {label}, filter {filter_name}: {change.sigma:+.1f} sigma{difference} since the night before"
                )
    return sentences


def compose(lenses: list[dict[str, Any]], broken: list[str]) -> str:
    """One message about all lenses.

    Args:
        lenses: results of `summarize`, or {"lens", "error": {"message"}} where one could not be made.
        broken: messages of lens files that cannot be used.
    """
    good = [one for one in lenses if "error" not in one]
    came, used = sum(one["in"] for one in good), sum(one["used"] for one in good)
    trouble = [one for one in lenses if "error" in one or one["failures"]]
    head = (
        f"Morning summary: {_counted(len(lenses), 'lens', 'lenses')}, {_counted(came, 'frame')}, {used} used, "
        f"{came - used} rejected; {_counted(len(trouble), 'lens', 'lenses')} with failures"
    )
    lines = [head, ""]
    for one in lenses:
        if "error" in one:
            lines.append(f"{one['lens']}: cannot be summarized: {one['error']['message']}")
            continue
        rejected = one["in"] - one["used"]
        lines.append(
            f"{one['lens']} (night {one['night']}): {one['in']} in, {one['used']} used, {rejected} rejected"
        )
        lines += [f"    rejected {count} x {reason}" for reason, count in one["rejected"].items()]
        lines += [f"    FAILED {stage}: {message}" for stage, message in one["failures"].items()]
        lines += [f"    ALERT {subject}" for subject in one.get("alerts", ())]
        lines += [f"    MOVED {sentence}" for sentence in one["moved"]]
    if broken:
        lines += ["", "Lens files that cannot be used:", *broken]
    return "\n".join(lines)


def _counted(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or f'{one}s'}"
