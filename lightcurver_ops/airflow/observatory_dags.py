"""The DAGs of an observatory: arrivals of frames, reprocessing, the morning summary."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator
from airflow.sdk import (
    DAG,
    Asset,
    AssetOrTimeSchedule,
    AssetWatcher,
    BaseOperator,
    CronTriggerTimetable,
)
from airflow.sdk.exceptions import AirflowSkipException

from lightcurver_ops.airflow.alerts import ObservatoryAlerts
from lightcurver_ops.airflow.channels import deliver
from lightcurver_ops.airflow.child import StageRefused, as_airflow
from lightcurver_ops.airflow.connection import task_url
from lightcurver_ops.airflow.docs import TASK_DOCS
from lightcurver_ops.airflow.lens_dags import START, nightly_id, season_id, with_patience
from lightcurver_ops.airflow.operators import WorkerOperator
from lightcurver_ops.airflow.policy import reprocess_id
from lightcurver_ops.airflow.triggers import RawFramesTrigger
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.events import MORNING_SUMMARY, Event
from lightcurver_ops.operations.observatory import Observatory, find_lens, load_lenses, open_observatory
from lightcurver_ops.operations.watching import roots_of

ARRIVALS = "lcops_arrivals"
REPROCESS = "lens_reprocess"
SUMMARY = "lcops_morning_summary"
_BY_A_PAGE = "operator_triggered"  # the run_type; what people trigger in Airflow is `manual`
# Airflow maps at most 1024 tasks (core.max_map_length).
MOST_STARTS = 500
# Of the runs that a lens may have at a time (nightly DAG, max_active_runs), for nights that are not an archive.
_KEPT_FOR_TONIGHT = 16
_LATE_DAYS = 30  # frames of older nights are an archive that was put here, not a slow transfer


class ObservatoryOperator(WorkerOperator):
    """A task that concerns several lenses.

    Args:
        observatory: path of the observatory's file.
    """

    def __init__(self, *, observatory: str, **kwargs: Any):
        super().__init__(**kwargs)
        self.observatory = observatory

    def ask(
        self, observatory: Observatory, action: str, files: list[str], **request: Any
    ) -> list[dict[str, Any]]:
        """Have the worker do something for each of these lens files; errors are part of the answers."""
        database = task_url(observatory.config.airflow)
        common = {"action": action, "configs": files, "database": database, "processes": 1}
        return self.ask_worker({**common, **request})["lenses"]


class FindWaitingNightsOperator(ObservatoryOperator):
    """Finds the nights that wait, of the lenses that watchers named or of all; returns what starts their runs."""

    def execute(self, context: Any) -> list[dict[str, Any]]:
        observatory = open_observatory(self.observatory)
        named = _lenses_of_events(context)
        loaded = load_lenses(observatory.lens_files())
        for message in loaded.broken.values():
            self.log.warning("left out: %s", message)
        chosen = {str(one.path): one.lens for one in loaded.lenses if not named or one.lens.name in named}
        watch = observatory.config.watch.model_dump(mode="json")
        starts = []
        for (path, lens), answer in zip(
            chosen.items(), self.ask(observatory, "look_at_arrivals", list(chosen), watch=watch), strict=True
        ):
            if "error" in answer:
                self.log.error("%s: %s", path, answer["error"]["message"])
                continue
            most = max(1, observatory.config.airflow.max_active_runs - _KEPT_FOR_TONIGHT)
            new = self._starts(context["ti"], nightly_id(lens.name), answer["nights"], not named, most)
            for start in new:
                self.log.info("%s: night %s waits", lens.name, start["conf"]["night"])
            starts += new
        if not starts:
            raise AirflowSkipException("no night waits")
        if len(starts) > MOST_STARTS:
            self.log.warning("%d nights wait: %d of them now, the others later", len(starts), MOST_STARTS)
        return starts[:MOST_STARTS]

    @staticmethod
    def _starts(
        ti: Any, dag_id: str, nights: dict[str, str | None], sweep: bool, most: int
    ) -> list[dict[str, Any]]:
        """What starts the nights that wait, the newest first.

        The same arrivals start one run. What such a run left undone, and what a changed configuration put out of date,
        is for a sweep, once no night of the lens is at work. Nights that stand back behind tonight's take no more than
        `most` of the lens's runs: those left over are for the next look.
        """
        starts: list[dict[str, Any]] = []
        active = ti.get_dr_count(dag_id=dag_id, states=["queued", "running"])
        for night, noticed in sorted(nights.items(), reverse=True):
            kind = _kind(night)
            run_id = f"{kind}__{night}__{noticed}"
            if noticed is None or ti.get_dr_count(dag_id=dag_id, run_ids=[run_id]) > 0:
                if not sweep or active:
                    continue
                kind, run_id = "reprocess", reprocess_id(night, datetime.now(UTC))
            if kind == "late" or active + len(starts) < most:
                starts.append(_start(dag_id, run_id, night))
        return starts


def _kind(night: str) -> str:
    """What the run of a night's new files is called: `late` comes with tonight's, `archive` stands back behind it."""
    recent = datetime.now(UTC).date() - timedelta(days=_LATE_DAYS)
    return "late" if night >= recent.isoformat() else "archive"


def _lenses_of_events(context: Any) -> set[str]:
    """Lenses that the watchers named; none: a sweep of all."""
    named = set()
    for events in (context.get("triggering_asset_events") or {}).values():
        for event in events:
            payload = (event.extra or {}).get("payload") or {}
            named |= set(payload.get("lenses", {}))
    return named


def _start(dag_id: str, run_id: str, night: str | None) -> dict[str, Any]:
    """What starts a run."""
    conf = {} if night is None else {"night": night}
    return {"trigger_dag_id": dag_id, "trigger_run_id": run_id, "conf": conf}


class DecideOperator(ObservatoryOperator):
    """Enters the decisions of a lens's page; returns what starts the runs that follow from them.

    A task does not know which lenses its user may edit: Airflow gives it a name, and no rights. The page has asked for
    them (`pages/reprocess.py`), and starts a kind of run that nobody can start by Airflow's form or its REST API.
    Nor is what was allowed once allowed to whoever clears the run later.
    """

    def execute(self, context: Any) -> list[dict[str, Any]]:
        run = context["dag_run"]
        if run.run_type != _BY_A_PAGE or run.clear_number:
            raise StageRefused(
                "nothing was decided: a run that was triggered or cleared in Airflow does not say whether its user may "
                "edit the lens; ask for it on the lens's page (tab Lens, Reprocess), or with `lcops run --redo`"
            )
        asked = run.conf or {}
        try:
            observatory = open_observatory(self.observatory)
            loaded = find_lens(observatory, asked["lens"])
        except ConfigurationError as error:
            raise StageRefused(str(error)) from error
        by = run.triggering_user_name or "airflow"
        wanted = {key: value for key, value in asked.items() if key != "lens"}
        watch = observatory.config.watch.model_dump(mode="json")
        files = [str(loaded.path)]
        (answer,) = self.ask(observatory, "decide", files, reprocessing=wanted, by=by, watch=watch)
        if "error" in answer:
            raise as_airflow(answer["error"])
        nights = answer["nights"]
        now = datetime.now(UTC)
        self.log.info("%s: %d nights, from %s on", loaded.lens.name, len(nights), wanted["from_stage"])
        starts = [_start(nightly_id(loaded.lens.name), reprocess_id(night, now), night) for night in nights]
        if len(starts) > MOST_STARTS:
            raise StageRefused(
                f"{len(starts)} nights are more than one run can start ({MOST_STARTS}): the decisions are entered; "
                "ask again for ranges of nights (first_night, last_night), without making again what was done"
            )
        # Where no night changes anything that it hands on, nobody else would start the season.
        return [*starts, _start(season_id(loaded.lens.name), reprocess_id(None, now), None)]


class MorningSummaryOperator(ObservatoryOperator):
    """Gathers what the last night brought and sends it."""

    def execute(self, context: Any) -> None:
        from lightcurver_ops.operations.summary import compose

        observatory = open_observatory(self.observatory)
        loaded = load_lenses(observatory.lens_files())
        files = [str(one.path) for one in loaded.lenses]
        answers = (
            self.ask(observatory, "summarize", files, sigma=observatory.config.summary.sigma) if files else []
        )
        for one, answer in zip(loaded.lenses, answers, strict=True):
            answer.setdefault("lens", one.lens.name)
        text = compose(answers, [str(message) for message in loaded.broken.values()])
        event = Event(
            kind=MORNING_SUMMARY, observatory=observatory.config.name, what=text, key=context["run_id"]
        )
        self.log.info("%s", text)
        deliver(event, observatory.config.alerts)


def arrivals_dag(observatory: Observatory, lenses: list[LensConfig]) -> DAG:
    """New frames, wherever they lie, start the run of their lens and night."""
    watch = observatory.config.watch
    path = str(observatory.path)
    sweep = CronTriggerTimetable(watch.sweep, timezone=observatory.config.timezone)
    schedule: Any = sweep
    if watch.enabled:
        roots = sorted({root for lens in lenses for root in roots_of(lens, observatory)})
        assets = [
            Asset(
                name=f"raw frames in {root}",
                uri=f"lcops://raw/{root.replace('://', '/').lstrip('/')}",
                group="raw frames",
                watchers=[AssetWatcher(name=f"watch {root}", trigger=RawFramesTrigger(path, root))],
            )
            for root in roots
        ]
        if assets:
            any_of = assets[0]
            for asset in assets[1:]:
                any_of = any_of | asset
            schedule = AssetOrTimeSchedule(timetable=sweep, assets=any_of)
    with DAG(
        dag_id=ARRIVALS,
        dag_display_name="Arrivals of raw frames",
        schedule=schedule,
        description="New raw frames start the runs of their lenses and nights",
        doc_md=_ARRIVALS_DOC.format(sweep=watch.sweep, timezone=observatory.config.timezone),
        max_active_runs=1,
        **_common("arrivals", observatory),
    ) as dag:
        find = FindWaitingNightsOperator(
            task_id="find_waiting_nights",
            task_display_name=TASK_DOCS["find_waiting_nights"].title,
            observatory=path,
            pool="frames",
            doc_md=TASK_DOCS["find_waiting_nights"].markdown(),
            **_task(observatory),
        )
        find >> _start_runs(observatory, "start_nights", find)
    return dag


def reprocess_dag(observatory: Observatory) -> DAG:
    """Reducing again, as a lens's page asks for it."""
    with DAG(
        dag_id=REPROCESS,
        dag_display_name="Reprocess a lens",
        schedule=None,
        description="Reduce nights of a lens again, without some frames or stars",
        doc_md=_REPROCESS_DOC,
        **_common("reprocess", observatory),
    ) as dag:
        decide = DecideOperator(
            task_id="decide",
            task_display_name=TASK_DOCS["decide"].title,
            observatory=str(observatory.path),
            pool="frames",
            doc_md=TASK_DOCS["decide"].markdown(),
            **_task(observatory),
        )
        decide >> _start_runs(observatory, "start_runs", decide)
    return dag


def summary_dag(observatory: Observatory) -> DAG:
    """The morning summary."""
    settings = observatory.config.summary
    hour, minute = settings.time.split(":")
    with DAG(
        dag_id=SUMMARY,
        dag_display_name="Morning summary",
        schedule=CronTriggerTimetable(
            f"{int(minute)} {int(hour)} * * *", timezone=observatory.config.timezone
        ),
        description="What the night brought, sent to the channels of the observatory's file",
        doc_md=_SUMMARY_DOC.format(sigma=settings.sigma),
        **_common("summary", observatory),
    ) as dag:
        MorningSummaryOperator(
            task_id="send_summary",
            task_display_name=TASK_DOCS["send_summary"].title,
            observatory=str(observatory.path),
            pool="joint",
            doc_md=TASK_DOCS["send_summary"].markdown(),
            **_task(observatory),
        )
    return dag


_PRIORITY = 300  # what starts nights comes before the nights


def _start_runs(observatory: Observatory, task_id: str, upstream: BaseOperator) -> Any:
    """The mapped task that starts the runs which another returned."""
    # Never less patience than this: the DAG of a new lens may not be known yet.
    patience = with_patience(observatory.config.airflow)
    patience["retries"] = max(3, patience["retries"])
    return TriggerDagRunOperator.partial(
        task_id=task_id,
        task_display_name=TASK_DOCS[task_id].title,
        logical_date=None,
        skip_when_already_exists=True,
        map_index_template="{{ task.trigger_dag_id }} {{ task.conf.night or '' }}",
        priority_weight=_PRIORITY,
        weight_rule="absolute",
        doc_md=TASK_DOCS[task_id].markdown(),
        **patience,
    ).expand_kwargs(upstream.output)


def _task(observatory: Observatory) -> dict[str, Any]:
    settings = observatory.config.airflow
    return {
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_delay_seconds),
        "execution_timeout": timedelta(hours=settings.stage_timeout_hours),
        "priority_weight": _PRIORITY,
        "weight_rule": "absolute",
    }


def _common(kind: str, observatory: Observatory) -> dict[str, Any]:
    return {
        "tags": ["lcops", kind],
        "on_failure_callback": ObservatoryAlerts(str(observatory.path)).run_failed,
        "start_date": START,
        "catchup": False,
        "default_args": {"owner": "lightcurver-ops"},
    }


_ARRIVALS_DOC = """\
**New raw frames start the runs of their lenses and nights.** The triggerer watches the raw directories, one watcher per
root; a file counts when it is complete (`watch` in the observatory's file). Frames may come hours or weeks late: they
go to the night that their header says.

A sweep over all lenses ({sweep}, {timezone}) finds what no watcher saw, and nights whose import or plate solution a
changed configuration left out of date.

**If it fails:** a raw root that does not answer is tried again; see the log of the triggerer for watchers.
"""

_REPROCESS_DOC = """\
**Reduce again**: ask for it on the page *Reprocess* of the lens (tab *Lens* on its DAGs), which starts a run of this
DAG under your name. A run that is triggered here is refused: here nobody can tell whether you may edit the lens.
Eliminated frames and excluded stars are decisions: they are recorded with your name and your comment, and hold for all
later runs.

It starts a run per night (they stand back behind tonight's), and the season makes a new version of the light curve;
earlier versions stay (`lcops lightcurve --version N`).
"""

_SUMMARY_DOC = """\
**The morning summary**: lenses, frames in, used and rejected with the reasons, failures, and lenses of which an image
changed by more than {sigma:g} sigma since the night before. Sent through the channels of the observatory's file.
"""
