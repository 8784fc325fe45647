"""The run of a night waits, in the triggerer, for its first frame."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from lightcurver_ops.airflow.operators import LensOperator, night_of_run
from lightcurver_ops.operations.nights import night_interval

_LOOK_AGAIN = timedelta(minutes=10)


class WaitForFramesSensor(LensOperator):
    """Defers until the night has a frame, at most some hours beyond its end; then the run goes on in any case.

    Args:
        timezone: by which the lens's nights run.
        observatory: path of the observatory's file.
        hours: how long after the end of the night.
        watch: settings of the observatory, as plain data.
    """

    def __init__(
        self, *, timezone: str, observatory: str, hours: float, watch: dict[str, Any], **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.timezone = timezone
        self.observatory = observatory
        self.hours = hours
        self.watch = watch

    def execute(self, context: Any, event: Any = None) -> None:
        from lightcurver_ops.airflow.triggers import NightFramesTrigger

        night = night_of_run(context, self.timezone)
        until = night_interval(date.fromisoformat(night), self.timezone)[1] + timedelta(hours=self.hours)
        if self.ask("look_at_night", night=night, stages=[], watch=self.watch)["frames"]:
            return
        if datetime.now(UTC) >= until:
            self.log.info("%s: no frame of the night %s has come; the run goes on without", self.lens, night)
            return
        # Somebody else may enter the night's frames before this trigger sees them: look again now and then.
        soon = min(until, datetime.now(UTC) + _LOOK_AGAIN)
        trigger = NightFramesTrigger(self.observatory, self.lens_file, soon.isoformat())
        self.defer(trigger=trigger, method_name="execute")
