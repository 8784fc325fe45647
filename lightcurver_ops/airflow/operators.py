"""The tasks: each asks a fresh interpreter to do a stage, or to look what there is to do."""

from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException, DownstreamTasksSkipped

from lightcurver_ops.airflow.child import Child, StageFailed, StageRefused
from lightcurver_ops.airflow.connection import task_url
from lightcurver_ops.config.observatory import Orchestration
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.nights import night_at, parse_night

LOOK = "look_for_frames"


class WorkerOperator(BaseOperator):
    """A task whose work is done by a worker process, which ends with it."""

    def ask_worker(self, request: dict[str, Any]) -> dict[str, Any]:
        """Have the worker do something; errors as `Child.ask`."""
        self._child = Child()
        return self._child.ask(request)

    def on_kill(self) -> None:
        """End the worker's process with the task."""
        if (child := getattr(self, "_child", None)) is not None:
            child.end()


class LensOperator(WorkerOperator):
    """A task of one lens.

    Args:
        lens: its name.
        lens_file: its YAML file.
        settings: how the observatory runs its tasks.
    """

    def __init__(self, *, lens: str, lens_file: str, settings: Orchestration, **kwargs: Any):
        super().__init__(**kwargs)
        self.lens = lens
        self.lens_file = lens_file
        self.settings = settings

    def ask(self, action: str, **request: Any) -> dict[str, Any]:
        """Have the worker do something; errors as `Child.ask`."""
        return self.ask_worker(
            {
                "action": action,
                "lens": self.lens,
                "config": self.lens_file,
                "processes": self.settings.processes_per_task,
                "database": task_url(self.settings),
                **request,
            }
        )


class StageOperator(LensOperator):
    """A stage: for some raw files, for the frames of the run's night, or for the whole lens.

    Args:
        stage: its name.
        raw_ids: numbers of raw files.
        of_night: take the raw files that `look_for_frames` found.
        gates: stages whose quality gate is checked first: theirs was left open while their frames were done in parts.
    """

    template_fields = ("raw_ids",)

    def __init__(
        self,
        *,
        stage: str,
        raw_ids: list[int] | None = None,
        of_night: bool = False,
        gates: tuple[str, ...] = (),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.stage = stage
        self.raw_ids = raw_ids
        self.of_night = of_night
        self.gates = gates

    def execute(self, context: Any) -> dict[str, int]:
        raw_ids, in_parts = self.raw_ids, False
        ti = context["ti"]
        if self.of_night or raw_ids is not None:
            chunks = ti.xcom_pull(task_ids=LOOK) or []
            if self.of_night:
                raw_ids = [number for chunk in chunks for number in chunk]
            else:
                in_parts = len(chunks) > 1
        answer = self.ask("stage", stage=self.stage, raw_ids=raw_ids, gates=self.gates, in_parts=in_parts)
        self.log.info("%s: %s", self.stage, answer["summary"])
        if answer["failed"]:
            # One frame's surprise is tried again, and then must not cost the others.
            message = f"{answer['failed']} of {answer['selected']} failed: {answer['first_failure']}"
            if ti.try_number <= ti.max_tries or not answer["good"]:
                raise StageFailed(message)
            self.log.error("%s; the others go on, `lcops status` names them", message)
        return {key: answer[key] for key in ("selected", "done", "quarantined", "failed")}


class LookForFramesOperator(LensOperator):
    """Notices new raw files; returns those of the night in chunks, and skips the rest of the run if nothing waits.

    Args:
        timezone: by which the lens's nights run.
        stages: of the night.
        watch: settings of the observatory, as plain data.
    """

    def __init__(self, *, timezone: str, stages: list[str], watch: dict[str, Any], **kwargs: Any):
        super().__init__(**kwargs)
        self.timezone = timezone
        self.stages = stages
        self.watch = watch

    def execute(self, context: Any) -> list[list[int]]:
        from lightcurver_ops.airflow.alerts import raise_no_frames

        night = night_of_run(context, self.timezone)
        answer = self.ask("look_at_night", night=night, stages=self.stages, watch=self.watch)
        ti = context["ti"]
        counts = {key: answer[key] for key in ("night", "frames", "nights_without_frames")}
        ti.xcom_push(key="counts", value=counts)
        if not answer["frames"]:
            raise_no_frames(self, context, answer)
        if not answer["waits"]:
            what = "all is up to date" if answer["frames"] else "it has no frame"
            self.log.info("%s: night %s: %s; the rest of this run is skipped", self.lens, night, what)
            skip_the_rest(self, context)
        self.log.info(
            "%s: night %s: %d frames, %d tasks", self.lens, night, answer["frames"], len(answer["chunks"])
        )
        return answer["chunks"]


class NightDoneOperator(LensOperator):
    """Ends a night; its outlet starts the season's run. Skipped where the night changed nothing.

    Args:
        first: first of the joint stages.
        gates: as in `StageOperator`.
    """

    def __init__(self, *, first: str, gates: tuple[str, ...] = (), **kwargs: Any):
        super().__init__(**kwargs)
        self.first = first
        self.gates = gates

    def execute(self, context: Any) -> None:
        if not self.ask("look_at_season", first=self.first, gates=self.gates)["waits"]:
            raise AirflowSkipException(f"{self.lens}: the light curve has no use for what this night changed")


class WaitForNightsOperator(LensOperator):
    """Begins a season run when no night of the lens is at work: a hundred nights, one season run.

    Args:
        nightly: name of the DAG of the nights.
        first: first of the joint stages.
        poll_seconds: how often it looks.
    """

    def __init__(self, *, nightly: str, first: str, poll_seconds: float = 10.0, **kwargs: Any):
        super().__init__(**kwargs)
        self.nightly = nightly
        self.first = first
        self.poll_seconds = poll_seconds

    def execute(self, context: Any, event: Any = None) -> None:
        from lightcurver_ops.airflow.triggers import NightsDoneTrigger

        if event is None:
            self.defer(
                trigger=NightsDoneTrigger(dag_id=self.nightly, poll_seconds=self.poll_seconds),
                method_name="execute",
            )
        if not self.ask("look_at_season", first=self.first)["waits"]:
            self.log.info("%s: the light curve is up to date; the rest of this run is skipped", self.lens)
            skip_the_rest(self, context)


def skip_the_rest(task: BaseOperator, context: Any) -> NoReturn:
    """End this task well and skip all that come after it.

    In a run that is done again, a mapped task has the instances of the last time, and each is to be named.

    Raises:
        DownstreamTasksSkipped: always; this is how Airflow is told.
    """
    ti = context["ti"]
    rest: list[str | tuple[str, int]] = []
    for task_id in sorted(task.get_flat_relative_ids(upstream=False)):
        rest.append(task_id)
        if task.dag.get_task(task_id).is_mapped:
            count = ti.get_ti_count(dag_id=ti.dag_id, task_ids=[task_id], run_ids=[ti.run_id])
            rest += [(task_id, index) for index in range(count)]
    raise DownstreamTasksSkipped(tasks=rest)


def night_of_run(context: Any, timezone: str) -> str:
    """The night that a run is for: what its configuration says, else its data interval.

    Raises:
        StageRefused: the run says neither, or what is not a date.
    """
    run = context["dag_run"]
    try:
        if (night := (run.conf or {}).get("night")) is not None:
            return parse_night(str(night)).isoformat()
    except ConfigurationError as error:
        raise StageRefused(str(error)) from error
    if run.data_interval_start is None:
        raise StageRefused(
            'say which night: trigger with the configuration {"night": "YYYY-MM-DD"}, or a logical date'
        )
    return night_at(run.data_interval_start + timedelta(hours=1), timezone).isoformat()
