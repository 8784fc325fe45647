"""Solving one frame by several trials in turn, until one gives a verified solution; each failure is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lightcurver_ops.astrometry.acceptance import LOG10_CHANCE
from lightcurver_ops.astrometry.base import PlateSolver, Solution, SolveRequest
from lightcurver_ops.astrometry.geometry import frame_centre
from lightcurver_ops.astrometry.tangent import separation
from lightcurver_ops.errors import BadFrame, ConfigurationError, LightcurverError, TemporaryFailure

LONGEST_REASON = 120  # characters, of each attempt in the message of a frame
SOLVED, FAILED, NOT_TRIED = "solved", "failed", "not tried"


@dataclass(frozen=True)
class Trial:
    """One way to solve a frame.

    Args:
        strategy, hint: names, for the record.
        request: with that hint.
        solver: makes the solver, when its turn comes.
        why_not: where it cannot be tried at all: the reason.
        remark: on the hint; kept with the attempt.
        required: the user chose this strategy: that it cannot work on this machine is an error, not a detail.
        near: (ra, dec, degrees): solutions further away are not taken; None: wherever.
    """

    strategy: str
    hint: str
    request: SolveRequest
    solver: Callable[[], PlateSolver] | None = None
    why_not: str = ""
    remark: str = ""
    required: bool = False
    near: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class Attempt:
    """What became of a trial: why it failed, or a remark on the solution, and the numbers of that, else None."""

    strategy: str
    hint: str
    outcome: str
    reason: str | None = None
    seconds: float = 0.0
    n_matched: int | None = None
    rms_arcsec: float | None = None
    rms_pixels: float | None = None
    log10_chance: float | None = None

    def describe(self) -> str:
        """One phrase for a message: the beginning of the reason."""
        return f"{self.strategy} from the {self.hint}: {shorten(self.reason or '', LONGEST_REASON)}"


@dataclass(frozen=True)
class Outcome:
    """All attempts, and the solution of the last one, or the error that says why there is none."""

    attempts: tuple[Attempt, ...]
    solution: Solution | None = None
    error: LightcurverError | None = None


def solve_in_turn(name: str, trials: Sequence[Trial]) -> Outcome:
    """Try in turn until a solution is verified.

    Raises:
        ConfigurationError: a required trial cannot work on this machine.
    """
    attempts: list[Attempt] = []
    temporary = False
    for trial in trials:
        if trial.solver is None:
            attempts.append(Attempt(trial.strategy, trial.hint, NOT_TRIED, trial.why_not))
            continue
        started = time.monotonic()
        try:
            solution = trial.solver().solve(trial.request)
            _check(trial, solution)
        except ConfigurationError as error:
            if trial.required:
                raise
            attempts.append(_failed(trial, error, name, started, NOT_TRIED))
        except (BadFrame, TemporaryFailure) as error:
            temporary |= isinstance(error, TemporaryFailure)
            attempts.append(_failed(trial, error, name, started, FAILED))
        else:
            attempts.append(_solved(trial, solution, time.monotonic() - started))
            return Outcome(tuple(attempts), solution)
    return Outcome(tuple(attempts), error=unsolved(name, attempts, temporary))


def unsolved(name: str, attempts: Sequence[Attempt], temporary: bool) -> LightcurverError:
    """The error of a frame that no attempt solved."""
    reasons = "; ".join(f"({number}) {one.describe()}" for number, one in enumerate(attempts, 1))
    message = (
        f"{name}: no trustworthy solution. {reasons or '(nothing could be tried)'}. Check the frame, where it points, "
        "plate_scale_interval and search_radius; `lcops astrometry show CONFIG FRAME` has the reasons in full"
    )
    return TemporaryFailure(message) if temporary else BadFrame(message)


def shorten(text: str, longest: int) -> str:
    """The text, or its first words."""
    return text if len(text) <= longest else f"{text[:longest].rsplit(' ', 1)[0]} ..."


def _failed(trial: Trial, error: LightcurverError, name: str, started: float, outcome: str) -> Attempt:
    reason = str(error).removeprefix(f"{name}: ")
    if trial.remark:
        reason = f"{reason} (the hint: {trial.remark})"
    return Attempt(trial.strategy, trial.hint, outcome, reason, time.monotonic() - started)


def _solved(trial: Trial, solution: Solution, seconds: float) -> Attempt:
    verified = solution.n_matched > 0
    return Attempt(
        trial.strategy,
        trial.hint,
        SOLVED,
        trial.remark or None if verified else solution.log,
        seconds,
        solution.n_matched,
        solution.rms_arcsec if verified else None,
        solution.rms_pixels if verified else None,
        max(
            solution.log10_chance, -999.0
        ),  # it may be minus infinity, which databases write each in their way
    )


def _check(trial: Trial, solution: Solution) -> None:
    """The last look at a solution: solvers of any origin come through here."""
    if solution.log10_chance > LOG10_CHANCE and not trial.request.allow_unverified:
        raise BadFrame("the solver gave a solution that is not verified against the catalogue")
    if trial.near is not None:
        ra, dec, radius = trial.near
        centre = frame_centre(solution.wcs, trial.request.shape)
        off = float(separation(*centre, ra, dec))
        if off > radius:
            raise BadFrame(
                f"the solution lies {off:.3f} deg from the ROI, beyond plate_solving.search_radius ({radius:g} deg)"
            )
