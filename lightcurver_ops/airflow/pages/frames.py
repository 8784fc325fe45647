"""The pages of the frames of a lens: all in a table, each with its pictures, and decisions about them."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, RedirectResponse

from lightcurver_ops.airflow.pages import pictures
from lightcurver_ops.airflow.pages.access import Genuine, MayEdit, MayRead, Told, may_edit, user_name
from lightcurver_ops.airflow.pages.deciding import (
    Decided,
    done,
    may_reprocess,
    refuse_unless_allowed,
    refuse_without_reason,
)
from lightcurver_ops.airflow.pages.lenses import bookkept, inside, lens_of
from lightcurver_ops.airflow.pages.rendering import counted, frame_name, page
from lightcurver_ops.bookkeeping import decisions as decision_rows
from lightcurver_ops.bookkeeping import ledger, photometry, stars
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.frames import frame_numbered
from lightcurver_ops.bookkeeping.tables import frames as table
from lightcurver_ops.bookkeeping.tables import products, star_flux_in_frame
from lightcurver_ops.operations import decisions
from lightcurver_ops.operations.nights import night_of_mjd, timezone_name
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import STAGE_NAMES
from lightcurver_ops.stages.usage import usage

router = APIRouter(prefix="/lens/{dag_id}", dependencies=[MayRead])
# A picture without a place costs nothing: whether its lens may be seen is asked only of the others.
of_pictures = APIRouter(prefix="/lens/{dag_id}", dependencies=[Depends(pictures.place), MayRead])

_PER_PAGE = 100
# Beside the frame's name, its reason and its thumbnail; all others can be asked for.
_USUAL = {
    "mjd": 5,
    "filter": 0,
    "exptime": 0,
    "seeing_arcseconds": 2,
    "sky_level_electron_per_second": 2,
    "ellipticity": 2,
    "airmass": 2,
    "psf_chi2": 2,
    "coefficient": 3,
}
_TEXTS = ("image_relpath", "sources_relpath", "pixel_hash", "inputs_hash")
_DERIVED = (
    "night",
    "psf_chi2",
    "psf_elongation",
    "psf_doubleness",
    "psf_field_order",
    "coefficient",
    "reason_not_used",
)
_COLUMNS = (*table.columns.keys(), *_DERIVED)

Shown = Literal["all", "used", "unused", "eliminated"]


@dataclass(frozen=True)
class FrameRow:
    """A frame with what is known of it: columns of the frames table and derived ones."""

    values: dict[str, Any]

    @property
    def number(self) -> int:
        """By which users and files know the frame."""
        return self.values["id"]

    @property
    def reason(self) -> str | None:
        return self.values["reason_not_used"]


def _all_rows(lens: Lens) -> list[FrameRow]:
    zone = timezone_name(lens.config)
    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        psfs = photometry.psfs_of(connection, lens.name, selection) if selection else {}
        known = photometry.coefficients_of(connection, lens.name, selection) if selection else {}
        usages = usage(connection, lens.config)
    return [
        FrameRow(
            {
                **item.frame._mapping,
                "id": item.frame.number,
                "night": night_of_mjd(item.frame.mjd, zone).isoformat(),
                "psf_chi2": getattr(psfs.get(item.frame.id), "chi2", None),
                "psf_elongation": getattr(psfs.get(item.frame.id), "elongation", None),
                "psf_doubleness": getattr(psfs.get(item.frame.id), "doubleness", None),
                "psf_field_order": getattr(psfs.get(item.frame.id), "field_order", None),
                "coefficient": getattr(known.get(item.frame.id), "coefficient", None),
                "reason_not_used": item.reason or (item.note if item.aside else None),
            }
        )
        for item in usages
    ]


@router.get("/frames/")
def frames_page(
    request: Request,
    dag_id: str,
    user: GetUserDep,
    told: Told,
    show: Shown = "all",
    q: Annotated[str, Query(max_length=200)] = "",
    sort: Annotated[str, Query(max_length=60)] = "mjd",
    down: bool = True,
    columns: Literal["usual", "all"] = "usual",
    number: Annotated[int, Query(ge=1, le=10**6)] = 1,
) -> Response:
    """The table of frames: a part of it, in an order."""
    if sort not in _COLUMNS:
        raise HTTPException(404, "there is no such column")
    config = lens_of(dag_id)
    with bookkept(config) as lens:
        every = _all_rows(lens)
        with reading(lens.engine) as connection:
            never = _never_imported(connection, lens.name)
    chosen = [row for row in every if _is_shown(row, show) and _matches(row, q)]
    chosen.sort(key=lambda row: _order(row.values[sort]), reverse=down)
    pages = max(1, -(-len(chosen) // _PER_PAGE))
    number = min(number, pages)
    wanted = {**_USUAL}
    if columns == "all":
        wanted |= {name: 3 for name in _COLUMNS if name not in (*_USUAL, *_TEXTS, "reason_not_used", "id")}
    asked = {"show": show, "q": q, "sort": sort, "down": str(down).lower(), "columns": columns}
    return page(
        request,
        "frames.html",
        user,
        config=config,
        tab="frames",
        rows=chosen[(number - 1) * _PER_PAGE : number * _PER_PAGE],
        columns=wanted,
        asked=asked,
        number=number,
        pages=pages,
        n_all=len(every),
        n_used=sum(row.reason is None for row in every),
        n_chosen=len(chosen),
        never=never,
        may_edit=may_edit(user, dag_id),
        may_reprocess=may_reprocess(user, config),
        told=told,
    )


def _is_shown(row: FrameRow, show: Shown) -> bool:
    return {
        "all": True,
        "used": row.reason is None,
        "unused": row.reason is not None,
        "eliminated": bool(row.values["eliminated"]),
    }[show]


def _matches(row: FrameRow, text: str) -> bool:
    sought = (row.values["image_relpath"], row.values["night"], row.values["filter"], row.reason or "")
    return all(any(word in one.lower() for one in sought) for word in text.lower().split())


def _order(value: Any) -> tuple[bool, Any]:
    """Numbers and texts in their order, what is not known first."""
    if isinstance(value, bool | int | float) or value is None:
        return (value is not None, float(value or 0.0))
    return (True, str(value))


def _never_imported(connection: sa.Connection, lens: str) -> list[tuple[str, str]]:
    known = ledger.products_of(connection, lens, STAGE_NAMES[1])
    return [
        (Path(unit).name, one.reason or one.status)
        for unit, one in known.items()
        if one.status != ledger.DONE
    ]


@router.get("/frames.csv")
def frames_csv(dag_id: str) -> Response:
    """All columns of all frames."""
    with bookkept(lens_of(dag_id)) as lens:
        rows = _all_rows(lens)
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    writer.writerows([_cell(row.values[name]) for name in _COLUMNS] for row in rows)
    headers = {"Content-Disposition": 'attachment; filename="frames.csv"'}
    return Response(text.getvalue(), media_type="text/csv; charset=utf-8", headers=headers)


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is quoted."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def _frame(connection: sa.Connection, lens: Lens, number: int) -> sa.Row:
    row = frame_numbered(connection, lens.name, number)
    if row is None:
        raise HTTPException(404, "there is no such frame")
    return row


@router.get("/frames/{number}/")
def frame_page(
    request: Request,
    dag_id: str,
    number: int,
    user: GetUserDep,
    told: Told,
) -> Response:
    """One frame: its pictures, numbers, stars, and history."""
    config = lens_of(dag_id)
    with bookkept(config) as lens:
        with reading(lens.engine) as connection:
            frame = _frame(connection, lens, number)
            selection = stars.current_selection(connection, lens.name)
            psf = photometry.psfs_of(connection, lens.name, selection).get(frame.id) if selection else None
            known = (
                {star.gaia_id: star for star in stars.stars_of(connection, lens.name, selection)}
                if selection
                else {}
            )
            places = stars.stars_in_frame(connection, frame.id, selection) if selection else {}
            fluxes = _fluxes(connection, frame.id, selection)
            history = _history(connection, lens.name, frame)
            decided = decision_rows.decisions_of(connection, lens.name, frame.image_relpath)
        rows = _all_rows(lens)
    place = next(index for index, row in enumerate(rows) if row.number == number)
    used_by_psf = set(psf.psf_ref.removeprefix("psf_").split("_")) if psf is not None else set()
    reference: list[dict[str, Any]] = [
        {"star": known[gaia_id], "x": x, "y": y, "flux": fluxes.get(gaia_id),
         "in_psf": known[gaia_id].name in used_by_psf}
        for gaia_id, (x, y) in places.items()
        if gaia_id in known
    ]  # fmt: skip
    reference.sort(key=lambda one: one["star"].distance_to_roi_arcsec)
    return page(
        request,
        "frame.html",
        user,
        config=config,
        tab="frames",
        frame=frame,
        row=rows[place],
        columns=[name for name in _COLUMNS if name not in ("lens", "reason_not_used")],
        before=rows[place - 1] if place else None,
        after=rows[place + 1] if place + 1 < len(rows) else None,
        psf=psf,
        reference=reference,
        roi=pictures.place_of_roi(config, frame),
        sources=pictures.sources_of(config, frame),
        history=history,
        decisions=decided,
        may_edit=may_edit(user, dag_id),
        may_reprocess=may_reprocess(user, config),
        told=told,
    )


def _fluxes(connection: sa.Connection, frame_id: int, selection: str | None) -> dict[str, sa.Row]:
    flux = star_flux_in_frame
    query = sa.select(flux).where(flux.c.frame_id == frame_id, flux.c.combined_footprint_hash == selection)
    return {row.star_gaia_id: row for row in connection.execute(query)}


def _history(connection: sa.Connection, lens: str, frame: sa.Row) -> list[sa.Row]:
    """What the stages made of a frame, in their order."""
    query = sa.select(products).where(
        products.c.lens == lens, products.c.unit.in_([frame.image_relpath, frame.original_image_path])
    )
    rows = [row for row in connection.execute(query) if row.stage in STAGE_NAMES]
    return sorted(rows, key=lambda row: STAGE_NAMES.index(row.stage))


@of_pictures.get("/frames/{number}/{picture}.png")
async def frame_picture(
    dag_id: str, number: int, picture: Literal["small", "image", "roi", "psf", "stars", "psf_fit"]
) -> Response:
    """A picture of a frame."""
    return await pictures.in_turn(_picture, dag_id, number, picture)


def _picture(dag_id: str, number: int, picture: str) -> Response:
    config = lens_of(dag_id)
    with bookkept(config) as lens:
        with reading(lens.engine) as connection:
            frame = _frame(connection, lens, number)
        if picture == "psf_fit":
            name = f"{Path(frame.image_relpath).stem}.png"
            return FileResponse(inside(config, config.workdir / "diagnostics" / "psf" / name))
        content = pictures.draw(lens, frame, picture)
    return Response(content, media_type="image/png", headers={"Cache-Control": "private, max-age=300"})


@router.post("/frames/decide", dependencies=[MayEdit, Genuine])
def decide_frames(
    dag_id: str,
    user: GetUserDep,
    action: Annotated[Literal["eliminate", "restore"], Form()],
    frame: Annotated[list[int], Form(max_length=1000)],
    comment: Annotated[str, Form(max_length=1000)] = "",
    reprocess: Annotated[bool, Form()] = False,
    back: Annotated[Literal["table", "frame"], Form()] = "table",
) -> RedirectResponse:
    """Eliminate or restore frames."""
    config = lens_of(dag_id)
    refuse_unless_allowed(user, config, reprocess)
    if action == "eliminate":
        refuse_without_reason(comment)
    by = user_name(user)
    with bookkept(config, decide=True) as lens, writing(lens.engine) as connection:
        rows = [_frame(connection, lens, one) for one in dict.fromkeys(frame)]
        if action == "eliminate":
            rows = decisions.eliminate_frames(connection, lens.name, rows, comment, by)
            unsolved: list[sa.Row] = []
        else:
            rows = decisions.restore_frames(connection, lens.name, rows, by, comment)
            unsolved = [row for row in rows if not row.plate_solved]
        nights = _nights_of(connection, lens, unsolved)
    kind = {"eliminate": decision_rows.ELIMINATE, "restore": decision_rows.RESTORE}[action]
    decided = Decided(kind, [frame_name(row.image_relpath) for row in rows], comment.strip(), nights)
    message = f"{counted(len(rows), 'frame')} {action}d by {by}"
    place = f"./{frame[0]}/" if back == "frame" else "./"
    return done(user, config, dag_id, place, message, decided, reprocess)


def _nights_of(connection: sa.Connection, lens: Lens, rows: list[sa.Row]) -> set[str]:
    """The nights of frames: as their raw files were noticed, else by their time."""
    known = raw_rows.known_raw_files(connection, lens.name) if rows else {}
    zone = timezone_name(lens.config)
    noticed = {row.id: getattr(known.get(row.original_image_path), "night", None) for row in rows}
    return {noticed[row.id] or night_of_mjd(row.mjd, zone).isoformat() for row in rows}
