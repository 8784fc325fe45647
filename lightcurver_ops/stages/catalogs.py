"""The star catalogues of a lens, as its configuration chooses them, and what the stages ask of them."""

from pathlib import Path
from typing import TYPE_CHECKING

from lightcurver_ops.bookkeeping.hashing import ABSENT
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError

if TYPE_CHECKING:
    from lightcurver_ops.catalogs.base import CatalogProvider
    from lightcurver_ops.catalogs.cache import Cached

NEIGHBOUR_DEPTH = 3.0
"""Mag below the faintest reference star down to which an archive is asked for neighbours: 6 % of its light."""
LARGEST_MATCHING_RADIUS = 5.0
"""Degrees: frames are matched with stars no farther from the ROI."""
PANSTARRS_MARGIN = 0.01
"""Degrees around the reference stars, which have moved since the survey."""


def cache_dir_of(config: LensConfig) -> Path:
    """Where the answers of catalogues are kept."""
    return config.catalogs.cache_dir or config.workdir / "catalog_cache"


def catalog_of(config: LensConfig) -> "CatalogProvider":
    """The catalogue of the reference stars."""
    from lightcurver_ops.catalogs.providers import open_catalog

    return open_catalog(
        config.stars.gaia_provider,
        catalog_file=config.stars.gaia_catalog_file,
        settings=config.catalogs,
        cache_dir=cache_dir_of(config),
    )


def panstarrs_of(config: LensConfig) -> "Cached":
    """Pan-STARRS, for the zero points."""
    from lightcurver_ops.catalogs.providers import open_remote

    return open_remote("panstarrs", config.catalogs, cache_dir_of(config))


def catalog_identity(config: LensConfig) -> str:
    """What decides the catalogue's answers; ``absent`` where its file is missing (reading it will say so)."""
    try:
        return catalog_of(config).identity()
    except ConfigurationError:
        return ABSENT


def lacks_catalog(config: LensConfig) -> bool:
    """Whether the file of the catalogue is not to be seen from here."""
    return catalog_identity(config) == ABSENT


def faintest_asked(config: LensConfig) -> float | None:
    """G down to which an archive is asked for reference stars and their neighbours; None: no limit.

    It spares an archive stars too faint to disturb; of a file we see all. The cut comes after.
    """
    limit = config.stars.max_gmag
    return None if limit is None or config.stars.gaia_provider == "file" else limit + NEIGHBOUR_DEPTH


def field_radius_deg(config: LensConfig, diagonal_px: float, scale: float | None = None) -> float:
    """How far from the ROI frames can reach, degrees.

    Args:
        diagonal_px: of the largest frame.
        scale: arcsec/px; None: the upper end of plate_scale_interval.
    """
    settings = config.plate_solving
    half = 0.5 * diagonal_px * (scale or settings.plate_scale_interval[1]) / 3600
    return min(half + settings.search_radius, LARGEST_MATCHING_RADIUS)


def matching_radius_deg(config: LensConfig, diagonal_px: float, scale: float | None = None) -> float:
    """How far from the ROI catalogue stars are matched with those of the frames, degrees; arguments as above."""
    chosen = config.plate_solving.alternate_plate_solve_gaia_radius
    return chosen / 3600 if chosen else field_radius_deg(config, diagonal_px, scale)


def uses_panstarrs(band: str) -> bool:
    """Whether magnitudes in a band come from Pan-STARRS."""
    return band.endswith("_panstarrs")
