"""The page of the reference stars: normalization curves, scatter, who is variable; exclusions."""

from typing import Annotated, Any, Literal

import sqlalchemy as sa
from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Form, HTTPException, Query, Request, Response
from fastapi.responses import RedirectResponse

from lightcurver_ops.airflow.pages.access import Genuine, MayEdit, MayRead, Told, may_edit, user_name
from lightcurver_ops.airflow.pages.deciding import (
    Decided,
    done,
    may_reprocess,
    refuse_unless_allowed,
    refuse_without_reason,
)
from lightcurver_ops.airflow.pages.lenses import bookkept, lens_of
from lightcurver_ops.airflow.pages.rendering import as_json, counted, page
from lightcurver_ops.airflow.pages.scatter_plot import Star, scatter_plot
from lightcurver_ops.bookkeeping import decisions as decision_rows
from lightcurver_ops.bookkeeping import frames, photometry
from lightcurver_ops.bookkeeping import stars as star_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations import decisions
from lightcurver_ops.stages.control_stars import candidates_of_lens, controls_of_lens

router = APIRouter(prefix="/lens/{dag_id}", dependencies=[MayRead])


@router.get("/stars/")
def stars_page(
    request: Request,
    dag_id: str,
    user: GetUserDep,
    told: Told,
    filter: Annotated[str | None, Query(max_length=40)] = None,
) -> Response:
    """The reference stars of a lens and how they behave."""
    config = lens_of(dag_id)
    with bookkept(config) as lens, reading(lens.engine) as connection:
        selection = star_rows.current_selection(connection, lens.name)
        known = star_rows.stars_of(connection, lens.name, selection) if selection else []
        norms = photometry.star_normalizations_of(connection, lens.name, selection) if selection else []
        out = {row.star_gaia_id: row for row in star_rows.exclusions_of(connection, lens.name)}
        try:
            controls = controls_of_lens(connection, lens.config, selection).ids if selection else set()
            held_back = candidates_of_lens(connection, lens.config, selection).ids if selection else set()
        except ConfigurationError:
            controls = held_back = set()  # names that no star has: who looks them up here must see the list
        choice = star_rows.control_choice_of(connection, lens.name, selection) if selection else []
        decided = [
            row
            for row in decision_rows.decisions_of(connection, lens.name, most=1000)
            if row.kind in (decision_rows.EXCLUDE, decision_rows.INCLUDE)
        ]
        filters = sorted({row.filter for row in norms})
        chosen = filter or (filters[0] if filters else None)
        if filter is not None and filter not in filters:
            raise HTTPException(404, "there is no such filter")
        scatters = (
            photometry.star_scatters_of(connection, lens.name, selection, chosen)
            if selection and chosen
            else {}
        )
    faults = {row.star_gaia_id: row.fault for row in choice if row.filter == chosen and row.fault}
    behaviour = {row.star_gaia_id: row for row in norms if row.filter == chosen}
    rows: list[dict[str, Any]] = [
        {"star": star, "norm": behaviour.get(star.gaia_id), "out": out.get(star.gaia_id),
         "control": star.gaia_id in controls, "spare": star.gaia_id in held_back, "fault": faults.get(star.gaia_id),
         "scatter": scatters.get(star.gaia_id)}
        for star in known
    ]  # fmt: skip
    return page(
        request,
        "stars.html",
        user,
        config=config,
        tab="stars",
        filters=filters,
        filter=chosen,
        rows=rows,
        plot=scatter_plot([star for row in rows if (star := _plotted(row)) is not None]),
        decisions=decided,
        may_edit=may_edit(user, dag_id),
        may_reprocess=may_reprocess(user, config),
        told=told,
    )


def _plotted(row: dict[str, Any]) -> Star | None:
    """A row of the table as a point of the diagram; None where its magnitude or its scatter is not known."""
    star, norm, scatter = row["star"], row["norm"], row["scatter"]
    if star.gmag is None or scatter is None:
        return None
    kinds = (("excluded", row["out"]), ("control", row["control"]), ("variable", norm and norm.variable))
    kind = next((name for name, holds in kinds if holds), "usual" if norm else "other")
    return Star(star.name, star.gmag, scatter.measured, scatter.expected, kind)


@router.get("/stars.json")
def star_curves(dag_id: str, filter: Annotated[str, Query(max_length=40)]) -> Response:
    """The coefficients of a filter's frames, and each star's flux over its scale, divided by them."""
    with bookkept(lens_of(dag_id)) as lens, reading(lens.engine) as connection:
        selection = star_rows.current_selection(connection, lens.name)
        if selection is None:
            raise HTTPException(404, "there are no reference stars yet")
        known = star_rows.stars_of(connection, lens.name, selection)
        every = {row.id: row for row in frames.all_frames(connection, lens.name) if row.filter == filter}
        coefficients = photometry.coefficients_of(connection, lens.name, selection)
        norms = {
            row.star_gaia_id: row
            for row in photometry.star_normalizations_of(connection, lens.name, selection)
            if row.filter == filter
        }
        fluxes = photometry.fluxes_of(connection, lens.name, selection)
    shown = sorted((row for row in every.values() if row.id in coefficients), key=lambda row: row.mjd)
    names = {star.gaia_id: star.name for star in known}
    by_star: dict[str, dict[int, sa.Row]] = {}
    for flux in fluxes:
        by_star.setdefault(flux.star_gaia_id, {})[flux.frame_id] = flux
    return as_json(
        {
            "filter": filter,
            "mjd": [row.mjd for row in shown],
            "frame": [row.number for row in shown],
            "name": [row.image_relpath.removeprefix("frames/") for row in shown],
            "coefficient": [coefficients[row.id].coefficient for row in shown],
            "error": [coefficients[row.id].standard_error for row in shown],
            "stars": [
                {"name": names[star], "variable": bool(norm.variable),
                 **_relative(shown, by_star.get(star, {}), coefficients, norm.scale)}
                for star in names
                if (norm := norms.get(star)) is not None and norm.scale
            ],
        }
    )  # fmt: skip


def _relative(
    shown: list[sa.Row], fluxes: dict[int, sa.Row], coefficients: dict[int, sa.Row], scale: float
) -> dict[str, Any]:
    """What is left of a star after division by scale and coefficient: value (1 on average), error; null: none."""
    value: list[float | None] = []
    error: list[float | None] = []
    for row in shown:
        flux, norm = fluxes.get(row.id), scale * coefficients[row.id].coefficient
        value.append(None if flux is None or not norm else flux.flux / norm)
        error.append(None if flux is None or not norm else flux.flux_uncertainty / norm)
    return {"value": value, "error": error}


@router.post("/stars/decide", dependencies=[MayEdit, Genuine])
def decide_stars(
    dag_id: str,
    user: GetUserDep,
    action: Annotated[Literal["exclude", "include"], Form()],
    star: Annotated[list[str], Form(max_length=1000)],
    comment: Annotated[str, Form(max_length=1000)] = "",
    reprocess: Annotated[bool, Form()] = False,
) -> RedirectResponse:
    """Exclude or include reference stars, given by their catalogue identifiers."""
    config = lens_of(dag_id)
    refuse_unless_allowed(user, config, reprocess)
    if action == "exclude":
        refuse_without_reason(comment)
    by = user_name(user)
    with bookkept(config, decide=True) as lens, writing(lens.engine) as connection:
        selection = star_rows.current_selection(connection, lens.name)
        known = {one.gaia_id: one for one in star_rows.stars_of(connection, lens.name, selection or "")}
        if any(one not in known for one in star):
            raise HTTPException(404, "there is no such star")
        rows = [known[one] for one in dict.fromkeys(star)]
        if action == "exclude":
            rows = decisions.exclude_stars(connection, lens.name, rows, comment, by)
        else:
            rows = decisions.include_stars(connection, lens.name, rows, by, comment)
    kind = {"exclude": decision_rows.EXCLUDE, "include": decision_rows.INCLUDE}[action]
    decided = Decided(kind, [f"{row.name} ({row.gaia_id})" for row in rows], comment.strip())
    message = f"{counted(len(rows), 'star')} {action}d by {by}"
    return done(user, config, dag_id, "./", message, decided, reprocess)
