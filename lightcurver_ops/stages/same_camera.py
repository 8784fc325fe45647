"""Frames of one light curve have one plate scale and one parity: those of another camera, or mirrored, take no part.

The joint model turns and moves the scene from frame to frame; it neither stretches nor mirrors it. A scale that is off
by 4 % puts an image of a lens off by 70 mmag, in silence.
"""

from collections.abc import Sequence
from statistics import median

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, photometry
from lightcurver_ops.config import LensConfig

_FIRST = 50
"""Frames, by time, that say what is usual: a new camera does not become it by its number of frames. Where a light curve
is published these are frames of it: an archive of an older camera does not turn it over."""


_MIRRORED = "the frame is mirrored against the others of its filter"
_LIMIT = "(roi_model.max_scale_difference)"


def is_odd(reason: str | None) -> bool:
    """Whether the reason why a frame takes no part is one of `odd_frames`."""
    return reason is not None and (reason == _MIRRORED or reason.endswith(_LIMIT))


def odd_frames(
    connection: sa.Connection, config: LensConfig, usable: Sequence[sa.Row], typical: Sequence[sa.Row]
) -> dict[int, str]:
    """frame id: why a plate-solved frame does not belong to the light curve of its filter, where it does not.

    Args:
        connection: to the bookkeeping.
        config: of the lens.
        usable: the frames to be judged.
        typical: of these, those by which they are judged; none of a filter: nothing is odd there.
    """
    from lightcurver_ops.astrometry.footprints import is_mirrored, polygon_from_text

    published = photometry.published_frames(connection, config.name)

    polygons = frames.footprints_of(connection, config.name)
    mirrored = {
        row.id: is_mirrored(polygon_from_text(polygons[row.id].polygon))
        for row in usable
        if row.id in polygons and row.pixel_scale
    }
    odd: dict[int, str] = {}
    for filter_name in {row.filter for row in usable}:
        known = [row for row in typical if row.filter == filter_name and row.id in mirrored]
        known = [row for row in known if row.id in published] or known
        first = sorted(known, key=lambda row: (row.mjd, row.image_relpath))[:_FIRST]
        if not first:
            continue
        turned = [mirrored[row.id] for row in first]
        usual = max(dict.fromkeys(turned), key=turned.count)  # of as many, that of the first frame
        most = config.roi_model.max_scale_difference
        scale = _usual_scale([row.pixel_scale for row in first if mirrored[row.id] == usual], most)
        for row in usable:
            if row.filter != filter_name or row.id not in mirrored:
                continue
            if mirrored[row.id] != usual:
                odd[row.id] = _MIRRORED
            elif not _alike(row.pixel_scale, scale, most):
                odd[row.id] = (
                    f"the plate scale is {row.pixel_scale:.4f} arcsec/px, that of the others {scale:.4f}: more than "
                    f"{100 * most:g} % off (roi_model.max_scale_difference)"
                )
    return odd


def _alike(one: float, other: float, most: float) -> bool:
    return abs(one / other - 1) <= most


def _usual_scale(scales: list[float], most: float) -> float:
    """The median of those that are alike, of the largest such group; of as many, that of the first one."""
    groups = [[other for other in scales if _alike(other, one, most)] for one in scales]
    largest = max(map(len, groups))
    return median(next(group for group in groups if len(group) == largest))
