"""The program: its commands, its exit codes, and how errors are shown."""

import logging
import sys
from typing import Annotated

import typer

from lightcurver_ops import __version__
from lightcurver_ops.cli import (
    astrometry,
    catalog,
    configure,
    database,
    explain,
    frames,
    inject,
    lightcurve,
    run,
    simulate,
    stars,
)
from lightcurver_ops.errors import (
    BadFrame,
    ConfigurationError,
    LightcurverError,
    NothingToDo,
    QualityGate,
    TemporaryFailure,
)

EXIT_CODES: dict[type[LightcurverError], int] = {
    NothingToDo: 0,
    ConfigurationError: 2,
    QualityGate: 3,
    TemporaryFailure: 4,
    BadFrame: 5,
}
INTERRUPTED = 130

app = typer.Typer(
    name="lcops",
    help="From raw telescope frames to light curves of gravitationally lensed quasars.\n\n"
    "Start with `lcops init lens.yaml`, edit the file, then `lcops check lens.yaml` and `lcops run lens.yaml`. "
    "To see everything work on simulated frames first: `lcops simulate DIRECTORY`.",
    epilog="Exit codes: 0 done (also when nothing was to do), 1 a fault in the program, 2 something in the command or "
    "the configuration must change, 3 the data miss a limit of the configuration, 4 a failure that may pass (network, "
    "lock, full disk): run again, 5 finished, but some frames failed for no known reason, 130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

# The short texts fit into one line of `lcops --help`.
app.command("init", short_help="Write a commented configuration to start from.")(configure.init)
app.command("check", short_help="Validate and explain a configuration.")(configure.check)
app.command("run", short_help="Make what is missing or out of date.")(run.run)
app.command("status", short_help="Show what is done, what is not, and why.")(run.status)
app.command("lightcurve", short_help="Show, export or compare the light curve.")(lightcurve.lightcurve)
app.command("explain", short_help="Show where a point of the light curve comes from.")(explain.explain)
app.command("inject", short_help="Test the light curve with artificial variations.")(inject.inject)
app.add_typer(astrometry.app, name="astrometry", short_help="Index files; how frames were solved.")
app.add_typer(frames.app, name="frames", short_help="List, explain, eliminate, restore frames.")
app.add_typer(stars.app, name="stars", short_help="List, exclude, include reference stars.")
app.add_typer(database.app, name="db", short_help="Upgrade, copy, share the bookkeeping's database.")
app.add_typer(catalog.app, name="catalog", short_help="Keep star catalogues for nights offline.")
app.command("simulate", short_help="Write a simulated season to try things on.")(simulate.simulate)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lcops {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="Before the command: show every unit's log, and where unexpected errors come from; twice: more.",
        ),
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # Only our own messages: libraries talk at length about nothing. Without -v not even these: `run` itself
    # tells what was quarantined or failed, once.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    ours = logging.getLogger("lightcurver_ops")
    ours.addHandler(handler)
    ours.setLevel((logging.CRITICAL, logging.INFO, logging.DEBUG)[min(verbose, 2)])


def main() -> None:
    """Run the program; our own errors become one message and an exit code."""
    try:
        app(prog_name="lcops")
    except LightcurverError as error:
        sys.stderr.write(f"lcops: {error}\n")
        sys.exit(next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1))
    except SystemExit as ending:
        if ending.code == INTERRUPTED:  # typer has turned the KeyboardInterrupt into this
            sys.stderr.write("lcops: interrupted; run again to go on from here\n")
        raise
