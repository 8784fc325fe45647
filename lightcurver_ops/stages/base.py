"""The one shape of all stages: plan what should exist, select what is missing or out of date, make it.

A stage knows its configuration keys and what it reads; from these it derives, per unit (a raw file, a frame, a
filter, or ``*`` for the lens), the hash of the inputs. A unit whose recorded hash differs is out of date. The
same object runs from the command line, a notebook and an Airflow task.
"""

import functools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, NoReturn

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import open_engine, reading, writing
from lightcurver_ops.bookkeeping.hashing import hash_of
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame, LightcurverError, NothingToDo
from lightcurver_ops.stages.costs import Costs, Meter

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
WHOLE_LENS = "*"


@dataclass(frozen=True)
class Lens:
    """A lens at work: its configuration and its bookkeeping."""

    config: LensConfig

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def workdir(self) -> Path:
        return self.config.workdir

    @functools.cached_property
    def engine(self) -> sa.Engine:
        return open_engine(self.config.database_url)

    def close(self) -> None:
        """Give the connections back."""
        if "engine" in self.__dict__:
            self.engine.dispose()


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked to do beside the missing work."""

    frames: tuple[str, ...] | None = None
    """Only these frames in frame-wise stages: names or patterns, with or without directory and suffix."""
    progress: Progress = lambda _label, _done, _total: None
    """Called with (stage, units done, units selected)."""
    units: frozenset[str] | None = None
    """Only these units, by their exact names, and what concerns the whole lens."""
    check: bool = True
    """Check the quality gate at the end; where a stage is done in parts, that is for after the last part."""

    def wants(self, unit: str) -> bool:
        """Whether a frame-wise unit was asked for; what concerns the whole lens always is."""
        if unit == WHOLE_LENS or self.frames is None:
            return True
        path = PurePosixPath(unit)
        return any(fnmatch(text, pattern) for pattern in self.frames for text in (unit, path.name, path.stem))


@dataclass
class Report:
    """What a run of a stage did."""

    stage: str
    selected: int = 0
    done: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    costs: Costs | None = None

    def summary(self) -> str:
        parts = [f"{self.done} of {self.selected} done"]
        if self.quarantined:
            parts.append(f"{len(self.quarantined)} quarantined")
        if self.failures:
            parts.append(f"{len(self.failures)} failed")
        return ", ".join(parts + self.notes)


@dataclass(frozen=True)
class State:
    """What `lcops status` shows of a stage."""

    stage: str
    units: dict[str, str]
    """unit: done, stale, missing, quarantined or failed"""
    reasons: dict[str, str]
    last_message: str | None = None
    last_status: str | None = None
    last_at: datetime | None = None
    """When the last run ended, or began where it has not ended."""

    def count(self, state: str) -> int:
        """Number of units in a state."""
        return sum(one == state for one in self.units.values())

    def outdated(self) -> set[str]:
        """Units to be made (again)."""
        return {unit for unit, state in self.units.items() if state in ("stale", "missing", ledger.FAILED)}


class Stage(ABC):
    """A stage of the pipeline."""

    name: ClassVar[str]
    title: ClassVar[str]
    config_keys: ClassVar[tuple[str, ...]]
    """Dotted keys whose change makes the products of this stage out of date."""
    version: ClassVar[int] = 1
    """Counted up when the stage would make something else from the same inputs."""
    frame_wise: ClassVar[bool] = False
    depends_on: tuple[str, ...] = ()
    """Names of the stages whose products this one reads."""

    def __init__(self, lens: Lens):
        self.lens = lens
        self.config = lens.config

    @abstractmethod
    def plan(self, connection: sa.Connection) -> dict[str, str]:
        """unit: hash of its inputs, of everything that should exist, in the order of making."""

    def known_plan(self, connection: sa.Connection) -> Mapping[str, str | None]:
        """As `plan`, for who may see neither raw files nor catalogues: from the bookkeeping and the configuration.

        None instead of a hash: as it was when it was recorded, for all that can be told from here.
        """
        plan = self.plan(connection)
        return dict.fromkeys(plan) if self.lacks_a_file() else plan

    def lacks_a_file(self) -> bool:
        """Whether a file outside the bookkeeping, which is part of the inputs, is not to be seen from here."""
        return False

    @abstractmethod
    def make(self, units: dict[str, str], run: "Run") -> None:
        """Make the units and record each through ``run``."""

    def check(  # noqa: B027 - most stages have no gate
        self, connection: sa.Connection, units: Collection[str] | None = None
    ) -> None:
        """Quality gate, evaluated at the end of every run, also when nothing was to do.

        Args:
            connection: to the bookkeeping.
            units: those that were asked for, for a gate that judges a night by itself; None: all.

        Raises:
            QualityGate: the lens misses a limit of the configuration.
        """

    def check_now(self, units: Collection[str] | None = None) -> None:
        """Check the quality gate; errors as `check`."""
        with reading(self.lens.engine) as connection:
            self.check(connection, units)

    def retries(self, product: ledger.Product) -> bool:
        """Whether a unit that is not done, with unchanged inputs, is tried again."""
        return product.status == ledger.FAILED

    def hash_inputs(self, *inputs: Any) -> str:
        """Hash of this stage's version and configuration keys together with inputs."""
        keys = {key: self.config.value(key) for key in self.config_keys}
        return hash_of(self.name, self.version, keys, inputs)

    def select(self, connection: sa.Connection, options: RunOptions) -> dict[str, str]:
        """The part of the plan that is missing, out of date, or to be tried again."""
        known = ledger.products_of(connection, self.lens.name, self.name)
        asked = None if options.units is None else {WHOLE_LENS, *options.units}
        selected = {}
        for unit, inputs_hash in self.plan(connection).items():
            if self.frame_wise and not options.wants(unit):
                continue
            if asked is not None and unit not in asked:
                continue
            product = known.get(unit)
            if product is None or product.inputs_hash != inputs_hash or self.retries(product):
                selected[unit] = inputs_hash
        return selected

    def run(self, options: RunOptions | None = None) -> Report:
        """Make what is missing or out of date.

        Raises:
            NothingToDo: every unit is up to date (after the quality gate was checked).
            LightcurverError: as the stage's class of error says.
        """
        options = options or RunOptions()
        engine = self.lens.engine
        with reading(engine) as connection:
            units = self.select(connection, options)
            last = ledger.last_run(connection, self.lens.name, self.name)
        if not units:
            self._only_check(last is not None and last.status in ("failed", "interrupted"), options)
        with writing(engine) as connection:
            run_id = ledger.begin_run(connection, self.lens.name, self.name, len(units))
        run = Run(self, run_id, len(units), options.progress)
        try:
            self.make(units, run)
            if options.check:
                self.check_now(options.units)
        except BaseException as error:
            run.end_with(error)
            raise
        run.end("done")
        return run.report

    def _only_check(self, was_bad: bool, options: RunOptions) -> NoReturn:
        """The quality gate where nothing is to do; the ledger hears of it when it changes what the last run said."""
        nothing = NothingToDo(f"{self.lens.name}: {self.name}: everything is up to date")
        try:
            if options.check:
                self.check_now(options.units)
        except LightcurverError as error:
            if not was_bad:
                self._enter_nothing_done(options).end_with(error)
            raise
        if was_bad:
            self._enter_nothing_done(options).end("nothing_to_do")
        raise nothing

    def _enter_nothing_done(self, options: RunOptions) -> "Run":
        with writing(self.lens.engine) as connection:
            return Run(self, ledger.begin_run(connection, self.lens.name, self.name, 0), 0, options.progress)

    def is_outdated_by(self, unit: str, inputs: set[str]) -> bool:
        """Whether a unit is stale because these units of the stages it depends on are to be made again."""
        return (unit in inputs or WHOLE_LENS in inputs) if self.frame_wise else bool(inputs)

    def state(
        self,
        connection: sa.Connection,
        outdated: Mapping[str, set[str]] | None = None,
        *,
        as_known: bool = False,
    ) -> State:
        """What is done, stale, missing, quarantined and failed, with reasons.

        Args:
            connection: to the bookkeeping.
            outdated: by stage, the units that are to be made again there; what was made from them is stale here.
            as_known: by `known_plan`.
        """
        known = ledger.products_of(connection, self.lens.name, self.name)
        last = ledger.last_run(connection, self.lens.name, self.name)
        inputs = set().union(*((outdated or {}).get(stage, set()) for stage in self.depends_on))
        units: dict[str, str] = {}
        reasons = {}
        plan = self.known_plan(connection) if as_known else self.plan(connection)
        for unit, inputs_hash in plan.items():
            product = known.get(unit)
            if product is None:
                units[unit] = "missing"
            elif inputs_hash not in (None, product.inputs_hash) or self.is_outdated_by(unit, inputs):
                units[unit] = "stale"
            else:
                units[unit] = product.status
                if product.reason:
                    reasons[unit] = product.reason
        if last is None:
            return State(self.name, units, reasons)
        return State(
            self.name, units, reasons, last.message, last.status, last.finished_at or last.started_at
        )


class Run:
    """One run of a stage: records units, counts them, reports progress, keeps the ledger."""

    def __init__(self, stage: Stage, run_id: int, selected: int, progress: Progress):
        self._stage = stage
        self._engine = stage.lens.engine
        self._run_id = run_id
        self._progress = progress
        self.report = Report(stage.name, selected)
        self._meter = Meter()
        progress(stage.name, 0, selected)

    def done(
        self, unit: str, inputs_hash: str, write_rows: Callable[[sa.Connection], None] | None = None
    ) -> None:
        """Make a unit visible: its rows and its record in one transaction."""
        with writing(self._engine) as connection:
            if write_rows is not None:
                write_rows(connection)
            ledger.record(
                connection, self._stage.lens.name, self._stage.name, unit, inputs_hash, run_id=self._run_id
            )
        self.report.done += 1
        self._step("%s: %s: %s: done", unit)

    def quarantine(
        self,
        unit: str,
        inputs_hash: str,
        error: BadFrame,
        write_rows: Callable[[sa.Connection], None] | None = None,
    ) -> None:
        """A unit that cannot be processed: kept out, with the reason, until its inputs change."""
        self._not_done(unit, inputs_hash, error, ledger.QUARANTINED, write_rows)
        self.report.quarantined[unit] = str(error)
        self._step("%s: %s: %s: quarantined: %s", unit, str(error), level=logging.WARNING)

    def fail(self, unit: str, inputs_hash: str, error: BaseException) -> None:
        """A unit that failed for a reason that may pass: tried again by the next run."""
        self._not_done(unit, inputs_hash, error, ledger.FAILED, None)
        self.report.failures[unit] = f"{type(error).__name__}: {error}"
        self._step("%s: %s: %s: failed: %s", unit, self.report.failures[unit], level=logging.ERROR)

    def note(self, text: str) -> None:
        """A remark for the summary of this run."""
        self.report.notes.append(text)

    def end(self, status: str, error: BaseException | None = None) -> None:
        message = self.report.summary() if error is None else str(error) or type(error).__name__
        costs = self.report.costs = self._meter.stop()
        with writing(self._engine) as connection:
            ledger.end_run(
                connection,
                self._run_id,
                status,
                n_done=self.report.done,
                n_failed=len(self.report.failures) + len(self.report.quarantined),
                message=message,
                error=error,
                cpu_seconds=costs.cpu_seconds,
                peak_mib=costs.peak_mib,
            )

    def end_with(self, error: BaseException) -> None:
        """Enter an error into the ledger; on a full disk even that may fail, and must not hide the error itself."""
        try:
            self.end("failed" if isinstance(error, Exception) else "interrupted", error)
        except LightcurverError as second:
            log.error("%s: the ledger could not be written: %s", self._stage.name, second)

    def _not_done(self, unit, inputs_hash, error, status, write_rows) -> None:
        with writing(self._engine) as connection:
            if write_rows is not None:
                write_rows(connection)
            ledger.record(
                connection,
                self._stage.lens.name,
                self._stage.name,
                unit,
                inputs_hash,
                status=status,
                run_id=self._run_id,
                error=error,
            )

    def _step(self, message: str, unit: str, *arguments: str, level: int = logging.INFO) -> None:
        log.log(level, message, self._stage.lens.name, self._stage.name, unit, *arguments)
        finished = self.report.done + len(self.report.quarantined) + len(self.report.failures)
        self._progress(self._stage.name, finished, self.report.selected)


def is_called(frame: sa.Row, name: str) -> bool:
    """Whether a user means this frame by a number, a name, or a pattern."""
    wants = RunOptions(frames=(name,)).wants
    return str(frame.number) == name or wants(frame.image_relpath) or wants(frame.original_image_path)


def joined(names: Iterable[str], most: int = 10) -> str:
    """Names for a message, cut to a readable number."""
    names = list(names)
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
