"""Bulk downloads as a cache: complete within a disk that is stated, or that follows from the stars."""

from pathlib import Path

import numpy as np
import shapely
from astropy.table import Table

from lightcurver_ops.catalogs import store
from lightcurver_ops.catalogs.base import GAIA_UNITS, unmasked
from lightcurver_ops.catalogs.cache import Cached
from lightcurver_ops.catalogs.local_file import LocalFile
from lightcurver_ops.catalogs.panstarrs import MAST_COLUMNS, VIZIER_COLUMNS
from lightcurver_ops.catalogs.regions import Disk, separation_deg, unit_vectors
from lightcurver_ops.catalogs.store import Kept
from lightcurver_ops.catalogs.tiling import LARGEST, covering
from lightcurver_ops.catalogs.vizier import GAIA_COLUMNS
from lightcurver_ops.errors import ConfigurationError

GAIA_LIMIT = 20.7
"""G: a download that reaches it was not limited in magnitude (Gaia DR3 is about complete to 20.7 and ends near 21; Gaia
Collaboration, Vallenari et al. 2023, A&A 674, A1)."""
_STATE = "State it: --ra, --dec and --radius, in degrees"
_FEWEST = 20
"""Stars whose outline is near that of the download."""
_FOR_HOLES = 70
"""Stars of a disk from which each of its seven parts has some: more than ten are expected."""


def import_file(
    cache: Cached,
    path: Path,
    *,
    centre: tuple[float, float] | None = None,
    radius_deg: float | None = None,
    max_gmag: float | str | None = None,
) -> Kept:
    """Keep the stars of a file as answers of a catalogue.

    Args:
        cache: the catalogue (whose data release the file must be of), and where to keep its stars.
        path: ECSV, FITS, CSV or Parquet, with the column names of Gaia, VizieR or MAST.
        centre: ICRS degrees of the disk in which the file has all stars; None: the middle of its stars.
        radius_deg: of this disk; None: the largest one inside of the outline of the stars.
        max_gmag: G down to which it has all stars; "all": no limit; None: that of its faintest star, or no limit where
            this is about as faint as Gaia's stars are.

    Raises:
        ConfigurationError: a file that cannot be read, or whose coverage is neither stated nor to be seen.
    """
    table = LocalFile(path).rows()
    others = GAIA_COLUMNS if cache.name in ("gaia", "vizier") else {**VIZIER_COLUMNS, **MAST_COLUMNS}
    table = cache.catalog.renamed(table, others)
    missing = {"source_id", "ra", "dec"} - set(table.colnames)
    if missing:
        known = GAIA_UNITS if cache.name in ("gaia", "vizier") else VIZIER_COLUMNS
        raise ConfigurationError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(sorted(missing))}: name its columns "
            f"{', '.join(known)}, or as VizieR or MAST do"
        )
    stars = cache.catalog.checked(table)
    if not len(stars):
        raise ConfigurationError(f"{path} has no star: nothing is imported")
    disk = _coverage(stars, path, centre, radius_deg)
    depth = _depth(stars, max_gmag) if "phot_g_mean_mag" in stars.colnames else None
    stars = stars[disk.contains(np.asarray(stars["ra"]), np.asarray(stars["dec"]))]
    if depth is not None:
        stars = stars[unmasked(stars, "phot_g_mean_mag") <= depth]
    if not len(stars):
        raise ConfigurationError(
            f"{path} has no star within {disk.radius_deg:g} degrees of ra {disk.ra:.5f}, dec {disk.dec:.5f}: it covers "
            "another part of the sky, or the stated coverage is not its own"
        )
    stars.sort("source_id")
    kept = Kept(
        cache.name, cache.identity(), disk.ra, disk.dec, disk.radius_deg, depth, len(stars), store.now(),
        str(path.resolve()),
    )  # fmt: skip
    store.write(cache.directory, kept, stars)
    return kept


def _coverage(stars: Table, path: Path, centre: tuple[float, float] | None, radius_deg: float | None) -> Disk:
    vectors = unit_vectors(np.asarray(stars["ra"]), np.asarray(stars["dec"]))
    if centre is None:
        mean = vectors.mean(axis=0)
        centre = (
            float(np.degrees(np.arctan2(mean[1], mean[0])) % 360.0),
            float(np.degrees(np.arctan2(mean[2], np.hypot(mean[0], mean[1])))),
        )
    where = f"around ra {centre[0]:.5f}, dec {centre[1]:.5f}"
    if radius_deg is not None:
        return Disk(centre[0] % 360.0, centre[1], radius_deg)
    radius = _inner_radius_deg(vectors, centre) if len(stars) >= _FEWEST else 0.0
    if radius <= 0:
        raise ConfigurationError(
            f"the {len(stars)} stars of {path} do not show which disk {where} they cover. {_STATE}"
        )
    disk = Disk(centre[0] % 360.0, centre[1], radius)
    hole = _hole(disk, np.asarray(stars["ra"]), np.asarray(stars["dec"]))
    if hole is not None:
        raise ConfigurationError(
            f"{path} has no star within {hole.radius_deg:.3f} degrees of ra {hole.ra:.4f}, dec {hole.dec:.4f}, though "
            f"stars lie on all sides: it does not cover a whole disk {where}. {_STATE}"
        )
    return disk


def _hole(disk: Disk, ra: np.ndarray, dec: np.ndarray) -> Disk | None:
    """A part of a disk without any star, as large as chance does not leave it."""
    number = disk.contains(ra, dec).sum()
    if number < _FOR_HOLES or disk.radius_deg > LARGEST:
        return None
    parts = covering(disk)
    if number >= 7 * _FOR_HOLES:
        smaller = (one for part in parts for one in covering(part))
        parts += [
            one
            for one in smaller
            if separation_deg(one.ra, one.dec, disk.ra, disk.dec) + one.radius_deg <= disk.radius_deg
        ]
    return next((part for part in parts if not part.contains(ra, dec).any()), None)


def _inner_radius_deg(vectors: np.ndarray, centre: tuple[float, float]) -> float:
    """Radius of the largest disk around a centre inside the convex outline of directions; 0: there is none.

    A download of a convex region (cone, box) holds the outline of its stars, hence this disk.
    """
    ra, dec = np.radians(centre)
    axis = np.array([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    east = np.array([-np.sin(ra), np.cos(ra), 0.0])
    depth = vectors @ axis
    if np.any(depth < np.cos(np.radians(80.0))):
        return 0.0
    # Gnomonic: great circles become straight lines.
    plane = np.stack([vectors @ east / depth, vectors @ np.cross(axis, east) / depth], axis=-1)
    outline, middle = shapely.MultiPoint(plane).convex_hull, shapely.Point(0.0, 0.0)
    if not isinstance(outline, shapely.Polygon) or not outline.contains(middle):
        return 0.0
    return float(np.degrees(np.arctan(outline.exterior.distance(middle))))


def _depth(stars: Table, max_gmag: float | str | None) -> float | None:
    if max_gmag == "all":
        return None
    if max_gmag is not None:
        return float(max_gmag)
    g = unmasked(stars, "phot_g_mean_mag")
    if not np.isfinite(g).any():
        return None
    faintest = float(np.nanmax(g))
    return None if faintest >= GAIA_LIMIT else faintest
