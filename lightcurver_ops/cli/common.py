"""What several commands share."""

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from lightcurver_ops.config.loading import load_lens_with_notices
from lightcurver_ops.stages.base import Lens, Progress

Config = Annotated[Path, typer.Argument(help="The lens's YAML file.", metavar="CONFIG", show_default=False)]
FilterName = Annotated[
    str | None,
    typer.Option("--filter", help="Which filter; needed where there are several.", metavar="FILTER"),
]
Version = Annotated[
    int | None,
    typer.Option("--version", help="A published version; default: the newest.", metavar="NUMBER"),
]


@contextmanager
def opened(config: Path) -> Iterator[Lens]:
    """The lens of a configuration file; what loading had to say goes to stderr."""
    loaded = load_lens_with_notices(config)
    for notice in loaded.notices:
        typer.echo(f"note: {notice}", err=True)
    lens = Lens(loaded.lens)
    try:
        yield lens
    finally:
        lens.close()


@contextmanager
def shown_progress(enabled: bool = True) -> Iterator[Progress]:
    """A progress bar per stage on a terminal, nothing elsewhere."""
    if not (enabled and sys.stderr.isatty()):
        yield lambda _stage, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<42}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    # Lines that go to a file must not be drawn above the bars, which are on stderr.
    with Bars(*columns, console=console, transient=True, redirect_stdout=sys.stdout.isatty()) as bars:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            # A finished stage has its line of text instead.
            bars.update(tasks[stage], completed=done, total=total, visible=done < total)

        yield update


def counted(number: int, noun: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def user_name() -> str:
    """Who is at work, for the record of decisions."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def table(header: list[str], rows: list[list[str]], numeric: set[int] | None = None) -> str:
    """Columns aligned with blanks: readable in a terminal, greppable in a script."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            str(cell).rjust(width) if numeric and i in numeric else str(cell).ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
