"""The stars that a lens's frames are solved and verified with, and the index files that solve-field is given."""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame, ConfigurationError
from lightcurver_ops.stages.catalogs import catalog_of, matching_radius_deg
from lightcurver_ops.stages.raw_listing import list_raw_files

# One index for all frames: 2022.0, and solutions are refined at each frame's epoch.
_INDEX_EPOCH_MJD = 59580.0
_DIRECTORY = "astrometry_index"


@dataclass(frozen=True)
class LensIndex:
    """The index files that a lens's frames would be solved with.

    directory: of the files; files: those that suit the frames; unsuitable: how many others lie there; built_in: seconds
    that building them took, None where they were there; n_stars: of the catalogue they are, or would be, made from;
    exists: False where they are still to be built.
    """

    directory: Path
    files: tuple[Any, ...]
    unsuitable: int
    n_stars: int | None
    built_in: float | None
    exists: bool


def stars_around(config: LensConfig, diagonal_px: float, largest_scale: float | None = None) -> Any:
    """Table of the catalogue's stars around the ROI, to solve against and to verify with.

    Args:
        config: of the lens.
        diagonal_px: of the largest frame.
        largest_scale: arcsec/px; None: the upper end of plate_scale_interval.

    Raises:
        ConfigurationError: there is not one star. Others as the provider of the catalogue.
    """
    from lightcurver_ops.catalogs.regions import Disk

    roi, radius = config.roi, matching_radius_deg(config, diagonal_px, largest_scale)
    provider = catalog_of(config)
    table = provider.query(Disk(roi.ra, roi.dec, radius))
    if len(table) == 0:
        raise ConfigurationError(
            f"the catalogue {provider.name} has no star within {3600 * radius:.0f} arcsec of the ROI "
            f"({roi.ra:.5f}, {roi.dec:+.5f}): check roi.ra and roi.dec, and that the catalogue covers them"
        )
    return table


def at_epoch(table: Any, mjd: float) -> Any:
    """The catalogue with its stars where they are at an epoch."""
    from lightcurver_ops.astrometry.base import Catalogue
    from lightcurver_ops.catalogs.base import unmasked
    from lightcurver_ops.catalogs.motion import positions_at

    motion = unmasked(table, "pmra"), unmasked(table, "pmdec")
    ra, dec = positions_at(table["ra"], table["dec"], *motion, table["ref_epoch"], mjd)
    return Catalogue(ra, dec, unmasked(table, "phot_g_mean_mag"))


def index_directory(config: LensConfig, table: Any, shape: tuple[int, int]) -> Path:
    """The directory of the index files for frames of this (ny, nx), which are built where they are not there.

    Raises:
        ConfigurationError: plate_solving.index_dir does not exist, the program that builds is missing, or the
            catalogue is too poor.
        TemporaryFailure: the disk is full, or the program was killed.
    """
    from lightcurver_ops.astrometry.index_files import build_index

    settings = config.plate_solving
    if settings.index_dir is not None:
        return _given(settings.index_dir)
    return build_index(
        at_epoch(table, _INDEX_EPOCH_MJD), config.workdir / _DIRECTORY, shape, settings.plate_scale_interval
    )


def lens_index(connection: sa.Connection, config: LensConfig, *, build: bool) -> LensIndex:
    """Find, or build, the index files of a lens, whatever its strategy is; errors as `index_directory`."""
    from lightcurver_ops.astrometry import index_files

    shape = frame_shape(connection, config)
    interval = config.plate_solving.plate_scale_interval
    given = config.plate_solving.index_dir
    n_stars = built_in = None
    if given is not None:
        directory, exists = _given(given), True
    else:
        stars = at_epoch(stars_around(config, math.hypot(*shape)), _INDEX_EPOCH_MJD)
        root, n_stars = config.workdir / _DIRECTORY, len(stars)
        directory = index_files.index_path(stars, root, shape, interval)
        exists = directory.is_dir()
        if build and not exists:
            started = time.monotonic()
            index_files.build_index(stars, root, shape, interval)
            built_in, exists = time.monotonic() - started, True
    every = index_files.index_files_in(directory) if exists else []
    fitting = index_files.suitable(every, shape, interval)
    return LensIndex(directory, tuple(fitting), len(every) - len(fitting), n_stars, built_in, exists)


def frame_shape(connection: sa.Connection, config: LensConfig) -> tuple[int, int]:
    """(ny, nx) of the frames of a lens: of the first imported one, else of the first raw file after trimming.

    Raises:
        ConfigurationError: there is no frame at all. BadFrame: the first raw file's header has no image size.
    """
    known = frames.all_frames(connection, config.name)
    if known:
        return known[0].height, known[0].width
    from lightcurver_ops.storage.object_store import store_of
    from lightcurver_ops.storage.raw import read_raw_header

    raw = config.raw
    first = next((one for one in list_raw_files(raw) if not one.problem), None)
    if first is None:
        raise BadFrame("no raw file has a path that can be kept: `lcops check` says why")
    header = read_raw_header(
        first.path,
        hdus_header=(raw.hdu_data,),
        max_pixels=raw.max_pixels,
        store=store_of(raw),
        inside=raw.raw_dirs,
    )
    if header.get("NAXIS", 0) >= 2:
        return header["NAXIS2"] - 2 * raw.trim_vertical, header["NAXIS1"] - 2 * raw.trim_horizontal
    raise BadFrame(
        f"{first.path}: no image in HDU {raw.hdu_data}; set raw.hdu_data to the number of the image"
    )


def _given(directory: Path) -> Path:
    if not directory.is_dir():
        raise ConfigurationError(
            f"plate_solving.index_dir = {directory} is not a directory; name the one with the index "
            "files, or null to build an index from the lens's catalogue"
        )
    return directory
