"""What every star catalogue offers: a region of the sky in, a table with Gaia DR3's column names and units out."""

import logging
from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
from astropy import units as u
from astropy.table import MaskedColumn, Table

from lightcurver_ops.catalogs.motion import positions_at
from lightcurver_ops.catalogs.regions import Disk, Region
from lightcurver_ops.errors import ConfigurationError

log = logging.getLogger(__name__)

GAIA_EPOCH = 2016.0
"""Reference epoch of Gaia DR3 positions, Julian year: taken where a catalogue does not say its own."""
FASTEST_STAR = 10.4 / 3600.0
"""Degrees per year: Barnard's star, the largest proper motion of the sky."""

GAIA_UNITS: dict[str, u.UnitBase | None] = {
    "source_id": None,
    "ra": u.deg,
    "dec": u.deg,
    "ref_epoch": u.yr,
    "pmra": u.mas / u.yr,
    "pmdec": u.mas / u.yr,
    "phot_g_mean_mag": u.mag,
    "phot_bp_mean_mag": u.mag,
    "phot_rp_mean_mag": u.mag,
    "astrometric_excess_noise": u.mas,
    "astrometric_excess_noise_sig": None,
    "phot_g_mean_flux_over_error": None,
}
"""The columns of a catalogue's answer and their units."""
NEEDED_COLUMNS = ("source_id", "ra", "dec", "phot_g_mean_mag")


class CatalogProvider(Protocol):
    """A star catalogue, wherever it lives."""

    name: str

    def identity(self) -> str:
        """What decides this catalogue's answers: provider and data release, or the hash of a file's content."""
        ...

    def query(
        self, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
    ) -> Table:
        """The stars of a region, in the columns of `GAIA_UNITS`.

        A column that the catalogue lacks is absent; a missing value is masked (unknown, never "good").
        Positions are those of the catalogue, at each star's `ref_epoch`.

        Args:
            region: the part of the sky.
            epoch_mjd: MJD at which a star must lie in the region; None: at the catalogue's epoch.
            max_gmag: leave out stars fainter than this, and those of unknown G; None: all stars.

        Raises:
            ConfigurationError: the catalogue cannot be used as configured; the message says what to write.
            TemporaryFailure: the network or the server failed.
        """
        ...


def gaia_table(table: Table, source: str, *, needed: Iterable[str] = NEEDED_COLUMNS) -> Table:
    """The columns of `GAIA_UNITS` that `table` has, in Gaia's units, NaN masked, `ref_epoch` filled in.

    Args:
        table: any table with (some of) Gaia's column names; units are converted, no unit means Gaia's.
        source: the catalogue's name or path, for messages.
        needed: columns that must be there.

    Raises:
        ConfigurationError: a needed column is missing, or a column does not hold what its name says.
    """
    table = _in_lower_case(table)
    missing = [name for name in needed if name not in table.colnames]
    if missing:
        raise ConfigurationError(
            f"{source} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; it has "
            f"{', '.join(table.colnames) or 'no column at all'}. Rename its columns to Gaia DR3's names "
            f"({', '.join(GAIA_UNITS)})."
        )
    result = Table(masked=True)
    for name, unit in GAIA_UNITS.items():
        if name == "ref_epoch":
            known = (
                column_of_numbers(table[name], unit, source).filled(GAIA_EPOCH)
                if name in table.colnames
                else GAIA_EPOCH
            )
            result[name] = MaskedColumn(np.broadcast_to(known, len(table)).copy(), unit=unit)
        elif name == "source_id" and name in table.colnames:
            result[name] = column_of_identifiers(table[name], source)
        elif name in table.colnames:
            result[name] = column_of_numbers(table[name], unit, source)
    return _with_position(result, source)


def _in_lower_case(table: Table) -> Table:
    """The table with Gaia's names as Gaia writes them, where it has them in other letters (TAP services answer so)."""
    others = {name.lower(): name for name in table.colnames if name != name.lower()}
    renamed = {old: new for new, old in others.items() if new in GAIA_UNITS and new not in table.colnames}
    if not renamed:
        return table
    table = table.copy(copy_data=False)
    table.rename_columns(tuple(renamed), tuple(renamed.values()))
    return table


def column_of_numbers(column: Any, unit: u.UnitBase | str | None, source: str) -> MaskedColumn:
    """A column as float64 in a unit (its own, where it has one, is converted), what is no number masked.

    Raises:
        ConfigurationError: it does not hold numbers, or its unit does not convert.
    """
    values: Any = np.ma.asarray(MaskedColumn(column))
    if values.dtype.kind in "OSU":
        values = values.filled("nan")  # text formats leave a column without any value as text
    try:
        values = np.ma.masked_invalid(np.ma.asarray(values, dtype=np.float64))
        if unit is not None and getattr(column, "unit", None) not in (None, u.dimensionless_unscaled):
            # .data, since astropy's masked arithmetic would carry the fill value through the conversion
            values = np.ma.array((values.data * u.Unit(column.unit)).to_value(unit), mask=values.mask)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"column {column.name} of {source} does not hold numbers"
            f"{f' in {unit}, nor in a unit that converts to it' if unit else ''}: {error}. Correct the catalogue."
        ) from error
    return MaskedColumn(values, unit=unit, name=column.name)


def column_of_identifiers(column: Any, source: str) -> MaskedColumn:
    """A column as int64.

    Raises:
        ConfigurationError: a missing, a repeated, or no integer value.
    """
    values = np.ma.asarray(MaskedColumn(column))
    expected = f"column source_id of {source} must hold integers, one for each star"
    if np.any(np.ma.getmaskarray(values)):
        raise ConfigurationError(f"{expected}: {np.ma.getmaskarray(values).sum()} rows have none.")
    data = values.data
    if data.dtype.kind == "f" and np.any((data != np.floor(data)) | (np.abs(data) > 2**53)):
        raise ConfigurationError(f"{expected}: it holds decimal numbers, too coarse for Gaia's identifiers.")
    try:
        identifiers = data.astype(np.int64)
    except (ValueError, OverflowError) as error:
        raise ConfigurationError(f"{expected}: {error}.") from error
    unique, counts = np.unique(identifiers, return_counts=True)
    if np.any(counts > 1):
        repeated = ", ".join(str(i) for i in unique[counts > 1][:5])
        raise ConfigurationError(
            f"{expected}: {np.sum(counts > 1)} are there more than once ({repeated}). Remove the duplicates."
        )
    return MaskedColumn(identifiers, name="source_id")


def _with_position(table: Table, source: str) -> Table:
    placed = ~(np.ma.getmaskarray(table["ra"]) | np.ma.getmaskarray(table["dec"]))
    if not placed.all():
        log.warning(
            "%s: %d of %d rows have no position and are left out", source, (~placed).sum(), len(table)
        )
        table = table[placed]
    if np.any(np.abs(table["dec"].data) > 90.0):
        worst = table["source_id"][np.argmax(np.abs(table["dec"].data))]
        raise ConfigurationError(
            f"column dec of {source} goes beyond +-90 degrees (first at source_id {worst}): write ICRS degrees."
        )
    table["ra"] = MaskedColumn(table["ra"].data.data % 360.0, unit=u.deg)
    return table


def cut_to_region(
    table: Table, region: Region, *, epoch_mjd: float | None = None, max_gmag: float | None = None
) -> Table:
    """The rows of a table in `GAIA_UNITS`'s columns that answer a query: see `CatalogProvider.query`."""
    ra, dec = np.asarray(table["ra"]), np.asarray(table["dec"])
    if epoch_mjd is not None and len(table):
        ra, dec = positions_at(
            ra, dec, unmasked(table, "pmra"), unmasked(table, "pmdec"), table["ref_epoch"], epoch_mjd
        )
    keep = region.contains(ra, dec)
    if max_gmag is not None:
        keep &= unmasked(table, "phot_g_mean_mag") <= max_gmag
    return table[keep]


def disk_to_ask(region: Region, epoch_mjd: float | None, catalog_epoch: float = GAIA_EPOCH) -> Disk:
    """The disk around a region that holds, at the catalogue's epoch, all stars that lie in it at `epoch_mjd`."""
    disk = region.bounding_disk()
    if epoch_mjd is None:
        return disk
    years = abs(2000.0 + (epoch_mjd - 51544.5) / 365.25 - catalog_epoch)
    return Disk(disk.ra, disk.dec, min(disk.radius_deg + FASTEST_STAR * years, 180.0))


def unmasked(table: Table, name: str) -> np.ndarray:
    """A column as float64 with NaN where it is masked, all NaN where the table lacks it. Shape [N]."""
    if name not in table.colnames:
        return np.full(len(table), np.nan)
    return np.ma.filled(np.ma.asarray(table[name], dtype=np.float64), np.nan)
