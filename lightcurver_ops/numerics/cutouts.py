"""Cutouts at whole pixels: nothing is ever resampled."""

from typing import Any

import numpy as np
from astropy.io.fits import Header
from astropy.wcs import WCS
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame


def cutout(
    image: NDArray, x: float, y: float, size: int, fill: float | bool = np.nan
) -> tuple[NDArray, tuple[int, int]]:
    """Cut the square of whole pixels whose centre is nearest to a position.

    Args:
        image: [ny, nx]; integers become floats (they have no NaN) unless `fill` is of the image's own type.
        x, y: position in the image, pixels, 0-based.
        size: side n of the cutout, pixels, odd or even.
        fill: what pixels outside of the image become: NaN for data and noise, False for a mask of good pixels.

    Returns:
        The copied [n, n] pixels, and (x0, y0), the position of their first pixel in the image: the object is at
        (x - x0, y - y0) of the cutout, within half a pixel of ((n-1)/2, (n-1)/2).

    Raises:
        BadFrame: the position is not a finite number.
    """
    if not (np.isfinite(x) and np.isfinite(y)):
        raise BadFrame(
            f"no cutout at the position ({x}, {y}): the WCS of the frame does not reach this object"
        )
    ny, nx = image.shape
    x0, y0 = (int(np.floor(centre - (size - 1) / 2 + 0.5)) for centre in (x, y))
    stamp = np.full((size, size), fill, dtype=np.result_type(image.dtype, np.min_scalar_type(fill)))
    left, right = np.clip([x0, x0 + size], 0, nx)
    bottom, top = np.clip([y0, y0 + size], 0, ny)
    stamp[bottom - y0 : top - y0, left - x0 : right - x0] = image[bottom:top, left:right]
    return stamp, (x0, y0)


def wcs_of_cutout(wcs: WCS | Header, x0: int, y0: int) -> Header:
    """Header cards of the WCS of a cutout whose first pixel is (x0, y0) of the frame (SIP and PV included).

    Args:
        wcs: the frame's celestial WCS, or its header.
        x0, y0: as returned by `cutout`; may be negative.
    """
    solved: Any = WCS(wcs) if isinstance(wcs, Header) else wcs
    header = solved.to_header(relax=True)
    # Where CRPIX is 0, its default, to_header writes no card.
    for axis, shift in ((1, x0), (2, y0)):
        header[f"CRPIX{axis}"] = header.get(f"CRPIX{axis}", 0.0) - shift
    return header
