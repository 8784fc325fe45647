"""`lcops astrometry`: the index files of a lens, and how each frame was solved, or why not."""

from typing import Annotated

import sqlalchemy as sa
import typer

from lightcurver_ops.bookkeeping import attempts
from lightcurver_ops.bookkeeping import frames as frame_rows
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.cli.common import Config, counted, opened, table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import is_called
from lightcurver_ops.stages.initialize_database import ensure_initialized

app = typer.Typer(help="Index files for solve-field, and how frames were plate solved.", no_args_is_help=True)


@app.command("index", short_help="Build index files from the catalogue; say which are used.")
def index(
    config: Config,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which, build nothing.")] = False,
) -> None:
    """Build the index files that solve-field needs for this lens from its star catalogue, unless they are there or
    the configuration names others (plate_solving.index_dir), and say which would be used."""
    from lightcurver_ops.stages.astrometry_index import lens_index

    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            found = lens_index(connection, lens.config, build=not dry_run)
    if found.built_in is not None:
        typer.echo(f"built from {found.n_stars} stars of the catalogue in {found.built_in:.2f} s")
    elif not found.exists:
        typer.echo(f"would be built from {found.n_stars} stars of the catalogue")
    typer.echo(f"{'index files in' if found.exists else 'in'} {found.directory}")
    rows = [
        [f.path.name, f"{f.quad_sizes[0]:.2f}", f"{f.quad_sizes[1]:.2f}", str(f.n_quads), str(f.n_stars)]
        for f in found.files
    ]
    if rows:
        header = ["file", "quads from [arcmin]", "to [arcmin]", "quads", "stars"]
        typer.echo(table(header, rows, numeric={1, 2, 3, 4}))
    if found.unsuitable:
        typer.echo(f"{counted(found.unsuitable, 'file')} with quads of other sizes: not used")
    if found.exists and not rows:
        raise ConfigurationError(
            f"{found.directory} has no index file whose quads suit the frames; null as plate_solving.index_dir lets "
            "one be built from the catalogue"
        )


@app.command("show", short_help="How frames were plate solved, or why not.")
def show(
    config: Config,
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Frames: numbers, names or patterns in quotes ('*20171220*'); all without.",
            metavar="[FRAME]...",
            show_default=False,
        ),
    ] = None,
    unsolved: Annotated[bool, typer.Option("--unsolved", help="Only frames that are not solved.")] = False,
) -> None:
    """Show each attempt to plate solve a frame: strategy, where the search began, matched stars and residuals, or the
    reason why it failed."""
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            rows = frame_rows.all_frames(connection, lens.name)
            unknown = [name for name in names or [] if not any(is_called(row, name) for row in rows)]
            if unknown:
                raise ConfigurationError(
                    f"no frame matches {', '.join(unknown)}; `lcops frames list {config}` lists them"
                )
            chosen = [row for row in rows if not names or any(is_called(row, name) for name in names)]
            chosen = [row for row in chosen if not (unsolved and row.plate_solved)]
            tried = attempts.attempts_of(connection, [row.id for row in chosen])
    for row in chosen:
        typer.echo(f"{row.image_relpath}: {_verdict(row) if tried[row.id] else 'not tried yet'}")
        for one in tried[row.id]:
            typer.echo(f"  {one.number}. {one.strategy}, from the {one.hint}: {_outcome(one)}")
    solved = sum(row.plate_solved for row in chosen)
    typer.echo(f"{counted(len(chosen), 'frame')}, {solved} plate solved, {len(chosen) - solved} not")


def _verdict(row: sa.Row) -> str:
    if not row.plate_solved:
        return "not solved"
    text = f"{row.pixel_scale:.4f} arcsec/px, north {row.angle_to_north:+.2f} deg from up"
    if row.plate_solve_rms_arcsec is None:
        return f"{text}, not verified: too few catalogue stars"
    return (
        f"{text}, {row.plate_solve_n_matched} of {row.plate_solve_n_catalogue} catalogue stars on the frame matched, "
        f"rms {row.plate_solve_rms_arcsec:.3f} arcsec"
        + ("" if row.plate_solve_rms_pixels is None else f" = {row.plate_solve_rms_pixels:.3f} px")
    )


def _outcome(one: sa.Row) -> str:
    if one.outcome != "solved":
        return f"{one.outcome}: {one.reason} ({one.seconds:.1f} s)"
    if one.rms_pixels is None:
        return f"solved: {one.reason} ({one.seconds:.1f} s)"
    return (
        f"solved: {one.n_matched} stars, rms {one.rms_arcsec:.3f} arcsec = {one.rms_pixels:.3f} px, "
        f"chance 1e{one.log10_chance:.0f} ({one.seconds:.1f} s)" + (f"; {one.reason}" if one.reason else "")
    )
