"""What all configuration models share."""

import difflib
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A group of keys: frozen, no unknown key, the docstring under a field is its description."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, validate_default=True, allow_inf_nan=False
    )


def _ordered(interval: tuple[float, float]) -> tuple[float, float]:
    if interval[0] >= interval[1]:
        raise ValueError(f"the first number must be smaller than the second, not {list(interval)}")
    return interval


Interval = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Two numbers, the smaller first."""

RightAscension = Annotated[float, Field(ge=0, lt=360)]
Declination = Annotated[float, Field(ge=-90, le=90)]
SkyPosition = tuple[RightAscension, Declination]
"""ICRS [right ascension, declination] in degrees."""

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]*$", max_length=100)]


def _known_timezone(name: str) -> str:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        near = difflib.get_close_matches(name, zoneinfo.available_timezones(), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"there is no such time zone{hint} Write an IANA name such as America/Santiago"
        ) from None
    return name


TimeZone = Annotated[str, AfterValidator(_known_timezone)]
"""IANA name of a time zone."""

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
EvenSize = Annotated[int, Field(ge=8, le=512, multiple_of=2)]
"""Side of a stamp in pixels: even, so that stamps and their subsampled grids share one centre convention."""
