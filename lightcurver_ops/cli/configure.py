"""`lcops init` and `lcops check`."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from lightcurver_ops.cli.common import Config, counted
from lightcurver_ops.config import LensConfig
from lightcurver_ops.config.loading import load_lens_with_notices
from lightcurver_ops.config.template import PLACEHOLDER, lens_template
from lightcurver_ops.errors import BadFrame, ConfigurationError, LightcurverError
from lightcurver_ops.stages.gain_check import remark_on_image, remark_on_read_noise
from lightcurver_ops.stages.reference_stars import DEFAULT_NUMBER, Purpose


def init(
    path: Annotated[
        Path, typer.Argument(help="File to write, such as lens.yaml.", metavar="FILE", show_default=False)
    ],
    name: Annotated[
        str | None, typer.Option(help="Name of the lens; default: the name of the file.", metavar="NAME")
    ] = None,
    ra: Annotated[
        float | None, typer.Option(help="Right ascension of the lens, ICRS degrees.", metavar="DEGREES")
    ] = None,
    dec: Annotated[
        float | None, typer.Option(help="Declination of the lens, ICRS degrees.", metavar="DEGREES")
    ] = None,
    raw_dir: Annotated[
        list[str] | None,
        typer.Option(help="Directory with raw frames; repeat for more.", metavar="DIRECTORY"),
    ] = None,
    workdir: Annotated[
        Path | None,
        typer.Option(
            help="Working directory; default: named after the lens, beside the file.", metavar="DIRECTORY"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented configuration to start from: every key, what it means, its default."""
    if path.exists() and not force:
        raise ConfigurationError(f"{path} exists; --force replaces it")
    name = name or path.stem
    values: dict[str, Any] = {"name": name, "workdir": str(workdir or f"./{name}")}
    values["raw"] = {"raw_dirs": raw_dir} if raw_dir else {}
    values["roi"] = {key: value for key, value in (("ra", ra), ("dec", dec)) if value is not None}
    values["roi"]["point_sources"] = (
        {"A": [ra, dec]} if ra is not None and dec is not None else {"A": [PLACEHOLDER, PLACEHOLDER]}
    )
    text = lens_template(values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    is_open = any(PLACEHOLDER in line and not line.startswith("#") for line in text.splitlines())
    todo = f"fill in what says {PLACEHOLDER}" if is_open else "look through it"
    typer.echo(f"{path} written. Next: {todo}, then `lcops check {path}`.")


def check(config: Config) -> None:
    """Validate a configuration, explain what it will do, and look at what it refers to, without changing anything."""
    loaded = load_lens_with_notices(config)
    lens = loaded.lens
    for notice in loaded.notices:
        typer.echo(f"note: {notice}")
    typer.echo(f"{config} is valid.")
    for line in _explanation(lens):
        typer.echo(f"  {line}")
    roi = lens.roi
    if list(roi.point_sources.values()) == [(roi.ra, roi.dec)] and lens.roi_model.further_optimize_background:
        typer.echo(
            "note: the only image lies at the centre of the ROI: for a lens, name its images under roi.point_sources"
        )
    problems = [
        problem for finding in (_raw, _workdir, _catalogue, _plate_solving) for problem in finding(lens)
    ]
    for problem in problems:
        typer.echo(f"problem: {problem}", err=True)
    if problems:
        raise ConfigurationError(
            f"{config}: {counted(len(problems), 'problem')} to be put right before `lcops run` (listed above)"
        )
    typer.echo("Nothing stands in the way of `lcops run`.")


def _explanation(lens: LensConfig) -> list[str]:
    roi, stars, solving = lens.roi, lens.stars, lens.plate_solving
    sources = ", ".join(roi.point_sources) or "no point source"
    region = {
        "ROI_disk": f"within {stars.ROI_disk_radius_arcseconds:g} arcsec of the ROI",
        "common_footprint_stars": "in the footprint common to all frames",
        "stars_per_frame": "in any frame",
    }[stars.strategy]
    solved = "come solved" if solving.already_plate_solved else f"are solved with {solving.strategy}"
    return [
        f"lens {lens.name} at {roi.ra:.6f}, {roi.dec:+.6f}, modelled as {sources}"
        + (" and a background" if lens.roi_model.further_optimize_background else ""),
        f"raw frames: {lens.raw.files_match_pattern} in {', '.join(lens.raw.raw_dirs)}; they {solved}",
        f"reference stars: {region}, G from {_limit(stars.min_gmag)} to {_limit(stars.max_gmag)}, "
        f"at least {stars.min_number_stars}, from {stars.gaia_catalog_file or stars.gaia_provider}",
        f"PSF: {_use(stars.stars_to_use_psf, 'psf')}; normalization: {_use(stars.stars_to_use_norm, 'norm')}",
        f"products in {lens.workdir}; bookkeeping in "
        + ("the database of the configuration" if lens.database else str(lens.workdir / "database.sqlite3")),
        "without telescope: no airmass, Moon and Sun"
        if lens.telescope is None
        else f"telescope {lens.telescope.name}",
    ]


def _limit(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _use(value: int | list[str] | None, purpose: Purpose) -> str:
    if isinstance(value, list):
        return f"stars {' '.join(value)}"
    return f"the best stars, up to {DEFAULT_NUMBER[purpose] if value is None else value}"


def _raw(lens: LensConfig) -> list[str]:
    from lightcurver_ops.stages.raw_listing import list_raw_files

    try:
        files = list_raw_files(lens.raw)
    except LightcurverError as error:
        return [str(error)]
    unreadable = [one.problem for one in files if one.problem]
    files = [one for one in files if not one.problem]
    if not files:
        return [str(problem) for problem in unreadable[:1]]
    for problem in unreadable:
        typer.echo(f"note: {problem}")
    typer.echo(f"  {len(files)} raw frames found; reading the first: {files[0].path}")
    from lightcurver_ops.storage import header, raw
    from lightcurver_ops.storage.object_store import store_of

    try:
        image = raw.read_raw(
            files[0].path,
            hdu_data=lens.raw.hdu_data,
            hdus_header=lens.raw.hdus_header,
            max_pixels=lens.raw.max_pixels,
            store=store_of(lens.raw, lens.workdir),
            inside=lens.raw.raw_dirs,
        )
        fields = header.fields_of(image.header, lens.raw, files[0].path)
        read_noise, more = header.read_noise_of(image.header, lens.raw, fields.gain, files[0].path)
    except (BadFrame, LightcurverError) as error:
        return [str(error)]
    ny, nx = image.data.shape
    typer.echo(
        f"  {nx} x {ny} px, MJD {fields.mjd:.5f} (middle of the exposure), {fields.exptime:g} s, "
        f"{fields.gain:g} electron/ADU, filter {fields.filter}"
    )
    if read_noise is not None:
        typer.echo(f"  read noise {read_noise:g} electrons")
    noise = [
        remark_on_image(image.data, fields.gain),
        remark_on_read_noise(image.data, fields.gain, read_noise),
    ]
    solved = lens.plate_solving.already_plate_solved and _remark_on_wcs(
        image.header, files[0].path, image.data.shape
    )
    for remark in filter(None, [*fields.remarks, *more, *noise, solved]):
        typer.echo(f"note: {files[0].path}: {remark}")
    if lens.band_of(fields.filter) is None:
        return [
            f"zero_points.photometric_band has no entry for the filter {fields.filter} of this frame: "
            f"add it: {{{fields.filter}: r_sdss}}"
        ]
    return []


def _remark_on_wcs(header: Any, path: str, shape: tuple[int, int]) -> str | None:
    """Why the frame is not solved as its header is said to be; None where it is."""
    from lightcurver_ops.astrometry.header_wcs import read_wcs

    try:
        read_wcs(path, header, shape)
    except BadFrame as error:
        return str(error).removeprefix(f"{path}: ")
    return None


def _workdir(lens: LensConfig) -> list[str]:
    existing = lens.workdir
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        return [f"workdir = {lens.workdir}: {existing} is not a directory"]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f"workdir = {lens.workdir}: {existing} cannot be written by this user"]
    free = shutil.disk_usage(existing).free / 1e9
    typer.echo(f"  {free:.1f} GB free for the working directory")
    return []


def _catalogue(lens: LensConfig) -> list[str]:
    if lens.stars.gaia_provider != "file" and not lens.catalogs.offline:
        return []  # it is asked by the run, once
    from lightcurver_ops.catalogs.local_file import LocalFile
    from lightcurver_ops.catalogs.regions import Disk
    from lightcurver_ops.stages.catalogs import catalog_of, faintest_asked

    try:
        disk = Disk(lens.roi.ra, lens.roi.dec, lens.stars.ROI_disk_radius_arcseconds / 3600)
        table = catalog_of(lens).query(disk, max_gmag=faintest_asked(lens))
    except LightcurverError as error:
        return [str(error)]
    if not len(table):
        catalog = lens.stars.gaia_catalog_file and LocalFile(lens.stars.gaia_catalog_file)
        why = (
            "its right ascensions are hours: write degrees, or the unit hourangle"
            if catalog and catalog.has_hours_for(disk)
            else "check roi.ra and roi.dec, and which part of the sky it has"
        )
        return [
            f"no star of the catalogue lies within {lens.stars.ROI_disk_radius_arcseconds:g} arcsec of the ROI: {why}"
        ]
    typer.echo(
        f"  {len(table)} catalogue stars within {lens.stars.ROI_disk_radius_arcseconds:g} arcsec of the ROI"
    )
    return []


def _plate_solving(lens: LensConfig) -> list[str]:
    settings = lens.plate_solving
    if (
        settings.already_plate_solved
        or settings.strategy != "plate_solve"
        or settings.astrometry_net_api_key_file
    ):
        return []
    if shutil.which("solve-field") is None:
        return [
            "plate_solving.strategy: plate_solve needs solve-field (Debian: apt install astrometry.net), or "
            "a key of a hosted solver (astrometry_net_api_key_file); or use strategy: alternate_gaia_solve"
        ]
    return []
