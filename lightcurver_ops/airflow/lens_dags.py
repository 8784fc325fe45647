"""The two DAGs of a lens: its nights, and its season."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from airflow.sdk import DAG, Asset, CronDataIntervalTimetable
from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from lightcurver_ops.airflow.alerts import LensAlerts, season_overdue
from lightcurver_ops.airflow.deployment import (
    FIRST_OF_SEASON,
    IMPORT,
    NIGHT_STAGES,
    POOL_OF,
    SEASON_STAGES,
    SOLVE,
    STAMPS,
)
from lightcurver_ops.airflow.docs import STAGE_DOCS, TASK_DOCS, nightly_doc, season_doc
from lightcurver_ops.airflow.operators import (
    LOOK,
    LookForFramesOperator,
    NightDoneOperator,
    StageOperator,
    WaitForNightsOperator,
)
from lightcurver_ops.airflow.sensors import WaitForFramesSensor
from lightcurver_ops.config.loading import LoadedLens
from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.operations.nights import timezone_name
from lightcurver_ops.operations.observatory import Observatory, dag_name

# Tonight before the season, and the later stages of a night first: what is begun is finished.
NIGHT_PRIORITY, SEASON_PRIORITY = 200, 100
# Only the schedule of noons counts; nights before the first run are for backfills.
START = datetime(2000, 1, 1)


def nightly_id(lens: str) -> str:
    """Name of the DAG of a lens's nights."""
    return f"{dag_name(lens)}__nightly"


def season_id(lens: str) -> str:
    """Name of the DAG that makes a lens's light curve."""
    return f"{dag_name(lens)}__season"


def with_patience(settings: Orchestration) -> dict[str, Any]:
    """How often a task is tried again, and when: each time after twice as long."""
    return {
        "retries": settings.retries,
        "retry_delay": timedelta(seconds=settings.retry_delay_seconds),
        "retry_exponential_backoff": 2.0,
        "max_retry_delay": timedelta(hours=1),
    }


def stages_of_night(loaded: LoadedLens) -> list[str]:
    """The stages that a night can do on its own: not beyond the plate solution, where stars depend on all frames."""
    if loaded.lens.stars.strategy == "ROI_disk":
        return list(NIGHT_STAGES)
    return [IMPORT, SOLVE]


@dataclass(frozen=True)
class LensDags:
    """Builds the DAGs of a lens."""

    loaded: LoadedLens
    observatory: Observatory

    @property
    def timezone(self) -> str:
        return timezone_name(self.loaded.lens)

    @property
    def nights(self) -> Asset:
        """Changes whenever a night has something for the light curve."""
        name = dag_name(self.loaded.lens.name)
        return Asset(name=f"{name} nights", uri=f"lcops://lens/{name}/nights", group="lens nights")

    @property
    def alerts(self) -> LensAlerts:
        lens = self.loaded.lens
        return LensAlerts(str(self.observatory.path), str(self.loaded.path), lens.name, self.timezone)

    def build(self) -> list[DAG]:
        """The DAG of the nights and that of the season."""
        return [self.nightly(), self.season()]

    def nightly(self) -> DAG:
        """One run per observing night."""
        lens = self.loaded.lens
        stages = stages_of_night(self.loaded)
        with DAG(
            dag_id=nightly_id(lens.name),
            schedule=CronDataIntervalTimetable("0 12 * * *", timezone=self.timezone),
            description=f"Observing nights of {lens.name}: from raw frames to star fluxes",
            doc_md=nightly_doc(self.loaded, nightly_id(lens.name), season_id(lens.name), self.timezone),
            max_active_runs=self.observatory.config.airflow.max_active_runs,
            **self._common("nightly"),
        ) as dag:
            watch = self.observatory.config.watch.model_dump(mode="json")
            look = LookForFramesOperator(
                task_id=LOOK,
                task_display_name=TASK_DOCS[LOOK].title,
                timezone=self.timezone,
                stages=stages,
                watch=watch,
                pool="frames",
                doc_md=TASK_DOCS[LOOK].markdown(),
                **self._task(NIGHT_PRIORITY),
            )
            look.alerts = self.alerts
            if lens.operations.wait_for_frames_hours > 0:
                wait = WaitForFramesSensor(
                    task_id="wait_for_frames",
                    task_display_name=TASK_DOCS["wait_for_frames"].title,
                    timezone=self.timezone,
                    observatory=str(self.observatory.path),
                    hours=lens.operations.wait_for_frames_hours,
                    watch=watch,
                    pool="frames",
                    doc_md=TASK_DOCS["wait_for_frames"].markdown(),
                    **self._task(NIGHT_PRIORITY),
                )
                wait >> look
            last: Any = look
            for number, stage in enumerate(stages):
                # A night's frames are imported and solved in parts: the first task that has them all looks at both.
                gates = (IMPORT, SOLVE) if stages[max(number - 1, 0)] == SOLVE else ()
                task = self._stage(stage, NIGHT_PRIORITY + 1 + number, gates=gates, chunks=look.output)
                last >> task
                last = task
            done = NightDoneOperator(
                task_id="night_done",
                task_display_name=TASK_DOCS["night_done"].title,
                first=FIRST_OF_SEASON,
                gates=() if len(stages) > 2 else (SOLVE,),
                outlets=[self.nights],
                pool="frames",
                trigger_rule="none_failed",
                doc_md=TASK_DOCS["night_done"].markdown(),
                **self._task(NIGHT_PRIORITY + 10),
            )
            last >> done
        return dag

    def season(self) -> DAG:
        """Runs when nights have changed and none is at work."""
        lens = self.loaded.lens
        hours = lens.operations.season_overdue_hours
        deadline = None
        if hours is not None:
            kwargs = {**vars(self.alerts), "hours": hours}
            deadline = DeadlineAlert(
                reference=DeadlineReference.DAGRUN_QUEUED_AT,
                interval=timedelta(hours=hours),
                callback=AsyncCallback(season_overdue, kwargs),
            )
        with DAG(
            dag_id=season_id(lens.name),
            schedule=[self.nights],
            description=f"Light curve of {lens.name}: calibration and joint model of all nights",
            doc_md=season_doc(self.loaded, nightly_id(lens.name)),
            max_active_runs=1,
            deadline=deadline,
            **self._common("season"),
        ) as dag:
            last: Any = WaitForNightsOperator(
                task_id="wait_for_nights",
                task_display_name=TASK_DOCS["wait_for_nights"].title,
                nightly=nightly_id(lens.name),
                first=FIRST_OF_SEASON,
                poll_seconds=self.observatory.config.airflow.season_poll_seconds,
                pool="joint",
                doc_md=TASK_DOCS["wait_for_nights"].markdown(),
                **self._task(SEASON_PRIORITY),
            )
            for number, stage in enumerate(SEASON_STAGES):
                task = self._stage(stage, SEASON_PRIORITY + 1 + number)
                last >> task
                last = task
        return dag

    def _stage(self, stage: str, priority: int, *, gates: tuple[str, ...] = (), chunks: Any = None) -> Any:
        """The task of a stage: of the whole lens, or, with the chunks that were found, of a night."""
        doc, pool = STAGE_DOCS[stage], POOL_OF[stage]
        settings = self.observatory.config.airflow
        kwargs: dict[str, Any] = {
            "task_id": stage,
            "task_display_name": doc.title,
            "stage": stage,
            "gates": gates,
            "pool": pool,
            "trigger_rule": "none_failed",
            "doc_md": doc.markdown(),
            **self._task(priority),
        }
        if pool == "gpu":
            kwargs["queue"] = settings.gpu_queue
            if settings.gpu_executor is not None:
                kwargs["executor"] = settings.gpu_executor
            if settings.gpu_pod_template is not None:
                kwargs["executor_config"] = {"pod_template_file": str(settings.gpu_pod_template)}
        if chunks is not None and stage in (IMPORT, SOLVE, STAMPS):
            label = "{{ task.raw_ids | length }} frames"
            return StageOperator.partial(map_index_template=label, **kwargs).expand(raw_ids=chunks)
        return StageOperator(of_night=chunks is not None, **kwargs)

    def _task(self, priority: int) -> dict[str, Any]:
        """What all tasks of a lens share."""
        settings = self.observatory.config.airflow
        return {
            "lens": self.loaded.lens.name,
            "lens_file": str(self.loaded.path),
            "settings": settings,
            "priority_weight": priority,
            "weight_rule": "absolute",
            **with_patience(settings),
            "execution_timeout": timedelta(hours=settings.stage_timeout_hours),
            "on_failure_callback": self.alerts.task_failed,
            "owner": self.loaded.lens.operations.owner,
        }

    def _common(self, kind: str) -> dict[str, Any]:
        """What both DAGs share."""
        lens = self.loaded.lens
        return {
            "dag_display_name": f"{lens.name} {kind}",
            "tags": sorted({"lcops", kind, f"lens:{lens.name}"[:100], *lens.operations.tags}),
            "start_date": START,
            "catchup": False,
            "on_failure_callback": self.alerts.run_failed,
            "default_args": {"owner": lens.operations.owner},
        }
