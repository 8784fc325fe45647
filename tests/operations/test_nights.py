"""Observing nights: noon to noon at the telescope, whatever its clocks do."""

import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from astropy.time import Time
from hypothesis import given
from hypothesis import strategies as st

from lightcurver_ops.config import load_lens
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.nights import (
    night_at,
    night_interval,
    night_of_mjd,
    parse_night,
    timezone_name,
)

SANTIAGO = "America/Santiago"
ZONES = [
    SANTIAGO,
    "UTC",
    "Etc/GMT+12",
    "Etc/GMT-12",
    "Pacific/Honolulu",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Europe/Zurich",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Antarctica/Troll",
]
moments = st.datetimes(datetime(2000, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))
zones = st.sampled_from(ZONES)


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("night", "begin", "end"),
    [
        ("2026-01-15", "2026-01-15T15:00", "2026-01-16T15:00"),  # summer time, three hours behind UTC
        ("2026-04-04", "2026-04-04T15:00", "2026-04-05T16:00"),  # clocks go back: a night of 25 hours
        ("2026-07-15", "2026-07-15T16:00", "2026-07-16T16:00"),
        ("2026-09-05", "2026-09-05T16:00", "2026-09-06T15:00"),  # clocks go forward: of 23 hours
    ],
)
def test_nights_of_santiago(night, begin, end):
    day = date.fromisoformat(night)
    assert night_interval(day, SANTIAGO) == (utc(begin), utc(end))
    second = timedelta(seconds=1)
    assert night_at(utc(begin) - second, SANTIAGO) == day - timedelta(days=1)
    assert night_at(utc(begin), SANTIAGO) == day
    assert night_at(utc(end) - second, SANTIAGO) == day
    assert night_at(utc(end), SANTIAGO) == day + timedelta(days=1)


def test_an_hour_that_the_clocks_show_twice_is_of_one_night():
    # On 2026-04-05, 23:30 of the evening before comes twice.
    for moment in ("2026-04-05T02:30", "2026-04-05T03:30"):
        assert utc(moment).astimezone(ZoneInfo(SANTIAGO)).strftime("%H:%M") == "23:30"
        assert night_at(utc(moment), SANTIAGO) == date(2026, 4, 4)


@given(moments, zones)
def test_every_moment_belongs_to_exactly_one_night(moment, zone):
    night = night_at(moment, zone)
    assert [
        day
        for day in (night + timedelta(days=shift) for shift in (-2, -1, 0, 1, 2))
        if night_interval(day, zone)[0] <= moment < night_interval(day, zone)[1]
    ] == [night]


@given(st.dates(date(2000, 1, 1), date(2080, 1, 1)), zones)
def test_nights_follow_each_other_without_gap_from_noon_to_noon(night, zone):
    begin, end = night_interval(night, zone)
    assert night_interval(night + timedelta(days=1), zone)[0] == end
    assert begin.utcoffset() == timedelta(0)
    for moment in (begin, end):
        assert moment.astimezone(ZoneInfo(zone)).strftime("%H:%M:%S") == "12:00:00"
    assert begin.astimezone(ZoneInfo(zone)).date() == night


@given(moments, zones)
def test_the_night_of_an_mjd_is_that_of_its_time(moment, zone):
    mjd = Time(moment, scale="utc").mjd
    # MJDs are stretched by a leap second on its day: at noon itself it may fall on either side.
    around = {night_at(moment + timedelta(seconds=shift), zone) for shift in (-1, 0, 1)}
    assert night_of_mjd(mjd, zone) in around


def test_the_zone_of_the_moment_does_not_matter():
    moment = utc("2026-04-05T02:30")
    assert night_at(moment.astimezone(ZoneInfo("Asia/Tokyo")), SANTIAGO) == night_at(moment, SANTIAGO)


def config_at(site, **telescope):
    telescope = {"name": "T", "latitude": 0.0, "elevation": 0.0, **telescope}
    return load_lens(site.lens_file(telescope=telescope if "longitude" in telescope else None))


@pytest.mark.parametrize(
    ("longitude", "zone"),
    [(-70.4, "Etc/GMT+5"), (289.6, "Etc/GMT+5"), (10.0, "Etc/GMT-1"), (7.4, "UTC"), (352.6, "UTC"),
     (0.0, "UTC"), (-155.5, "Etc/GMT+10"), (149.1, "Etc/GMT-10"), (179.0, "Etc/GMT-12"), (180.0, "Etc/GMT+12"),
     (-179.0, "Etc/GMT+12")],
)  # fmt: skip
def test_without_a_timezone_the_longitude_gives_whole_hours(site, longitude, zone):
    assert timezone_name(config_at(site, longitude=longitude)) == zone
    # + is west in these names: the clock must show what the Sun does, to half an hour.
    offset = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)).utcoffset() / timedelta(hours=1)
    assert abs((15 * offset - longitude + 180) % 360 - 180) <= 7.5


def test_the_timezone_comes_before_the_longitude_and_without_a_telescope_it_is_utc(site):
    assert timezone_name(config_at(site, longitude=-70.4, timezone="Europe/Zurich")) == "Europe/Zurich"
    assert timezone_name(config_at(site)) == "UTC"


def test_nights_are_written_as_dates():
    assert parse_night("2026-02-28") == date(2026, 2, 28)
    # ISO has more ways to write a date; nights are compared as texts, so there is one.
    for text in ("2026-02-29", "yesterday", "", "20260228", "2026-W09-6", "2026-02-28T00:00"):
        with pytest.raises(
            ConfigurationError,
            match=f"night = {re.escape(repr(text))}: write the date on which the night began",
        ):
            parse_night(text)
