"""How the times, gain, exposure and filter of a raw frame are found in its header."""

from typing import Literal

from pydantic import field_validator, model_validator

from lightcurver_ops.config.base import Section


class HeaderField(Section):
    """One quantity: a header keyword (with its unit), or a constant for all frames."""

    keyword: str | list[str] | None = None
    """Keyword of the FITS header; for a time, a list such as [DATE-OBS, UT] is joined to one date and time."""
    unit: str | None = None
    """Unit of the value in the header, as astropy writes it (s, min, electron / adu); null: s, electron / adu, or, of a
    read noise, electron."""
    constant: float | str | None = None
    """The same value for every frame, in s, electron / adu, electron, or the name of a filter."""

    @model_validator(mode="after")
    def _one_source(self) -> "HeaderField":
        if (self.keyword is None) == (self.constant is None):
            raise ValueError("give either 'keyword' or 'constant'")
        return self


def one_keyword(field: HeaderField) -> HeaderField:
    """The field, whose value is a number.

    Raises:
        ValueError: a list of keywords.
    """
    if isinstance(field.keyword, list):
        raise ValueError("a list of keywords makes no number: name one")
    return field


class TimeField(Section):
    """When the frame was taken."""

    keyword: str | list[str]
    """Keyword of the FITS header, or a list [date keyword, time keyword]."""
    format: Literal["iso", "mjd", "jd", "unix"] = "iso"
    """iso: 2017-12-20T03:03:12.7, an offset such as -0700 is honoured, without one it is UTC."""
    refers_to: Literal["start", "middle", "end"] = "start"
    """What moment of the exposure the header gives; the frames table holds the middle."""


class HeaderMapping(Section):
    """Where to find what the pipeline needs of a header, without any user code."""

    mjd: TimeField = TimeField(keyword="DATE-OBS")
    """When the frame was taken."""
    exptime: HeaderField = HeaderField(keyword="EXPTIME")
    """Exposure time."""
    gain: HeaderField = HeaderField(keyword="GAIN")
    """Electrons per ADU."""
    filter: HeaderField = HeaderField(keyword="FILTER")
    """Name of the filter; frames of each filter are calibrated and modelled on their own. Of a list (FILTER1, FILTER2)
    what is not Clear, Open, Empty, None, Air, Free or Blank counts, joined by +."""

    @field_validator("exptime", "gain")
    @classmethod
    def _of_one_keyword(cls, field: HeaderField) -> HeaderField:
        return one_keyword(field)
