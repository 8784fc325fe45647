"""Strategy `already_plate_solved`: the WCS that the header brings, if it can be trusted."""

from __future__ import annotations

import re
import warnings
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Solution, SolveRequest
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.errors import BadFrame

NEEDED = ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
_NUMERIC = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)[12]$|(CD|PC)[12]_[12]$|(PV|PS)[12]_\d+$|[AB]P?_(ORDER|\d_\d)$"
)
_CD, _PC = (tuple(f"{kind}{i}_{j}" for i in (1, 2) for j in (1, 2)) for kind in ("CD", "PC"))
_SIP_TERM = re.compile(r"([AB]P?)_\d_\d$")


class HeaderWcsSolver:
    """Reads the WCS from request.header; it is believed or not, never changed.

    The hint is not used: a frame that lies elsewhere is found by its footprint.
    """

    method = "already_plate_solved"

    def solve(self, request: SolveRequest) -> Solution:
        """The WCS of the header; BadFrame where it has none, or one that is broken, contradicts itself or the stars."""
        if request.header is None:
            raise BadFrame(f"{request.name}: already_plate_solved, but no header was given")
        wcs = read_wcs(request.name, request.header, request.shape)
        interval, scale = request.plate_scale_interval, plate_scale(wcs, request.shape)
        if interval is not None and not interval[0] <= scale <= interval[1]:
            raise _broken(
                request.name,
                f"its plate scale is {scale:.4f} arcsec/px, outside plate_scale_interval {list(interval)}",
            )
        return accept(request, wcs, self.method, "", as_it_is=True)


def read_wcs(name: str, header: fits.Header, shape: tuple[int, int]) -> WCS:
    """The celestial WCS of a header, if its cards say one thing and say it all.

    Args:
        name: of the frame, for messages.
        header: any header.
        shape: (ny, nx) of the image.

    Raises:
        BadFrame: no WCS; cards that are missing, doubled, no numbers, or contradict each other; another system than
            ICRS or FK5 J2000; a singular matrix; a centre that is nowhere on the sky.
    """
    missing = [card for card in NEEDED if card not in header]
    if missing:
        raise BadFrame(
            f"{name}: the header has no celestial WCS (missing: {', '.join(missing)}). Choose a plate solving "
            "strategy, or solve the frames beforehand"
        )
    _check_cards(name, header)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes on old-style cards; what matters is checked here
            wcs = WCS(header)
            axes, has_celestial = (wcs.wcs.lng, wcs.wcs.lat), wcs.has_celestial
            wcs = wcs.celestial
    except Exception as error:  # wcslib and astropy raise many kinds for malformed cards
        raise _broken(name, " ".join(str(error).split())) from error
    if not has_celestial or wcs.pixel_n_dim != 2:
        kinds = f"{header.get('CTYPE1')}, {header.get('CTYPE2')}"
        raise BadFrame(f"{name}: the header's WCS ({kinds}) is not celestial; right ascension and declination "
                       "axes are expected. Choose a plate solving strategy")  # fmt: skip
    _check_system(name, wcs, axes)
    matrix = wcs.pixel_scale_matrix
    if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-20:
        raise _broken(name, f"its matrix is singular: {matrix.tolist()}")
    try:
        ra, dec = frame_centre(wcs, shape)
        scale = plate_scale(wcs, shape)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise _broken(name, str(error)) from error
    if not np.isfinite([ra, dec, scale]).all() or scale <= 0 or not -90 <= dec <= 90:
        raise _broken(name, f"the centre is at ({ra}, {dec}), the plate scale {scale} arcsec/px")
    return wcs


def _check_cards(name: str, header: fits.Header) -> None:
    """Each card once, each number a number, one description of the matrix, polynomials with their order."""
    found: dict[str, list[Any]] = {}
    for one in header.cards:
        if _NUMERIC.match(one.keyword) or one.keyword in NEEDED:
            try:
                found.setdefault(one.keyword, []).append(one.value)
            except fits.VerifyError as error:
                raise _broken(name, f"the card {one.keyword} cannot be read") from error
    for card, values in found.items():
        if len({str(value) for value in values}) > 1:
            raise _broken(name, f"{card} is there {len(values)} times with different values: {values}")
        if _NUMERIC.match(card) and (isinstance(values[0], bool) or not isinstance(values[0], (int, float))):
            raise _broken(name, f"{card} is {values[0]!r}, expected a number")
    has_cd, has_pc = (any(card in header for card in cards) for cards in (_CD, _PC))
    if has_cd and has_pc:
        raise _broken(name, "it has both CDi_j and PCi_j cards, which contradict each other")
    if has_pc and any(header.get(card, 0) != 0 for card in ("CROTA1", "CROTA2")):
        raise _broken(name, "it has both PCi_j and CROTA cards, which contradict each other")
    if not has_cd and not all(header.get(card, 0) != 0 for card in ("CDELT1", "CDELT2")):
        raise _broken(name, "it has neither CDi_j nor CDELT1 and CDELT2 cards: no plate scale")
    kinds = {match[1] for card in header if (match := _SIP_TERM.match(card))}
    without = sorted(kind for kind in kinds if f"{kind}_ORDER" not in header)
    if without:
        raise _broken(
            name, f"its distortion polynomial lacks {', '.join(f'{kind}_ORDER' for kind in without)}"
        )


def _check_system(name: str, wcs: WCS, axes: tuple[int, int]) -> None:
    system, equinox = wcs.wcs.radesys or "ICRS", wcs.wcs.equinox
    equatorial = wcs.wcs.lngtyp.strip() == "RA" and wcs.wcs.lattyp.strip() == "DEC"
    if not equatorial or not (system == "ICRS" or (system == "FK5" and equinox == 2000.0)):
        raise _broken(
            name,
            f"it is in {wcs.wcs.lngtyp}/{wcs.wcs.lattyp} {system} (equinox {equinox}); "
            "ICRS or FK5 J2000 is expected",
        )
    if axes != (0, 1):  # .celestial would swap the pixels as well
        raise _broken(name, "its first axis is not right ascension, or its second not declination")


def _broken(name: str, why: str) -> BadFrame:
    return BadFrame(
        f"{name}: the header's WCS cannot be used: {why}. Correct the header, or choose a plate solving strategy"
    )
