"""`lcops inject`: artificial variations, to see how far a light curve is to be trusted."""

import math
from typing import Annotated, Literal

import typer

from lightcurver_ops.cli.common import Config, FilterName, opened, shown_progress, table
from lightcurver_ops.stages.initialize_database import ensure_initialized
from lightcurver_ops.stages.injection import TWIN, InjectionOptions, InjectionReport, inject_variations


def inject(
    config: Config,
    filter_name: FilterName = None,
    kind: Annotated[
        Literal["noise", "sine", "step"],
        typer.Option(help="Independent from epoch to epoch, periodic, or one jump."),
    ] = "noise",
    amplitude: Annotated[
        float,
        typer.Option(
            help="Standard deviation of noise, half the range of a sine, height of a step.", metavar="MAG"
        ),
    ] = 0.1,
    period: Annotated[float, typer.Option(help="Period of a sine.", metavar="DAYS")] = 30.0,
    images: Annotated[
        str | None,
        typer.Option(help="Labels of the images that vary, with commas; default: all.", metavar="A,B"),
    ] = None,
    empty: Annotated[bool, typer.Option(help="Put new sources at empty places, too.")] = True,
    repeats: Annotated[
        int, typer.Option(help="Number of realisations; each costs a fit or two.", metavar="NUMBER")
    ] = 3,
    seed: Annotated[int, typer.Option(help="All that is random follows from it.", metavar="NUMBER")] = 1,
) -> None:
    """Inject artificial variations into the calibrated cutouts of a lens, and show what the joint model makes of them.

    Nothing that `lcops run` made is changed: the report lies in the directory `injection` of the working directory.
    """
    chosen = None
    if images is not None:
        chosen = tuple(label.strip() for label in images.split(",") if label.strip())
    options = InjectionOptions(
        kind=kind,
        amplitude=amplitude,
        period=period,
        images=chosen,
        empty=empty,
        repeats=repeats,
        seed=seed,
    )
    with opened(config) as lens, shown_progress() as progress:
        ensure_initialized(lens)
        report = inject_variations(lens, options, filter_name, progress)
    typer.echo(f"{lens.name}, filter {report.filter_name}, {kind} of {amplitude:g} mag")
    typer.echo(_as_table(report))
    typer.echo(
        "\nImages: difference of the fits with and without the variation, which share their noise; scatter and error\n"
        "are those of changes between epochs.\n"
        f"With {TWIN}: new sources of the same brightness at empty places, with noise of their own; error as quoted.\n"
        "Residual/error is 1 for honest errors. Leakage: what another source shows of the variation, mag per mag.\n"
        "PSF and normalization are taken as true: their errors are not in this table."
    )
    for note in report.notes:
        typer.echo(f"note: {note}")
    for path in report.paths:
        typer.echo(str(path))


def _as_table(report: InjectionReport) -> str:
    header = [
        "source",
        "injected",
        "slope",
        "+-",
        "bias",
        "scatter",
        "error",
        "residual/error",
        "leakage",
        "+-",
        "",
    ]
    units = ["", "mag", "", "", "mmag", "mmag", "mmag", "", "", "", ""]
    names = {
        "injected_mag": 3,
        "slope": 3,
        "slope_error": 3,
        "bias_mmag": 1,
        "scatter_mmag": 1,
        "error_mmag": 1,
        "residual_over_error": 2,
        "leakage": 3,
        "leakage_error": 3,
    }
    columns = report.table
    rows = [
        [
            source,
            *(_shown(columns[name][i], digits) for name, digits in names.items()),
            f"into {columns['leakage_into'][i]}" if columns["leakage_into"][i] else "",
        ]
        for i, source in enumerate(columns["source"])
    ]
    return table(header, [units, *rows], numeric=set(range(1, 10)))


def _shown(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if math.isfinite(value) else "-"
