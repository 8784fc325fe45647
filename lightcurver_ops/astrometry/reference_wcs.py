"""Strategy `adapt_wcs_from_reference`: the WCS of one solved frame, moved onto the others of the same camera."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from lightcurver_ops.astrometry.acceptance import accept, clean_header
from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver, match_catalogue
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.astrometry.linear_part import header_of, is_tan, undistorted
from lightcurver_ops.errors import ConfigurationError


@dataclass(frozen=True)
class ReferenceWcsSolver:
    """The sources of the reference frame, put on the sky by its WCS, serve as the catalogue.

    Any shift within the radius, any rotation and a scale near that of the reference are found; the distortion
    polynomial (SIP) of the reference, which belongs to the camera, is kept. Hint and plate_scale_interval of the
    request are not used.

    Args:
        reference_header: of the solved frame.
        reference_shape: (ny, nx) of it.
        x, y, flux: (N,) its sources, 0-based pixels.
        scale_tolerance: relative change of the plate scale that is allowed (focus, temperature).
        options: of the matching.
    """

    reference_header: fits.Header
    reference_shape: tuple[int, int]
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    scale_tolerance: float = 0.03
    options: CatalogMatchSolver = field(default_factory=CatalogMatchSolver)

    method = "adapt_wcs_from_reference"

    def solve(self, request: SolveRequest) -> Solution:
        """Solve one frame. Raises BadFrame, and ConfigurationError where the reference itself cannot serve."""
        wcs = WCS(self.reference_header)
        if not wcs.has_celestial or not is_tan(wcs):
            raise ConfigurationError(
                "adapt_wcs_from_reference: the reference frame has no celestial WCS, or one other than TAN or TAN-SIP; "
                "name a frame that is plate solved"
            )
        flux = np.asarray(self.flux, dtype=np.float64)
        usable = np.flatnonzero(np.isfinite(flux) & (flux > 0))
        ra, dec = wcs.all_pix2world(np.asarray(self.x)[usable], np.asarray(self.y)[usable], 0)
        stars = Catalogue(ra, dec, -2.5 * np.log10(flux[usable]))
        scale = plate_scale(wcs, self.reference_shape)
        crpix = np.asarray(wcs.wcs.crpix) - 1.0
        sources = np.column_stack([request.x, request.y])
        if wcs.sip is not None and len(sources):
            # Positions a camera without distortion would have measured: on them the plate model is linear.
            sources = np.column_stack(undistorted(wcs, request.x, request.y))
        centre = frame_centre(wcs, self.reference_shape)
        interval = scale * (1 - self.scale_tolerance), scale * (1 + self.scale_tolerance)
        fitted, tried = match_catalogue(
            request.name,
            sources,
            request.shape,
            stars,
            centre,
            request.radius_deg,
            interval,
            self.options,
            crpix,
        )
        found = WCS(header_of(fitted.model, wcs.sip))
        if request.catalogue is not None:
            moved = replace(request, hint_ra=centre[0], hint_dec=centre[1], plate_scale_interval=interval)
            return accept(moved, found, self.method, tried)
        return Solution(
            clean_header(found),
            self.method,
            fitted.n_matched,
            fitted.rms_pixels * fitted.model.scale,
            fitted.rms_pixels,
            log10_chance=fitted.log10_chance,
            log=tried,
        )
