"""How the PSF changes over the field: dilation and shear of the narrow PSF, of second order in the star's position.

The transformation of a star at coordinates (X, Y) is the symmetric matrix (1 + dx, s; s, 1 + dy) with dx, dy and s each
a polynomial in X, Y, X^2, XY and Y^2: fifteen coefficients a frame, and the PSF of the origin is the narrow PSF itself.
(STARRED has the linear terms alone.) It is applied to second order in these small numbers through its generators, which
are products with derivative matrices along one axis each, and needs no interpolation of the image. The images that they
make of the narrow PSF are common to all stars of a frame: that of a star is a sum of ten of them.
"""

from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from lightcurver_ops.numerics.psf.operators import blur_matrix

jax.config.update("jax_enable_x64", True)

N_COEFFICIENTS = 15
SLOPE_REACH = 4.0  # pixels on either side over which a slope is taken, the size of a lens
_STENCILS = (
    (-1 / 2, 1 / 2),
    (1 / 12, -2 / 3, 2 / 3, -1 / 12),
    (-1 / 60, 3 / 20, -3 / 4, 3 / 4, -3 / 20, 1 / 60),
)


@lru_cache(maxsize=8)
def _axis(fine: int) -> tuple[np.ndarray, np.ndarray]:
    """Derivative and coordinate along an axis of the fine grid: differences of sixth order, fewer near the edges."""
    derivative = np.zeros((fine, fine))
    for row in range(1, fine - 1):
        reach = min(row, fine - 1 - row, len(_STENCILS))
        places = [row + step for step in range(-reach, reach + 1) if step]
        derivative[row, places] = _STENCILS[reach - 1]
    derivative[0, :2] = derivative[-1, -2:] = (-1, 1)
    return derivative, np.arange(fine) - (fine - 1) / 2


def field_terms(coordinates: Array) -> Array:
    """X, Y, X^2, XY, Y^2 [..., 5] of coordinates [..., 2]."""
    x, y = coordinates[..., 0], coordinates[..., 1]
    return jnp.stack([x, y, x**2, x * y, y**2], axis=-1)


def generated(narrow: Array) -> tuple[Array, Array]:
    """What dx, dy and s make of the narrow PSF to first order, and to second order as half of their products.

    d/dt of image((1 + t D)^-1 v) / det(1 + t D): the flux over the whole plane stays, that inside the stamp does not.

    Args:
        narrow: [F, N, N].

    Returns:
        [F, 3, N, N], and [F, 6, N, N] for dx dx, dy dy, s s, dx dy, dx s, dy s.
    """
    derivative, axis = (jnp.asarray(array, dtype=narrow.dtype) for array in _axis(narrow.shape[-1]))
    x, y = axis[None, :], axis[:, None]

    def generate(image: Array) -> tuple[Array, Array, Array]:
        by_x = image @ derivative.T
        by_y = jnp.einsum("ab,...bc->...ac", derivative, image)
        return -(image + x * by_x), -(image + y * by_y), -(y * by_x + x * by_y)

    first = jnp.stack(generate(narrow), axis=1)
    of_x, of_y, of_s = (jnp.moveaxis(images, 1, 0) for images in generate(first))
    second = (of_x[0], of_y[1], of_s[2], of_x[1] + of_y[0], of_x[2] + of_s[0], of_y[2] + of_s[1])
    return first, 0.5 * jnp.stack(second, axis=1)


def distort(narrow: Array, coefficients: Array, coordinates: Array) -> Array:
    """The narrow PSF at each star.

    Args:
        narrow: [F, N, N]. coefficients: [F, 15], of dx, dy and s, each in X, Y, X^2, XY, Y^2.
        coordinates: [F, S, 2], X and Y, zero where the PSF is the narrow one and of order one.

    Returns:
        [F, S, N, N].
    """
    terms = jnp.einsum(
        "fst,fct->fsc", field_terms(coordinates), jnp.reshape(coefficients, (len(narrow), 3, 5))
    ).astype(narrow.dtype)
    dx, dy, s = jnp.moveaxis(terms, -1, 0)
    factors = jnp.stack([jnp.ones_like(dx), dx, dy, s, dx**2, dy**2, s**2, dx * dy, dx * s, dy * s], axis=-1)
    images = jnp.concatenate([narrow[:, None], *generated(narrow)], axis=1)
    return jnp.einsum("fst,ftij->fsij", factors, images)


def shape_offsets(coefficients: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """What the distortion changes of each star's Moffat shape (see `moffat`), [F, S, 4]; arguments as `distort`.

    Where D is small and the profile nearly round, 1 + D adds the trace to log fwhm^2, and twice its traceless part to
    the ellipticity.
    """
    terms = np.asarray(field_terms(jnp.asarray(coordinates)))
    dx, dy, s = np.moveaxis(np.einsum("fst,fct->fsc", terms, np.reshape(coefficients, (-1, 3, 5))), -1, 0)
    return np.stack([dx + dy, dx - dy, 2.0 * s, np.zeros_like(s)], axis=-1)


def full_psfs_at(narrow_psf: np.ndarray, coefficients: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """The full PSF at each star, for `photometry.fit_star_fluxes`, from `PsfFits.narrow_psf` and `.distortion`.

    Args, shapes and units as `distort`.

    Returns:
        [F, S, N, N], in the normalisation of `PsfFits.full_psf`.
    """
    blur = blur_matrix(narrow_psf.shape[-1])
    return (
        blur
        @ np.asarray(distort(jnp.asarray(narrow_psf), jnp.asarray(coefficients), jnp.asarray(coordinates)))
        @ blur.T
    )


def full_psf_slopes(narrow_psf: np.ndarray, coefficients: np.ndarray, half_frame: np.ndarray) -> np.ndarray:
    """What the full PSF at the origin changes by per pixel along x and y.

    Args:
        narrow_psf: [F, N, N]. coefficients: [F, 15]. half_frame: [F], pixels to a unit of the coordinates.

    Returns:
        [F, 2, N, N].
    """
    steps = SLOPE_REACH * np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    around = full_psfs_at(narrow_psf, coefficients, steps / half_frame[:, None, None])
    return (around[:, 0::2] - around[:, 1::2]) / (2 * SLOPE_REACH)
