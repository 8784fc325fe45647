"""Plate solving against catalogue stars, without an external program.

Similar triangles of bright sources and bright stars give hypotheses (any rotation, both parities, any scale of
the interval); those that lay most sources on stars are refined to a full TAN plate model; a model is accepted only
where the number of its pairs cannot be chance, counted over all hypotheses tried.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest

import numpy as np
from astropy.wcs import WCS
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.refinement import FittedModel, refine, similarity_matrix
from lightcurver_ops.astrometry.tangent import TanModel, from_plane, separation, to_plane
from lightcurver_ops.astrometry.tiles import REACH, STEP, Tile, tiles
from lightcurver_ops.astrometry.triangles import Similarities, similarities, triangles
from lightcurver_ops.errors import BadFrame

log = logging.getLogger(__name__)
FloatArray = NDArray[np.float64]

# (first, last) rank of the sources whose triangles are tried, in turn. The last one leaves out the brightest,
# which may be saturated, or artefacts. With each the share of the positions around the hint that it is worth: the
# later ones take ten times as long.
SEARCHES = (((0, 12), 1.0), ((0, 22), 0.1), ((8, 30), 0.1))
MAX_TILE_STARS = 90
SCALE_STEP = 1.6  # wider scale intervals are cut into parts of at most this ratio
MIN_SOURCES = 5
REFINED_PER_TILE = 12


@dataclass(frozen=True)
class CatalogMatchSolver:
    """Strategy `alternate_gaia_solve`.

    Args:
        tolerance_px: how far a star may lie from its source before refinement: centroid errors and
            distortion over the frame.
        log10_false_alarm: a solution is accepted when the probability that it is chance, times the number
            of hypotheses tried, is below ten to this.
        max_tiles: the search around the hint ends after this many positions, each of about half a frame; this keeps
            a frame that cannot be solved below about 20 s.
        quick: only the brightest sources and the nine positions nearest to the hint, a tenth of a second or so.
    """

    tolerance_px: float = 3.0
    log10_false_alarm: float = -6.0
    max_tiles: int = 300
    quick: bool = False

    method = "alternate_gaia_solve"

    def solve(self, request: SolveRequest) -> Solution:
        """Solve one frame; needs request.catalogue and request.plate_scale_interval. Raises BadFrame."""
        if request.catalogue is None:
            raise BadFrame(f"{request.name}: no catalogue stars to solve against; query the catalogue first")
        fitted, tried = match_catalogue(
            request.name,
            np.column_stack([request.x, request.y]),
            request.shape,
            request.catalogue,
            (request.hint_ra, request.hint_dec),
            request.radius_deg,
            request.scale_interval,
            self,
        )
        return accept(request, WCS(fitted.model.to_header()), self.method, tried)


def match_catalogue(
    name: str,
    sources: FloatArray,
    shape: tuple[int, int],
    catalogue: Catalogue,
    hint: tuple[float, float],
    radius_deg: float,
    scale_interval: tuple[float, float],
    options: CatalogMatchSolver,
    crpix: FloatArray | None = None,
) -> tuple[FittedModel, str]:
    """The plate model of a frame, and what was tried to find it.

    Args:
        name: of the frame, for messages.
        sources: (N, 2) pixel positions, brightest first.
        shape: (ny, nx) of the frame.
        catalogue: stars of the field.
        hint, radius_deg: the centre of the frame is within radius of hint (ra, dec).
        scale_interval: (low, high) arcsec/pixel.
        options: tolerances.
        crpix: (2,) 0-based reference pixel; the centre of the frame by default.

    Raises:
        BadFrame: no model that is certainly right.
    """
    low, high = scale_interval
    diagonal_deg = np.hypot(*shape) * high / 3600.0
    distance = separation(catalogue.ra, catalogue.dec, *hint)
    around = catalogue.subset(distance < radius_deg + 0.5 * diagonal_deg)
    where = (
        f"{len(sources)} sources, {len(around)} of {len(catalogue)} catalogue stars within "
        f"{radius_deg + 0.5 * diagonal_deg:.3f} deg of ({hint[0]:.4f}, {hint[1]:.4f}), "
        f"scales {low:g} to {high:g} arcsec/px"
    )
    if len(sources) < MIN_SOURCES or len(around) < MIN_SOURCES:
        raise BadFrame(
            f"{name}: too few stars to solve against the catalogue ({where}; at least {MIN_SOURCES} of each are "
            "needed). Check the frame, its coordinates, and the depth of the catalogue"
        )
    centre = np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2]) if crpix is None else crpix
    trials, best = 0, None
    parts = _scale_parts(low, high)
    for ranks, part, tile in _searches(around, hint, radius_deg, parts, shape, options):
        hypotheses, stars = _hypotheses(sources, ranks, shape, tile, part, options.tolerance_px)
        trials += len(hypotheses)
        for start in best_models(hypotheses, sources, stars, tile[:2], centre, options.tolerance_px):
            fitted = refine(start, sources, shape, around, options.tolerance_px + 1.0)
            if fitted is None or not low * 0.995 < fitted.model.scale < high * 1.005:
                continue
            if best is None or fitted.log10_chance < best.log10_chance:
                best = fitted
            if _certain(fitted, trials, hint, radius_deg, shape, options):
                tried = f"{where}; {trials} hypotheses; {_describe(fitted)}"
                log.debug("%s: solved against the catalogue: %s", name, tried)
                return fitted, tried
    max_tiles = 9 if options.quick else options.max_tiles
    covered = STEP * np.hypot(*shape) * low / 3600.0 * np.sqrt(max_tiles / len(parts) / np.pi)
    if covered < radius_deg:
        where += f"; only the {max_tiles} positions nearest to the hint were searched"
    closest = "no hypothesis survived" if best is None else f"the best one, {_describe(best)}, can be chance"
    raise BadFrame(
        f"{name}: no match between the sources and the catalogue ({where}; {trials} hypotheses; {closest}). "
        "Check the hint, the radius and plate_scale_interval, or solve with another strategy"
    )


def _describe(fitted: FittedModel) -> str:
    return (
        f"{fitted.n_matched} pairs, rms {fitted.rms_pixels:.2f} px, {fitted.model.scale:.4f} arcsec/px, "
        f"corner error {fitted.corner_error_pixels:.2f} px, chance 1e{fitted.log10_chance:.0f} a trial"
    )


def _certain(
    fitted: FittedModel,
    trials: int,
    hint: tuple,
    radius_deg: float,
    shape: tuple,
    options: CatalogMatchSolver,
) -> bool:
    ra, dec = fitted.model.sky((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    return bool(
        fitted.log10_chance + np.log10(max(trials, 1)) < options.log10_false_alarm
        and fitted.corner_error_pixels < options.tolerance_px
        and separation(ra, dec, *hint) <= radius_deg
    )


def _scale_parts(low: float, high: float) -> list[tuple[float, float]]:
    """The interval in parts of a limited ratio, the middle first."""
    n = max(1, int(np.ceil(np.log(high / low) / np.log(SCALE_STEP))))
    edges = np.geomspace(low, high, n + 1)
    order = np.argsort(np.abs(np.arange(n) - (n - 1) / 2), kind="stable")
    return [(float(edges[k]), float(edges[k + 1])) for k in order]


def _searches(
    stars: Catalogue,
    hint: tuple[float, float],
    radius_deg: float,
    parts: list[tuple[float, float]],
    shape: tuple[int, int],
    options: CatalogMatchSolver,
) -> Iterator[tuple[tuple[int, int], tuple[float, float], Tile]]:
    """What to try in turn: ranks of the sources, part of the scale interval, position and its stars."""
    max_tiles = 9 if options.quick else options.max_tiles
    for ranks, share in SEARCHES[:1] if options.quick else SEARCHES:
        limit = max(9, int(max_tiles * share / len(parts)))
        diagonals_deg = [float(np.hypot(*shape)) * part[1] / 3600.0 for part in parts]
        rings = [islice(tiles(stars, hint, radius_deg, d, MIN_SOURCES), limit) for d in diagonals_deg]
        for nearest in zip_longest(*rings):  # all scales at the hint first, then further away
            yield from ((ranks, part, tile) for part, tile in zip(parts, nearest) if tile is not None)


def _hypotheses(
    sources: FloatArray,
    ranks: tuple[int, int],
    shape: tuple[int, int],
    tile: Tile,
    scales: tuple[float, float],
    tolerance_px: float,
) -> tuple[Similarities, FloatArray]:
    """Similarities from pixels to the plane of the tile (arcsec), and the (M, 2) stars of the tile on it."""
    ra, dec, inside = tile
    stars = np.column_stack(to_plane(inside.ra, inside.dec, ra, dec)) * 3600.0
    diagonal = float(np.hypot(*shape))
    # As many stars as the tile must show for its share that falls into a frame to be as many as the sources.
    middle = np.sqrt(scales[0] * scales[1])
    share = np.pi * (REACH * diagonal * scales[1]) ** 2 / (shape[0] * shape[1] * middle**2)
    first, last = int(0.5 * ranks[0] * share), int(ranks[1] * share)
    bright = stars[first:last][:MAX_TILE_STARS]
    chosen = sources[ranks[0] : ranks[1]]
    shortest = max(10.0, 0.04 * diagonal)
    source_triangles = triangles(chosen, shortest, diagonal)
    star_triangles = triangles(bright, shortest * scales[0], diagonal * scales[1])
    return similarities(chosen, source_triangles, bright, star_triangles, scales, 0.5 * tolerance_px), stars


def best_models(
    hypotheses: Similarities,
    sources: FloatArray,
    stars: FloatArray,
    plane: tuple[float, float],
    crpix: FloatArray,
    tolerance_px: float,
) -> Iterator[TanModel]:
    """The hypotheses that lay most bright sources on stars, as plate models; near-copies of a better one left out.

    Args:
        hypotheses: similarities from pixels to arcsec on the plane that touches the sky at `plane` (ra, dec).
        sources: (N, 2) pixels, brightest first. stars: (M, 2) arcsec on the plane.
        crpix: (2,) reference pixel of the models, 0-based.
        tolerance_px: between a source and its star.
    """
    if not len(hypotheses):
        return
    bright = sources[:30]
    z = hypotheses.apply(bright)
    tree = cKDTree(stars)
    reach = tolerance_px * np.abs(hypotheses.a)
    distance, _ = tree.query(np.stack([z.real, z.imag], axis=-1), distance_upper_bound=float(reach.max()))
    votes = np.count_nonzero(distance < reach[:, None], axis=1)
    shown: list[complex] = []
    for k in np.argsort(-votes, kind="stable"):
        if votes[k] < 4 or len(shown) == REFINED_PER_TILE:
            return
        mirrored = bool(hypotheses.mirrored[k])
        a = hypotheses.a[k]
        w = crpix[0] + 1j * crpix[1] * (-1 if mirrored else 1)
        place = complex(a * w + hypotheses.b[k])
        if any(abs(place - p) < reach[k] for p in shown):
            continue
        shown.append(place)
        crval = np.array(from_plane(place.real / 3600.0, place.imag / 3600.0, *plane))
        yield TanModel(crpix, crval, similarity_matrix(a, mirrored) / 3600.0)
