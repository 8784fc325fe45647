"""The page of a run: what this night, or this making of the light curve, did in numbers."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.models import DagRun
from fastapi import APIRouter, HTTPException, Request, Response

from lightcurver_ops.airflow.child import StageRefused
from lightcurver_ops.airflow.operators import night_of_run
from lightcurver_ops.airflow.pages.access import MayRead, MayReadRuns
from lightcurver_ops.airflow.pages.lenses import lens_of, opened
from lightcurver_ops.airflow.pages.rendering import page
from lightcurver_ops.bookkeeping import ledger, photometry
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import products, publications, stage_runs
from lightcurver_ops.operations.nights import night_of_mjd, timezone_name
from lightcurver_ops.operations.summary import without_names
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.light_curve_products import published_columns
from lightcurver_ops.stages.pipeline import STAGE_NAMES
from lightcurver_ops.stages.publication_summary import last_change
from lightcurver_ops.stages.usage import usage

MOST_REMARKS = 20  # kinds, shown of a night

router = APIRouter(prefix="/run/{dag_id}/{run_id}", dependencies=[MayRead, MayReadRuns])


@router.get("/")
def run_page(request: Request, dag_id: str, run_id: str, user: GetUserDep, session: SessionDep) -> Response:
    """What a run did in numbers."""
    config = lens_of(dag_id)
    run = session.scalar(sa.select(DagRun).where(DagRun.dag_id == dag_id, DagRun.run_id == run_id))
    if run is None:
        raise HTTPException(404, "there is no such run")
    begin, end = run.start_date, run.end_date or datetime.now(UTC)
    night = _night(run, config) if dag_id.endswith("__nightly") else None
    values: dict[str, Any] = {"stages": [], "made": [], "curves": [], "frames": None}
    with opened(config) as lens:
        if lens is not None and begin is not None:
            with reading(lens.engine) as connection:
                values["stages"] = _stages(connection, lens.name, begin, end)
                if night is not None:
                    values["frames"] = _frames(connection, lens, night)
                    values["made"] = _made(connection, lens, night, begin, end)
                else:
                    values["curves"] = _curves(connection, lens.name, begin, end)
    return page(
        request, "run.html", config=config, tab=None, run=run, night=night, begin=begin, end=end, **values
    )


def _night(run: DagRun, config: Any) -> str | None:
    try:
        return night_of_run({"dag_run": run}, timezone_name(config))
    except StageRefused:
        return None


def _stages(connection: sa.Connection, lens: str, begin: datetime, end: datetime) -> list[sa.Row]:
    """What stages did for this lens while the run was at work, be it this run or another."""
    query = sa.select(stage_runs).where(
        stage_runs.c.lens == lens, stage_runs.c.started_at.between(begin, end)
    )
    return list(connection.execute(query.order_by(stage_runs.c.id)))


def _frames(connection: sa.Connection, lens: Lens, night: str) -> dict[str, Any]:
    """The frames of a night: in, used, why not, and the medians of what describes them."""
    raw = raw_rows.raw_files_of_night(connection, lens.name, night)
    paths = {row.path for row in raw}
    zone = timezone_name(lens.config)
    own = [
        item
        for item in usage(connection, lens.config)
        if item.frame.original_image_path in paths or night_of_mjd(item.frame.mjd, zone).isoformat() == night
    ]
    paths |= {item.frame.original_image_path for item in own}
    imported = {item.frame.original_image_path for item in own}
    known = ledger.products_of(connection, lens.name, STAGE_NAMES[1])
    reasons = Counter(
        without_names(item.reason, item.frame.original_image_path, item.frame.image_relpath)
        for item in own
        if item.reason is not None
    )
    for path in paths - imported:
        product = known.get(path)
        reasons[
            without_names(product.reason, path) if product and product.reason else "not processed yet"
        ] += 1
    columns = ("seeing_arcseconds", "sky_level_electron_per_second", "ellipticity", "airmass")
    return {
        "in": len(paths),
        "imported": len(imported),
        "solved": sum(item.frame.plate_solved for item in own),
        "used": sum(item.reason is None for item in own),
        "exposure": sum(item.frame.exptime for item in own),
        "reasons": reasons.most_common(),
        "remarks": Counter(
            remark for item in own for remark in (item.frame.warnings or "").split("; ") if remark
        ).most_common(MOST_REMARKS),
        "medians": {name: _median([getattr(item.frame, name) for item in own]) for name in columns},
        "list": own,
    }


def _median(values: list[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None


def _made(
    connection: sa.Connection, lens: Lens, night: str, begin: datetime, end: datetime
) -> list[dict[str, Any]]:
    """Per stage: how the night's frames stand, and how many of them this run made."""
    zone = timezone_name(lens.config)
    units: set[str] = {row.path for row in raw_rows.raw_files_of_night(connection, lens.name, night)}
    for item in usage(connection, lens.config):
        if item.frame.original_image_path in units or night_of_mjd(item.frame.mjd, zone).isoformat() == night:
            units |= {item.frame.original_image_path, item.frame.image_relpath}
    query = sa.select(products).where(products.c.lens == lens.name, products.c.unit.in_(units))
    rows = list(connection.execute(query))
    result = []
    for stage in STAGE_NAMES:
        own = [row for row in rows if row.stage == stage]
        if own:
            counts = Counter(row.status for row in own)
            made = sum(begin <= ledger.as_utc(row.made_at) <= end for row in own)
            result.append({"stage": stage, "made": made, **{kind: counts[kind] for kind in
                           (ledger.DONE, ledger.QUARANTINED, ledger.FAILED)}})  # fmt: skip
    return result


def _curves(connection: sa.Connection, lens: str, begin: datetime, end: datetime) -> list[dict[str, Any]]:
    """The light curves that were published while the run was at work."""
    query = sa.select(publications).where(
        publications.c.lens == lens, publications.c.made_at.between(begin, end)
    )
    curves = []
    for row in connection.execute(query.order_by(publications.c.filter, publications.c.version)).all():
        labels, epochs, nights = published_columns(connection, row.id)
        before = (
            photometry.publication_of(connection, lens, row.filter, row.version - 1)
            if row.version > 1
            else None
        )
        n_before = (
            len({point.frame_id for point in photometry.points_of(connection, before.id)}) if before else 0
        )
        curves.append(
            {
                "filter": row.filter,
                "version": row.version,
                "epochs": len(epochs["mjd"]),
                "more": len(epochs["mjd"]) - n_before,
                "images": [
                    {"label": label, "mag": float(nights[f"{label}_mag"][-1]),
                     "d_mag": float(nights[f"{label}_d_mag"][-1]), "change": last_change(nights, label)}
                    for label in labels
                    if len(nights["mjd"])
                ],
            }
        )  # fmt: skip
    return curves
