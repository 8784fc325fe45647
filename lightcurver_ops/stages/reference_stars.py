"""Which reference stars serve for what, of those that a frame has."""

from typing import Literal

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, stars
from lightcurver_ops.config import LensConfig
from lightcurver_ops.stages.control_stars import candidates_of_lens
from lightcurver_ops.stages.star_columns import candidates_of

Purpose = Literal["psf", "norm"]
PURPOSES: tuple[Purpose, ...] = ("psf", "norm")

DEFAULT_NUMBER: dict[Purpose, int] = {"psf": 24, "norm": 24}
"""Stars used at most where the configuration names none and no number."""


def number_wanted(config: LensConfig, purpose: Purpose) -> int | None:
    """How many stars a frame uses at most; None: those that the configuration names."""
    use = getattr(config.stars, f"stars_to_use_{purpose}")
    return None if isinstance(use, list) else DEFAULT_NUMBER[purpose] if use is None else use


def ranked_stars(
    config: LensConfig, purpose: Purpose, available: list[sa.Row], excluded: set[str]
) -> list[sa.Row]:
    """The stars that may serve for ``psf`` or ``norm``: the user's list, or all of them, best first.

    The order follows from the catalogue and the configuration, so that a frame's choice depends on no other frame.

    Args:
        config: of the lens.
        purpose: what they are for.
        available: all reference stars.
        excluded: gaia ids of those that users took out.

    Raises:
        ConfigurationError: a name that no reference star has, or no star left.
    """
    from lightcurver_ops.catalogs.selection import choose

    if not available:
        return []
    use, exclude = (getattr(config.stars, f"stars_to_{what}_{purpose}") for what in ("use", "exclude"))
    by_name = {star.name: star for star in available}
    allowed = choose(list(by_name), use if isinstance(use, list) else len(by_name), exclude)
    left = [by_name[name] for name in allowed if by_name[name].gaia_id not in excluded]
    number = number_wanted(config, purpose)
    return left if number is None else _by_merit(config, purpose, available, left, number)


def _by_merit(
    config: LensConfig, purpose: Purpose, available: list[sa.Row], left: list[sa.Row], number: int
) -> list[sa.Row]:
    from lightcurver_ops.catalogs.merit import ranking

    allowed = {star.gaia_id for star in left}
    mask = np.array([star.gaia_id in allowed for star in available], dtype=bool)
    return [available[index] for index in ranking(candidates_of(config, available), number, purpose, mask)]


def stars_per_frame(
    connection: sa.Connection, config: LensConfig, purpose: Purpose, rows: list[sa.Row], spare: int = 0
) -> dict[int, list[sa.Row]]:
    """frame id: its stars for a purpose, best first, without those that users took out.

    Args:
        connection: to the bookkeeping.
        config: of the lens.
        purpose: what they are for.
        rows: the frames.
        spare: so many more, where the configuration does not name the stars: for those that a frame shows badly.

    Raises:
        ConfigurationError: as `ranked_stars`.
    """
    selection = stars.current_selection(connection, config.name)
    if selection is None:
        return {}
    ranked = ranking_of_lens(connection, config, purpose, selection)
    number = number_wanted(config, purpose)
    most = None if number is None else number + spare
    present = stars.ids_in_frames(connection, config.name, selection)
    return {
        row.id: [star for star in ranked if star.gaia_id in present.get(row.id, ())][:most] for row in rows
    }


def ranking_of_lens(
    connection: sa.Connection, config: LensConfig, purpose: Purpose, selection: str
) -> list[sa.Row]:
    """`ranked_stars` of a selection in the bookkeeping, without the candidates for control stars."""
    available = stars.stars_of(connection, config.name, selection)
    excluded = set(stars.excluded_ids(connection, config.name))
    controls = candidates_of_lens(connection, config, selection).ids
    return ranked_stars(config, purpose, available, excluded | controls)


def frames_with(connection: sa.Connection, lens: str, done: dict[str, str]) -> list[sa.Row]:
    """Usable frames whose unit is among those done by a stage."""
    return [row for row in frames.usable_frames(connection, lens) if row.image_relpath in done]
