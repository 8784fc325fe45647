"""How the PSF changes over the field: dilation and shear of the narrow PSF, growing with the distance to the centre.

As in STARRED, the transformation of a star at coordinates (X, Y) is the symmetric matrix
(1 + dx, s; s, 1 + dy) with dx, dy and s each linear in X and Y: six coefficients a frame. It is applied to second
order in these small numbers through its generators, which are products with derivative matrices along one axis each,
and needs no interpolation of the image.
"""

from functools import lru_cache

import jax.numpy as jnp
import numpy as np
from jax import Array

from lightcurver_ops.numerics.psf.operators import blur_matrix


@lru_cache(maxsize=8)
def _axis(fine: int) -> tuple[np.ndarray, np.ndarray]:
    """Derivative (fourth-order differences, zero outside) and coordinate along an axis of the fine grid."""
    weights = {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12}
    derivative = sum(weight * np.eye(fine, k=offset) for offset, weight in weights.items())
    return np.asarray(derivative), np.arange(fine) - (fine - 1) / 2


def distort(narrow: Array, coefficients: Array, coordinates: Array) -> Array:
    """The narrow PSF at each star.

    Args:
        narrow: [F, N, N]. coefficients: [F, 6], of dx in X and Y, dy in X and Y, s in X and Y.
        coordinates: [F, S, 2], X and Y, zero at the centre of the field and of order one.

    Returns:
        [F, S, N, N], each of the sum of its narrow PSF.
    """
    derivative, axis = (jnp.asarray(array, dtype=narrow.dtype) for array in _axis(narrow.shape[-1]))
    terms = jnp.einsum("fsc,ftc->fst", coordinates, coefficients.reshape(-1, 3, 2))
    dx, dy, shear = (terms[..., i, None, None] for i in range(3))

    def generate(image: Array) -> Array:
        """d/dt of image(v - t D v), for a D with this trace it loses no flux: minus the divergence form."""
        by_x = image @ derivative.T
        by_y = jnp.einsum("ab,...bc->...ac", derivative, image)
        along_x = dx * axis[None, :] + shear * axis[:, None]
        along_y = dy * axis[:, None] + shear * axis[None, :]
        return -(along_x * by_x + along_y * by_y)

    base = jnp.broadcast_to(narrow[:, None], (*coordinates.shape[:2], *narrow.shape[1:]))
    first = generate(base)
    bent = base + first + 0.5 * generate(first)
    return bent * (base.sum(axis=(2, 3)) / bent.sum(axis=(2, 3)))[..., None, None]


def full_psfs_at(narrow_psf: np.ndarray, coefficients: np.ndarray, coordinates: np.ndarray) -> np.ndarray:
    """The full PSF at each star, for `photometry.fit_star_fluxes`, from `PsfFits.narrow_psf` and `.distortion`.

    Args, shapes and units as `distort`.

    Returns:
        [F, S, N, N], in the normalisation of `PsfFits.full_psf`.
    """
    blur = blur_matrix(narrow_psf.shape[-1])
    return (
        blur @ np.asarray(distort(jnp.asarray(narrow_psf), coefficients, jnp.asarray(coordinates))) @ blur.T
    )
