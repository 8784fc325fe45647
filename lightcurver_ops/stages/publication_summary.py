"""What lists of many light curves show of each: kept beside a publication, so that nobody reads all its points."""

import json
import math
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping.ledger import upsert
from lightcurver_ops.bookkeeping.tables import publication_summaries
from lightcurver_ops.stages.light_curve_products import Columns, published_columns

NIGHTS_SHOWN = 40


@dataclass(frozen=True)
class Change:
    """From the night before the last one to the last: fluxes in their errors, and magnitudes; NaN where unknown."""

    sigma: float
    mag: float


def last_change(nights: Columns, label: str) -> Change:
    """How an image changed from the night before the last one to the last, by the table per night."""
    if len(nights["mjd"]) < 2:
        return Change(math.nan, math.nan)
    (before, flux), error = (nights[f"{label}_{name}"][-2:] for name in ("flux", "d_flux"))
    mags = nights[f"{label}_mag"][-2:]
    scale = math.hypot(*error)
    return Change(float((flux - before) / scale) if scale > 0 else math.nan, float(mags[1] - mags[0]))


def summary_of(connection: sa.Connection, publication_id: int) -> dict[str, Any]:
    """The summary of a light curve.

    Returns:
        n_epochs, and images: by label mag, d_mag (of the last night), sigma, change (mag, since the night before; null
        where unknown), and course: [mjd, mag], or [mjd, flux] where no magnitude is known, of the last nights.
    """
    labels, epochs, nights = published_columns(connection, publication_id)
    images = {}
    for label in labels:
        change = last_change(nights, label)
        mags = nights[f"{label}_mag"]
        known = any(map(math.isfinite, mags))
        values = mags if known else nights[f"{label}_flux"]
        images[label] = {
            "mag": _number(mags[-1], 4) if len(mags) else None,
            "d_mag": _number(nights[f"{label}_d_mag"][-1], 4) if len(mags) else None,
            "sigma": _number(change.sigma, 2),
            "change": _number(change.mag, 4),
            "inverted": known,
            "course": [
                [round(float(mjd), 3), round(float(value), 4)]
                for mjd, value in list(zip(nights["mjd"], values))[-NIGHTS_SHOWN:]
                if math.isfinite(value)
            ],
        }
    return {"n_epochs": len(epochs["mjd"]), "images": images}


def save_summary(connection: sa.Connection, lens: str, filter_name: str) -> None:
    """Keep the summary of the newest light curve of a filter."""
    publication = photometry.publication_of(connection, lens, filter_name)
    if publication is None:
        return
    summary = summary_of(connection, publication.id)
    row = {
        "publication_id": publication.id,
        "n_epochs": summary["n_epochs"],
        "images": json.dumps(summary["images"]),
    }
    upsert(connection, publication_summaries, [row])


def _number(value: float, digits: int) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None
