"""What a lens will ask of its catalogues, known before the night: to fill the cache while there is a network."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lightcurver_ops.bookkeeping import frames
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.errors import BadFrame, ConfigurationError
from lightcurver_ops.stages.astrometry_index import frame_shape
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.catalogs import (
    PANSTARRS_MARGIN,
    catalog_of,
    faintest_asked,
    field_radius_deg,
    matching_radius_deg,
    panstarrs_of,
    uses_panstarrs,
)

if TYPE_CHECKING:
    from lightcurver_ops.catalogs.cache import Cached


@dataclass(frozen=True)
class Need:
    """A question that stages will ask.

    Args:
        catalogue: who answers it.
        radius_deg: around the ROI.
        max_gmag: faintest G; None: all.
        purpose: in words.
    """

    catalogue: "Cached"
    radius_deg: float
    max_gmag: float | None
    purpose: str


def needs_of(lens: Lens, radius_deg: float | None = None) -> list[Need]:
    """The questions of a lens to catalogues behind a network, the widest first: it may answer the others.

    Args:
        lens: its bookkeeping may be empty.
        radius_deg: degrees around the ROI, in place of what the size of the frames asks for.

    Raises:
        ConfigurationError: the size of the frames is needed and not known.
    """
    config = lens.config
    needs: list[Need] = []
    of_disk, of_file = config.stars.strategy == "ROI_disk", config.stars.gaia_provider == "file"
    diagonal = 0.0 if radius_deg is not None or (of_disk and of_file) else _largest_diagonal(lens)
    stars = (
        config.stars.ROI_disk_radius_arcseconds / 3600
        if of_disk
        else radius_deg or field_radius_deg(config, diagonal)
    )
    if not of_file:
        catalogue: Any = catalog_of(config)
        field = radius_deg or matching_radius_deg(config, diagonal)
        needs.append(Need(catalogue, field, None, "plate solving"))
        needs.append(Need(catalogue, stars, faintest_asked(config), "reference stars"))
    bands = config.zero_points.photometric_band
    if any(uses_panstarrs(band) for band in ([bands] if isinstance(bands, str) else bands.values())):
        needs.append(Need(panstarrs_of(config), stars + PANSTARRS_MARGIN, None, "zero points"))
    return sorted(needs, key=lambda need: (-need.radius_deg, need.max_gmag is not None))


def _largest_diagonal(lens: Lens) -> float:
    """Of the frames, in pixels: of those known, else of the first raw one."""
    with reading(lens.engine) as connection:
        known = [math.hypot(row.width, row.height) for row in frames.all_frames(connection, lens.name)]
        if known:
            return max(known)
        try:
            return math.hypot(*frame_shape(connection, lens.config))
        except (BadFrame, ConfigurationError) as error:
            raise ConfigurationError(
                f"{lens.name} has no frame yet, so nobody knows how large its field is ({error}): say how far from the "
                "ROI stars are needed with --radius DEGREES (half a diagonal of a frame plus how far pointings stray)"
            ) from error
