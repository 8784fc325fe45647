"""Where a frame may lie: what its header says, the ROI, and the last solution of the same camera.

A hint is never believed, it is only where the search begins: each solution is verified, and one that lies outside the
search radius around the ROI is not taken, whatever the hint was.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.base import SolveRequest
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.astrometry.header_wcs import read_wcs
from lightcurver_ops.astrometry.tangent import separation
from lightcurver_ops.errors import BadFrame

HEADER, ROI, LAST = "header", "ROI", "last solution"
# Keywords that telescopes write their pointing to, the usual ones first.
POINTINGS = (
    ("OBJCTRA", "OBJCTDEC"),
    ("RA", "DEC"),
    ("TELRA", "TELDEC"),
    ("RA_OBJ", "DEC_OBJ"),
    ("OBJRA", "OBJDEC"),
)
WCS_RADIUS, POINTING_RADIUS = 0.75, 1.0  # how far a hint may be off, in diagonals of the frame
SCALE_TOLERANCE = 0.03  # of a known plate scale: focus, temperature
_SEXAGESIMAL = re.compile(r"\d[\s:hdm°]+\d")


@dataclass(frozen=True)
class Hint:
    """A place to look at first.

    Args:
        name: "header", "ROI" or "last solution".
        ra, dec: ICRS degrees of the centre of the frame.
        radius_deg: how far it may be off.
        scale_interval: (low, high) arcsec/px.
        wcs: scale, orientation and distortion of the camera, where they are known.
        origin: where it comes from, for the record.
        refused: what else the header offers, and why it is no hint.
    """

    name: str
    ra: float
    dec: float
    radius_deg: float
    scale_interval: tuple[float, float]
    wcs: WCS | None = None
    origin: str = ""
    refused: str = ""

    def applied_to(self, request: SolveRequest) -> SolveRequest:
        """The request with this hint instead of its own."""
        return replace(
            request,
            hint_ra=self.ra,
            hint_dec=self.dec,
            radius_deg=self.radius_deg,
            plate_scale_interval=self.scale_interval,
        )


def roi_hint(request: SolveRequest) -> Hint:
    """The hint of the request itself, which is the ROI, with the search radius and the scales of the configuration."""
    return Hint(ROI, request.hint_ra, request.hint_dec, request.radius_deg, request.scale_interval)


def wcs_hint(name: str, wcs: WCS, request: SolveRequest, origin: str) -> Hint:
    """The hint that a WCS gives for a frame.

    Raises:
        BadFrame: it lies outside of what the request allows.
    """
    scale, centre = plate_scale(wcs, request.shape), frame_centre(wcs, request.shape)
    low, high = request.scale_interval
    if not low <= scale <= high:
        raise BadFrame(f"{origin} has {scale:.4f} arcsec/px, outside plate_scale_interval {[low, high]}")
    _check_near(centre, request, origin)
    diagonal = float(np.hypot(*request.shape)) * scale / 3600.0
    interval = max(low, scale * (1 - SCALE_TOLERANCE)), min(high, scale * (1 + SCALE_TOLERANCE))
    return Hint(name, *centre, min(request.radius_deg, WCS_RADIUS * diagonal), interval, wcs, origin)


def header_hint(request: SolveRequest, raw_wcs: fits.Header | None, header: fits.Header) -> Hint:
    """The hint of a header: its WCS if that is sane, else the pointing of the telescope.

    Args:
        request: with the ROI as its hint.
        raw_wcs: the WCS cards as the raw frame had them; None where it had none.
        header: the other cards.

    Raises:
        BadFrame: nothing in it can be used; says for each why.
    """
    refusals = []
    if raw_wcs:
        try:
            return wcs_hint(
                HEADER, read_wcs(request.name, raw_wcs, request.shape), request, "the header's WCS"
            )
        except BadFrame as error:
            refusals.append(str(error).removeprefix(f"{request.name}: "))
    low, high = request.scale_interval
    diagonal = float(np.hypot(*request.shape)) * np.sqrt(low * high) / 3600.0
    for keywords in POINTINGS:
        if not all(keyword in header for keyword in keywords):
            continue
        origin = ", ".join(keywords)
        try:
            first, second = (_value(header, keyword) for keyword in keywords)
            ra, dec = _pointing(first, second, request, origin)
        except BadFrame as error:
            refusals.append(str(error))
            continue
        radius = min(request.radius_deg, POINTING_RADIUS * diagonal)
        refused = "; ".join(refusals)
        return Hint(HEADER, ra, dec, radius, request.scale_interval, origin=origin, refused=refused)
    raise BadFrame("; ".join(refusals) or "the header has neither a WCS nor a pointing")


def _value(header: fits.Header, keyword: str) -> Any:
    try:
        return header[keyword]
    except Exception as error:  # astropy parses a card when it is asked for
        raise BadFrame(f"{keyword} cannot be read ({type(error).__name__})") from error


def _pointing(ra: Any, dec: Any, request: SolveRequest, origin: str) -> tuple[float, float]:
    """Degrees; hours where the text is sexagesimal, or where degrees would point elsewhere than to the ROI."""
    sexagesimal = isinstance(ra, str) and bool(_SEXAGESIMAL.search(ra))
    units = (u.hourangle, u.deg) if sexagesimal else (u.deg, u.hourangle)
    refusal = BadFrame(f"{origin} = {ra!r}, {dec!r} is no direction")
    for unit in units:
        try:
            place = float(Angle(ra, unit=unit).deg) % 360.0, float(Angle(dec, unit=u.deg).deg)
        except (ValueError, TypeError, u.UnitsError):
            continue
        if not np.isfinite(place).all() or abs(place[1]) > 90:
            continue
        try:
            _check_near(place, request, origin)
        except BadFrame as error:
            refusal = error
            continue
        return place
    raise refusal


def _check_near(place: tuple[float, float], request: SolveRequest, origin: str) -> None:
    off = float(separation(*place, request.hint_ra, request.hint_dec))
    if not off <= request.radius_deg:
        raise BadFrame(
            f"{origin} points to ({place[0]:.4f}, {place[1]:.4f}), {off:.3f} deg from the ROI, beyond search_radius"
        )
