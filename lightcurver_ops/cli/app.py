"""The program: its commands, its exit codes, and how errors are shown."""

import logging
import os
import sys
from typing import Annotated

import typer

from lightcurver_ops import __version__
from lightcurver_ops.cli import configure, frames, lightcurve, run, simulate
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

app = typer.Typer(
    name="lcops",
    help="From raw telescope frames to light curves of gravitationally lensed quasars.\n\n"
    "Start with `lcops init lens.yaml`, edit the file, then `lcops check lens.yaml` and `lcops run lens.yaml`. "
    "To see everything work on simulated frames first: `lcops simulate DIRECTORY`.",
    epilog="Exit codes: 0 done (also when nothing was to do), 1 a fault in the program, 2 something in the command or "
    "the configuration must change, 3 the data miss a limit of the configuration, 4 a failure that may pass (network, "
    "lock, full disk): run again, 5 finished, but some frames failed for no known reason.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.command("init")(configure.init)
app.command("check")(configure.check)
app.command("run")(run.run)
app.command("status")(run.status)
app.add_typer(frames.app, name="frames")
app.command("lightcurve")(lightcurve.lightcurve)
app.command("simulate")(simulate.simulate)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lcops {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    verbose: Annotated[
        int, typer.Option("--verbose", "-v", count=True, help="Show what is done; twice: more.")
    ] = 0,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    # Only our own messages: libraries talk at length about nothing.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    ours = logging.getLogger("lightcurver_ops")
    ours.addHandler(handler)
    ours.setLevel((logging.ERROR, logging.INFO, logging.DEBUG)[min(verbose, 2)])


def main() -> None:
    """Run the program; our own errors become one message and an exit code."""
    os.environ.setdefault("JAX_PLATFORMS", "")  # any device that is there
    try:
        app()
    except LightcurverError as error:
        sys.stderr.write(f"lcops: {error}\n")
        sys.exit(EXIT_CODES.get(type(error), 1))
    except BrokenPipeError:  # `lcops ... | head` is fine
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.stderr.write("lcops: interrupted; run again to go on from here\n")
        sys.exit(130)
