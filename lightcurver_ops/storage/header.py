"""Time, exposure, gain and filter from the header of a raw frame: by a mapping, or by the user's own function."""

import importlib.util
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import astropy.units as u
from astropy.io.fits import Header, VerifyError
from astropy.time import Time

from lightcurver_ops.config.sections import Raw
from lightcurver_ops.errors import BadFrame, ConfigurationError

_UNITS = {"exptime": u.s, "gain": u.electron / u.adu, "read_noise": u.electron}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}$")
_TIME = re.compile(  # ISO 8601 allows a decimal comma
    r"(?P<hour>\d{1,2})(?P<rest>:\d{2}(:\d{2}([.,]\d*)?)?)\s*(?P<half>[ap]\.?m\.?)?\s*"
    r"(?P<offset>Z|UTC?|[+-]\d{2}:?\d{2})?$",
    re.IGNORECASE,
)
_NO_FILTER = {"clear", "open", "empty", "none", "air", "free", "blank", "-"}
LONGEST_FILTER = 40  # characters
UNNAMED = "unnamed"
# Digital astronomy, with room: a Julian date in place of a modified one, or seconds, fall outside.
_FIRST_MJD, _LAST_MJD = 30000.0, 110000.0
_SHIFT = {"start": 0.5, "middle": 0.0, "end": -0.5}

Parser = Callable[[Header], Mapping[str, Any]]


@dataclass(frozen=True)
class HeaderFields:
    """What a frame's header says: mjd (UTC; by a mapping: mid-exposure), gain (e-/ADU), exptime (s), filter.

    And what is odd about it, but no reason to refuse it.
    """

    mjd: float
    gain: float
    exptime: float
    filter: str
    remarks: tuple[str, ...] = ()


def fields_of(header: Header, raw: Raw, path: str | Path) -> HeaderFields:
    """Read the fields as a configuration says: with the user's Python file, or by the mapping; errors of both."""
    if raw.header_parser is not None:
        otherwise = raw.header.filter.model_dump(exclude_none=True)
        return parse_with(load_header_parser(raw.header_parser), header, path, otherwise)
    return read_header_fields(header, raw.header.model_dump(exclude_none=True), path)


def read_header_fields(
    header: Header, mapping: Mapping[str, Mapping[str, Any]], path: str | Path
) -> HeaderFields:
    """Read the fields that the mapping describes.

    Args:
        header: header of the frame.
        mapping: for each of `mjd`, `exptime`, `gain`, `filter` either `{"constant": value}` or `{"keyword": name}`,
            with `unit` (any unit that astropy converts to s, or to electron/adu). For `mjd` also `format`: `iso`
            (UTC, or with an offset such as -0700 or Z; the keyword may be a list [date, time]), `mjd`, `jd` or
            `unix`; and `refers_to`: the `start` (default), `middle` or `end` of the exposure.
        path: the file, for messages.

    Returns:
        The fields; mjd is the middle of the exposure.

    Raises:
        BadFrame: a keyword is missing, or its value cannot be understood or is out of range.
        ConfigurationError: the mapping lacks a field, or its unit or format does not exist.
    """
    for name in ("mjd", "exptime", "gain", "filter"):
        if name not in mapping:
            raise ConfigurationError(
                f"the header mapping says nothing about {name!r}: give a keyword or a constant"
            )
    exptime = _quantity(header, mapping, "exptime", path)
    return HeaderFields(
        mjd=_mjd(header, mapping["mjd"], exptime, path),
        gain=_quantity(header, mapping, "gain", path),
        exptime=exptime,
        filter=_filter(_value(header, mapping["filter"], "filter", path), path),
        remarks=tuple(_contradictions(header, mapping)),
    )


def read_noise_of(
    header: Header, raw: Raw, gain: float, path: str | Path
) -> tuple[float | None, tuple[str, ...]]:
    """The read noise that a header says, electrons, and what is odd about it; nothing depends on it but a comparison.

    Args:
        header: of the frame.
        raw: with where it is. Its unit may also be adu.
        gain: electrons / ADU.
        path: for messages.

    Returns:
        None: nothing says where it is, or this header has no number there.

    Raises:
        ConfigurationError: its unit is none of charge.
    """
    if raw.read_noise is None:
        return None, ()
    field = raw.read_noise.model_dump(exclude_none=True)
    by_gain = [(u.adu, u.electron, lambda value: value * gain, lambda value: value / gain)]
    try:
        return _quantity(header, {"read_noise": field}, "read_noise", path, by_gain), ()
    except BadFrame as error:
        why, _, _ = str(error).removeprefix(f"{path}: ").partition(";")  # which remarks are separated by
        return None, (f"no read noise to compare with: {why}",)


def _contradictions(header: Header, mapping: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Keywords in use that stand twice, with different values: astropy, and we, read the first."""
    for field in mapping.values():
        asked = field.get("keyword") or []
        for keyword in [asked] if isinstance(asked, str) else asked:
            count = header.count(keyword) if keyword in header else 0
            values = [_readable(header, keyword, place) for place in range(count)] if count > 1 else []
            if any(value != values[0] for value in values):
                said = ", ".join(map(str, values))
                yield f"the header has {keyword} {len(values)} times ({said}): the first is used"


def _readable(header: Header, keyword: str, place: int) -> Any:
    try:
        return header[keyword, place]
    except VerifyError:
        return "unreadable"


def load_header_parser(path: str | Path) -> Parser:
    """Load `parse_header(header) -> {mjd, gain, exptime, filter}` from a Python file of the user.

    Raises:
        ConfigurationError: no such file, it cannot be imported, or has no such function.
    """
    path = Path(path)
    spec = importlib.util.spec_from_file_location(f"lcops_header_parser_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise ConfigurationError(
            f"header parser {path}: no such Python file; write one that defines parse_header(header), returning a "
            "dictionary with mjd, gain, exptime and filter, or describe the header in the configuration (raw.header)"
        )
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the user's code raises
        raise ConfigurationError(f"header parser {path}: cannot be imported: {_named(error)}") from error
    parser = getattr(module, "parse_header", None)
    if not callable(parser):
        raise ConfigurationError(
            f"header parser {path}: defines no function parse_header(header); it must return a dictionary with mjd, "
            "gain, exptime and filter"
        )
    return parser


def parse_with(
    parser: Parser, header: Header, path: str | Path, filter_field: Mapping[str, Any] | None = None
) -> HeaderFields:
    """Apply the user's function to a header; its mjd is taken as it is.

    Args:
        parser: the function. It may leave out the filter.
        header: of the frame.
        path: for messages.
        filter_field: as in `read_header_fields`: the filter where the function says none. Where that is not in the
            header either, all frames are of one filter, `UNNAMED`.

    Raises:
        BadFrame: the function fails for this header, or returns something else than four usable values.
    """
    try:
        values = parser(header)
    except Exception as error:  # whatever the user's code raises
        raise BadFrame(f"{path}: parse_header failed on its header: {_named(error)}") from error
    if not isinstance(values, Mapping):
        raise BadFrame(f"{path}: parse_header returned {values!r}, expected a dictionary")
    missing = [name for name in ("mjd", "gain", "exptime") if name not in values]
    if missing:
        raise BadFrame(
            f"{path}: parse_header returned no {', '.join(missing)} (it returned {', '.join(values)})"
        )

    def number(name: str) -> float:
        return _number(values[name], f"{name} returned by parse_header", path)

    return HeaderFields(
        mjd=_plausible_mjd(number("mjd"), "mjd returned by parse_header", path),
        gain=_positive(number("gain"), "gain returned by parse_header", path),
        exptime=_positive(number("exptime"), "exptime returned by parse_header", path),
        filter=_filter(values["filter"], path)
        if "filter" in values
        else _filter_or_unnamed(header, filter_field or {}, path),
    )


def _filter_or_unnamed(header: Header, field: Mapping[str, Any], path: str | Path) -> str:
    if field.get("constant") is not None:
        return _filter(field["constant"], path)
    asked = field.get("keyword") or []
    keywords = [one for one in ([asked] if isinstance(asked, str) else asked) if one in header]
    values = [_card(header, keyword, "filter", path) for keyword in keywords]
    return _filter(values, path) if _named_filters(values) else UNNAMED


def _value(header: Header, field: Mapping[str, Any], name: str, path: str | Path) -> Any:
    """The constant, or the value of the keyword; a list of values for a list of keywords."""
    if field.get("constant") is not None:
        return field["constant"]
    keywords = field["keyword"]
    if isinstance(keywords, str):
        return _card(header, keywords, name, path)
    return [_card(header, keyword, name, path) for keyword in keywords]


def _card(header: Header, keyword: str, name: str, path: str | Path) -> Any:
    if keyword not in header:
        raise BadFrame(
            f"{path}: its header has no keyword {keyword!r}, where the configuration expects {name}; correct "
            "the header mapping, or give a constant"
        )
    try:
        return header[keyword]
    except Exception as error:  # astropy parses a card when it is asked for
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = next(
                (card.image for card in header.cards if card.keyword == keyword.upper()), ""
            ).rstrip()
        raise BadFrame(
            f"{path}: keyword {keyword}: its card '{image}' breaks the FITS standard (a decimal comma? a string "
            "without quotes?): correct the header, or give a constant"
        ) from error


def _quantity(
    header: Header,
    mapping: Mapping[str, Mapping[str, Any]],
    name: str,
    path: str | Path,
    equivalencies: list[Any] | None = None,
) -> float:
    field, target = mapping[name], _UNITS[name]
    what = _described(field, name)
    value = _number(_value(header, field, name, path), what, path)
    if field.get("unit") is not None:
        try:
            value = float((value * u.Unit(field["unit"])).to_value(target, equivalencies or []))
        except (ValueError, TypeError, u.UnitConversionError) as error:
            raise ConfigurationError(
                f"header mapping of {name}: unit {field['unit']!r} cannot be converted to {target}: {error}"
            ) from error
    return _positive(value, what, path)


def _described(field: Mapping[str, Any], name: str) -> str:
    keyword = field.get("keyword")
    return f"constant {name}" if keyword is None else f"keyword {keyword} ({name})"


def _number(value: Any, what: str, path: str | Path) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise BadFrame(f"{path}: {what} is {value!r}, expected a number")
    return number


def _positive(value: float, what: str, path: str | Path) -> float:
    if value <= 0:
        raise BadFrame(f"{path}: {what} is {value:g}, expected more than 0")
    return value


def _named_filters(values: list[Any]) -> list[str]:
    return [name for one in values if one is not None and (name := str(one).strip())]


def _filter(value: Any, path: str | Path) -> str:
    """The name of a filter; of those in several wheels, those that are not empty."""
    names = _named_filters(value if isinstance(value, list) else [value])
    name = "+".join([one for one in names if one.lower() not in _NO_FILTER] or names[:1])
    if not name:
        raise BadFrame(
            f"{path}: the filter is {value!r}, expected a name; give a constant if there is no filter"
        )
    if len(name) > LONGEST_FILTER:
        raise BadFrame(
            f"{path}: the filter is '{name[:LONGEST_FILTER]}...', of {len(name)} characters, expected at most "
            f"{LONGEST_FILTER}; give a constant, or a header parser that shortens it"
        )
    if "?" in name:  # what becomes of a letter that FITS has not: two such names would be one
        raise BadFrame(
            f"{path}: the filter is '{name}': FITS headers have ASCII letters only, others cannot be read; correct the "
            "header, or give a constant"
        )
    return name


def _mjd(header: Header, field: Mapping[str, Any], exptime: float, path: str | Path) -> float:
    value = _value(header, field, "mjd", path)
    what = _described(field, "mjd")
    time_format = field.get("format") or "iso"
    if time_format == "iso":
        mjd = _from_iso(value, what, path)
    elif time_format in {"mjd", "jd", "unix"}:
        mjd = float(Time(_number(value, what, path), format=time_format, scale="utc").mjd)
    else:
        raise ConfigurationError(
            f"header mapping of mjd: format {time_format!r} does not exist: write iso, mjd, jd or unix"
        )
    moment = field.get("refers_to") or "start"
    if moment not in _SHIFT:
        raise ConfigurationError(
            f"header mapping of mjd: refers_to is {moment!r}: write start, middle or end"
        )
    return _plausible_mjd(mjd + _SHIFT[moment] * exptime / 86400, what, path)


def _plausible_mjd(mjd: float, what: str, path: str | Path) -> float:
    if not _FIRST_MJD < mjd < _LAST_MJD:
        raise BadFrame(
            f"{path}: {what} gives MJD {mjd:g}, expected {_FIRST_MJD:g} to {_LAST_MJD:g}: is the format right "
            "(iso, mjd, jd, unix)?"
        )
    return mjd


def _from_iso(value: Any, what: str, path: str | Path) -> float:
    if isinstance(value, list):
        # A full date and time in the date keyword would otherwise count twice.
        date, time = str(value[0]).strip()[:10], re.split("[Tt]", str(value[-1]).strip())[-1]
    else:
        text = str(value).strip()
        date, time = text[:10], text[10:].lstrip("Tt ")
    match = _TIME.match(time)
    if not (_DATE.match(date) and match):
        raise BadFrame(
            f"{path}: {what} is {value!r}, expected a date and time such as 2017-12-20T01:33:43.3"
            f"{_what_is_wrong(date, time, isinstance(value, list))}"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on dubious years: they are refused as implausible
            hour = _hour(int(match["hour"]), match["half"])
            moment = Time(f"{date} {hour:02d}{match['rest'].replace(',', '.')}", format="iso", scale="utc")
    except ValueError as error:
        raise BadFrame(f"{path}: {what} is {value!r}: {error}") from error
    return float(moment.mjd) - _offset_days(match["offset"])


def _what_is_wrong(date: str, time: str, is_list: bool) -> str:
    if not _DATE.match(date):
        return ""
    if is_list:
        return "; the time of day must be written as hours:minutes:seconds"
    return "" if time else "; if the time of day is in another keyword, give a list [date, time]"


def _hour(hour: int, half: str | None) -> int:
    """Of 24 hours.

    Raises:
        ValueError: an hour that the half of the day does not have.
    """
    if half is None:
        return hour
    if not 1 <= hour <= 12:
        raise ValueError(f"hour {hour} does not go with {half}")
    return hour % 12 + (12 if half[0] in "pP" else 0)


def _offset_days(offset: str | None) -> float:
    if offset is None or offset[0] not in "+-":
        return 0.0
    digits = offset[1:].replace(":", "")
    days = (int(digits[:2]) + int(digits[2:]) / 60) / 24
    return -days if offset[0] == "-" else days


def _named(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
