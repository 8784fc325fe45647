import pytest
from astropy.io.fits import Card, Header
from astropy.time import Time

from lightcurver_ops.errors import BadFrame, ConfigurationError
from lightcurver_ops.storage.header import load_header_parser, parse_with, read_header_fields

# 2017-12-20T01:33:43.317 UTC, by an independent library.
START = Time("2017-12-20T01:33:43.317", scale="utc").mjd
MIDDLE = START + 30.0 / 86400


def header(**cards) -> Header:
    base = {"EXPTIME": 60.0, "FILTER": "Clear   ", "GAIN": 1.6, "UT-OBS": "2017-12-20T01:33:43.317-0000"}
    return Header({key: value for key, value in (base | cards).items() if value is not None})


def mapping(**changes):
    base = {
        "mjd": {"keyword": "UT-OBS", "format": "iso"},
        "exptime": {"keyword": "EXPTIME", "unit": "s"},
        "gain": {"keyword": "GAIN"},
        "filter": {"keyword": "FILTER"},
    }
    return base | changes


def test_all_fields():
    fields = read_header_fields(header(), mapping(), "a.fits")
    assert fields.mjd == pytest.approx(MIDDLE, abs=1e-9)
    assert (fields.exptime, fields.gain, fields.filter) == (60.0, 1.6, "Clear")


@pytest.mark.parametrize(
    "text",
    [
        "2017-12-20T01:33:43.317",
        "2017-12-20 01:33:43.317",
        "2017-12-20T01:33:43.317Z",
        "2017-12-20T01:33:43.317+00:00",
        "2017-12-19T18:33:43.317-0700",
        "2017-12-19T18:33:43.317 -07:00",
        "2017-12-20T07:03:43.317+0530",
    ],
)
def test_iso_with_every_offset(text):
    fields = read_header_fields(header(**{"UT-OBS": text}), mapping(), "a.fits")
    assert fields.mjd == pytest.approx(MIDDLE, abs=1e-9)


@pytest.mark.parametrize(
    ("time_format", "value"),
    [("mjd", START), ("jd", START + 2400000.5), ("unix", (START - 40587) * 86400), ("mjd", str(START))],
)
def test_numeric_times(time_format, value):
    changed = mapping(mjd={"keyword": "T", "format": time_format})
    assert read_header_fields(header(T=value), changed, "a.fits").mjd == pytest.approx(MIDDLE, abs=1e-7)


@pytest.mark.parametrize(
    ("date", "time"),
    [
        ("2017-12-20", "01:33:43.317"),
        ("2017-12-20T00:00:00", "01:33:43.317"),
        ("2017-12-19", "18:33:43.317-0700"),
        ("2017-12-20T01:33:43.317", "2017-12-20T01:33:43.317"),
    ],
)
def test_date_and_time_apart(date, time):
    changed = mapping(mjd={"keyword": ["DATE-OBS", "UT"], "format": "iso"})
    fields = read_header_fields(header(**{"DATE-OBS": date, "UT": time}), changed, "a.fits")
    assert fields.mjd == pytest.approx(MIDDLE, abs=1e-9)


@pytest.mark.parametrize(("moment", "shift"), [("start", 30), ("middle", 0), ("end", -30)])
def test_the_middle_of_the_exposure(moment, shift):
    changed = mapping(mjd={"keyword": "UT-OBS", "refers_to": moment})
    fields = read_header_fields(header(), changed, "a.fits")
    assert fields.mjd == pytest.approx(START + shift / 86400, abs=1e-9)


def test_units_and_constants():
    changed = mapping(
        exptime={"keyword": "EXPTIME", "unit": "ms"},
        gain={"constant": 1.5},
        filter={"constant": "r"},
    )
    fields = read_header_fields(header(EXPTIME=60000.0, GAIN=None, FILTER=None), changed, "a.fits")
    assert (fields.exptime, fields.gain, fields.filter) == (60.0, 1.5, "r")
    minutes = mapping(
        exptime={"constant": 1, "unit": "min"}, gain={"keyword": "GAIN", "unit": "electron / adu"}
    )
    assert read_header_fields(header(), minutes, "a.fits").exptime == 60.0


@pytest.mark.parametrize(
    ("cards", "message"),
    [
        ({"EXPTIME": None}, "no keyword 'EXPTIME'"),
        ({"UT-OBS": None}, "no keyword 'UT-OBS'"),
        ({"FILTER": None}, "no keyword 'FILTER'"),
        ({"FILTER": "   "}, "filter"),
        ({"GAIN": "high"}, "GAIN.*'high'.*a number"),
        ({"GAIN": 0.0}, "GAIN.*more than 0"),
        ({"GAIN": True}, "GAIN.*True"),
        ({"EXPTIME": -5}, "EXPTIME.*-5.*more than 0"),
        ({"UT-OBS": "yesterday"}, "UT-OBS.*'yesterday'"),
        ({"UT-OBS": "2017-13-40T01:00:00"}, "UT-OBS.*2017-13-40"),
        ({"UT-OBS": "2017-12-20"}, "another keyword.*list"),
        ({"FILTER": "r" * 41}, r"filter is 'r{40}\.\.\.', of 41 characters, expected at most 40"),
        ({"FILTER": "H??"}, r"filter is 'H\?\?': FITS headers have ASCII letters only"),
        ({"UT-OBS": "2017-12-20T13:01:00 PM"}, "hour 13 does not go with PM"),
        ({"UT-OBS": "1907-12-20T00:00:00"}, "MJD 179.*format"),
    ],
)
def test_unusable_headers_are_named(cards, message):
    with pytest.raises(BadFrame, match=message) as caught:
        read_header_fields(header(**cards), mapping(), "night/a.fits")
    assert "night/a.fits" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "2017-12-20T01:33:43,317",
        "2017-12-20t01:33:43.317",
        "2017-12-20 01:33:43.317 AM",
        "2017-12-20 1:33:43.317 a.m.",
    ],
)
def test_times_as_people_write_them(text):
    assert read_header_fields(header(**{"UT-OBS": text}), mapping(), "a.fits").mjd == pytest.approx(
        MIDDLE, abs=1e-9
    )


def test_afternoon_and_midnight():
    def mjd(text):
        return read_header_fields(header(**{"UT-OBS": text}), mapping(), "a.fits").mjd

    assert mjd("2017-12-20 01:33:43.317 PM") == pytest.approx(MIDDLE + 0.5, abs=1e-9)
    assert mjd("2017-12-20 12:00:00 AM") == mjd("2017-12-20 00:00:00")


def test_a_hint_fits_what_is_wrong():
    listed = mapping(mjd={"keyword": ["DATE-OBS", "UT"]})
    with pytest.raises(BadFrame, match="must be written as hours:minutes:seconds") as caught:
        read_header_fields(header(**{"DATE-OBS": "2017-12-20", "UT": 16133.0}), listed, "a.fits")
    assert "give a list" not in str(caught.value)
    with pytest.raises(BadFrame) as caught:
        read_header_fields(header(**{"UT-OBS": "2017-12-20T late"}), mapping(), "a.fits")
    assert "another keyword" not in str(caught.value)


@pytest.mark.filterwarnings("error")
def test_a_card_that_breaks_the_standard_is_shown():
    broken = header(EXPTIME=None)
    broken.append(Card.fromstring(b"EXPTIME =                300,0 / s"))
    with pytest.raises(
        BadFrame, match=r"keyword EXPTIME: its card 'EXPTIME = .*300,0.*/ s' breaks.*a decimal comma"
    ) as caught:
        read_header_fields(broken, mapping(), "a.fits")
    assert "verify" not in str(caught.value)


@pytest.mark.parametrize(
    ("first", "second", "name"),
    [
        ("Clear", "r", "r"),
        ("g", "OPEN", "g"),
        ("empty", "Clear", "empty"),
        ("B", "ND4", "B+ND4"),
        ("", "Clear", "Clear"),
    ],
)
def test_a_filter_in_two_wheels(first, second, name):
    wheels = mapping(filter={"keyword": ["FILTER1", "FILTER2"]})
    assert read_header_fields(header(FILTER1=first, FILTER2=second), wheels, "a.fits").filter == name


def test_a_keyword_that_stands_twice_is_said():
    doubled = header()
    doubled.append(("EXPTIME", 30.0), end=True)
    fields = read_header_fields(doubled, mapping(), "a.fits")
    assert fields.exptime == 60.0
    assert fields.remarks == ("the header has EXPTIME 2 times (60.0, 30.0): the first is used",)
    doubled["EXPTIME", 1] = 60.0
    assert read_header_fields(doubled, mapping(), "a.fits").remarks == ()


def test_a_second_card_that_cannot_be_read_is_said():
    doubled = header()
    doubled.append(Card.fromstring(b"EXPTIME =                300,0 / s"), end=True)
    (remark,) = read_header_fields(doubled, mapping(), "a.fits").remarks
    assert "(60.0, unreadable)" in remark


def test_a_julian_date_taken_for_a_modified_one():
    changed = mapping(mjd={"keyword": "T", "format": "mjd"})
    with pytest.raises(BadFrame, match="is the format right"):
        read_header_fields(header(T=2458107.5), changed, "a.fits")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exptime": {"keyword": "EXPTIME", "unit": "metre"}}, "metre"),
        ({"exptime": {"keyword": "EXPTIME", "unit": "no such"}}, "no such"),
        ({"mjd": {"keyword": "UT-OBS", "format": "date"}}, "'date'"),
        ({"mjd": {"keyword": "UT-OBS", "refers_to": "begin"}}, "'begin'"),
    ],
)
def test_impossible_mappings(changes, message):
    with pytest.raises(ConfigurationError, match=message):
        read_header_fields(header(), mapping(**changes), "a.fits")


def test_a_mapping_that_lacks_a_field():
    incomplete = mapping()
    del incomplete["gain"]
    with pytest.raises(ConfigurationError, match="'gain'"):
        read_header_fields(header(), incomplete, "a.fits")


TUTORIAL = """
from astropy.time import Time

def parse_header(header):
    return {"exptime": header["exptime"], "gain": header["gain"], "filter": header["filter"],
            "mjd": Time(header["UT-OBS"].split("-0000")[0]).mjd}
"""


def parser(tmp_path, code):
    path = tmp_path / "parse_header.py"
    path.write_text(code)
    return load_header_parser(path)


def test_the_user_s_own_function(tmp_path):
    fields = parse_with(parser(tmp_path, TUTORIAL), header(), "a.fits")
    assert fields.mjd == pytest.approx(START, abs=1e-9)
    assert (fields.exptime, fields.gain, fields.filter) == (60.0, 1.6, "Clear")


def test_a_parser_may_leave_out_the_filter(tmp_path):
    function = parser(tmp_path, "def parse_header(header): return {'mjd': 58000.0, 'gain': 1, 'exptime': 1}")
    assert parse_with(function, header(), "a.fits").filter == "unnamed"
    assert parse_with(function, header(), "a.fits", {"keyword": "FILTER"}).filter == "Clear"
    assert parse_with(function, header(), "a.fits", {"keyword": "WHEEL"}).filter == "unnamed"
    assert parse_with(function, header(), "a.fits", {"constant": "r"}).filter == "r"
    assert parse_with(function, header(FILTER="  "), "a.fits", {"keyword": "FILTER"}).filter == "unnamed"
    broken = header(FILTER=None)
    broken.append(Card.fromstring(b"FILTER  = r / without quotes"))
    with pytest.raises(BadFrame, match="keyword FILTER: its card"):
        parse_with(function, broken, "a.fits", {"keyword": "FILTER"})


def test_two_parsers_do_not_mix(tmp_path):
    (tmp_path / "b").mkdir()
    one = parser(tmp_path, TUTORIAL)
    parser(tmp_path / "b", "def parse_header(header): return {}")
    assert parse_with(one, header(), "a.fits").gain == 1.6


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def parse(header): pass", "no function parse_header"),
        ("import nosuchmodule", "nosuchmodule"),
        ("def", "Syntax"),
    ],
)
def test_parsers_that_do_not_load(tmp_path, code, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        parser(tmp_path, code)
    assert "parse_header.py" in str(caught.value)


def test_a_missing_parser(tmp_path):
    with pytest.raises(ConfigurationError, match=r"no such Python file.*parse_header\(header\)"):
        load_header_parser(tmp_path / "parse_header.py")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("header['NOPE']", "KeyError.*NOPE"),
        ("None", "None.*dictionary"),
        ("{'mjd': 58000.0, 'filter': 'r'}", "no gain, exptime"),
        ("{'mjd': 58000.0, 'gain': 0, 'exptime': 1, 'filter': 'r'}", "gain.*more than 0"),
        ("{'mjd': float('nan'), 'gain': 1, 'exptime': 1, 'filter': 'r'}", "mjd.*nan"),
    ],
)
def test_parsers_that_fail_for_a_frame(tmp_path, body, message):
    function = parser(tmp_path, f"def parse_header(header): return {body}")
    with pytest.raises(BadFrame, match=message) as caught:
        parse_with(function, header(), "night/a.fits")
    assert "night/a.fits" in str(caught.value)
