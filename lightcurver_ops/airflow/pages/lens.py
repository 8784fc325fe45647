"""The pages of a lens: its light curve, and how its stages stand."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import sqlalchemy as sa
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse

from lightcurver_ops.airflow.pages.access import MayRead, may_edit
from lightcurver_ops.airflow.pages.lenses import bookkept, inside, lens_of, listed, opened
from lightcurver_ops.airflow.pages.rendering import as_json, page
from lightcurver_ops.bookkeeping import alerts as alert_rows
from lightcurver_ops.bookkeeping import decisions, photometry, withheld
from lightcurver_ops.bookkeeping import frames as frame_rows
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import publications
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.calculate_normalization_coefficient import filter_part, prepared_path, safe
from lightcurver_ops.stages.control_light_curves import control_line
from lightcurver_ops.stages.flux_errors import common_line
from lightcurver_ops.stages.light_curve_products import published_columns
from lightcurver_ops.stages.pipeline import pipeline_state

router = APIRouter(prefix="/lens/{dag_id}", dependencies=[MayRead])

_MOST = 200
_PRODUCTS = (
    "*_light_curves.png",
    "*_residuals.png",
    "*_photometry_per_*.csv",
    "*_withheld_per_epoch.csv",
    "*_common_errors.json",
    "*_control_stars.csv",
    "*_astrometry.json",
)
_FIGURES = ("footprints.png", "footprints_with_stars.png", "normalization_*.png")
_PLACES = (("prepared_roi_cutouts", _PRODUCTS), ("diagnostics", _FIGURES))
_COLUMNS = ("flux", "d_flux", "mag", "d_mag_down", "d_mag_up")

Filter = Annotated[str | None, Query(max_length=40)]
Version = Annotated[int | None, Query(ge=1, le=2**31)]


@router.get("/")
def lens_page(
    request: Request, dag_id: str, user: GetUserDep, filter: Filter = None, version: Version = None
) -> Response:
    """The light curve of a lens, to explore."""
    config = lens_of(dag_id)
    with opened(config) as lens:
        filters, versions, shown = _publications(lens, filter, version)
        held = _withheld(lens)
    return page(
        request,
        "lens.html",
        config=config,
        tab="curve",
        filters=filters,
        versions=versions,
        shown=shown,
        controls=_line(control_line, shown.control_stars) if shown is not None else None,
        common=_line(common_line, shown.common_errors) if shown is not None else None,
        files=_files(config, shown.filter if shown is not None else None),
        figures=[path.name for path in listed(config, "diagnostics", _FIGURES)],
        held=held,
        may_edit=may_edit(user, dag_id),
    )


def _withheld(lens: Lens | None) -> list[dict[str, Any]]:
    """What missed a gate of the publication: filter, when, why, and the name of its file."""
    if lens is None:
        return []
    with reading(lens.engine) as connection:
        return [
            {
                "filter": row.filter,
                "made_at": row.made_at,
                "why": withheld.reasons_of(row),
                "file": Path(row.file).name,
            }
            for row in withheld.withheld_of(connection, lens.name)
        ]


def _publications(
    lens: Lens | None, filter_name: str | None, version: int | None
) -> tuple[list[str], list[sa.Row], sa.Row | None]:
    """Filters, versions of one of them newest first, and the one to show."""
    if lens is None:
        return [], [], None
    with reading(lens.engine) as connection:
        filters = photometry.published_filters(connection, lens.name)
        if not filters and filter_name is None:
            return [], [], None
        chosen = filter_name or filters[0]
        columns = (
            publications.c.id,
            publications.c.version,
            publications.c.made_at,
            publications.c.code_version,
        )
        query = sa.select(*columns).where(publications.c.lens == lens.name, publications.c.filter == chosen)
        versions = list(connection.execute(query.order_by(publications.c.version.desc())))
        shown = photometry.publication_of(connection, lens.name, chosen, version)
    if shown is None:
        raise HTTPException(404, "there is no such light curve")
    return filters, versions, shown


def _line(called: Callable[[dict[str, Any]], str], record: str | None) -> str | None:
    """A JSON record of a publication in one line; None where it has none."""
    content = json.loads(record or "null")
    return called(content) if content else None


@router.get("/curve.json")
def curve(dag_id: str, filter: Annotated[str, Query(max_length=40)], version: Version = None) -> Response:
    """A light curve: per epoch, per night, and of the control stars."""
    with bookkept(lens_of(dag_id)) as lens, reading(lens.engine) as connection:
        publication = photometry.publication_of(connection, lens.name, filter, version)
        if publication is None:
            raise HTTPException(404, "there is no such light curve")
        newest = photometry.publication_of(connection, lens.name, filter)
        labels, epochs, nights = published_columns(connection, publication.id)
        about = {row.number: row for row in frame_rows.all_frames(connection, lens.name)}
        controls = None
        if newest is not None and newest.id == publication.id:
            controls = _controls(lens.config, filter)
    ids = [int(one) for one in epochs["frame_id"]]
    seen = [about.get(one) for one in ids]
    return as_json(
        {
            "lens": lens.name,
            "filter": filter,
            "version": publication.version,
            "labels": labels,
            "epochs": {"mjd": epochs["mjd"], "frame": ids, "chi2": epochs["reduced_chi2"],
                       "name": [_name(row) for row in seen],
                       "seeing": [row.seeing_arcseconds if row else None for row in seen],
                       "airmass": [row.airmass if row else None for row in seen],
                       "images": {label: _image(epochs, label) for label in labels}},
            "nights": {"mjd": nights["mjd"], "chi2": nights["reduced_chi2"],
                       "images": {label: {**_image(nights, label), "count": nights[f"{label}_count_flux"]}
                                  for label in labels}},
            "controls": controls,
        }
    )  # fmt: skip


def _name(row: sa.Row | None) -> str:
    return row.image_relpath.removeprefix("frames/") if row else "?"


def _image(table: dict[str, Any], label: str) -> dict[str, Any]:
    return {name: table[f"{label}_{name}"] for name in _COLUMNS}


def _controls(config: LensConfig, filter_name: str) -> dict[str, Any] | None:
    """The light curves of the control stars of the newest version; None where there are none."""
    from lightcurver_ops.storage.tables import read_table

    path = prepared_path(config, filter_name, "_control_stars.csv")
    try:
        table = read_table(inside(config, path))
    except (HTTPException, BadFrame):
        return None
    labels = [name.removesuffix("_flux") for name in table if name.endswith("_flux") and "_d_" not in name]
    return {
        "mjd": table["mjd"],
        "frame": table["frame_id"],
        "seeing": table["seeing"],
        "images": {
            label: {name: table[f"{label}_{name}"] for name in _COLUMNS if f"{label}_{name}" in table}
            for label in labels
        },
    }


def _files(config: LensConfig, filter_name: str | None) -> list[str]:
    """Names of the tables and figures of a filter."""
    start = f"{safe(config.roi_name)}_{filter_part(filter_name)}_" if filter_name is not None else ""
    return [
        path.name for path in listed(config, "prepared_roi_cutouts", _PRODUCTS) if path.name.startswith(start)
    ]


@router.get("/files/{name}")
def lens_file(dag_id: str, name: str) -> FileResponse:
    """One of the files that the pages list."""
    config = lens_of(dag_id)
    for directory, patterns in _PLACES:
        for path in listed(config, directory, patterns):
            if path.name == name:
                kind = "inline" if path.suffix == ".png" else "attachment"
                return FileResponse(path, filename=name, content_disposition_type=kind)
    raise HTTPException(404, "there is no such file")


@router.get("/state/")
def state_page(request: Request, dag_id: str, user: GetUserDep) -> Response:
    """How the stages of a lens stand, to the bookkeeping, its alerts, and what users decided."""
    config = lens_of(dag_id)
    states, alerts, decided, looked_at = [], [], [], None
    with opened(config) as lens:
        if lens is not None:
            states = pipeline_state(lens, as_known=True)
            with reading(lens.engine) as connection:
                looked_at = raw_rows.last_noticed(connection, lens.name)
                alerts = alert_rows.alerts_of(connection, lens.name)[::-1][:_MOST]
                decided = decisions.decisions_of(connection, lens.name, most=_MOST)
    return page(
        request,
        "state.html",
        config=config,
        tab="state",
        states=states,
        looked_at=looked_at,
        alerts=alerts,
        decisions=decided,
        may_edit=may_edit(user, dag_id),
    )
