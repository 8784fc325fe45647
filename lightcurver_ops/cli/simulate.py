"""`lcops simulate`: a synthetic season with its truth, to see the pipeline work and to tune a configuration."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from lightcurver_ops.errors import ConfigurationError


def simulate(
    directory: Annotated[
        Path,
        typer.Argument(help="Directory to write the season to.", metavar="DIRECTORY", show_default=False),
    ],
    name: Annotated[str, typer.Option(help="Name of the lens.", metavar="NAME")] = "demo",
    nights: Annotated[int, typer.Option(help="Number of nights.", min=1, metavar="NUMBER")] = 6,
    exposures: Annotated[int, typer.Option(help="Exposures per night.", min=1, metavar="NUMBER")] = 4,
    seed: Annotated[int, typer.Option(help="All that is random follows from it.", metavar="NUMBER")] = 1,
    seeing: Annotated[
        float, typer.Option(help="Median seeing, arcsec.", min=0.3, max=5, metavar="ARCSEC")
    ] = 1.1,
    size: Annotated[
        int, typer.Option(help="Side of the frames, pixels.", min=128, max=4096, metavar="PIXELS")
    ] = 320,
    lens: Annotated[
        Literal["cross", "fold", "double", "wide", "faint"] | None,
        typer.Option(help="Which lens; without it, a quad without arcs.", show_default=False),
    ] = None,
    arcs: Annotated[
        float | None,
        typer.Option(help="Magnitude of the quasar's lensed host.", metavar="MAG", show_default=False),
    ] = None,
    galaxy: Annotated[
        Literal["de-vaucouleurs", "exponential", "bulge-disc"] | None,
        typer.Option(help="Profile of the lens galaxy.", show_default=False),
    ] = None,
    psf_varies: Annotated[
        float,
        typer.Option(
            help="By which fraction the PSF's width and shape change over the field.",
            min=0,
            max=0.2,
            metavar="FRACTION",
        ),
    ] = 0.0,
    optics: Annotated[
        float,
        typer.Option(
            help="By how many waves the telescope's optics are worse in the corners of the field.",
            min=0,
            max=1,
            metavar="WAVES",
        ),
    ] = 0.0,
    with_wcs: Annotated[bool, typer.Option("--with-wcs", help="Put the true WCS into the headers.")] = False,
) -> None:
    """Write raw frames of a simulated lensed quasar, a star catalogue, the truth, and a configuration to run."""
    from lightcurver_ops.simulation import OpticsOptions, SeasonOptions, simulate_season
    from lightcurver_ops.simulation.lens_file import write_lens_file
    from lightcurver_ops.simulation.presets import choose_lens

    options = SeasonOptions(
        name=name,
        seed=seed,
        n_nights=nights,
        exposures_per_night=exposures,
        seeing_arcsec=seeing,
        shape=(size, size),
        lens=choose_lens(lens, arcs=arcs, profile=galaxy),
        psf_varies=psf_varies,
        optics=OpticsOptions(pattern=optics),
        with_wcs=with_wcs,
    )
    try:
        truth = simulate_season(options, directory)
        path = write_lens_file(truth)
    except OSError as error:
        raise ConfigurationError(f"{directory}: cannot be written: {error.strerror}") from error
    typer.echo(
        f"{len(truth.frames)} raw frames in {directory / 'raw'}, the truth in {directory / 'truth.ecsv'}\n"
        f"Next: lcops check {path}\n      lcops run {path}"
    )
