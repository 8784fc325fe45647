"""`lcops run` and `lcops status`."""

from pathlib import Path
from typing import Annotated

import typer

from lightcurver_ops.cli.common import Config, opened, shown_progress, table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import WHOLE_LENS, Lens, RunOptions
from lightcurver_ops.stages.costs import Costs
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.pipeline import (
    STAGES,
    StageResult,
    pipeline_state,
    run_pipeline,
    stage_number,
)

EXIT_WITH_FAILURES = 5
_REASONS_SHOWN = 5

_stage_help = "Number, name, or the beginning of the name of a stage (`lcops status` lists them)."


def run(
    config: Config,
    first: Annotated[str, typer.Option("--from", help=f"Start here. {_stage_help}", metavar="STAGE")] = "0",
    last: Annotated[str, typer.Option("--to", help="Stop after this stage.", metavar="STAGE")] = STAGES[
        -1
    ].name,
    frames: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these frames in the stages that work frame by frame: a name or pattern in quotes; "
            "repeat for more.",
            metavar="FRAME",
        ),
    ] = None,
    redo: Annotated[
        str | None, typer.Option(help="Make this stage and all after it again.", metavar="STAGE")
    ] = None,
    timings: Annotated[
        bool,
        typer.Option("--timings", help="At the end, what each stage cost: time, processor time, memory."),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")
    ] = False,
) -> None:
    """Make everything that is missing or out of date, up to the light curve.

    Only what depends on new frames or on changed configuration keys is made again. A run that was interrupted,
    even killed, is completed by the next one.
    """
    failed = 0
    start, stop = stage_number(first), stage_number(last)
    again = None if redo is None else stage_number(redo)
    if start > stop:
        raise ConfigurationError(
            f"--from {STAGES[start].name} comes after --to {STAGES[stop].name}: nothing would run"
        )
    if again is not None and not start <= again <= stop:
        raise ConfigurationError(
            f"--redo {STAGES[again].name} lies outside of --from {STAGES[start].name} --to {STAGES[stop].name}"
        )

    def announce(result: StageResult) -> None:
        nonlocal failed
        if result.report is None:
            return
        failed += len(result.report.failures)
        if not quiet:
            typer.echo(f"{result.name}: {result.report.summary()}")
        for kind, reasons in (("quarantined", result.report.quarantined), ("failed", result.report.failures)):
            for reason in list(reasons.values())[:_REASONS_SHOWN]:
                typer.echo(f"  {kind}: {reason}", err=True)
            if len(reasons) > _REASONS_SHOWN:
                typer.echo(
                    f"  and {len(reasons) - _REASONS_SHOWN} more {kind}: see `lcops status {config}`",
                    err=True,
                )

    with opened(config) as lens, shown_progress(not quiet) as progress:
        options = RunOptions(tuple(frames) if frames else None, progress)
        if frames:
            _find(lens, options, config)
        results = run_pipeline(
            lens,
            first=start,
            last=stop,
            redo=again,
            options=options,
            announce=announce,
        )
        if timings:
            typer.echo(_timings(results))
        if not quiet:
            if all(result.report is None for result in results):
                typer.echo(f"{lens.name}: everything is up to date")
            products = lens.workdir / "prepared_roi_cutouts"
            if any(products.glob("*_photometry_per_night.csv")):
                typer.echo(f"light curves: {products}; to look at one: `lcops lightcurve {config}`")
    if failed:
        typer.echo(
            f"lcops: {failed} failed without a known reason; the next run tries again, `lcops -v run {config}` "
            "shows where",
            err=True,
        )
        raise typer.Exit(EXIT_WITH_FAILURES)


def _timings(results: list[StageResult]) -> str:
    """A line per stage that had something to do, and one of all."""
    rows, every = [], []
    for result in results:
        if result.report is not None and (costs := result.report.costs) is not None:
            every.append(costs)
            rate = result.report.selected / costs.seconds
            rows.append([result.name, str(result.report.selected), *_shown(costs), f"{rate:.2f}"])
    if len(every) > 1:
        whole = Costs(
            sum(costs.seconds for costs in every),
            sum(costs.cpu_seconds for costs in every),
            max(costs.peak_mib for costs in every),
        )
        rows.append(["all", "", *_shown(whole), ""])
    header = ["stage", "units", "seconds", "cpu seconds", "peak MiB", "units/s"]
    return table(header, rows, numeric={1, 2, 3, 4, 5})


def _shown(costs: Costs) -> list[str]:
    return [f"{costs.seconds:.1f}", f"{costs.cpu_seconds:.1f}", f"{costs.peak_mib:.0f}"]


def _find(lens: Lens, options: RunOptions, config: Path) -> None:
    """Refuse frames that do not exist, before a run that would be silent about them."""
    ensure_initialized(lens)
    named = (unit for state in pipeline_state(lens) for unit in state.units if unit != WHOLE_LENS)
    if not any(options.wants(unit) for unit in named):
        raise ConfigurationError(
            f"no frame or raw file matches --frames {' '.join(options.frames or ())}; "
            f"`lcops frames list {config}` lists the frames"
        )


def status(
    config: Config,
    reasons: Annotated[
        int, typer.Option(help="How many reasons to show per stage.", min=0, metavar="NUMBER")
    ] = 3,
) -> None:
    """Show per stage what is done, out of date (stale), missing, quarantined or failed, and why."""
    with opened(config) as lens:
        ensure_initialized(lens)
        states = pipeline_state(lens)
    header = ["#", "stage", "done", "stale", "missing", "quarantined", "failed", "last run"]
    rows = [
        [
            str(number),
            state.stage,
            *(str(state.count(kind)) for kind in ("done", "stale", "missing", "quarantined", "failed")),
            f"{state.last_status or 'never'}",
        ]
        for number, state in enumerate(states)
    ]
    typer.echo(table(header, rows, numeric={0, 2, 3, 4, 5, 6}))
    for state in states:
        if state.last_status in ("failed", "interrupted"):
            typer.echo(f"\n{state.stage} {state.last_status}: {state.last_message}")
        shown = list(state.reasons.items())[:reasons]
        if shown:
            typer.echo(f"\n{state.stage}:")
        for unit, reason in shown:
            typer.echo(f"  {reason if unit in reason else f'{unit}: {reason}'}")
        if shown and len(state.reasons) > len(shown):
            typer.echo(
                f"  and {len(state.reasons) - len(shown)} more (--reasons {len(state.reasons)} shows all)"
            )
