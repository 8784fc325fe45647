"""Strategy `already_plate_solved`: the WCS that the header brings, if it can be trusted."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Solution, SolveRequest
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.astrometry.wcs_cards import NEEDED, wcs_of_cards
from lightcurver_ops.errors import BadFrame


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
    try:
        wcs = wcs_of_cards(header)
    except BadFrame as error:
        raise _broken(name, str(error)) from error
    axes, has_celestial = (wcs.wcs.lng, wcs.wcs.lat), wcs.has_celestial
    wcs = wcs.celestial
    if not has_celestial or wcs.pixel_n_dim != 2:
        kinds = f"{header.get('CTYPE1')}, {header.get('CTYPE2')}"
        raise BadFrame(f"{name}: the header's WCS ({kinds}) is not celestial; right ascension and declination "
                       "axes are expected. Choose a plate solving strategy")  # fmt: skip
    _check_system(name, wcs, axes)
    try:
        ra, dec = frame_centre(wcs, shape)
        scale = plate_scale(wcs, shape)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise _broken(name, str(error)) from error
    if not np.isfinite([ra, dec, scale]).all() or scale <= 0 or not -90 <= dec <= 90:
        raise _broken(name, f"the centre is at ({ra}, {dec}), the plate scale {scale} arcsec/px")
    return wcs


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
