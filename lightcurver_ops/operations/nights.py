"""Observing nights: from noon to noon, local time of the telescope, called by the date on which they begin."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError

_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_HALF_DAY = timedelta(hours=12)


def timezone_name(config: LensConfig) -> str:
    """IANA name of the time by which a lens's nights run.

    That of `telescope.timezone`; else whole hours from the telescope's longitude (15 degrees each, without summer
    time); UTC without a telescope.
    """
    telescope = config.telescope
    if telescope is None:
        return "UTC"
    if telescope.timezone is not None:
        return telescope.timezone
    longitude = (telescope.longitude + 180) % 360 - 180
    hours = round(longitude / 15)
    # In the names of Etc/GMT, + is west.
    return f"Etc/GMT{-hours:+d}" if hours else "UTC"


def night_at(moment: datetime, timezone: str) -> date:
    """The night of a moment: the date, at the telescope, of the noon before it."""
    return (moment.astimezone(ZoneInfo(timezone)).replace(tzinfo=None) - _HALF_DAY).date()


def night_of_mjd(mjd: float, timezone: str) -> date:
    """The night of an MJD (UTC)."""
    return night_at(_MJD_EPOCH + timedelta(days=mjd), timezone)


def night_interval(night: date, timezone: str) -> tuple[datetime, datetime]:
    """From the noon that begins a night to the next, UTC."""
    zone = ZoneInfo(timezone)
    begin, end = (datetime.combine(day, time(12), zone) for day in (night, night + timedelta(days=1)))
    return begin.astimezone(UTC), end.astimezone(UTC)


def parse_night(text: str) -> date:
    """A night as it is written: YYYY-MM-DD.

    Raises:
        ConfigurationError: it is not a date.
    """
    try:
        night = date.fromisoformat(text)
    except ValueError:
        night = None
    if night is None or night.isoformat() != text:  # nights are compared as they are written
        raise ConfigurationError(
            f"night = {text!r}: write the date on which the night began at the telescope as YYYY-MM-DD"
        )
    return night
