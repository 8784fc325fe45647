"""Who may see and do what: Airflow's login and permissions on the lens's DAG, and a defence against forged requests."""

import secrets
from typing import Annotated, Any
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager, get_cookie_path
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, get_user, requires_access_dag
from airflow.configuration import conf
from airflow.models import DagModel
from fastapi import Depends, Form, HTTPException, Query, Request, Response
from itsdangerous import BadData, URLSafeTimedSerializer

SignedIn = Depends(get_user)
MayRead = Depends(requires_access_dag(method="GET"))
MayReadRuns = Depends(requires_access_dag(method="GET", access_entity=DagAccessEntity.RUN))
MayEdit = Depends(requires_access_dag(method="PUT"))

_SESSION = "lcops_session"
_TOKEN_LASTS_S = 12 * 3600
_MESSAGE_LASTS_S = 600  # a page that is loaded again much later is not about that any more


def user_name(user: Any) -> str:
    """Who decides, for the record."""
    return str(user.get_name())[:90]


def readable_dags(user: Any) -> set[str]:
    """The DAGs that a user may read."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


def may_edit(user: Any, dag_id: str) -> bool:
    """Whether a user may change a DAG; as `MayEdit` asks it."""
    return get_auth_manager().is_authorized_dag(method="PUT", details=_details(dag_id), user=user)


def may_start(user: Any, dag_id: str) -> bool:
    """Whether a user may start a run of a DAG; as Airflow's own route for it asks."""
    return get_auth_manager().is_authorized_dag(
        method="POST", access_entity=DagAccessEntity.RUN, details=_details(dag_id), user=user
    )


def _details(dag_id: str) -> DagDetails:
    return DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id))


def form_token(request: Request, response: Response, user: Any) -> str:
    """What a form of this page must send back: belongs to the user and to a cookie that no other site can read."""
    session = request.cookies.get(_SESSION)
    if not session:
        session = secrets.token_urlsafe(24)
        response.set_cookie(
            _SESSION,
            session,
            path=get_cookie_path(),
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https" or bool(conf.get("api", "ssl_cert", fallback="")),
        )
    return _serializer("pages").dumps([str(user.get_id()), session])


def genuine(request: Request, user: GetUserDep, csrf: Annotated[str, Form(max_length=1000)] = "") -> None:
    """Refuse what was not sent by a form of ours: another origin, or without the token of this user and session."""
    own = {request.headers.get("host"), urlsplit(conf.get("api", "base_url", fallback="")).netloc} - {
        None,
        "",
    }
    origin = urlsplit(request.headers.get("origin", ""))
    site = request.headers.get("sec-fetch-site", "same-origin")
    if origin.netloc not in own or site != "same-origin":
        raise HTTPException(403, "this request comes from another site")
    try:
        sent = _serializer("pages").loads(csrf, max_age=_TOKEN_LASTS_S)
    except BadData:
        sent = None
    session = request.cookies.get(_SESSION)
    if not session or sent != [str(user.get_id()), session]:
        raise HTTPException(403, "this form is too old, or not of your session: load the page again")


def message_to(user: Any, told: dict[str, str]) -> str:
    """A message for the next page of this user, as `told` takes it: what was done, and what went wrong."""
    return _serializer("told").dumps([str(user.get_id()), told])


def message_from_us(user: GetUserDep, told: Annotated[str, Query(max_length=8000)] = "") -> dict[str, str]:
    """What `message_to` has said to this user a moment ago; nothing that somebody else wrote into a link."""
    try:
        reader, content = _serializer("told").loads(told, max_age=_MESSAGE_LASTS_S)
    except BadData:
        return {}
    return dict(content) if reader == str(user.get_id()) else {}


def _serializer(purpose: str) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(conf.get_mandatory_value("api", "secret_key"), salt=f"lcops {purpose}")


Genuine = Depends(genuine)
Told = Annotated[dict[str, str], Depends(message_from_us)]
