"""What all configuration models share."""

import difflib
import re
import zoneinfo
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError


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
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(
            f"there is no such time zone{hint} Write an IANA name such as America/Santiago"
        ) from None
    return name


_CREDENTIALS_IN_URL = re.compile(
    r"(?i)^s3a?://[^/]*@"
    r"|^[\w+.-]+://[^/@]*:[^/@]*@"
    r"|[?&][^=]*(signature|secret|credential|token|accesskey)[^=]*="
)

CREDENTIALS = (
    "credentials do not belong into this file, which many can read: take them out. They come from the environment "
    "(AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY), a profile (AWS_PROFILE), or the machine's role"
)
"""What is said of a key or URL with credentials; its value is not repeated."""


def looks_like_credentials(key: str) -> bool:
    """Whether a key that we do not know is meant to hold a secret."""
    return (
        re.search(r"(?i)access_?key|secret|password|session_?token|credential|storage_options", key)
        is not None
    )


def _without_credentials(url: str) -> str:
    if _CREDENTIALS_IN_URL.search(url):
        raise PydanticCustomError("credentials", CREDENTIALS)
    return re.sub("^s3a://", "s3://", url)


WithoutCredentials = Annotated[str, AfterValidator(_without_credentials)]
"""A path or URL without a password in it."""
Url = Annotated[str, Field(pattern=r"^https?://[^\s/]+"), AfterValidator(_without_credentials)]
"""http:// or https:// address."""

Secret = Annotated[str | None, Field(exclude=True, repr=False)]
"""A value that may hold a password: whatever is made of its section (JSON, text, a message) has it not."""

TimeZone = Annotated[str, AfterValidator(_known_timezone)]
"""IANA name of a time zone."""

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
EvenSize = Annotated[int, Field(ge=8, le=512, multiple_of=2)]
"""Side of a stamp in pixels: even, so that stamps and their subsampled grids share one centre convention."""
