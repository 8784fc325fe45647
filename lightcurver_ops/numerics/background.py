"""Sky background of a frame and its noise."""

from dataclasses import dataclass

import numpy as np
import sep
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.sources import detect

# A smaller box holds too few pixels to tell the mode of the sky from its noise.
_SMALLEST_BOX = 16
# Wings below the detection threshold that would still lift the sky.
_WING_PIXELS = 4
# Clipping Gaussian noise at 3 sigma, again and again, ends at this part of its standard deviation (the fixed point
# of s^2 = 1 - 6 s phi(3 s) / erf(3 s / sqrt 2)): sep's figure is that much too small.
_CLIPPED_SIGMA = 0.985


@dataclass(frozen=True)
class Background:
    """A frame without its sky.

    Attributes:
        image: [ny, nx] sky-subtracted image, e-/s; non-finite where the input was.
        level: [ny, nx] the sky that was subtracted, e-/s.
        sky_level: median of `level`, e-/s per pixel.
        rms: standard deviation of the background of the whole frame, e-/s.
    """

    image: NDArray[np.float64]
    level: NDArray[np.float64]
    sky_level: float
    rms: float


def subtract_background(
    image: NDArray,
    n_boxes: int,
    mask_sources: bool,
    threshold: float,
    good: NDArray[np.bool_] | None = None,
) -> Background:
    """Subtract the sky, estimated on a grid of boxes (the method of SExtractor, Bertin & Arnouts 1996).

    Args:
        image: [ny, nx] electrons per second; non-finite pixels are ignored.
        n_boxes: boxes per side: a box is side / n_boxes pixels, and never less than 16.
        mask_sources: estimate, detect sources, mask them with their wings, and estimate again.
        threshold: detection threshold of these sources, in sigma.
        good: [ny, nx], True for pixels to use; default all.

    Returns:
        The subtracted image, the sky and the noise.

    Raises:
        BadFrame: no pixel to estimate the sky from, or a background without any noise.
    """
    image = np.asarray(image, dtype=np.float64)
    usable = np.isfinite(image)
    if good is not None:
        usable &= good
    if not usable.any():
        raise BadFrame("no usable pixel to estimate the sky background from: all are masked or not finite")
    # sep computes in single precision: without the bulk of the sky, no digit is lost to it.
    offset = float(np.median(image[usable]))
    residual = np.where(usable, image - offset, 0.0)

    sky = _estimate(residual, ~usable, n_boxes)
    if mask_sources:
        _, segments = detect(
            residual - sky.back(), threshold, segmentation=True, err=sky.globalrms, mask=~usable, minarea=5
        )
        masked = binary_dilation(segments > 0, iterations=_WING_PIXELS) | ~usable
        # A frame covered by sources leaves no sky: the clipped first estimate is then the better one.
        if masked.mean() < 0.9:
            sky = _estimate(residual, masked, n_boxes)

    level = sky.back(dtype=np.float64) + offset
    return Background(image - level, level, float(np.median(level)), _noise(sky))


def measure_rms(image: NDArray, good: NDArray[np.bool_] | None = None, n_boxes: int = 8) -> float:
    """Noise of the background of an image whose sky was subtracted already, in the image's unit.

    Args:
        image: [ny, nx]; non-finite pixels are ignored.
        good: [ny, nx], True for pixels to use; default all.
        n_boxes: boxes per side; residual structure larger than a box does not count as noise.

    Raises:
        BadFrame: as `subtract_background`.
    """
    return subtract_background(image, n_boxes, mask_sources=True, threshold=3.0, good=good).rms


def _estimate(residual: NDArray[np.float64], masked: NDArray[np.bool_], n_boxes: int) -> sep.Background:
    ny, nx = residual.shape
    height, width = (max(_SMALLEST_BOX, -(-side // n_boxes)) for side in (ny, nx))
    return sep.Background(residual, mask=masked, bw=min(width, nx), bh=min(height, ny), fw=3, fh=3)


def _noise(sky: sep.Background) -> float:
    # Where no box has any noise, sep's global figure is 1.
    if not (np.any(sky.rms() > 0) and np.isfinite(sky.globalrms)):
        raise BadFrame(
            "the background has no noise: an image of the sky has some; is the frame empty or clipped?"
        )
    return float(sky.globalrms) / _CLIPPED_SIGMA
