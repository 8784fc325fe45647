"""Strategy `adapt_wcs_from_reference`: the WCS of one solved frame, moved onto the others of the same camera."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from lightcurver_ops.astrometry.acceptance import clean_header
from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver, match_catalogue
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.astrometry.verification import verify
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
        if not wcs.has_celestial or wcs.cpdis1 is not None or wcs.det2im1 is not None:
            raise ConfigurationError(
                "adapt_wcs_from_reference: the reference frame has no celestial WCS, or one with distortion tables; "
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
            sources = np.column_stack(_undistorted(wcs, request.x, request.y))
        fitted, tried = match_catalogue(
            request.name,
            sources,
            request.shape,
            stars,
            frame_centre(wcs, self.reference_shape),
            request.radius_deg,
            (scale * (1 - self.scale_tolerance), scale * (1 + self.scale_tolerance)),
            self.options,
            crpix,
        )
        header = fitted.model.to_header()
        n_matched, rms_arcsec = fitted.n_matched, fitted.rms_pixels * fitted.model.scale
        if wcs.sip is not None:
            new = wcs.deepcopy()
            new.wcs.crval = fitted.model.crval
            new.wcs.cd = fitted.model.cd
            header = clean_header(new)
        if request.catalogue is not None:
            check = verify(WCS(header), request.shape, request.x, request.y, request.catalogue)
            n_matched, rms_arcsec = check.n_matched, check.rms_arcsec
        return Solution(header, self.method, n_matched, rms_arcsec, tried)


def _undistorted(wcs: WCS, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """Pixels after the SIP polynomial: plane coordinates divided by the linear matrix, plus CRPIX, 0-based."""
    # With origin 0 astropy's answer is a pixel off: it subtracts CRPIX, which counts from 1, from 0-based pixels.
    u, v = wcs.sip_pix2foc(x + 1.0, y + 1.0, 1)
    return u + wcs.wcs.crpix[0] - 1.0, v + wcs.wcs.crpix[1] - 1.0
