"""Which reference stars are control stars: modelled as if they were lenses, and part of no PSF and no coefficient.

More stars than are wanted are held back from PSF and normalization, the candidates. They follow from the catalogue and
from where frames point, so that no flux depends on the choice. Which of them are control stars their own fluxes say,
filter by filter, after the normalization.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, stars
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.star_columns import candidates_of

FEWEST_REFERENCE_STARS = 8
"""With fewer, PSF and normalization need them all: none becomes a control star unless named."""


CANDIDATES = 3
"""Times as many as are wanted are held back where there are plenty,"""
PART_HELD_BACK = 3
"""and at most one in so many reference stars where there are few; but never fewer than are wanted."""
REFERENCE_FRAMES = 50
"""Where frames point is taken from the first so many: later nights change no candidate."""
IN_MOST_FRAMES = 0.8
"""Part of the frames in which a candidate lies."""


@dataclass(frozen=True)
class Controls:
    """Control stars of a lens, or candidates, the best first, and why there are none though some are wanted.

    `faults`: by gaia id what speaks against those that are not among them.
    """

    stars: list[sa.Row]
    lacking: str | None = None
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def ids(self) -> set[str]:
        """Their gaia ids."""
        return {star.gaia_id for star in self.stars}


def object_name(gaia_id: str) -> str:
    """What a star's large cutout is called in the regions file, beside its small one."""
    return f"control_{gaia_id}"


def controls_of_lens(
    connection: sa.Connection, config: LensConfig, selection: str, filter_name: str | None = None
) -> Controls:
    """The control stars of a filter; None: of any filter. Errors as `choose_candidates`.

    Before a filter is normalized they are the first of the candidates.
    """
    candidates = candidates_of_lens(connection, config, selection)
    use = config.stars.stars_to_use_control
    if isinstance(use, list) or not candidates.stars:
        return candidates
    rows = stars.control_choice_of(connection, config.name, selection)
    filters = {row.filter for row in rows} if filter_name is None else {filter_name}
    chosen: set[str] = set()
    faults: dict[str, str] = {}
    for name in filters or {""}:
        of_filter = [row for row in rows if row.filter == name]
        faulty = {row.star_gaia_id: row.fault for row in of_filter if row.fault and not row.chosen}
        before = {row.star_gaia_id for row in of_filter if row.chosen}
        chosen |= set(choose([star.gaia_id for star in candidates.stars], before, set(faulty), use))
        faults |= faulty
    left = [star for star in candidates.stars if star.gaia_id in chosen]
    faults = {star: fault for star, fault in faults.items() if star not in chosen}
    return Controls(left, None if left else _all_faulty(candidates, faults), faults)


def _all_faulty(candidates: Controls, faults: dict[str, str]) -> str:
    told = "; ".join(
        f"{star.name} {faults[star.gaia_id]}" for star in candidates.stars if star.gaia_id in faults
    )
    return f"every candidate has a fault: {told}"


def choose(candidates: list[str], before: set[str], faulty: set[str], number: int) -> list[str]:
    """The control stars among candidates: those that were chosen before, then the best of the others.

    Args:
        candidates: gaia ids, best first. before: those chosen last time. faulty: those that must not be chosen.
        number: how many at most.
    """
    sound = [star for star in candidates if star not in faulty]
    kept = [star for star in sound if star in before][:number]
    fresh = [star for star in sound if star not in before][: number - len(kept)]
    return [star for star in sound if star in kept or star in fresh]


def candidates_of_lens(connection: sa.Connection, config: LensConfig, selection: str) -> Controls:
    """The stars of a selection that are held back from PSF and normalization; errors as `choose_candidates`."""
    if config.stars.stars_to_use_control == 0:
        return Controls([])
    description = stars.description_of(connection, config.name, selection)
    first = sorted(frames.usable_frames(connection, config.name), key=lambda row: row.mjd)[:REFERENCE_FRAMES]
    shares = stars.shares_of_frames(connection, selection, [row.id for row in first])
    return choose_candidates(
        config,
        stars.stars_of(connection, config.name, selection),
        set(stars.excluded_ids(connection, config.name)),
        description.get("lens_gmag"),
        description.get("control_contamination", {}),
        shares or None,
    )


def choose_candidates(
    config: LensConfig,
    available: list[sa.Row],
    excluded: set[str],
    magnitude: float | None,
    neighbours: dict[str, float],
    in_frames: dict[str, float] | None = None,
) -> Controls:
    """The candidates: the stars that the configuration names, or the best ones.

    The choice follows from the catalogue, the configuration, and where frames point, not from what they show.

    Args:
        config: of the lens.
        available: all reference stars.
        excluded: gaia ids of those that users took out.
        magnitude: G of an image of the lens; None: unknown.
        neighbours: by gaia id, `catalogs.merit.contamination` in and around a stamp as large as the ROI's; a star that
            is not in it has none.
        in_frames: by gaia id, the part of the frames that a star lies in; None: there is no frame.

    Raises:
        ConfigurationError: a name that no reference star has.
    """
    from lightcurver_ops.catalogs.controls import control_ranking

    use = config.stars.stars_to_use_control
    left = [star for star in available if star.gaia_id not in excluded]
    if isinstance(use, list):
        by_name = {star.name: star for star in available}
        if available and (strangers := sorted(set(use) - set(by_name))):
            raise ConfigurationError(
                f"stars.stars_to_use_control: no reference star is called {', '.join(map(repr, strangers))}; there are "
                f"{', '.join(by_name)}. Write names of these (`lcops stars list` has them), or a number"
            )
        return Controls([star for star in left if star.name in use])
    if use == 0 or not available:
        return Controls([])
    if len(left) < FEWEST_REFERENCE_STARS:
        return Controls(
            [], f"there are only {len(left)} reference stars, fewer than {FEWEST_REFERENCE_STARS}"
        )
    free = [star for star in left if star.name not in _spoken_for(config)]
    if not free:
        return Controls([], "the configuration names or excludes all reference stars")
    if in_frames is not None:
        free = [star for star in free if in_frames.get(star.gaia_id, 0.0) >= IN_MOST_FRAMES]
        if not free:
            return Controls([], f"no reference star lies in {100 * IN_MOST_FRAMES:.0f} % of the frames")
        left = [star for star in left if in_frames.get(star.gaia_id, 0.0) >= IN_MOST_FRAMES]
    light = np.array([neighbours.get(star.gaia_id, 0.0) for star in free])
    order = control_ranking(replace(candidates_of(config, free), contamination=light), magnitude)
    number = min(CANDIDATES * use, max(use, len(left) // PART_HELD_BACK))
    return Controls([free[index] for index in order[:number]])


def _spoken_for(config: LensConfig) -> set[str]:
    """Stars that the user wants in the PSF or the normalization, or distrusts."""
    settings = config.stars
    names = {*settings.stars_to_exclude_psf, *settings.stars_to_exclude_norm}
    for use in (settings.stars_to_use_psf, settings.stars_to_use_norm):
        names |= set(use) if isinstance(use, list) else set()
    return names
