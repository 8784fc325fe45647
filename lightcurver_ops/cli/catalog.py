"""`lcops catalog`: fetch, import, list."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightcurver_ops.cli.common import Config, counted, opened, table
from lightcurver_ops.config import LensConfig
from lightcurver_ops.config.loading import load_lens
from lightcurver_ops.config.sections import Catalogs
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.catalog_needs import needs_of
from lightcurver_ops.stages.catalogs import cache_dir_of
from lightcurver_ops.stages.initialize_database import ensure_initialized

if TYPE_CHECKING:
    from lightcurver_ops.catalogs.store import Kept

app = typer.Typer(help="Keep star catalogues on disk, for nights without network.", no_args_is_help=True)


@app.command("fetch", short_help="Ask for everything that a lens needs, and keep it.")
def fetch(
    config: Config,
    radius: Annotated[
        float | None,
        typer.Option(
            help="Degrees around the ROI for plate solving; default: from the size of the frames.",
            min=1e-3,
            max=10.0,
            metavar="DEGREES",
        ),
    ] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask again for what is kept already.")] = False,
) -> None:
    """Ask catalogue services for all stars that the stages of a lens will need, and keep the answers.

    It asks also where the configuration says `catalogs: {offline: true}`: run it where there is a network.
    """
    from lightcurver_ops.catalogs.regions import Disk

    with opened(config) as lens:
        ensure_initialized(lens)
        needs = needs_of(lens, radius)
        roi = lens.config.roi
    if not needs:
        typer.echo(f"{lens.name} takes its stars from a local file: there is nothing to fetch")
    asked: list[Kept] = []
    for need in needs:
        disk = Disk(roi.ra, roi.dec, need.radius_deg)
        kept = need.catalogue.kept(disk, need.max_gmag)
        fresh = kept is None or (refresh and kept not in asked)
        if fresh:
            _, kept = need.catalogue.ask(disk, need.max_gmag)
            asked.append(kept)
        assert kept is not None
        typer.echo(
            f"{need.purpose}: {counted(kept.rows, 'star')} of {kept.identity}, {kept.text()}"
            + ("" if fresh else f" (kept since {kept.made})")
        )


@app.command("import", short_help="Keep the stars of a bulk download.")
def import_(
    path: Annotated[
        Path,
        typer.Argument(
            help="ECSV, FITS, CSV or Parquet, with the column names of Gaia, VizieR or MAST.",
            metavar="FILE",
            show_default=False,
        ),
    ],
    lens: Annotated[
        Path | None,
        typer.Option(help="A lens's YAML file: its cache, its provider, its position.", metavar="CONFIG"),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="The cache, in place of a lens's (catalogs.cache_dir).", metavar="DIRECTORY"),
    ] = None,
    catalog: Annotated[
        str | None,
        typer.Option(
            help="Whose stars they are: gaia, vizier or panstarrs; default: the lens's provider, or gaia.",
            metavar="NAME",
        ),
    ] = None,
    ra: Annotated[
        float | None,
        typer.Option(
            help="Centre of the disk in which the file has all stars; default: the lens, else the middle of the stars.",
            min=0,
            max=360,
            metavar="DEGREES",
        ),
    ] = None,
    dec: Annotated[float | None, typer.Option(help="The same.", min=-90, max=90, metavar="DEGREES")] = None,
    radius: Annotated[
        float | None,
        typer.Option(
            help="Radius of this disk; default: the largest one inside the outline of the stars.",
            min=1e-4,
            max=180,
            metavar="DEGREES",
        ),
    ] = None,
    max_gmag: Annotated[
        str | None,
        typer.Option(
            help="G down to which the file has all stars, or 'all'; default: of its faintest star, "
            "or all where this is fainter than 20.7.",
            metavar="MAG",
        ),
    ] = None,
) -> None:
    """Keep the stars of a bulk download, as if the service had been asked.

    The file must be of the data release that the configuration names. Questions beyond its coverage are not answered
    from it: offline they are refused, with network the service is asked.
    """
    from lightcurver_ops.catalogs.bulk import import_file
    from lightcurver_ops.catalogs.providers import open_remote

    settings, directory, config = _cache_of(lens, cache)
    if (ra is None) != (dec is None):
        raise ConfigurationError("--ra and --dec go together: the centre of the disk that the file covers")
    centre = (ra, dec) if ra is not None and dec is not None else None
    if centre is None and config is not None:
        centre = (config.roi.ra, config.roi.dec)
    if catalog is None and config is not None and config.stars.gaia_provider == "file":
        raise ConfigurationError(
            f"{lens} takes its stars from a local file: say with --catalog whose stars these are (gaia, vizier or "
            "panstarrs), and choose stars: gaia_provider to use them"
        )
    name = catalog or (config.stars.gaia_provider if config else "gaia")
    kept = import_file(
        open_remote(name, settings, directory),
        path,
        centre=centre,
        radius_deg=radius,
        max_gmag=_limit(max_gmag),
    )
    typer.echo(
        f"{counted(kept.rows, 'star')} of {kept.identity}, complete within {kept.text()}, kept in {directory}"
    )


@app.command("list", short_help="List what is kept.")
def list_(
    config: Annotated[
        Path | None, typer.Argument(help="The lens's YAML file.", metavar="CONFIG", show_default=False)
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="A cache, in place of a lens's.", metavar="DIRECTORY")
    ] = None,
) -> None:
    """List the kept answers of catalogues: release, region, depth, stars, date, origin; and files that are broken."""
    from lightcurver_ops.catalogs import store

    _, directory, _ = _cache_of(config, cache)
    rows, broken = [], []
    for entry in store.entries(directory):
        problem = entry.problem
        if entry.kept is not None:
            try:
                store.read(entry)
            except ValueError as error:
                problem = str(error)
        if problem or entry.kept is None:
            broken.append(f"broken: {entry.path} ({problem}); delete it and fetch or import again")
            continue
        kept = entry.kept
        depth = "all" if kept.max_gmag is None else f"{kept.max_gmag:g}"
        place = [f"{kept.ra:.5f}", f"{kept.dec:+.5f}", f"{kept.radius_deg:.4f}"]
        rows.append([kept.identity, *place, depth, str(kept.rows), kept.made, kept.origin])
    if rows:
        header = ["release", "ra", "dec", "radius", "G to", "stars", "made", "from"]
        typer.echo(table(header, rows, numeric={1, 2, 3, 4, 5}))
    else:
        typer.echo(f"nothing is kept in {directory}: see `lcops catalog fetch` and `lcops catalog import`")
    for line in broken:
        typer.echo(line, err=True)


def _cache_of(lens: Path | None, cache: Path | None) -> tuple[Catalogs, Path, LensConfig | None]:
    """Settings, directory and lens of a command that names a lens, a directory, or both."""
    config = None if lens is None else load_lens(lens)
    if config is not None:
        return config.catalogs, cache or cache_dir_of(config), config
    if cache is None:
        raise ConfigurationError("say which cache: name a lens's YAML file, or a directory with --cache")
    return Catalogs(), cache, None


def _limit(text: str | None) -> float | str | None:
    if text is None or text == "all":
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigurationError(f"--max-gmag {text}: write a magnitude, or all") from None
