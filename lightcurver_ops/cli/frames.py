"""`lcops frames`: list, why, eliminate, restore."""

import csv
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import sqlalchemy as sa
import typer

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import frames as frames_table
from lightcurver_ops.cli.common import Config, counted, opened, table, user_name
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations import decisions
from lightcurver_ops.stages.base import Lens, RunOptions, is_called
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.read_convert_skysub_character_catalog import ReadConvertSkysubCharacterCatalog
from lightcurver_ops.stages.usage import FrameUsage, usage

app = typer.Typer(
    help="List frames, see why one is not used, eliminate and restore them.", no_args_is_help=True
)

Names = Annotated[
    list[str],
    typer.Argument(
        help="Frames: numbers, names or patterns in quotes ('*20171220*'); `lcops frames list` has them.",
        metavar="FRAME",
        show_default=False,
    ),
]


@app.command("list", short_help="List frames and why some are not used.")
def list_frames(
    config: Config,
    unused: Annotated[bool, typer.Option("--unused", help="Only frames that are not used.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="All columns, comma separated.")] = False,
) -> None:
    """List all frames with their key numbers, and the reason for each that is not used."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            usages = usage(connection, lens.config)
            never = _never_imported(connection, lens)
    shown = [item for item in usages if item.reason or item.aside or not unused]
    if as_csv:
        _print_csv(shown)
        return
    header = [
        "id",
        "frame",
        "mjd",
        "filter",
        "seeing [arcsec]",
        "sky [e-/s/px]",
        "ellipt.",
        "used",
        "why not",
    ]
    rows = [
        [
            str(item.frame.number),
            item.frame.image_relpath.removeprefix("frames/"),
            f"{item.frame.mjd:.5f}",
            item.frame.filter,
            _number(item.frame.seeing_arcseconds, 2),
            _number(item.frame.sky_level_electron_per_second, 2),
            _number(item.frame.ellipticity, 2),
            item.used,
            item.reason or item.note or "",
        ]
        for item in shown
    ]
    if rows:
        typer.echo(table(header, rows, numeric={0, 2, 4, 5, 6}) + "\n")
    used = sum(item.reason is None for item in usages)
    aside = sum(item.aside for item in usages)
    also = f" ({aside} of them set aside by the joint model)" if aside else ""
    typer.echo(
        f"{counted(len(usages), 'frame')}, {used} used{also}, {len(usages) - used} not; "
        f"{counted(len(never), 'raw file')} could not be imported"
    )
    for path, reason in never.items():
        typer.echo(f"  {reason if path in reason else f'{path}: {reason}'}")


@app.command("why")
def why(config: Config, names: Names) -> None:
    """Say why frames are not used, or that they are."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            usages = usage(connection, lens.config)
            never = _never_imported(connection, lens)
    rejected = {name: _of_names(never, [name]) for name in names}
    wanted = _matching(usages, names, config, also={name for name in names if rejected[name]})
    for item in wanted:
        typer.echo(f"{item.frame.image_relpath}: {item.reason or 'used'}")
        if item.note:
            typer.echo(f"  joint model: {item.note}")
        if item.frame.warnings:
            typer.echo(f"  warning: {item.frame.warnings}")
    for path, reason in _of_names(never, names).items():
        typer.echo(reason if path in reason else f"{path}: {reason}")


@app.command("eliminate", short_help="Take frames out of the light curve.")
def eliminate(
    config: Config,
    names: Names,
    comment: Annotated[str, typer.Option(help="Why; shown wherever the frame is listed.", metavar="TEXT")],
) -> None:
    """Take frames out of everything that follows; `lcops run` then updates the light curve."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with writing(lens.engine) as connection:
            chosen = _matching(usage(connection, lens.config), names, config)
            rows = [item.frame for item in chosen]
            decisions.eliminate_frames(connection, lens.name, rows, comment, user_name())
    typer.echo(f"{counted(len(rows), 'frame')} eliminated; `lcops run {config}` updates the light curve")


@app.command("restore", short_help="Take eliminated frames back in.")
def restore(config: Config, names: Names) -> None:
    """Take eliminated frames back in, whoever eliminated them."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with writing(lens.engine) as connection:
            chosen = _matching(usage(connection, lens.config), names, config)
            back = decisions.restore_frames(
                connection, lens.name, [item.frame for item in chosen], user_name()
            )
    if back:
        typer.echo(f"{counted(len(back), 'frame')} restored; `lcops run {config}` updates the light curve")
    else:
        typer.echo("nothing to restore: no such frame was eliminated")


def _matching(
    usages: list[FrameUsage], names: list[str], config: Path, *, also: Collection[str] = ()
) -> list[FrameUsage]:
    """The frames of all names; a name that fits none is an error, unless it is known from elsewhere."""
    matches = {name: [item for item in usages if is_called(item.frame, name)] for name in names}
    unknown = [name for name, found in matches.items() if not found and name not in also]
    if unknown:
        raise ConfigurationError(
            f"no frame matches {', '.join(unknown)}; `lcops frames list {config}` lists them"
        )
    return list({item.frame.id: item for found in matches.values() for item in found}.values())


def _of_names(never: dict[str, str], names: list[str]) -> dict[str, str]:
    options = RunOptions(frames=tuple(names))
    return {path: reason for path, reason in never.items() if options.wants(path)}


def _never_imported(connection: sa.Connection, lens: Lens) -> dict[str, str]:
    known = ledger.products_of(connection, lens.name, ReadConvertSkysubCharacterCatalog.name)
    return {unit: product.reason or "" for unit, product in known.items() if product.status != ledger.DONE}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _print_csv(usages: list[FrameUsage]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow([*frames_table.columns.keys(), "reason_not_used", "note_of_the_model"])
    for item in usages:
        values = {**item.frame._mapping, "id": item.frame.number}
        writer.writerow([*(values[name] for name in frames_table.columns.keys()), item.reason, item.note])  # noqa: SIM118
