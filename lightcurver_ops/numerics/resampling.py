"""A sharp image on a coarser grid."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from lightcurver_ops.numerics.psf.operators import SIGMA

Array = NDArray[np.float64]


class Grid(NamedTuple):
    """Where the pixels of a grid lie in an image.

    Attributes:
        x, y: [N, N], pixels of the image.
        scale: side of a pixel of the grid in pixels of the image.
    """

    x: Array
    y: Array
    scale: float


def resampled(image: Array, grid: Grid) -> Array:
    """The image at the resolution of the joint model, flux per pixel of the grid [N, N]; NaN beyond its edges.

    The image's own resolution is neglected against it.
    """
    smooth = ndimage.gaussian_filter(np.asarray(image, dtype=np.float64), SIGMA * grid.scale, mode="nearest")
    at = ndimage.map_coordinates(smooth, [grid.y, grid.x], order=3, mode="constant", cval=np.nan)
    return np.asarray(at * grid.scale**2, dtype=np.float64)
