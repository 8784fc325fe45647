"""The errors of the package: the class alone says how a run, or an Airflow task, reacts.

A message says what happened, to which file or key, what was expected, and what to do.
"""


class LightcurverError(Exception):
    """Base of all errors that the package raises on purpose."""


class NothingToDo(LightcurverError):
    """No unit needs this stage: the task is skipped."""


class BadFrame(LightcurverError):
    """This frame cannot be processed: it is quarantined with the reason, the others go on."""


class FrameUnavailable(BadFrame):
    """This frame cannot be had now: it is set aside with the reason, the others go on, and the next run tries it."""


class QualityGate(LightcurverError):
    """The data of the lens miss a limit of its configuration: fails without retry, and alerts.

    Args:
        message: what missed which limit, and what to do.
        measured: the numbers behind it, by name.
    """

    def __init__(self, message: str, **measured: float | int | str):
        super().__init__(message)
        self.measured = measured


class ConfigurationError(LightcurverError):
    """The user must change something, and the message says what to write instead: fails without retry."""


class TemporaryFailure(LightcurverError):
    """Network, lock, full disk, lost worker: trying again later can succeed."""
