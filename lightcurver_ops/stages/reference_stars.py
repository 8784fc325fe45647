"""Which reference stars serve for what, of those that a frame has."""

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, stars
from lightcurver_ops.config import LensConfig


def stars_for(config: LensConfig, purpose: str, available: list[sa.Row], present: set[str]) -> list[sa.Row]:
    """Stars of a frame for ``psf`` or ``norm``, nearest first: the user's list, the N closest, or the 10 closest.

    Raises:
        ConfigurationError: a name that no reference star has.
    """
    from lightcurver_ops.catalogs.selection import choose

    use = getattr(config.stars, f"stars_to_use_{purpose}")
    exclude = getattr(config.stars, f"stars_to_exclude_{purpose}")
    by_name = {star.name: star for star in available}
    # Names are checked against all stars; the closest ones are counted among those that the frame has.
    if isinstance(use, list):
        return [
            by_name[name] for name in choose(list(by_name), use, exclude) if by_name[name].gaia_id in present
        ]
    allowed = choose(list(by_name), len(by_name), exclude) if by_name else []
    here = [name for name in allowed if by_name[name].gaia_id in present]
    return [by_name[name] for name in (choose(here, use) if here else [])]


def stars_per_frame(
    connection: sa.Connection, config: LensConfig, purpose: str, rows: list[sa.Row]
) -> dict[int, list[sa.Row]]:
    """frame id: its stars for a purpose, without those that users took out."""
    selection = stars.current_selection(connection, config.name)
    if selection is None:
        return {}
    available = stars.stars_of(connection, config.name, selection)
    excluded = set(stars.excluded_ids(connection, config.name))
    return {
        row.id: stars_for(
            config, purpose, available, set(stars.stars_in_frame(connection, row.id, selection)) - excluded
        )
        for row in rows
    }


def frames_with(connection: sa.Connection, lens: str, done: dict[str, str]) -> list[sa.Row]:
    """Usable frames whose unit is among those done by a stage."""
    return [row for row in frames.usable_frames(connection, lens) if row.image_relpath in done]


def star_column(chosen: list[sa.Row], name: str) -> np.ndarray:
    """A column of rows of `stars`, [S]; NaN where it is unknown."""
    values = (getattr(star, name) for star in chosen)
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
