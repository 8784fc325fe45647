"""What follows from a decision: an entry in Airflow's audit log, and runs of the user who decided."""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from airflow.api.common.trigger_dag import trigger_dag
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.exceptions import AirflowException
from airflow.models import Log
from airflow.utils.session import create_session
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from fastapi import HTTPException
from fastapi.responses import RedirectResponse
from sqlalchemy.exc import SQLAlchemyError

from lightcurver_ops.airflow.observatory_dags import REPROCESS
from lightcurver_ops.airflow.pages.access import may_start, message_to, readable_dags, user_name
from lightcurver_ops.airflow.pages.lenses import dags_of
from lightcurver_ops.airflow.policy import reprocess_id
from lightcurver_ops.config import LensConfig
from lightcurver_ops.operations.reprocessing import Reprocessing


@dataclass(frozen=True)
class Decided:
    """What a form has decided.

    Attributes:
        kind: as `bookkeeping.decisions` calls it; the event of the audit log.
        names: of the frames or stars.
        comment: why.
        nights: those whose frames must go through the stages of a night; without them the season does all.
    """

    kind: str
    names: list[str]
    comment: str
    nights: Collection[str] = ()


def may_reprocess(user: GetUserDep, config: LensConfig) -> bool:
    """Whether a user may have the light curve made again."""
    return all(may_start(user, dag) for dag in dags_of(config))


def done(
    user: Any, config: LensConfig, dag_id: str, back: str, message: str, decided: Decided, reprocess: bool
) -> RedirectResponse:
    """Back to the page of the form, with what was done; starts the runs that follow from it if wished.

    The season makes whatever is missing or out of date, from the stars on. What comes before is the part of a night's
    run; the season begins when these are over.
    """
    told = {"done": message}
    if decided.names:
        trouble = [_note(user, dag_id, decided.kind, frames_or_stars=decided.names, comment=decided.comment)]
        if reprocess:
            run, not_started = _start_runs(user, config, decided.nights)
            told |= run
            trouble.append(not_started)
        if any(trouble):
            told["trouble"] = "; ".join(filter(None, trouble))
    return RedirectResponse(f"{back}?{urlencode({'told': message_to(user, told)})}", status_code=303)


def ask_again(user: Any, config: LensConfig, dag_id: str, wanted: Reprocessing) -> RedirectResponse:
    """Have the lens reduced again, in the name of a user whose rights were asked; back to the page."""
    asked = {key: value for key, value in asdict(wanted).items() if value}
    told = {"done": f"{config.name} is reduced again from {wanted.from_stage} on, for {user_name(user)}"}
    try:
        # A kind of run that Airflow lets nobody start by its form or its REST API, where it asks for no lens's rights.
        run = trigger_dag(
            REPROCESS,
            run_type=DagRunType.OPERATOR_TRIGGERED,
            triggered_by=DagRunTriggeredByType.UI,
            triggering_user_name=user_name(user),
            conf={"lens": config.name, **asked},
        )
    except (AirflowException, ValueError) as error:
        told = {"done": "Nothing is done", "trouble": f"the run could not be started: {error}"}
        run = None
    if run is not None:
        trouble = _note(user, dag_id, REPROCESS, run.run_id, **asked)
        if REPROCESS in readable_dags(user):
            told |= {"run": run.run_id, "dag": REPROCESS}
        if trouble:
            told["trouble"] = trouble
    return RedirectResponse(f"./?{urlencode({'told': message_to(user, told)})}", status_code=303)


def refuse_unless_allowed(user: Any, config: LensConfig, reprocess: bool) -> None:
    """Before anything is decided: 403 where the runs that are wished may not be started."""
    if reprocess and not may_reprocess(user, config):
        raise HTTPException(403, f"you may not start runs of {' and '.join(dags_of(config))}")


def refuse_without_reason(comment: str) -> None:
    """400 where nobody says why."""
    if not comment.strip():
        raise HTTPException(400, "say why: the comment is kept with the decision")


def _note(user: Any, dag_id: str, event: str, run_id: str | None = None, **extra: Any) -> str | None:
    """Enter what was done into Airflow's audit log; returns why it could not be.

    Not by Airflow's `action_logging`: it notes what is asked for, before it is done, and does not see what a form says.
    """
    by = user.get_name()
    entry = Log(
        event=event, dag_id=dag_id, run_id=run_id, owner=by, owner_display_name=by, extra=json.dumps(extra)
    )
    try:
        with create_session() as session:
            session.add(entry)
    except SQLAlchemyError as error:  # the bookkeeping has the decision, with the same name and comment
        return f"Airflow's audit log did not take it ({type(error).__name__})"
    return None


def _start_runs(user: Any, config: LensConfig, nights: Collection[str]) -> tuple[dict[str, str], str | None]:
    """Start the runs of nights, and of the season, which waits for them; returns the last one, and what went wrong."""
    nightly, season = dags_of(config)
    now = datetime.now(UTC)
    # As those that the page Reprocess asks for: tonight's nights come first.
    wanted: list[tuple[str, str | None, dict[str, str]]] = [
        (nightly, reprocess_id(night, now), {"night": night}) for night in sorted(nights)
    ]
    started: dict[str, str] = {}
    for dag_id, run_id, conf in [*wanted, (season, None, {})]:
        try:
            run = trigger_dag(
                dag_id,
                triggered_by=DagRunTriggeredByType.UI,
                triggering_user_name=user_name(user),
                run_id=run_id,
                conf=conf,
            )
        except (AirflowException, ValueError) as error:
            return started, f"the run could not be started: {error}"
        if run is not None:
            started = {"run": run.run_id, "dag": dag_id}
            _note(user, dag_id, "trigger_dag_run", run.run_id, conf=conf)
    return started, None
