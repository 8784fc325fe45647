"""Which catalogue stars become reference stars, what they are called, and which of them are used."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table

from lightcurver_ops.catalogs.base import unmasked
from lightcurver_ops.catalogs.motion import positions_at
from lightcurver_ops.catalogs.regions import separation_deg
from lightcurver_ops.errors import ConfigurationError, QualityGate


@dataclass(frozen=True)
class Cuts:
    """What a reference star must fulfil; None: no limit. The names are the configuration's (group `stars`).

    Args:
        min_gmag, max_gmag: range of Gaia G.
        max_astrometric_excess_noise: mas.
        max_astrometric_excess_noise_significance: largest significance of it.
        min_phot_g_mean_flux_over_error: smallest signal to noise of the mean flux in G.
        exclusion_radius_arcsec: no star this close to the ROI (`ROI_size`).
        min_number_stars: fewer are an error.
    """

    min_gmag: float | None = None
    max_gmag: float | None = None
    max_astrometric_excess_noise: float | None = None
    max_astrometric_excess_noise_significance: float | None = None
    min_phot_g_mean_flux_over_error: float | None = None
    exclusion_radius_arcsec: float = 0.0
    min_number_stars: int = 1


_COLUMN_CUTS = (
    ("min_gmag", "phot_g_mean_mag", np.greater_equal),
    ("max_gmag", "phot_g_mean_mag", np.less_equal),
    ("max_astrometric_excess_noise", "astrometric_excess_noise", np.less_equal),
    ("max_astrometric_excess_noise_significance", "astrometric_excess_noise_sig", np.less_equal),
    ("min_phot_g_mean_flux_over_error", "phot_g_mean_flux_over_error", np.greater_equal),
)


@dataclass(frozen=True)
class ReferenceStars:
    """The stars that passed.

    Args:
        table: columns as the catalogue's, and `name`, `distance_to_roi_arcsec`; sorted by that distance.
        n_queried: stars before the cuts.
        removed: by the name of the cut (and `ROI_size`), in the order in which the cuts act, the stars that it
            removed because they miss it; each star counts once.
        unknown: the same for stars whose value is masked, hence not known to fulfil the cut.
    """

    table: Table
    n_queried: int
    removed: dict[str, int]
    unknown: dict[str, int]

    def account(self) -> str:
        """One sentence: how many of how many, and what removed the others."""
        parts = [f"{cut} removed {n}" for cut, n in self.removed.items() if n]
        parts += [f"{n} have no value for {cut}" for cut, n in self.unknown.items() if n]
        return f"{len(self.table)} of {self.n_queried} stars remain" + (
            f" ({', '.join(parts)})" if parts else ""
        )


def star_name(index: int) -> str:
    """Name of the star number `index` from the ROI: a, b, ... z, aa, ab, ... zz, aaa."""
    name = ""
    index += 1
    while index > 0:
        index, letter = divmod(index - 1, 26)
        name = chr(ord("a") + letter) + name
    return name


def select_reference_stars(
    table: Table, roi_ra: float, roi_dec: float, cuts: Cuts, *, epoch_mjd: float | None = None
) -> ReferenceStars:
    """Apply the cuts to the stars of a region and name the rest by their distance to the ROI.

    Args:
        table: the answer of a catalogue.
        roi_ra, roi_dec: the ROI, ICRS degrees.
        cuts: see `Cuts`.
        epoch_mjd: MJD at which distances to the ROI are taken; None: at the catalogue's epoch.

    Raises:
        ConfigurationError: a cut on a column that the catalogue lacks.
        QualityGate: fewer than `cuts.min_number_stars` remain (measured: n_stars, n_queried, and each cut).
    """
    ra, dec = np.asarray(table["ra"]), np.asarray(table["dec"])
    if epoch_mjd is not None:
        ra, dec = positions_at(
            ra, dec, unmasked(table, "pmra"), unmasked(table, "pmdec"), table["ref_epoch"], epoch_mjd
        )
    distance = separation_deg(ra, dec, roi_ra, roi_dec) * 3600.0
    keep = (
        distance > cuts.exclusion_radius_arcsec
        if cuts.exclusion_radius_arcsec > 0
        else np.ones(len(table), bool)
    )
    removed = {"ROI_size": int(np.sum(~keep))}
    unknown: dict[str, int] = {}
    for cut, column, fulfils in _COLUMN_CUTS:
        limit = getattr(cuts, cut)
        if limit is None:
            continue
        if column not in table.colnames:
            raise ConfigurationError(
                f"stars: {cut} is {limit}, but the catalogue has no column {column}, so no star is known to fulfil it. "
                f"Write 'stars: {cut}: null', or choose a catalogue that has the column."
            )
        values = unmasked(table, column)
        known = np.isfinite(values)
        good = known & fulfils(values, limit)
        removed[cut] = int(np.sum(keep & known & ~good))
        unknown[cut] = int(np.sum(keep & ~known))
        keep &= good
    order = np.flatnonzero(keep)
    # source_id settles ties, so that the names do not depend on the order of the catalogue's rows
    order = order[np.lexsort((np.asarray(table["source_id"])[order], distance[order]))]
    chosen = table[order]
    chosen["name"] = MaskedColumn([star_name(i) for i in range(len(order))], dtype=str)
    chosen["distance_to_roi_arcsec"] = MaskedColumn(distance[order], unit=u.arcsec)
    stars = ReferenceStars(chosen, len(table), removed, unknown)
    if len(order) < cuts.min_number_stars:
        raise QualityGate(
            f"too few reference stars: {stars.account()}, stars: min_number_stars asks for {cuts.min_number_stars}. "
            "Loosen the cut that removed most, enlarge the region, or lower min_number_stars.",
            n_stars=len(order),
            n_queried=len(table),
            **{f"removed_by_{cut}": n for cut, n in removed.items()},
            **{f"unknown_{cut}": n for cut, n in unknown.items()},
        )
    return stars


def choose(
    names: Sequence[str],
    use: int | str | Sequence[str],
    exclude: str | Sequence[str] = (),
) -> list[str]:
    """The stars to use, in the order of `names`.

    Args:
        names: all stars, the best first.
        use: an integer N, the first N; names, as a list or as letters in one string.
        exclude: never these (they do not count among the N), as a list or as letters in one string.

    Raises:
        ConfigurationError: a name that no star has, a number below 1, or no star left.
    """
    excluded = list(exclude)
    number = use if isinstance(use, int) else None
    wanted = list(names) if isinstance(use, int) else list(use)
    strangers = sorted({*wanted, *excluded} - set(names), key=lambda name: (len(name), name))
    if strangers:
        known = sorted(names, key=lambda name: (len(name), name))
        raise ConfigurationError(
            f"no reference star is called {', '.join(map(repr, strangers))}; there are {', '.join(known) or 'none'}. "
            "Correct the stars to use or to exclude (a list of names; `lcops stars list` has them)."
        )
    if number is not None and number < 1:
        raise ConfigurationError(f"the number of stars to use must be 1 or more, not {number}")
    chosen = [name for name in names if name in wanted and name not in excluded][:number]
    if not chosen:
        raise ConfigurationError(
            f"no reference star is left: of {', '.join(names) or 'none'}, {', '.join(excluded) or 'none'} are excluded"
        )
    return chosen
