"""`lcops lightcurve`: the published light curve as a table, a figure, or a file for other programs."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lightcurver_ops.bookkeeping import ledger, photometry, withheld
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.cli.common import Config, FilterName, Version, counted, opened, table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.initialize_database import ensure_initialized

_SUFFIXES = {
    ".csv": "csv",
    ".ecsv": "ecsv",
    ".parquet": "parquet",
    ".vot": "votable",
    ".xml": "votable",
    ".rdb": "pycs3",
}
_MOST_CHANGES = 20


def lightcurve(
    config: Config,
    per: Annotated[
        Literal["night", "epoch"] | None,
        typer.Option(help="One row per night or per exposure; default: nights, where there are several."),
    ] = None,
    filter_name: FilterName = None,
    version: Version = None,
    file_format: Annotated[
        Literal["table", "csv", "ecsv", "parquet", "votable", "pycs3"] | None,
        typer.Option(
            "--format",
            help="Aligned table (default); every column as CSV, ECSV, Parquet, VOTable; or what PyCS3 reads.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="Write to this file; without --format its ending says how (csv, ecsv, parquet, vot, rdb).",
            metavar="FILE",
        ),
    ] = None,
    covariance: Annotated[
        bool,
        typer.Option(
            "--covariance",
            help="In a file also the independent covariances of the images' fluxes (not for PyCS3).",
        ),
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Write a figure to this file (png, pdf, svg) in place of the table.", metavar="FILE"
        ),
    ] = None,
    versions: Annotated[
        bool, typer.Option("--versions", help="List the published versions, and whether they are unchanged.")
    ] = False,
    diff: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Compare two versions: what changed, and what caused it.", metavar="OLD NEW"),
    ] = None,
) -> None:
    """Show the light curve of each image: magnitudes (or fluxes where there is no zero point) with errors."""
    from lightcurver_ops.stages.control_light_curves import control_line
    from lightcurver_ops.stages.flux_errors import common_line
    from lightcurver_ops.stages.light_curve_products import published_columns
    from lightcurver_ops.stages.publishing import check_files, chosen_publication

    chosen_format = file_format or _format_of(output)
    if chosen_format == "parquet" and output is None:
        raise ConfigurationError("--format parquet is not text: say where to with --output FILE")
    if covariance and chosen_format in ("table", "pycs3"):
        raise ConfigurationError(
            f"--covariance: the format {chosen_format} has no place for it; choose csv, ecsv, parquet or votable"
        )
    if versions:
        _show_versions(config, filter_name)
        return
    if diff is not None:
        _show_diff(config, filter_name, *diff)
        return
    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            publication = chosen_publication(connection, lens.name, config, filter_name, version)
            labels, epochs, nights = published_columns(connection, publication.id)
            held = [
                row for row in withheld.withheld_of(connection, lens.name) if row.filter == publication.filter
            ]
        for row in held:
            made_at = f"{ledger.as_utc(row.made_at):%Y-%m-%d %H:%M} UTC"
            typer.echo(
                f"note: the light curve of {made_at} is withheld: {withheld.reasons_of(row)}", err=True
            )
        for relpath in check_files(lens.workdir, publication):
            typer.echo(
                f"note: {lens.workdir / relpath}, the snapshot of this version, is not there", err=True
            )
    title = (
        f"{lens.name}, filter {publication.filter}, version {publication.version} of "
        f"{ledger.as_utc(publication.made_at):%Y-%m-%d %H:%M} UTC"
    )
    if plot is not None:
        from lightcurver_ops.diagnostics.light_curves import plot_light_curves

        plot_light_curves(plot, title=title, labels=labels, epochs=epochs, nights=nights)
        typer.echo(f"figure: {plot}", err=True)
        if chosen_format == "table":
            return
    if per is None:
        per = "night" if len(nights["mjd"]) > 1 else "epoch"
    columns = nights if per == "night" else epochs
    if chosen_format == "table":
        lines = [title, _as_table(labels, columns)]
        if common := json.loads(publication.common_errors or "null"):
            lines.insert(1, f"# {common_line(common)}")
        if publication.control_stars:
            lines.insert(1, f"# {control_line(json.loads(publication.control_stars))}")
        content = ("\n".join(lines) + "\n").encode()
    else:
        content = _exported(lens.name, publication, labels, columns, per, chosen_format, covariance)
    if output is None:
        sys.stdout.write(content.decode())
    else:
        from lightcurver_ops.storage.atomic import write_bytes

        write_bytes(output, content)
        typer.echo(f"{chosen_format}: {output}", err=True)


def _format_of(output: Path | None) -> str:
    if output is None:
        return "table"
    if output.suffix.lower() not in _SUFFIXES:
        raise ConfigurationError(
            f"--output {output}: its ending does not say the format; give --format, or one of {', '.join(_SUFFIXES)}"
        )
    return _SUFFIXES[output.suffix.lower()]


def _exported(
    lens_name: str,
    publication: Any,
    labels: list[str],
    columns: Any,
    per: str,
    file_format: str,
    covariance: bool,
) -> bytes:
    from lightcurver_ops.stages.light_curve_export import export_of
    from lightcurver_ops.storage.exports import FORMATS, left_out

    export = export_of(lens_name, publication._asdict(), labels, columns, per, covariance)
    content = FORMATS[file_format](export)
    if file_format == "pycs3" and (count := left_out(export)):
        typer.echo(f"note: {counted(count, per)} left out: an image has no magnitude there", err=True)
    return content


def _show_versions(config: Path, filter_name: str | None) -> None:
    from lightcurver_ops.stages.publishing import described

    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            found = [
                described(connection, lens.workdir, row)
                for row in photometry.publications_of(connection, lens.name)
                if filter_name in (None, row.filter)
            ]
    if not found:
        raise ConfigurationError(f"{lens.name} has no light curve yet: `lcops run {config}` makes it")
    header = list(found[0])
    typer.echo(table(header, [[str(one[key]) for key in header] for one in found], numeric={1, 5}))


def _show_diff(config: Path, filter_name: str | None, old_version: int, new_version: int) -> None:
    from lightcurver_ops.stages.publication_diff import compare_publications
    from lightcurver_ops.stages.publishing import chosen_publication

    with opened(config) as lens:
        ensure_initialized(lens)
        with reading(lens.engine) as connection:
            old, new = (
                chosen_publication(connection, lens.name, config, filter_name, version)
                for version in (old_version, new_version)
            )
            comparison = compare_publications(connection, lens.workdir, old, new)
    typer.echo(f"{lens.name}, filter {old.filter}: version {old.version} -> {new.version}")
    counts = [f"{len(comparison.of_kind(kind))} {kind}" for kind in ("added", "removed", "changed")]
    typer.echo(f"points: {', '.join(counts)}, {comparison.unchanged} unchanged")
    if not comparison.changes:
        typer.echo("the points are the same")
    else:
        typer.echo("causes:")
        for cause in comparison.causes or ["none that is recorded"]:
            typer.echo(f"  {cause}")
    order = sorted(comparison.changes, key=lambda change: -abs(change.sigma or float("inf")))
    if not order:
        return
    shown = sorted(order[:_MOST_CHANGES], key=lambda change: (change.mjd, change.frame, change.label))
    header = ["mjd", "frame", "image", "flux", "+-", "new flux", "+-", "sigma", "what", "cause"]
    rows = [
        [
            f"{change.mjd:.5f}",
            change.frame.removeprefix("frames/"),
            change.label,
            *_pair(change.old),
            *_pair(change.new),
            "-" if change.sigma is None else f"{change.sigma:+.2f}",
            change.kind,
            "; ".join(change.causes),
        ]
        for change in shown
    ]
    typer.echo("\n" + table(header, rows, numeric={0, 3, 4, 5, 6, 7}))
    if len(order) > len(shown):
        typer.echo(f"and {len(order) - len(shown)} smaller changes")


def _pair(measured: tuple[float, float] | None) -> list[str]:
    return ["-", "-"] if measured is None else [f"{value:.4g}" for value in measured]


def _as_table(labels: list[str], columns: dict[str, Any]) -> str:
    import numpy as np

    kind = "mag" if any(np.isfinite(columns[f"{label}_mag"]).any() for label in labels) else "flux"
    digits = 4 if kind == "mag" else 3
    header = ["mjd", *(f"{label} {column}" for label in labels for column in (kind, "+-"))]
    rows = [
        [
            f"{mjd:.5f}",
            *(
                f"{columns[f'{label}_{column}'][e]:.{digits}f}"
                for label in labels
                for column in (kind, f"d_{kind}")
            ),
        ]
        for e, mjd in enumerate(columns["mjd"])
    ]
    return table(header, rows, numeric=set(range(len(header))))
