"""One message per event: from a task that failed, a run that was killed, a night without frames, an overdue season."""

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from asgiref.sync import sync_to_async

from lightcurver_ops.airflow.channels import deliver
from lightcurver_ops.airflow.child import StageRefused
from lightcurver_ops.airflow.connection import task_url
from lightcurver_ops.bookkeeping import alerts as alert_rows
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.hashing import hash_of, hash_of_file
from lightcurver_ops.config import load_lens, load_observatory
from lightcurver_ops.operations import events
from lightcurver_ops.operations.events import Event
from lightcurver_ops.operations.nights import night_at
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized

log = logging.getLogger(__name__)

_ENDED = (
    "A task of this run ended without a word: it was killed (out of memory, a restart of the machine, a lost worker) "
    "or took longer than it may ({reason})."
)
_KINDS = {"QualityGate": events.QUALITY_GATE, "ConfigurationError": events.CONFIGURATION}


@dataclass(frozen=True)
class LensAlerts:
    """The callbacks of a lens's DAGs.

    Args:
        observatory: path of the observatory's file.
        lens_file: path of the lens's file.
        lens: its name.
        timezone: by which its nights run.
    """

    observatory: str
    lens_file: str
    lens: str
    timezone: str = "UTC"

    def task_failed(self, context: Any) -> None:
        """A task failed for good (its retries are spent, or no retry helps): in the task's own process."""
        ti, error = context["ti"], context.get("exception")
        kind = events.STAGE_FAILED
        if isinstance(error, StageRefused):
            kind = _KINDS.get(error.error_class, events.STAGE_FAILED)
        self._raise(
            kind=kind,
            what=_ENDED.format(reason="the worker was lost")
            if error is None
            else str(error) or type(error).__name__,
            key=f"{_run_key(context)}{ti.task_id}",
            night=_night(context, self.timezone),
            stage=ti.task_id,
            link=ti.log_url,
        )

    def run_failed(self, context: Any) -> None:
        """A run failed: in the DAG processor. Speaks up only where no task of it could, because it was killed."""
        prefix = _run_key(context)
        engine = self._engine()
        if engine is None:
            return  # what keeps us from asking has failed the task, too, and it has spoken
        try:
            with reading(engine) as connection:
                if alert_rows.any_with_prefix(connection, self.lens, prefix):
                    return
        except Exception as error:
            log.error("%s: the bookkeeping cannot be asked which alerts were raised: %s", self.lens, error)
            return
        finally:
            engine.dispose()
        ti = context.get("ti")
        self._raise(
            kind=events.STAGE_FAILED,
            what=_ENDED.format(reason=context.get("reason") or "no reason given"),
            key=f"{prefix}*",
            night=_night(context, self.timezone),
            stage=ti.task_id if ti is not None else None,
            link=ti.log_url if ti is not None else _run_link(context["dag"].dag_id, context["run_id"]),
        )

    def no_frames(self, context: Any, answer: dict[str, Any], nights: int) -> None:
        """A lens had no frame for some nights; once until the next frame."""
        self._raise(
            kind=events.NO_FRAMES,
            what=f"No raw frame for {nights} nights: the last one is of the night {answer['last_night']}.",
            key=f"no_frames/{answer['last_night']}",
            night=answer["night"],
            link=context["ti"].log_url,
        )

    def season_overdue(self, run_id: str, dag_id: str, hours: float) -> None:
        """The run that makes the light curve takes too long."""
        self._raise(
            kind=events.SEASON_OVERDUE,
            what=f"The run {run_id} of {dag_id} is not finished after {hours:g} hours.",
            key=f"overdue/{dag_id}/{run_id}",
            link=_run_link(dag_id, run_id),
        )

    def _raise(self, **facts: Any) -> None:
        """Enter an event and send it, unless somebody else did; nothing that goes wrong here reaches the pipeline."""
        engine = None
        try:
            observatory = load_observatory(self.observatory)
            event = Event(observatory=observatory.name, lens=self.lens, **facts)
            engine = self._engine()
            claimed = None
            if engine is not None:
                try:
                    claimed = alert_rows.claim(
                        engine, self.lens, event.key[:300], event.kind, event.subject, event.text()
                    )
                    if claimed is None or self._was_said(engine, event, claimed):
                        return
                except Exception as error:
                    # Rather twice than never: the bookkeeping itself may be what fails.
                    log.error("%s: the alert could not be entered: %s", self.lens, type(error).__name__)
            log.warning("alert: %s", event.subject)
            outcome = deliver(event, observatory.alerts)
            if engine is not None and claimed is not None:
                with writing(engine) as connection:
                    alert_rows.save_delivery(connection, claimed, json.dumps(outcome))
        except Exception:
            log.exception("%s: an alert could not be raised", self.lens)
        finally:
            if engine is not None:  # the triggerer and the DAG processor live on
                engine.dispose()

    def _was_said(self, engine: sa.Engine, event: Event, claimed: int) -> bool:
        """Whether this very finding about an unchanged configuration was sent before: every night would repeat it."""
        if event.kind != events.CONFIGURATION:
            return False
        finding = hash_of(event.stage, event.what, hash_of_file(Path(self.lens_file)))
        key = f"configuration/{finding}"
        if alert_rows.claim(engine, self.lens, key, event.kind, event.subject, event.text()) is not None:
            return False
        with writing(engine) as connection:
            alert_rows.save_delivery(connection, claimed, json.dumps({"not sent": f"said before: {key}"}))
        return True

    def _engine(self) -> sa.Engine | None:
        try:
            config = load_lens(self.lens_file)
            settings = load_observatory(self.observatory).airflow
            lens = Lens(config.in_database(task_url(settings)))
            ensure_initialized(lens)
            return lens.engine
        except Exception as error:
            log.error("%s: the bookkeeping cannot be opened for an alert: %s", self.lens, error)
            return None


@dataclass(frozen=True)
class ObservatoryAlerts:
    """The callback of the DAGs of an observatory: one message per run that failed.

    Args:
        observatory: path of the observatory's file.
    """

    observatory: str

    def run_failed(self, context: Any) -> None:
        """A run failed: in the DAG processor, once."""
        try:
            observatory = load_observatory(self.observatory)
            dag_id, run_id = context["dag"].dag_id, context["run_id"]
            event = Event(
                kind=events.STAGE_FAILED,
                observatory=observatory.name,
                what=f"The run {run_id} of {dag_id} failed ({context.get('reason') or 'no reason given'}).",
                key=f"{dag_id}/{run_id}",
                lens=dag_id,
                link=_run_link(dag_id, run_id),
            )
            log.warning("alert: %s", event.subject)
            deliver(event, observatory.alerts)
        except Exception:
            log.exception("an alert could not be raised")


def raise_no_frames(operator: Any, context: Any, answer: dict[str, Any]) -> None:
    """Raise the alert of a night without frames where the lens's limit is reached; only for nights as they happen."""
    if str(context["dag_run"].run_type) not in ("scheduled", "DagRunType.SCHEDULED"):
        return
    try:
        limit = load_lens(operator.lens_file).operations.alert_after_nights_without_frames
        nights = answer["nights_without_frames"]
        if limit is not None and nights >= limit:
            operator.alerts.no_frames(context, answer, nights)
    except Exception:
        log.exception("%s: an alert could not be raised", operator.lens)


async def season_overdue(
    observatory: str, lens_file: str, lens: str, hours: float, context: Any = None, **_: Any
) -> None:
    """Called in the triggerer when a season run misses its deadline."""
    run = (context or {}).get("dag_run") or {}
    run_id = run.get("dag_run_id") or run.get("run_id") or "?"
    callbacks = LensAlerts(observatory, lens_file, lens)
    # Not a plain thread: connections are asked for through the triggerer's own loop.
    await sync_to_async(callbacks.season_overdue)(run_id, run.get("dag_id") or "?", hours)


def _run_key(context: Any) -> str:
    """Begins the keys of the alerts of a run; a run that was cleared and fails again is another event."""
    run = context.get("dag_run")
    cleared = getattr(run, "clear_number", 0) or 0
    run_id = context.get("run_id") or run.run_id
    return f"{context['dag'].dag_id}/{run_id}/{cleared}/"


def _night(context: Any, timezone: str) -> str | None:
    run = context.get("dag_run")
    if run is None or not context["dag"].dag_id.endswith("__nightly"):
        return None
    if (night := (run.conf or {}).get("night")) is not None:
        return str(night)
    begin = run.data_interval_start
    return None if begin is None else night_at(begin, timezone).isoformat()


def _run_link(dag_id: str, run_id: str) -> str:
    from urllib.parse import quote

    from airflow.sdk.configuration import conf

    base = conf.get("api", "base_url", fallback="http://localhost:8080").rstrip("/")
    return f"{base}/dags/{dag_id}/runs/{quote(run_id)}"
