"""The wings of the PSF beyond the stamps: measured around bright stars of the whole frame, the sky fitted with them.

In a stamp of a few FWHM the wings and the sky cannot be told apart, and a profile that fits the core says little of the
wings: turbulence makes them fall with r^(-11/3) far out (Roddier 1981, Prog. Opt. 19, 281), more steeply closer in.
From r0 outwards the profile is written as

    W(r) = (steep (r / r0)^-5 + shallow (r / r0)^(-11/3)) / r0^2

per unit flux within r0 and per square pixel, linear in two coefficients. The mean surface brightness in rings around
each star is that profile times its flux, and a constant of its own: what is left of the sky there.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.constants import MAD_TO_SIGMA

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

INNER_FWHM = 1.8  # the rings begin here
SMALLEST_INNER = 5.0  # pixels
REACH = 4.0  # rings out to so many times that
LEAST_REACH = 22.0  # pixels more, at least: they tell the sky
RINGS = 10
POWERS = np.array([5.0, 11.0 / 3.0])
EXPECTED = np.array([6e-3, 9e-3])
"""steep and shallow of a Kolmogorov profile whose FWHM is r0 / 1.8."""
EXPECTED_SIGMA = 0.5  # of the coefficients, relative to that
PIXEL_CLIP = 3.0  # standard deviations, of pixels about the median of their ring
RING_CLIP = 5.0  # standard deviations, of rings about the fit
CROWDED = 0.02  # of a star's own light in a ring: what its unseen neighbours may add
VISIBLE = 0.1  # of the noise of a pixel: how far the wings of a neighbour are masked
BLENDED = 0.02  # of a star's flux: what its neighbours may bring into its core
LEAST_SEEN = 0.25  # of a ring's area
ROUNDS = 12
ANGLES = 720
JOIN = 0.85  # of half a stamp: from here, or from r0, the fitted PSF goes over into the wings
N_WING = 3
"""Numbers that describe the wings of a PSF of unit total flux: r0, steep, shallow."""


@dataclass(frozen=True)
class Wings:
    """Of one frame with S stars.

    Attributes:
        inner: r0, pixels.
        coefficients: [2], steep and shallow.
        uncertainty: [2].
        sky: [S], what is left of the sky around each star, per pixel, unit of the data; NaN where it could not be
            measured.
        n_stars: how many took part; none: the coefficients are what is expected.
    """

    inner: float
    coefficients: Array
    uncertainty: Array
    sky: Array
    n_stars: int

    def profile(self, radius: Array) -> Array:
        """Surface brightness at radii in pixels, per square pixel, of a star with unit flux within r0."""
        return (np.asarray(radius)[..., None] / self.inner) ** -POWERS @ self.coefficients / self.inner**2

    def beyond(self, radius: Array) -> Array:
        """Flux beyond circles of these radii in pixels, relative to that within r0."""
        ratio = np.asarray(radius, dtype=float)[..., None] / self.inner
        return 2 * np.pi * ratio ** (2 - POWERS) @ (self.coefficients / (POWERS - 2))

    @property
    def total(self) -> float:
        """All the flux, relative to that within r0."""
        return 1.0 + float(self.beyond(np.array(self.inner)))

    def beyond_square(self, side: float) -> float:
        """Flux beyond a square of this side in pixels, relative to that within r0."""
        angle = (np.arange(ANGLES) + 0.5) * (2 * np.pi / ANGLES)
        edge = side / 2 / np.maximum(np.abs(np.cos(angle)), np.abs(np.sin(angle)))
        return float(self.beyond(edge).mean())


def measure_wings(image: Array, noise: Array, good: Mask, stars: Array, sources: Array, fwhm: float) -> Wings:
    """The wings of the PSF of a frame.

    Args:
        image, noise: [ny, nx], sky subtracted, any one unit. good: [ny, nx], pixels to use.
        stars: [S, 2], x and y of bright stars; those that are not whole or not alone are left out.
        sources: [M, 3], x, y and flux of all that was detected on the frame, the stars too.
        fwhm: pixels.
    """
    expected = expected_wings(fwhm)
    inner = expected.inner
    edges = np.geomspace(inner, max(REACH * inner, inner + LEAST_REACH), RINGS + 1)
    faintest = VISIBLE * float(np.median(noise[good])) if good.any() else np.inf
    level, error = np.full((2, len(stars), RINGS), np.nan)
    flux, area = np.zeros((2, len(stars)))
    for s, star in enumerate(stars):
        near = np.hypot(*(sources[:, :2] - star).T)
        others = sources[(near > 0.7 * fwhm) & (near < 2 * edges[-1])]
        avoid = np.maximum(1.5 * fwhm, _visible_radius(others[:, 2], inner, faintest))
        around = _Surroundings.of(image, noise, good, star, others, avoid, edges, expected)
        if around is not None:
            level[s], error[s], flux[s], area[s] = around.level, around.error, around.flux, around.area
    return _fit(level, error, flux, area, edges)


def expected_wings(fwhm: float) -> Wings:
    """The wings of a PSF of which only its FWHM in pixels is known: those of turbulence."""
    inner = max(INNER_FWHM * fwhm, SMALLEST_INNER)
    return Wings(inner, EXPECTED, EXPECTED_SIGMA * EXPECTED, np.zeros(0), 0)


def _visible_radius(flux: Array, inner: float, faintest: float) -> Array:
    """Where the expected wings of stars of these fluxes fall below a surface brightness, pixels."""
    brightness = np.maximum(flux, 0.0) * EXPECTED.sum() / inner**2
    return inner * (brightness / faintest) ** (1 / POWERS.mean())


@dataclass(frozen=True)
class _Surroundings:
    """Means in the rings around a star and their errors, [RINGS], NaN where too little is seen; flux and number of
    pixels within the first."""

    level: Array
    error: Array
    flux: float
    area: float

    @classmethod
    def of(
        cls,
        image: Array,
        noise: Array,
        good: Mask,
        star: Array,
        others: Array,
        avoid: Array,
        edges: Array,
        expected: Wings,
    ) -> "_Surroundings | None":
        """None where the star is absent, or its core is saturated, hit, blended or cut off."""
        if not np.isfinite(star).all():
            return None
        reach, (x, y) = int(np.ceil(edges[-1])), np.rint(star).astype(int)
        rows, columns = (slice(max(at - reach, 0), max(at + reach + 1, 0)) for at in (y, x))
        part, sigma, usable = image[rows, columns], noise[rows, columns], good[rows, columns].copy()
        if not part.size:
            return None
        yy, xx = np.mgrid[: part.shape[0], : part.shape[1]]
        yy, xx = yy + rows.start, xx + columns.start
        radius = np.hypot(xx - star[0], yy - star[1])
        core = radius < edges[0]
        area, flux = float(core.sum()), float(part[core].sum())
        if not usable[core].all() or area < 0.95 * np.pi * edges[0] ** 2:
            return None
        distance = np.maximum(np.hypot(*(others[:, :2] - star).T), 1.0)
        if others[:, 2] @ expected.profile(distance) * area > BLENDED * flux:
            return None
        for other, far in zip(others, avoid):
            usable &= np.hypot(xx - other[0], yy - other[1]) > far
        level, error = np.full((2, RINGS), np.nan)
        for ring, (low, high) in enumerate(pairwise(edges)):
            inside = usable & (radius >= low) & (radius < high)
            if inside.sum() < LEAST_SEEN * np.pi * (high**2 - low**2):
                continue
            values = part[inside]
            apart = np.abs(values - np.median(values))
            kept = values[apart <= PIXEL_CLIP * MAD_TO_SIGMA * np.median(apart)]
            if kept.size:
                level[ring] = kept.mean()
                error[ring] = np.sqrt((sigma[inside] ** 2).mean() / kept.size)
        return cls(level, error, flux, area)


def _fit(level: Array, error: Array, flux: Array, area: Array, edges: Array) -> Wings:
    """Weighted least squares for coefficients common to all stars and a sky of each."""
    inner = edges[0]
    ratio = (edges / inner)[:, None] ** (2 - POWERS) / (POWERS - 2)
    # The mean of W over each ring, by coefficient.
    rings = 2 * (ratio[:-1] - ratio[1:]) / np.diff(edges**2)[:, None]
    prior = np.diag((EXPECTED_SIGMA * EXPECTED) ** -2.0)
    known = np.isfinite(level) & (flux > 0)[:, None]
    values, variance = np.where(known, level, 0.0), np.where(known, error, 1.0) ** 2
    coefficients, covariance, sky = EXPECTED, np.linalg.inv(prior), np.zeros(len(level))
    for _ in range(ROUNDS):
        columns = (flux - sky * area)[:, None, None] * rings
        sigma = np.sqrt(variance + (CROWDED * columns @ coefficients) ** 2)
        weight = known / sigma**2
        total = np.maximum(weight.sum(axis=1), 1e-300)
        # The sky of each star is eliminated.
        mean = np.einsum("sr,src->sc", weight, columns) / total[:, None]
        middle = (weight * values).sum(axis=1) / total
        apart = columns - mean[:, None]
        normal = np.einsum("sr,src,srd->cd", weight, apart, apart) + prior
        right = np.einsum("sr,src,sr->c", weight, apart, values - middle[:, None]) + prior @ EXPECTED
        covariance = np.linalg.inv(normal)
        coefficients = np.maximum(covariance @ right, 0.0)
        sky = middle - mean @ coefficients
        known &= np.abs(values - sky[:, None] - columns @ coefficients) <= RING_CLIP * sigma
    measured = known.any(axis=1)
    return Wings(
        inner,
        coefficients,
        np.sqrt(np.diag(covariance)),
        np.where(measured, sky, np.nan),
        int(measured.sum()),
    )


def joined_with_wings(narrow: Array, wings: Wings, subsampling: int) -> tuple[Array, float, Array]:
    """A fitted PSF with the measured wings around it.

    Args:
        narrow: [N, N], in any unit per small pixel.
        wings: of its frame.
        subsampling: k.

    Returns:
        The PSF with wings in its outermost part [N, N], the flux beyond it, and the wings [N_WING] of this PSF scaled
        to unit total flux.
    """
    radius = _radii(len(narrow), subsampling)
    half = len(narrow) / (2 * subsampling)
    known = min(wings.inner, half)
    within = narrow[radius < known].sum() / (1 - float(wings.beyond(np.array(known))) + wings.total - 1)
    # Closer in than r0 the law does not hold.
    begin = max(JOIN * half, wings.inner)
    share = np.clip((radius - begin) / ((1 - JOIN) * half), 0.0, 1.0)
    outer = within * wings.profile(np.maximum(radius, begin)) / subsampling**2
    joined = (1 - share) * narrow + share * outer
    outside = within * wings.beyond_square(2 * half)
    scale = within / (joined.sum() + outside)
    return joined, outside, np.array([wings.inner, *(scale * wings.coefficients)])


def extended_with_wings(psf: Array, wing: Array, side: int, subsampling: int) -> Array:
    """PSFs [E, N, N] of unit total flux on a larger grid [E, side, side], beyond their own filled with wings.

    Args:
        psf: [E, N, N], per small pixel.
        wing: [E, N_WING], as `joined_with_wings` returns them; zeros: nothing is known, and the PSF ends where it does.
        side: of the larger grid, small pixels, even or odd as N.
        subsampling: k.
    """
    size = psf.shape[-1]
    if side <= size:
        return psf
    margin = (side - size) // 2
    radius = _radii(side, subsampling)
    result = np.zeros((len(psf), side, side))
    for e, (inner, *coefficients) in enumerate(wing):
        if inner > 0:
            law = Wings(inner, np.array(coefficients), np.zeros(2), np.zeros(0), 0)
            result[e] = law.profile(np.maximum(radius, 1.0)) / subsampling**2
    result[:, margin : margin + size, margin : margin + size] = psf
    return result


def _radii(side: int, subsampling: int) -> Array:
    """Distances from the centre of a grid of small pixels, pixels of the data."""
    axis = (np.arange(side) - (side - 1) / 2) / subsampling
    return np.hypot(axis[:, None], axis)
