"""`lcops frames`: list, why, eliminate, restore."""

import getpass
from typing import Annotated

import sqlalchemy as sa
import typer

from lightcurver_ops.bookkeeping import frames as frame_rows
from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.cli.common import Config, opened, table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import Lens, RunOptions
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.read_convert_skysub_character_catalog import ReadConvertSkysubCharacterCatalog
from lightcurver_ops.stages.usage import FrameUsage, usage

app = typer.Typer(
    help="List frames, see why one is not used, eliminate and restore them.", no_args_is_help=True
)

Names = Annotated[
    list[str], typer.Argument(help="Numbers, names or patterns of frames ('*20171220*').", show_default=False)
]


@app.command("list")
def list_frames(
    config: Config,
    unused: Annotated[bool, typer.Option("--unused", help="Only frames that are not used.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="All columns, comma separated.")] = False,
) -> None:
    """List all frames with their key numbers, and the reason for each that is not used."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            usages = usage(connection, lens.config)
            never = _never_imported(connection, lens)
    shown = [item for item in usages if item.reason or not unused]
    if csv:
        _print_csv(shown)
        return
    header = ["id", "frame", "mjd", "filter", "seeing", "sky", "ellipt.", "used", "why not"]
    rows = [
        [
            str(item.frame.id),
            item.frame.image_relpath.removeprefix("frames/"),
            f"{item.frame.mjd:.5f}",
            item.frame.filter,
            _number(item.frame.seeing_arcseconds, 2),
            _number(item.frame.sky_level_electron_per_second, 2),
            _number(item.frame.ellipticity, 2),
            "no" if item.reason else "yes",
            item.reason or "",
        ]
        for item in shown
    ]
    typer.echo(table(header, rows, numeric={0, 2, 4, 5, 6}))
    used = sum(item.reason is None for item in usages)
    typer.echo(
        f"\n{len(usages)} frames, {used} used, {len(usages) - used} not; {len(never)} raw files not imported"
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
    wanted = _matching(usages, names, allow_none=True)
    for item in wanted:
        typer.echo(f"{item.frame.image_relpath}: {item.reason or 'used'}")
        if item.frame.warnings:
            typer.echo(f"  warning: {item.frame.warnings}")
    options = RunOptions(frames=tuple(names))
    rejected = {path: reason for path, reason in never.items() if options.wants(path)}
    for path, reason in rejected.items():
        typer.echo(reason if path in reason else f"{path}: {reason}")
    if not wanted and not rejected:
        raise ConfigurationError(
            f"no frame matches {', '.join(names)}; `lcops frames list {config}` lists them"
        )


@app.command("eliminate")
def eliminate(
    config: Config,
    names: Names,
    comment: Annotated[str, typer.Option(help="Why; shown wherever the frame is listed.")],
) -> None:
    """Take frames out of everything that follows; `lcops run` then updates the light curve."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with writing(lens.engine) as connection:
            chosen = _matching(usage(connection, lens.config), names)
            count = frame_rows.eliminate(
                connection, [item.frame.id for item in chosen], comment, f"{frame_rows.USER} {_user()}"
            )
    typer.echo(f"{count} frames eliminated")


@app.command("restore")
def restore(config: Config, names: Names) -> None:
    """Take eliminated frames back in, whoever eliminated them."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with writing(lens.engine) as connection:
            chosen = _matching(usage(connection, lens.config), names)
            count = frame_rows.restore(connection, [item.frame.id for item in chosen])
    typer.echo(f"{count} frames restored")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _matching(usages: list[FrameUsage], names: list[str], *, allow_none: bool = False) -> list[FrameUsage]:
    options = RunOptions(frames=tuple(names))
    chosen = [
        item
        for item in usages
        if str(item.frame.id) in names
        or options.wants(item.frame.image_relpath)
        or options.wants(item.frame.original_image_path)
    ]
    if not chosen and not allow_none:
        raise ConfigurationError(
            f"no frame matches {', '.join(names)}; `lcops frames list CONFIG` lists them"
        )
    return chosen


def _never_imported(connection: sa.Connection, lens: Lens) -> dict[str, str]:
    known = ledger.products_of(connection, lens.name, ReadConvertSkysubCharacterCatalog.name)
    return {unit: product.reason or "" for unit, product in known.items() if product.status != ledger.DONE}


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _print_csv(usages: list[FrameUsage]) -> None:
    import csv
    import sys

    writer = csv.writer(sys.stdout)
    if usages:
        writer.writerow([*usages[0].frame._fields, "reason_not_used"])
    for item in usages:
        writer.writerow([*item.frame, item.reason])
