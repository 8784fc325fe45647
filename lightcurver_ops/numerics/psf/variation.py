"""Whether, and how, the PSF varies over the field: what the stars of a frame say, and how far to believe it.

Each star is compared with the PSF that all share: how much larger it is, and how it is sheared along x and along the
diagonal, by linear least squares together with its flux, position and sky. These three numbers are then fitted as
polynomials in the star's place by linear regression with Gaussian priors, whose widths are those of the greatest
evidence (Bishop 2006, Pattern Recognition and Machine Learning, section 3.5). A width of zero is a PSF that does not
vary: where the stars say nothing, the PSF stays constant, and where they say little, it varies little.
"""

import itertools
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from lightcurver_ops.numerics.psf.distortion import N_COEFFICIENTS, distort, field_terms, generated
from lightcurver_ops.numerics.psf.operators import star_operator

MODEL_ERROR = 0.005
"""Of the model of a star: what the shared PSF may miss in each pixel beside size and shear."""
WIDTHS = (0.0, 0.003, 0.01, 0.03)
"""Of the priors of linear and quadratic coefficients, in units of a dilation or shear at the edge of the field."""
FLOORS = (0.001, 0.004, 0.012)
"""What a star's own shape may differ from its place's: neighbours, colour, the PSF's other changes."""
LEAST_EVIDENCE = 4.0
"""Gain in ln evidence over a constant PSF below which it stays constant: odds of 50 to 1."""
FEWEST_STARS = 6
OUTLYING = 4.0  # standard deviations, of a star's shape from the polynomial
WIDE = 0.3  # of the prior of the constant terms


@dataclass(frozen=True)
class StarShapes:
    """Shapes of the S stars of a frame relative to their shared PSF.

    Attributes:
        value: [S, 3], size, shear along x, shear along the diagonal: (1 + size + shear, shear'; ..., 1 + size - shear).
        variance: [S, 3]; infinite where the star tells nothing.
    """

    value: np.ndarray
    variance: np.ndarray


@dataclass(frozen=True)
class Variation:
    """The PSF's variation over the field of a frame.

    Attributes:
        constant: [3], of size and shears at the origin, relative to the shared PSF.
        terms: [3, 5], of size and shears in X, Y, X^2, XY, Y^2.
        order: 0 constant, 1 linear, 2 quadratic.
        evidence: gain in ln evidence over a constant PSF, 0 for one.
    """

    constant: np.ndarray
    terms: np.ndarray
    order: int
    evidence: float

    def coefficients(self) -> np.ndarray:
        """[15] as `distortion.distort` takes them: dx = size + shear, dy = size - shear, s."""
        size, along, diagonal = self.terms
        return np.concatenate([size + along, size - along, diagonal])


NO_VARIATION = Variation(np.zeros(3), np.zeros((3, 5)), 0, 0.0)


def star_shapes(
    light: np.ndarray,
    noise: np.ndarray,
    good: np.ndarray,
    narrow: np.ndarray,
    star: np.ndarray,
    used: np.ndarray,
    subsampling: int,
) -> StarShapes:
    """How each star of a frame differs from its PSF.

    Args:
        light, noise, good: [S, n, n], the stamps without their backgrounds.
        narrow: [S, N, N], the narrow PSF of each star.
        star: [S, 3], amplitude, x, y (pixels from the stamp's centre). used: [S] bool.
        subsampling: k.
    """
    count, size = len(light), light.shape[-1]
    value, variance = np.zeros((count, 3)), np.full((count, 3), np.inf)
    (of_x, of_y, of_s), _ = (np.moveaxis(np.asarray(part), 1, 0) for part in generated(jnp.asarray(narrow)))
    for s in np.flatnonzero(used):
        amplitude, x, y = star[s]
        across, across_slope = star_operator(np.asarray(x), size, subsampling)
        down, down_slope = star_operator(np.asarray(y), size, subsampling)
        unit = down @ narrow[s] @ across.T
        columns = [
            *(down @ image @ across.T for image in (of_x[s] + of_y[s], of_x[s] - of_y[s], of_s[s])),
            down @ narrow[s] @ across_slope.T,
            down_slope @ narrow[s] @ across.T,
            unit,
        ]
        matrix = amplitude * np.stack([*columns, np.full_like(unit, 1.0 / max(amplitude, 1e-30))], axis=-1)
        model = amplitude * unit
        weight = good[s] / (noise[s] ** 2 + (MODEL_ERROR * model) ** 2)
        normal = np.einsum("pqc,pq,pqd->cd", matrix, weight, matrix)
        scale = 1.0 / np.sqrt(np.maximum(np.diag(normal), 1e-300))
        try:
            covariance = np.linalg.inv(normal * scale[:, None] * scale) * scale[:, None] * scale
        except np.linalg.LinAlgError:
            continue
        right = np.einsum("pqc,pq,pq->c", matrix, weight, light[s] - model)
        if (np.diag(covariance) > 0).all():
            value[s], variance[s] = (covariance @ right)[:3], np.diag(covariance)[:3]
    return StarShapes(value, variance)


def fit_variation(shapes: StarShapes, coordinates: np.ndarray, *, always: bool = False) -> Variation:
    """The polynomials that the shapes of a frame's stars support.

    Args:
        shapes: of S stars.
        coordinates: [S, 2], of the stars from the origin, in units of about half the field.
        always: whatever the evidence, the best that varies.
    """
    usable = np.isfinite(shapes.variance).all(axis=1)
    for _ in range(3):
        if usable.sum() < FEWEST_STARS:
            return NO_VARIATION
        best, floor = _best(shapes, coordinates, usable, always)
        design = np.column_stack([np.ones(len(coordinates)), np.asarray(field_terms(coordinates))])
        expected = design @ np.column_stack([best.constant, best.terms]).T
        apart = np.abs(shapes.value - expected) / np.sqrt(shapes.variance + floor**2)
        kept = usable & (apart.max(axis=1) < OUTLYING)
        if kept.sum() == usable.sum() or kept.sum() < 0.7 * np.isfinite(shapes.variance).all(axis=1).sum():
            break
        usable = kept
    return best


def _best(
    shapes: StarShapes, coordinates: np.ndarray, usable: np.ndarray, always: bool
) -> tuple[Variation, float]:
    """The widths and the floor of the greatest evidence, the widths the same for all three numbers."""
    design = np.column_stack([np.ones(usable.sum()), np.asarray(field_terms(coordinates[usable]))])
    value, variance = shapes.value[usable], shapes.variance[usable]
    best: dict[int, tuple[float, np.ndarray, float]] = {}
    for linear, quadratic, floor in itertools.product(WIDTHS, WIDTHS, FLOORS):
        order = 2 if quadratic > 0 else 1 if linear > 0 else 0
        width = np.array([WIDE, linear, linear, quadratic, quadratic, quadratic])
        fits = [_regression(design, value[:, c], variance[:, c] + floor**2, width) for c in range(3)]
        evidence = sum(one[0] for one in fits)
        if order not in best or evidence > best[order][0]:
            best[order] = evidence, np.stack([one[1] for one in fits]), floor
    constant = best[0][0]
    varying = max((1, 2), key=lambda order: best[order][0])
    gain = best[varying][0] - constant
    if gain < LEAST_EVIDENCE and not always:
        return NO_VARIATION, best[0][2]
    _, coefficients, floor = best[varying]
    return Variation(coefficients[:, 0], coefficients[:, 1:], varying, float(gain)), floor


def _regression(
    design: np.ndarray, value: np.ndarray, variance: np.ndarray, width: np.ndarray
) -> tuple[float, np.ndarray]:
    """ln evidence, and the coefficients [6] of the greatest posterior density, for Gaussian priors of these widths."""
    covariance = np.diag(variance) + (design * width**2) @ design.T
    factor = np.linalg.cholesky(covariance)
    white = np.linalg.solve(factor, value)
    evidence = -0.5 * white @ white - np.log(np.diag(factor)).sum()
    return float(evidence), width**2 * (design.T @ np.linalg.solve(covariance, value))


def moved_to_origin(narrow: np.ndarray, variation: Variation) -> np.ndarray:
    """The narrow PSF [N, N] at the origin, from the one that all stars share."""
    size, along, diagonal = variation.constant
    terms = np.zeros((3, 5))
    terms[:, 0] = size + along, size - along, diagonal
    coefficients = jnp.asarray(terms.reshape(1, N_COEFFICIENTS))
    place = jnp.asarray([[[1.0, 0.0]]])
    return np.asarray(distort(jnp.asarray(narrow)[None], coefficients, place))[0, 0]
