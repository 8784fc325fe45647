"""What every WCS goes through before it counts, whoever found it: limits, refinement, and a comparison with stars."""

from __future__ import annotations

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.distortion import fit_sip
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.astrometry.linear_part import LinearPart, header_of, linear_part
from lightcurver_ops.astrometry.refinement import FittedModel, refine
from lightcurver_ops.astrometry.tangent import TanModel, separation
from lightcurver_ops.astrometry.verification import Verification, verify
from lightcurver_ops.errors import BadFrame

REFINE_TOLERANCE_PX = 4.0
# The probability that so many pairs are chance: one wrong solution in a million is believed.
LOG10_CHANCE = -6.0
LARGEST_RMS_PX = 1.5  # two-dimensional, of the pairs; centroids are ten times better
LARGEST_CORNER_ERROR_PX = 3.0
LARGEST_ERROR_PX = 2.0  # anywhere on the frame, of a WCS that is taken as it is
STARS_TO_VERIFY = 5  # on the frame; with fewer nothing can be said
STARS_TO_CONTRADICT = 10  # that a WCS fits none of so many stars is no lack of stars
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
    request: SolveRequest,
    wcs: WCS,
    method: str,
    log: str,
    stars: Catalogue | None = None,
    *,
    as_it_is: bool = False,
) -> Solution:
    """Check a WCS against the request and the stars, and wrap it.

    The plate scale must lie in the interval (1 % margin) and, unless `as_it_is`, the centre of the frame within the
    radius of the hint. Sources and catalogue stars are paired and the linear part of the WCS is fitted to the pairs.
    Believed is what then has

    * so many pairs that the probability of chance is below 1e-6,
    * pairs that span the frame: the fit's standard error is below 3 px in all corners,
    * an rms distance below 1.5 px,
    * and, where the fit does not take its place (`as_it_is`, or a projection other than TAN), no place on the frame
      where both differ by more than 2 px.

    A distortion polynomial stays as it is. One is fitted where request.sip_order asks for it and there is none.

    Args:
        wcs: as the solver gave it.
        method: name of the solver.
        log: what it said.
        stars: those that the solver itself used, where the request has no catalogue.
        as_it_is: the WCS may not be changed, only believed or not.

    Raises:
        BadFrame: the solution contradicts the request or the stars, or there are too few stars to tell
            (then, and only then, request.allow_unverified lets it pass).
    """
    shape = request.shape
    scale, centre = _within_limits(request, wcs, method, as_it_is)
    catalogue = request.catalogue if request.catalogue else stars
    part = linear_part(wcs, shape, request.x, request.y)
    first = verify(wcs, shape, request.x, request.y, catalogue) if catalogue and len(request.x) else None
    fitted = (
        refine(part.model, part.pixels, shape, catalogue, REFINE_TOLERANCE_PX)
        if first and catalogue
        else None
    )
    wrong = _doubts(request, method, part, fitted, first, may_change=part.is_tan and not as_it_is)
    if wrong:
        few = first is None or first.n_inside < STARS_TO_CONTRADICT
        if few and request.allow_unverified:
            said = f"{log}; " if log else ""
            return Solution(clean_header(wcs), method, log=f"{said}not verified: {wrong}")
        raise BadFrame(f"{request.name}: {wrong}")
    assert fitted is not None
    assert catalogue is not None
    if part.is_tan and not as_it_is:
        header = header_of(fitted.model, wcs.sip)
        if wcs.sip is None and request.sip_order >= 2:
            header = _with_distortion(request, fitted.model, header, catalogue)
    else:
        header = clean_header(wcs)
    check = verify(WCS(header), shape, request.x, request.y, catalogue)
    if check.log10_chance > LOG10_CHANCE or check.rms_pixels > LARGEST_RMS_PX:
        raise BadFrame(f"{request.name}: {_chance(method, check)}")
    return Solution(
        header,
        method,
        n_matched=check.n_matched,
        rms_arcsec=check.rms_arcsec,
        rms_pixels=check.rms_pixels,
        n_catalogue=check.n_inside,
        log10_chance=check.log10_chance,
        log=log or f"{scale:.4f} arcsec/px at ({centre[0]:.4f}, {centre[1]:.4f})",
    )


def _within_limits(
    request: SolveRequest, wcs: WCS, method: str, as_it_is: bool
) -> tuple[float, tuple[float, float]]:
    """Plate scale and centre, if they are what was asked for; else BadFrame."""
    scale, centre = plate_scale(wcs, request.shape), frame_centre(wcs, request.shape)
    low, high = request.plate_scale_interval or (0.0, np.inf)
    off = float(separation(*centre, request.hint_ra, request.hint_dec))
    near = as_it_is or off <= request.radius_deg
    if not (low * (1 - SCALE_MARGIN) <= scale <= high * (1 + SCALE_MARGIN)) or not near:
        raise BadFrame(
            f"{request.name}: {method} found {scale:.4f} arcsec/px at ({centre[0]:.4f}, {centre[1]:.4f}), but "
            f"{low:g} to {high:g} arcsec/px within {request.radius_deg:g} deg of ({request.hint_ra:.4f}, "
            f"{request.hint_dec:.4f}) was asked for ({off:.3f} deg away); check plate_scale_interval and the radius"
        )
    return scale, centre


def _doubts(
    request: SolveRequest,
    method: str,
    part: LinearPart,
    fitted: FittedModel | None,
    check: Verification | None,
    may_change: bool,
) -> str:
    """Why a WCS is not believed; empty: it is."""
    if check is None:
        return f"the WCS of {method} cannot be verified: no catalogue, or no sources"
    if check.n_inside < STARS_TO_VERIFY:
        ra, dec = part.model.crval
        off = float(separation(ra, dec, request.hint_ra, request.hint_dec))
        return (
            f"the WCS of {method} cannot be verified: it puts {check.n_inside} catalogue stars on the frame, at least "
            f"{STARS_TO_VERIFY} are needed (its reference point is {off:.3f} deg from the hint). Check where the frame "
            "points, or use a deeper catalogue; plate_solving.allow_unverified: true takes it all the same"
        )
    if fitted is None or fitted.log10_chance > LOG10_CHANCE:
        return _chance(method, check)
    if fitted.corner_error_pixels > LARGEST_CORNER_ERROR_PX:
        return (
            f"the {fitted.n_matched} stars that agree with the WCS of {method} leave it uncertain by "
            f"{fitted.corner_error_pixels:.1f} px in a corner of the frame; use a deeper catalogue"
        )
    if (
        not may_change
        and (off_px := _largest_difference(part, fitted.model, request.shape)) > LARGEST_ERROR_PX
    ):
        return (
            f"the WCS of {method} is off by up to {off_px:.1f} px ({fitted.n_matched} catalogue stars say so, at most "
            f"{LARGEST_ERROR_PX:g} px are allowed). Solve the frames again, or let them be solved "
            "(already_plate_solved: false)"
        )
    return ""


def _chance(method: str, check: Verification) -> str:
    return (
        f"the WCS of {method} puts {check.n_matched} of {check.n_sources} sources on {check.n_catalogue} catalogue "
        f"stars around the frame, no more than chance would (1e{check.log10_chance:.0f}, below 1e{LOG10_CHANCE:.0f} "
        "counts); the WCS is wrong, or the catalogue is of another field, or far deeper than the frame"
    )


def _largest_difference(part: LinearPart, model: TanModel, shape: tuple[int, int]) -> float:
    """Pixels between two plate models, the largest of the corners and the centre."""
    ny, nx = shape
    x, y = np.array([0, nx - 1, 0, nx - 1, (nx - 1) / 2]), np.array([0, 0, ny - 1, ny - 1, (ny - 1) / 2])
    (ra, dec), (fitted_ra, fitted_dec) = part.model.sky(x, y), model.sky(x, y)
    off = separation(ra, dec, fitted_ra, fitted_dec)
    return float(np.max(off) * 3600.0 / model.scale)


def _with_distortion(
    request: SolveRequest, model: TanModel, plain: fits.Header, catalogue: Catalogue
) -> fits.Header:
    """The cards with a distortion polynomial, where the stars carry one and agree better with it."""
    sources = np.column_stack([request.x, request.y])
    header = fit_sip(model, sources, request.shape, catalogue, request.sip_order)
    if header is None:
        return plain
    before, after = (verify(WCS(h), request.shape, request.x, request.y, catalogue) for h in (plain, header))
    better = after.n_matched >= before.n_matched and after.rms_pixels <= max(before.rms_pixels, 0.1)
    return header if better else plain


def clean_header(wcs: WCS) -> fits.Header:
    """The cards of a WCS in ICRS, distortion polynomials included, and nothing else."""
    header = wcs.to_header(relax=True)
    for card in FOREIGN_CARDS:
        header.remove(card, ignore_missing=True)
    header["RADESYS"] = "ICRS"
    return header
