"""From detector counts to electrons per second."""

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame


def adu_to_electrons_per_second(adu: NDArray, gain: float, exptime: float) -> NDArray[np.float64]:
    """Convert counts to a rate: `e = adu * gain / exptime`.

    Args:
        adu: [ny, nx] counts, of any numeric type; non-finite pixels stay so.
        gain: electrons per ADU.
        exptime: exposure time in seconds.

    Returns:
        [ny, nx] electrons per second, float64.

    Raises:
        BadFrame: gain or exposure time is not a positive number.
    """
    for name, value, unit in (("gain", gain, "electrons per ADU"), ("exposure time", exptime, "seconds")):
        if not (np.isfinite(value) and value > 0):
            raise BadFrame(f"the {name} is {value!r}, expected a positive number of {unit}")
    return np.asarray(adu, dtype=np.float64) * (gain / exptime)


def trim(image: NDArray, vertical: int, horizontal: int) -> NDArray:
    """Cut `vertical` rows off the bottom and the top, and `horizontal` columns off the left and the right.

    Args:
        image: [ny, nx].
        vertical: rows to remove at each end, 0 or more.
        horizontal: columns to remove at each end, 0 or more.

    Returns:
        [ny - 2 vertical, nx - 2 horizontal] view of the image: pixel (0, 0) was (horizontal, vertical) before.

    Raises:
        BadFrame: nothing would be left.
    """
    ny, nx = image.shape
    if 2 * vertical >= ny or 2 * horizontal >= nx:
        raise BadFrame(
            f"trimming {vertical} rows and {horizontal} columns at each end leaves nothing of an image of "
            f"{ny} rows and {nx} columns: reduce trim_vertical and trim_horizontal"
        )
    return image[vertical : ny - vertical, horizontal : nx - horizontal]


def saturated_pixels(adu: NDArray, saturation_adu: float | None) -> NDArray[np.bool_]:
    """Tell which pixels reached the saturation level; none where the level is unknown (None).

    Args:
        adu: [ny, nx] raw counts; the comparison only makes sense before any sky subtraction.
        saturation_adu: the lowest count that is not to be trusted, in ADU.

    Returns:
        [ny, nx], True where saturated.
    """
    if saturation_adu is None:
        return np.zeros(np.shape(adu), dtype=bool)
    return np.asarray(adu) >= saturation_adu
