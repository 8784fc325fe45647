"""An observatory: what its lenses share, who hears of failures, how many tasks run side by side."""

from pathlib import Path
from typing import Annotated, Any

from croniter import croniter
from pydantic import BeforeValidator, Field, field_validator, model_validator

from lightcurver_ops.config.base import Name, Positive, Section, TimeZone, WithoutCredentials


def _as_written(value: Any) -> Any:
    """YAML takes 10:30 without quotes for a number to the base 60."""
    if isinstance(value, int) and 60 <= value < 24 * 60:
        return f"{value // 60:02d}:{value % 60:02d}"
    return value


Clock = Annotated[str, BeforeValidator(_as_written), Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
"""HH:MM."""
Address = Annotated[str, Field(pattern=r"^[^@\s]+@[^@\s]+$")]


class Watch(Section):
    """How new raw frames are noticed."""

    enabled: bool = True
    """false: only the daily schedule looks for new frames."""
    raw_roots: list[WithoutCredentials] = []
    """Directories or URLs above the raw directories of many lenses: each is watched once, for all of them. A raw
    directory below none of them is watched on its own."""
    sweep: str = "45 */6 * * *"
    """When all raw directories are looked through for what no watcher saw: a cron expression, in the observatory's
    timezone."""
    poll_seconds: Positive = 30.0
    """A root is listed this often."""
    settle_seconds: Annotated[float, Field(ge=0)] = 60.0
    """A local file is complete when it has not changed for so long."""
    marker_suffix: str | None = None
    """A file is complete when the file of its name and this suffix is there (.done); null: when it has settled."""
    gather_seconds: Annotated[float, Field(ge=0)] = 60.0
    """A run starts when no other frame has come for so long, or after ten times that: not one run per frame."""


class Email(Section):
    """Alerts by e-mail."""

    to: list[Address] = Field(min_length=1)
    """Who gets them."""
    sender: Address
    """The address they come from."""
    connection: str = "smtp_default"
    """The Airflow connection of the mail server."""


class Webhook(Section):
    """Alerts posted to a URL."""

    url: str | None = None
    """Where to; everybody who reads this file reads it."""
    url_file: Path | None = None
    """File that holds the URL, where it is a secret."""

    @model_validator(mode="after")
    def _one_source(self) -> "Webhook":
        if (self.url is None) == (self.url_file is None):
            raise ValueError("give either 'url' or 'url_file'")
        return self


class Alerts(Section):
    """Who hears of failures, and how; a channel that is not named is not used."""

    email: Email | None = None
    """By e-mail, through Airflow's SMTP provider."""
    slack: Webhook | None = None
    """An incoming webhook of Slack."""
    webhook: Webhook | None = None
    """Any other receiver: the event as JSON."""


class Summary(Section):
    """The morning summary."""

    time: Clock = "09:00"
    """When it is sent, in the observatory's timezone."""
    sigma: Positive = 5.0
    """A lens is named when an image changed by more than this many sigma since its night before."""


class Pools(Section):
    """How many tasks of a kind run side by side, over all lenses."""

    gpu: int = Field(default=1, ge=1)
    """PSFs, star photometry, models of the lens: as many as there are devices."""
    frames: int = Field(default=4, ge=1)
    """Import and cutouts: near the number of cores."""
    plate_solving: int = Field(default=4, ge=1)
    """Plate solutions."""
    catalogues: int = Field(default=2, ge=1)
    """Queries of star catalogues: what their services bear."""
    joint: int = Field(default=2, ge=1)
    """Normalization, zero points, calibrated cutouts: all frames of a lens at once."""
    backfill: int = Field(default=2, ge=1)
    """What backfills and reprocessing take of the cores; tonight's tasks never wait for these slots."""


class Orchestration(Section):
    """How Airflow runs the stages."""

    require_connection: bool | None = None
    """true: the bookkeeping is that of the Airflow connection lightcurver_db, and no lens falls back to a file; false:
    where there is none, it is what the lens says; null: true in our container image, false elsewhere."""
    max_active_runs: int = Field(default=128, ge=1)
    """Runs of one lens's nights at a time, those that wait for slots included: what runs side by side is for the pools.
    An archive takes at most all but 16 of them, so that it never keeps tonight from starting."""
    processes_per_task: int = Field(default=1, ge=1)
    """Parallel processes within a task, beside `frames_per_task`."""
    retries: int = Field(default=3, ge=0)
    """How often a task that failed for a reason that may pass is tried again."""
    retry_delay_seconds: Positive = 60.0
    """Before the first of these; it doubles each time, up to an hour."""
    stage_timeout_hours: Positive = 6.0
    """A task that takes longer is ended, and tried again."""
    season_poll_seconds: Positive = 10.0
    """How often a season run looks whether the nights of its lens are done."""
    gpu_queue: str = "gpu"
    """Queue of the tasks of the pool gpu (Celery, Edge and Kubernetes executors)."""
    gpu_executor: str | None = None
    """Executor of the tasks of the pool gpu, where Airflow has several; null: the usual one."""
    gpu_pod_template: Path | None = None
    """Pod template file of the tasks of the pool gpu (Kubernetes executor); null: the one of all tasks."""


class ObservatoryConfig(Section):
    """What the lenses of an observatory share."""

    name: Name = "observatory"
    """Name of the observatory."""
    lenses: list[str] = ["lenses/*.yaml"]
    """Patterns of the lens files, relative to this file."""
    timezone: TimeZone = "UTC"
    """IANA name of the time of the morning summary; nights follow each lens's telescope."""
    defaults: dict[str, Any] = {}
    """Keys of a lens configuration that hold for every lens that does not say otherwise."""
    watch: Watch = Watch()
    """How new raw frames are noticed."""
    alerts: Alerts = Alerts()
    """Who hears of failures."""
    summary: Summary = Summary()
    """The morning summary."""
    pools: Pools = Pools()
    """How many tasks of a kind run side by side."""
    airflow: Orchestration = Orchestration()
    """How Airflow runs the stages."""

    @field_validator("watch")
    @classmethod
    def _sweep_is_cron(cls, watch: Watch) -> Watch:
        if len(watch.sweep.split()) != 5 or not croniter.is_valid(watch.sweep):
            raise ValueError(
                f"sweep: '{watch.sweep}' is not a cron expression of five fields, such as '45 */6 * * *'"
            )
        return watch

    @field_validator("lenses")
    @classmethod
    def _some(cls, patterns: list[str]) -> list[str]:
        if not patterns:
            raise ValueError("give at least one pattern, such as lenses/*.yaml")
        return patterns
