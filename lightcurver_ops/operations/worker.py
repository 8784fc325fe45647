"""A piece of work on one lens in a process of its own: `python -m lightcurver_ops.operations.worker`.

The request is JSON on standard input, so that a database password is on no command line; the answer is a JSON file,
whole or absent; the log goes to standard error, a level and a message a line. A process of its own, because jax must
not meet a fork, and because what it holds in memory goes with it.
"""

import json
import logging
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import load_lens
from lightcurver_ops.config.observatory import Watch
from lightcurver_ops.errors import ConfigurationError, LightcurverError, NothingToDo, QualityGate
from lightcurver_ops.processes import die_with_parent
from lightcurver_ops.stages.base import Lens, Report, RunOptions

log = logging.getLogger("lightcurver_ops.operations.worker")  # run as a program, its __name__ is another

REASONS_SHOWN = 20


def run_stage(lens: Lens, request: dict[str, Any]) -> dict[str, Any]:
    """Run a stage for the whole lens, or for some raw files given by their numbers."""
    from lightcurver_ops.operations.arrivals import units_of_raw_ids
    from lightcurver_ops.stages.pipeline import STAGES, stage_number

    ids = request.get("raw_ids")
    units = None if ids is None else units_of_raw_ids(lens, ids)
    _check_gates(lens, request, units)
    stage = STAGES[stage_number(request["stage"])](lens)
    report = stage.run(RunOptions(units=units, check=not request.get("in_parts", False)))
    _tell(report)
    answer = {
        "summary": report.summary(),
        "selected": report.selected,
        "done": report.done,
        "quarantined": len(report.quarantined),
        "failed": len(report.failures),
        "first_failure": next(iter(report.failures.values()), None),
    }
    if report.failures:  # whether the others can go on without these: an earlier try may have made them
        with reading(lens.engine) as connection:
            states = stage.state(connection).units
        answer["good"] = sum(
            state == ledger.DONE and (units is None or unit in units) for unit, state in states.items()
        )
    return answer


def _check_gates(lens: Lens, request: dict[str, Any], units: Collection[str] | None) -> None:
    """Check the quality gates that were left open while their stages were done in parts."""
    from lightcurver_ops.stages.pipeline import STAGES, stage_number

    for gate in request.get("gates", ()):
        STAGES[stage_number(gate)](lens).check_now(units)


def _tell(report: Report) -> None:
    """One summary per task, with counts and reasons."""
    log.info("%s: %s", report.stage, report.summary())
    for kind, reasons in (("quarantined", report.quarantined), ("failed", report.failures)):
        for reason in list(reasons.values())[:REASONS_SHOWN]:
            log.warning("%s: %s", kind, reason)
        if len(reasons) > REASONS_SHOWN:
            log.warning("and %d more %s", len(reasons) - REASONS_SHOWN, kind)


def look_at_night(lens: Lens, request: dict[str, Any]) -> dict[str, Any]:
    """Notice new raw files, and say what this night has to do."""
    from lightcurver_ops.operations.arrivals import (
        nights_without_frames,
        notice_raw_files,
        work_of_night,
    )
    from lightcurver_ops.storage.atomic import sweep_temporaries

    sweep_temporaries(lens.workdir)  # what killed processes left half-written
    night = request["night"]
    noticed = notice_raw_files(lens, Watch.model_validate(request["watch"]))
    log.info("%s", noticed.summary())
    for problem in list(noticed.unplaced.values())[:REASONS_SHOWN]:
        log.warning("of unknown night: %s", problem)
    work = work_of_night(lens, night, request["stages"])
    dry, last = nights_without_frames(lens, night)
    return {
        "night": night,
        "frames": work.n_frames,
        "waits": work.waits,
        "chunks": work.chunks(lens.config.operations.frames_per_task) if work.waits else [],
        "nights_without_frames": dry,
        "last_night": last,
    }


def look_at_arrivals(lens: Lens, request: dict[str, Any]) -> dict[str, Any]:
    """Notice new raw files; say which nights wait for work."""
    from lightcurver_ops.operations.arrivals import nights_waiting, notice_raw_files

    noticed = notice_raw_files(lens, Watch.model_validate(request["watch"]))
    log.info("%s: %s", lens.name, noticed.summary())
    return {"nights": {night: waiting.noticed for night, waiting in nights_waiting(lens).items()}}


def look_at_season(lens: Lens, request: dict[str, Any]) -> dict[str, Any]:
    """Whether the joint stages have something to do."""
    from lightcurver_ops.operations.arrivals import season_waits

    _check_gates(lens, request, None)
    return {"waits": season_waits(lens, request["first"])}


def summarize_lens(lens: Lens, request: dict[str, Any]) -> dict[str, Any]:
    """What the last night brought."""
    from lightcurver_ops.operations.summary import summarize

    return summarize(lens, request["sigma"])


def decide(lens: Lens, request: dict[str, Any]) -> dict[str, Any]:
    """Enter a user's decisions, and make what they concern missing."""
    from lightcurver_ops.operations.reprocessing import Reprocessing, prepare_reprocessing

    wanted = Reprocessing(**request["reprocessing"])
    watch = Watch.model_validate(request["watch"]) if "watch" in request else None
    return {"nights": prepare_reprocessing(lens, wanted, request["by"], watch)}


ACTIONS: dict[str, Callable[[Lens, dict[str, Any]], dict[str, Any]]] = {
    "stage": run_stage,
    "look_at_night": look_at_night,
    "look_at_arrivals": look_at_arrivals,
    "look_at_season": look_at_season,
    "summarize": summarize_lens,
    "decide": decide,
}


def work(request: dict[str, Any]) -> dict[str, Any]:
    """Do what a request asks for; our own errors become part of the answer."""
    from lightcurver_ops.stages.initialize_database import ensure_initialized

    try:
        config = load_lens(request["config"])
        config = config.in_database(request.get("database"))
        lens = Lens(config.with_settings(processes=request.get("processes")))
        try:
            ensure_initialized(lens)
            return ACTIONS[request["action"]](lens, request)
        finally:
            lens.close()
    except NothingToDo as nothing:
        log.info("%s", nothing)
        return {"error": {"class": "NothingToDo", "message": str(nothing)}}
    except LightcurverError as error:
        measured = error.measured if isinstance(error, QualityGate) else {}
        return {"error": {"class": type(error).__name__, "message": str(error), "measured": measured}}


def _work_apart(request: dict[str, Any]) -> dict[str, Any]:
    """As `work`, for one lens of several: not even a fault of the program stops the others."""
    try:
        return work(request)
    except Exception as error:
        message = f"{request['config']}: {type(error).__name__}: {error}"
        log.exception("%s", message)
        return {"error": {"class": type(error).__name__, "message": message, "measured": {}}}


def _answer(path: Path, answer: dict[str, Any]) -> None:
    temporary = path.with_name(f"{path.name}.part")
    temporary.write_text(json.dumps(answer))
    temporary.replace(path)


def serve(request: dict[str, Any]) -> None:
    """Do a request, leave the answer."""
    die_with_parent(request["parent"])
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    ours = logging.getLogger("lightcurver_ops")
    ours.addHandler(handler)
    ours.setLevel(logging.INFO)
    if request["action"] not in ACTIONS:
        raise ConfigurationError(f"there is no action '{request['action']}'; there are {', '.join(ACTIONS)}")
    if "configs" in request:  # several lenses, one after the other: what stops one does not stop the others
        answer = {"lenses": [_work_apart({**request, "config": config}) for config in request["configs"]]}
    else:
        answer = work(request)
    _answer(Path(request["answer"]), answer)


if __name__ == "__main__":
    serve(json.load(sys.stdin))
