"""Strategy `already_plate_solved`: the WCS that the header brings, if it can be trusted."""

from __future__ import annotations

import warnings

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.acceptance import agreement, clean_header
from lightcurver_ops.astrometry.base import Solution, SolveRequest
from lightcurver_ops.astrometry.geometry import frame_centre, plate_scale
from lightcurver_ops.errors import BadFrame

# Two descriptions of the same matrix: a header may hold one of them.
MATRIX_STYLES = {"CDi_j": ("CD1_1", "CD2_2", "CD1_2", "CD2_1"), "PCi_j": ("PC1_1", "PC2_2", "PC1_2", "PC2_1")}


class HeaderWcsSolver:
    """Reads the WCS from request.header; plate_scale_interval and catalogue are checked where the request has them.

    The hint is not: a frame that lies elsewhere is found by its footprint.
    """

    method = "already_plate_solved"

    def solve(self, request: SolveRequest) -> Solution:
        """The WCS of the header; BadFrame where it has none, or one that is broken or contradicts itself."""
        if request.header is None:
            raise BadFrame(f"{request.name}: already_plate_solved, but no header was given")
        wcs = self._read(request.name, request.header)
        try:
            ra, dec = frame_centre(wcs, request.shape)
            scale = plate_scale(wcs, request.shape)
        except (ValueError, np.linalg.LinAlgError) as error:
            raise self._broken(request.name, str(error)) from error
        if not np.isfinite([ra, dec, scale]).all() or scale <= 0 or not -90 <= dec <= 90:
            raise self._broken(
                request.name, f"the centre is at ({ra}, {dec}), the plate scale {scale} arcsec/px"
            )
        interval = request.plate_scale_interval
        if interval is not None and not interval[0] <= scale <= interval[1]:
            raise self._broken(
                request.name,
                f"its plate scale is {scale:.4f} arcsec/px, outside plate_scale_interval {list(interval)}",
            )
        check = agreement(request, wcs, "the header", request.catalogue)
        return Solution(
            clean_header(wcs),
            self.method,
            check.n_matched if check else 0,
            check.rms_arcsec if check else float("nan"),
            f"WCS of the header: {scale:.4f} arcsec/px at ({ra:.4f}, {dec:.4f})",
        )

    def _read(self, name: str, header: fits.Header) -> WCS:
        styles = [style for style, cards in MATRIX_STYLES.items() if any(c in header for c in cards)]
        if len(styles) > 1:
            raise self._broken(name, "it has both CDi_j and PCi_j cards, which contradict each other")
        missing = [c for c in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2") if c not in header]
        if "CTYPE1" not in header or missing:
            raise BadFrame(
                f"{name}: already_plate_solved, but the header has no celestial WCS (missing: "
                f"{', '.join(missing or ['CTYPE1'])}). Choose a plate solving strategy, or solve the frames beforehand"
            )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # notes on old-style cards; what matters is checked here
                wcs = WCS(header)
                axes, has_celestial = (wcs.wcs.lng, wcs.wcs.lat), wcs.has_celestial
                wcs = wcs.celestial
        except Exception as error:  # wcslib and astropy raise many kinds for malformed cards
            raise self._broken(name, str(error).strip()) from error
        if not has_celestial or wcs.pixel_n_dim != 2:
            kinds = f"{header.get('CTYPE1')}, {header.get('CTYPE2')}"
            raise BadFrame(f"{name}: the header's WCS ({kinds}) is not celestial; right ascension and declination "
                           "axes are expected. Choose a plate solving strategy")  # fmt: skip
        system, equinox = wcs.wcs.radesys or "ICRS", wcs.wcs.equinox
        equatorial = wcs.wcs.lngtyp.strip() == "RA" and wcs.wcs.lattyp.strip() == "DEC"
        if not equatorial or not (system == "ICRS" or (system == "FK5" and equinox == 2000.0)):
            raise self._broken(
                name,
                f"it is in {wcs.wcs.lngtyp}/{wcs.wcs.lattyp} {system} (equinox {equinox}); "
                "ICRS or FK5 J2000 is expected",
            )
        if axes != (0, 1):  # .celestial would swap the pixels as well
            raise self._broken(name, "its first axis is not right ascension, or its second not declination")
        matrix = wcs.pixel_scale_matrix
        if not np.isfinite(matrix).all() or abs(np.linalg.det(matrix)) < 1e-20:
            raise self._broken(name, f"its matrix is singular: {matrix.tolist()}")
        return wcs

    @staticmethod
    def _broken(name: str, why: str) -> BadFrame:
        return BadFrame(
            f"{name}: already_plate_solved, but the header's WCS cannot be used: {why}. "
            "Correct the header, or choose a plate solving strategy"
        )
