"""Writes the raw frames of a season, its catalogue and its truth."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from astropy.time import Time

from lightcurver_ops.errors import ConfigurationError

from .exposures import Exposure, night_exposures
from .field import catalogue, expected_rate, make_contaminants, make_sources
from .options import SeasonOptions
from .truth import FRAMES, SEASON, Truth, frame_truth, load_truth, options_record, season_record

CATALOGUE = "catalogue.ecsv"
RAW = "raw"


def simulate_season(
    options: SeasonOptions, directory: str | Path, nights: Iterable[int] | None = None
) -> Truth:
    """Write a season, or some of its nights, and return the truth of all frames that the directory then holds.

    `<directory>/raw/` gets the frames (16 bit ADU), `<directory>/catalogue.ecsv` the stars with Gaia DR3 names,
    `truth.ecsv` and `truth.json` the truth. The pixels of a night depend on the options alone, so nights can be
    added one by one, in any order, also beyond `n_nights`. Each file appears whole: it is written under a temporary
    name first.

    Args:
        options: of the season.
        directory: made if needed.
        nights: counted from 0; default all.

    Raises:
        ConfigurationError: the directory holds a season with other options.
    """
    directory = Path(directory)
    before = _season_there(options, directory)
    (directory / RAW).mkdir(parents=True, exist_ok=True)
    sources = make_sources(options)
    contaminants = make_contaminants(options, sources)
    rows = []
    for night in range(options.n_nights) if nights is None else nights:
        for exposure in night_exposures(options, night):
            frame = raw_frame(options, sources, exposure, contaminants)
            _whole(directory / RAW / exposure.file, partial(frame.writeto, overwrite=True))
            rows.append(frame_truth(options, exposure))
    frames = Table(rows=rows)
    if before is not None:
        new = set(frames["file"]) if rows else set()
        frames = vstack([before.frames[[name not in new for name in before.frames["file"]]], frames])
    frames.sort(["mjd"])
    truth = Truth(directory, options, frames)
    known = catalogue(options, sources)
    _whole(directory / CATALOGUE, lambda path: known.write(path, format="ascii.ecsv", overwrite=True))
    _whole(directory / SEASON, lambda path: path.write_text(json.dumps(season_record(truth), indent=1)))
    _whole(directory / FRAMES, lambda path: frames.write(path, format="ascii.ecsv", overwrite=True))
    return truth


def raw_frame(
    options: SeasonOptions, sources: Table, exposure: Exposure, contaminants: Table
) -> fits.PrimaryHDU:
    """The raw frame of an exposure, with the header that a camera writes."""
    rng = np.random.default_rng(exposure.pixels)
    rate = expected_rate(options, sources, exposure, contaminants)
    hdu = fits.PrimaryHDU(options.detector.expose(rate, options.exptime, rng))
    header = hdu.header
    header["OBJECT"] = options.name
    header["DATE-OBS"] = (Time(exposure.mjd_start, format="mjd").isot, "UTC, start of the exposure")
    header["EXPTIME"] = (options.exptime, "s")
    header["FILTER"] = exposure.filter
    header["GAIN"] = (options.detector.gain, "e-/ADU")
    header["RDNOISE"] = (options.detector.readnoise, "e-")
    header["SATURATE"] = (options.detector.saturation_adu, "ADU")
    header["RA"] = (options.lens.center[0], "deg, where the telescope was sent")
    header["DEC"] = (options.lens.center[1], "deg")
    header["TELESCOP"] = "synthetic"
    if options.with_wcs:
        header.update(exposure.wcs.to_header(relax=False))
    return hdu


def _season_there(options: SeasonOptions, directory: Path) -> Truth | None:
    if not (directory / SEASON).is_file():
        return None
    truth = load_truth(directory)
    there, asked = options_record(truth.options), options_record(options)
    different = [key for key in asked if key != "n_nights" and there[key] != asked[key]]
    if different:
        raise ConfigurationError(
            f"{directory} holds a season simulated with other options ({', '.join(different)}): "
            "simulate into another directory, or delete this one"
        )
    return truth


def _whole(path: Path, write: Callable[[Path], object]) -> None:
    """A file that is never seen half-written."""
    temporary = path.with_name(f".{path.name}.part")
    write(temporary)
    temporary.replace(path)
