"""`lcops lightcurve`: the published light curve as a table, CSV or figure."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.cli.common import Config, opened, table
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized


def lightcurve(
    config: Config,
    per: Annotated[
        Literal["night", "epoch"] | None,
        typer.Option(help="One row per night or per exposure; default: nights, where there are several."),
    ] = None,
    filter_name: Annotated[
        str | None,
        typer.Option("--filter", help="Which filter; needed where there are several.", metavar="FILTER"),
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="A published version; default: the newest.", metavar="NUMBER")
    ] = None,
    output: Annotated[
        Literal["table", "csv"], typer.Option("--format", help="Aligned table, or CSV with every column.")
    ] = "table",
    plot: Annotated[
        Path | None,
        typer.Option(
            help="Write a figure to this file (png, pdf, svg) in place of the table.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Show the light curve of each image: magnitudes (or fluxes where there is no zero point) with errors."""
    with opened(config) as lens:
        ensure_initialized(lens)
        labels, epochs, nights, title, controls = _published(lens, config, filter_name, version)
    if plot is not None:
        from lightcurver_ops.diagnostics.light_curves import plot_light_curves

        plot_light_curves(plot, title=title, labels=labels, epochs=epochs, nights=nights)
        typer.echo(f"figure: {plot}", err=True)
        if output == "table":
            return
    if per is None:
        per = "night" if len(nights["mjd"]) > 1 else "epoch"
    columns = nights if per == "night" else epochs
    if output == "csv":
        from lightcurver_ops.storage.tables import write_csv

        write_csv(sys.stdout, columns)
    else:
        typer.echo(title)
        if controls:
            typer.echo(f"# {controls}")
        typer.echo(_as_table(labels, columns))


def _published(
    lens: Lens, config: Path, filter_name: str | None, version: int | None
) -> tuple[list[str], Any, Any, str, str | None]:
    from lightcurver_ops.stages.control_light_curves import control_line
    from lightcurver_ops.stages.light_curve_products import published_columns

    with reading(lens.engine) as connection:
        filters = photometry.published_filters(connection, lens.name)
        if not filters:
            raise ConfigurationError(f"{lens.name} has no light curve yet: `lcops run {config}` makes it")
        if filter_name is None and len(filters) > 1:
            raise ConfigurationError(
                f"{lens.name} has light curves in {', '.join(filters)}: choose one with --filter"
            )
        name = filter_name or filters[0]
        publication = photometry.publication_of(connection, lens.name, name, version)
        if publication is None:
            newest = photometry.publication_of(connection, lens.name, name)
            raise ConfigurationError(
                f"{lens.name} has no light curve in filter {name}; there are: {', '.join(filters)}"
                if newest is None
                else f"{lens.name} has no version {version} of filter {name}; the newest is {newest.version}"
            )
        labels, epochs, nights = published_columns(connection, publication.id)
    title = f"{lens.name}, filter {name}, version {publication.version} of {publication.made_at:%Y-%m-%d %H:%M} UTC"
    controls = control_line(json.loads(publication.control_stars)) if publication.control_stars else None
    return labels, epochs, nights, title, controls


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
