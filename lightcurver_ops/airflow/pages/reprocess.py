"""The page that has a lens reduced again: from some stage on, some nights, without some frames or stars."""

from datetime import date
from typing import Annotated, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Form, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BeforeValidator

from lightcurver_ops.airflow.pages.access import Genuine, MayEdit, MayRead, Told, may_edit
from lightcurver_ops.airflow.pages.deciding import ask_again, may_reprocess, refuse_unless_allowed
from lightcurver_ops.airflow.pages.lenses import bookkept, lens_of
from lightcurver_ops.airflow.pages.rendering import page
from lightcurver_ops.bookkeeping import raw_files as raw_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.reprocessing import Reprocessing, check_reprocessing
from lightcurver_ops.stages.pipeline import STAGE_NAMES, STAGES

router = APIRouter(prefix="/lens/{dag_id}/reprocess", dependencies=[MayRead])

_USUAL = "psf_modeling"
# What a form leaves empty comes as an empty text.
Night = Annotated[date | None, BeforeValidator(lambda text: text or None), Form()]
Names = Annotated[str, Form(max_length=20_000)]


@router.get("/")
def reprocess_page(request: Request, dag_id: str, user: GetUserDep, told: Told) -> Response:
    """The form."""
    config = lens_of(dag_id)
    with bookkept(config) as lens, reading(lens.engine) as connection:
        nights = raw_rows.nights_of(connection, lens.name)
    return page(
        request,
        "reprocess.html",
        user,
        config=config,
        tab="reprocess",
        stages=[(stage.name, stage.title) for stage in STAGES[1:]],
        usual=_USUAL,
        nights=nights,
        may_edit=may_edit(user, dag_id),
        may_reprocess=may_reprocess(user, config),
        told=told,
    )


@router.post("/start", dependencies=[MayEdit, Genuine])
def start_reprocessing(
    dag_id: str,
    user: GetUserDep,
    from_stage: Annotated[Literal[STAGE_NAMES[1:]], Form()],  # type: ignore[valid-type]
    redo: Annotated[bool, Form()] = False,
    first_night: Night = None,
    last_night: Night = None,
    exclude_frames: Names = "",
    exclude_stars: Names = "",
    comment: Annotated[str, Form(max_length=1000)] = "",
) -> RedirectResponse:
    """Start it, where the user may edit this lens and start its runs."""
    config = lens_of(dag_id)
    refuse_unless_allowed(user, config, reprocess=True)
    wanted = Reprocessing(
        from_stage,
        redo,
        first_night.isoformat() if first_night else None,
        last_night.isoformat() if last_night else None,
        _lines(exclude_frames),
        _lines(exclude_stars),
        comment.strip(),
    )
    with bookkept(config) as lens, reading(lens.engine) as connection:
        try:
            check_reprocessing(connection, lens, wanted)
        except ConfigurationError as error:
            raise HTTPException(400, str(error)) from error
    return ask_again(user, config, dag_id, wanted)


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]
