"""Which reference stars are control stars: modelled as if they were lenses, and part of no PSF and no coefficient."""

from dataclasses import dataclass, replace

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import stars
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.star_columns import candidates_of

FEWEST_REFERENCE_STARS = 8
"""With fewer, PSF and normalization need them all: none becomes a control star unless named."""


@dataclass(frozen=True)
class Controls:
    """The control stars of a lens, the best first, and why there are none though some are wanted."""

    stars: list[sa.Row]
    lacking: str | None = None

    @property
    def ids(self) -> set[str]:
        """Their gaia ids."""
        return {star.gaia_id for star in self.stars}


def object_name(gaia_id: str) -> str:
    """What a star's large cutout is called in the regions file, beside its small one."""
    return f"control_{gaia_id}"


def controls_of_lens(connection: sa.Connection, config: LensConfig, selection: str) -> Controls:
    """The control stars of a selection in the bookkeeping; errors as `choose_controls`."""
    if config.stars.stars_to_use_control == 0:
        return Controls([])
    description = stars.description_of(connection, config.name, selection)
    return choose_controls(
        config,
        stars.stars_of(connection, config.name, selection),
        set(stars.excluded_ids(connection, config.name)),
        description.get("lens_gmag"),
        description.get("control_contamination", {}),
    )


def choose_controls(
    config: LensConfig,
    available: list[sa.Row],
    excluded: set[str],
    magnitude: float | None,
    neighbours: dict[str, float],
) -> Controls:
    """The control stars: those that the configuration names, or the best ones.

    The choice follows from the catalogue and the configuration, not from the frames.

    Args:
        config: of the lens.
        available: all reference stars.
        excluded: gaia ids of those that users took out.
        magnitude: G of an image of the lens; None: unknown.
        neighbours: by gaia id, `catalogs.merit.contamination` in and around a stamp as large as the ROI's; a star that
            is not in it has none.

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
    chosen = []
    if free:
        light = np.array([neighbours.get(star.gaia_id, 0.0) for star in free])
        order = control_ranking(replace(candidates_of(config, free), contamination=light), magnitude)
        chosen = [free[index] for index in order[:use]]
    return Controls(chosen, None if chosen else "the configuration names or excludes all reference stars")


def _spoken_for(config: LensConfig) -> set[str]:
    """Stars that the user wants in the PSF or the normalization, or distrusts."""
    settings = config.stars
    names = {*settings.stars_to_exclude_psf, *settings.stars_to_exclude_norm}
    for use in (settings.stars_to_use_psf, settings.stars_to_use_norm):
        names |= set(use) if isinstance(use, list) else set()
    return names
