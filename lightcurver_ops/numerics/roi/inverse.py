"""The inverse of a large symmetric positive definite matrix."""

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from lightcurver_ops.numerics.roi.normal import mirror_lower

Array = NDArray[np.float64]

LARGEST = 8192
"""Of what LAPACK gets as a whole: OpenBLAS's threaded dpotrf (0.3.30) ends the process by a fault at 16 391."""


def inverse_of(matrix: Array) -> Array:
    """The inverse [G, G] of a symmetric positive definite matrix [G, G], which is used up.

    A matrix larger than LARGEST is halved: its inverse follows from those of a block and of its Schur complement
    (Golub & Van Loan 2013, Matrix Computations, section 3.2.11).

    Raises:
        LinAlgError: the matrix is not positive definite.
    """
    size = len(matrix)
    if size <= LARGEST:
        # LAPACK sees the transpose: the lower triangle of ours is its upper one, and no copy is made.
        factor, failed = linalg.lapack.dpotrf(np.ascontiguousarray(matrix).T, lower=0, overwrite_a=1)
        if failed:
            raise np.linalg.LinAlgError("not positive definite")
        inverse: Array = linalg.lapack.dpotri(factor, lower=0, overwrite_c=1)[0].T
        mirror_lower(inverse)
        return inverse
    first, second = slice(0, size // 2), slice(size // 2, size)
    of_first = inverse_of(matrix[first, first])
    ratio = matrix[second, first] @ of_first
    of_schur = inverse_of(matrix[second, second] - ratio @ matrix[first, second])
    mixed = of_schur @ ratio
    matrix[first, first] = of_first + ratio.T @ mixed
    matrix[second, first] = -mixed
    matrix[second, second] = of_schur
    mirror_lower(matrix)
    return matrix
