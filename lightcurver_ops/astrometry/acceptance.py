"""What a WCS found by somebody else (an external program, a header) goes through before it counts."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.astrometry.refinement import refine
from lightcurver_ops.astrometry.tangent import TanModel, separation
from lightcurver_ops.astrometry.verification import Verification, verify
from lightcurver_ops.errors import BadFrame

REFINE_TOLERANCE_PX = 4.0
STARS_TO_CONTRADICT = 10  # a catalogue with fewer stars on the frame cannot say that a WCS is wrong
LOG10_CHANCE_CONTRADICTED = -2.0
SCALE_MARGIN = 0.01
# Written by astropy along with a WCS, but they belong to the frame, not to its astrometry.
FOREIGN_CARDS = (
    "MJDREF",
    "MJDREFI",
    "MJDREFF",
    "DATEREF",
    "DATE-OBS",
    "MJD-OBS",
    "DATE-AVG",
    "MJD-AVG",
    "EQUINOX",
)


def accept(
    request: SolveRequest, wcs: WCS, method: str, log: str, index_stars: Catalogue | None = None
) -> Solution:
    """Check a WCS from a solver, refine it where it has no distortion terms, and wrap it.

    The plate scale must lie in the interval (1 % margin) and the centre of the frame within the radius of the hint. A
    catalogue with at least 10 stars on the frame must agree with it.

    Args:
        wcs: as the solver gave it.
        method: name of the solver.
        log: what it said.
        index_stars: stars that the solver itself used, for the refinement where the request has no catalogue.

    Raises:
        BadFrame: the solution contradicts the request.
    """
    scale, centre = plate_scale(wcs, request.shape), frame_centre(wcs, request.shape)
    low, high = request.scale_interval
    off = float(separation(*centre, request.hint_ra, request.hint_dec))
    if not (low * (1 - SCALE_MARGIN) <= scale <= high * (1 + SCALE_MARGIN)) or not off <= request.radius_deg:
        raise BadFrame(
            f"{request.name}: {method} found {scale:.4f} arcsec/px at ({centre[0]:.4f}, {centre[1]:.4f}), but "
            f"{low:g} to {high:g} arcsec/px within {request.radius_deg:g} deg of ({request.hint_ra:.4f}, "
            f"{request.hint_dec:.4f}) was asked for ({off:.3f} deg away); check plate_scale_interval and the radius"
        )
    stars = request.catalogue or index_stars
    if wcs.has_distortion:
        header = clean_header(wcs)
    else:
        # No refinement without stars: then the numbers of the solver stand.
        crval, cd = np.array(wcs.wcs.crval), wcs.pixel_scale_matrix
        model = TanModel(np.array(wcs.wcs.crpix) - 1.0, crval, cd)
        sources = np.column_stack([request.x, request.y])
        fitted = refine(model, sources, request.shape, stars, REFINE_TOLERANCE_PX) if stars else None
        if fitted is not None and fitted.log10_chance < LOG10_CHANCE_CONTRADICTED:
            model = fitted.model
        header = model.to_header()
    check = agreement(request, WCS(header), method, stars)
    return Solution(
        header, method, check.n_matched if check else 0, check.rms_arcsec if check else np.nan, log
    )


def agreement(request: SolveRequest, wcs: WCS, method: str, stars: Catalogue | None) -> Verification | None:
    """Compare a WCS with catalogue stars, where there are any; BadFrame where enough of them contradict it."""
    if not stars or not len(request.x):
        return None
    check = verify(wcs, request.shape, request.x, request.y, stars)
    if check.n_catalogue >= STARS_TO_CONTRADICT and check.log10_chance > LOG10_CHANCE_CONTRADICTED:
        raise BadFrame(
            f"{request.name}: the WCS of {method} puts {check.n_matched} of {check.n_sources} sources on "
            f"{check.n_catalogue} catalogue stars around the frame, no more than chance would; the WCS is wrong, or "
            "the catalogue is of another field, or far deeper than the frame"
        )
    return check


def clean_header(wcs: WCS) -> fits.Header:
    """The cards of a WCS in ICRS, distortion polynomials included, and nothing else."""
    header = wcs.to_header(relax=True)
    for card in FOREIGN_CARDS:
        header.remove(card, ignore_missing=True)
    header["RADESYS"] = "ICRS"
    return header
