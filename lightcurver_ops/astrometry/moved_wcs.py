"""A frame of a camera whose scale and orientation are known: only where it points is sought."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.catalog_match import best_models
from lightcurver_ops.astrometry.linear_part import LinearPart, header_of, linear_part
from lightcurver_ops.astrometry.refinement import FittedModel, refine
from lightcurver_ops.astrometry.tangent import separation, to_plane
from lightcurver_ops.astrometry.triangles import Similarities
from lightcurver_ops.errors import BadFrame

SOURCES, STARS = 15, 150
TOLERANCE_PX = 4.0
LOG10_FALSE_ALARM = -6.0


@dataclass(frozen=True)
class MovedWcsSolver:
    """Lays each bright source on each bright star, with the matrix of a WCS that is known, as it is and turned by 180
    degrees (a German mount beyond the meridian); most of what else lies on stars then wins.

    Frames with half a dozen stars, too few for triangles among others, are solved this way. The distortion polynomial
    of the known WCS, which belongs to the camera, is kept.

    Args:
        known: WCS of the same camera; where it points is a hint only.
    """

    known: WCS

    method = "alternate_gaia_solve"

    def solve(self, request: SolveRequest) -> Solution:
        """Solve one frame; needs request.catalogue. Raises BadFrame."""
        if request.catalogue is None:
            raise BadFrame(f"{request.name}: no catalogue stars to solve against; query the catalogue first")
        part = linear_part(self.known, request.shape, request.x, request.y)
        hint = request.hint_ra, request.hint_dec
        reach = request.radius_deg + 0.5 * float(np.hypot(*request.shape)) * part.model.scale / 3600.0
        around = request.catalogue.subset(
            separation(request.catalogue.ra, request.catalogue.dec, *hint) < reach
        )
        hypotheses, stars = _hypotheses(part, around, hint)
        best: FittedModel | None = None
        for start in best_models(hypotheses, part.pixels, stars, hint, part.model.crpix, TOLERANCE_PX):
            fitted = refine(start, part.pixels, request.shape, around, TOLERANCE_PX)
            if fitted is not None and (best is None or fitted.log10_chance < best.log10_chance):
                best = fitted
        tried = f"{len(part.pixels)} sources, {len(around)} catalogue stars, {len(hypotheses)} shifts"
        if best is None or best.log10_chance + np.log10(max(len(hypotheses), 1)) > LOG10_FALSE_ALARM:
            found = (
                "none fits" if best is None else f"the best has {best.n_matched} pairs, which can be chance"
            )
            raise BadFrame(
                f"{request.name}: no match with the known scale and orientation, {part.model.scale:.4f} arcsec/px "
                f"({tried}; {found})"
            )
        sip = self.known.sip if part.is_tan else None
        return accept(request, WCS(header_of(best.model, sip)), self.method, tried)


def _hypotheses(
    part: LinearPart, around: Catalogue, hint: tuple[float, float]
) -> tuple[Similarities, NDArray[np.float64]]:
    """Shifts from pixels to the plane at the hint (arcsec), and the (M, 2) stars on it."""
    stars = np.column_stack(to_plane(around.ra, around.dec, *hint)) * 3600.0
    cd = part.model.cd * 3600.0
    mirrored = bool(np.linalg.det(cd) < 0)
    # The similarity next to the matrix: z = a w, w = x + iy or, mirrored, x - iy.
    sign = -1.0 if mirrored else 1.0
    a = 0.5 * complex(cd[0, 0] + sign * cd[1, 1], cd[1, 0] - sign * cd[0, 1])
    w = part.pixels[:SOURCES, 0] + 1j * part.pixels[:SOURCES, 1] * sign
    z = stars[:STARS, 0] + 1j * stars[:STARS, 1]
    turns = np.array([a, -a])
    shifts = z[None, :, None] - turns[None, None, :] * w[:, None, None]
    angles = np.broadcast_to(turns, shifts.shape)
    return Similarities(angles.ravel(), shifts.ravel(), np.full(shifts.size, mirrored)), stars
