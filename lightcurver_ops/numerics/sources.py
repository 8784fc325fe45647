"""Detection of sources in a sky-subtracted frame."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import sep
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame

_MAX_SUB_OBJECTS = 1 << 16


@dataclass(frozen=True)
class Sources:
    """Sources of one frame, brightest first; every array is [n].

    x, y: barycentre (pixels, 0-based); flux, peak: isophotal sum and highest pixel (e-/s); a, b: semi-axes, the
    second moments of the light (pixels); theta: position angle of the major axis from +x (radians); fwhm: pixels;
    ellipticity: 1 - b/a; npix: pixels above the threshold; flag: the bits of SExtractor (1: blended neighbours,
    2: deblended, 8: touches the border of the image...).
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    flux: NDArray[np.float64]
    peak: NDArray[np.float64]
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    theta: NDArray[np.float64]
    fwhm: NDArray[np.float64]
    ellipticity: NDArray[np.float64]
    npix: NDArray[np.int64]
    flag: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.x)


def detect(data: NDArray[np.float64], threshold: float, *, segmentation: bool = False, **options: Any) -> Any:
    """`sep.extract` that enlarges sep's internal buffers where a crowded frame overflows them.

    Args:
        data: [ny, nx] float64, C-contiguous, finite.
        threshold: in sigma where `var` or `err` is among the options.
        segmentation: also return the map of the sources' pixels ([ny, nx], 0 = none).
        options: passed on to `sep.extract`.

    Returns:
        sep's table of objects, or (objects, map).

    Raises:
        BadFrame: more sources overlap than can be told apart, at any buffer size.
    """
    pixel_buffer, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    largest_buffer = max(pixel_buffer, 2 * data.size)
    try:
        while True:
            try:
                return sep.extract(data, threshold, segmentation_map=segmentation, **options)
            except Exception as error:  # sep raises plain Exception, told apart by its text only
                message = str(error)
                if "pixel buffer" in message and sep.get_extract_pixstack() < largest_buffer:
                    sep.set_extract_pixstack(min(4 * sep.get_extract_pixstack(), largest_buffer))
                elif "deblending" in message and sep.get_sub_object_limit() < _MAX_SUB_OBJECTS:
                    sep.set_sub_object_limit(4 * sep.get_sub_object_limit())
                else:
                    raise BadFrame(
                        f"source detection at {threshold:g} sigma failed ({message}): raise the detection threshold"
                    ) from error
    finally:
        # The buffers are settings of the process: one crowded frame must not enlarge them for all others.
        sep.set_extract_pixstack(pixel_buffer)
        sep.set_sub_object_limit(sub_objects)


def extract_sources(
    image_e_per_s: NDArray,
    rms: float,
    exptime: float,
    threshold: float,
    min_area: int,
    good: NDArray[np.bool_] | None = None,
) -> Sources:
    """Find sources, and drop the most elongated ones (trails, blends, cosmics along a row).

    Detection on electrons with the variance `(rms*t)^2 + |d*t|` per pixel; `FWHM = 2 sqrt(ln 2 (a^2 + b^2))`, exact
    for a Gaussian; sources with an elongation a/b above the median plus 3 standard deviations are dropped.

    Args:
        image_e_per_s: [ny, nx] sky-subtracted image d, electrons per second; non-finite pixels are ignored.
        rms: background noise, electrons per second.
        exptime: exposure time t, seconds.
        threshold: detection threshold in sigma per (filtered) pixel.
        min_area: smallest number of connected pixels.
        good: [ny, nx], True for pixels to use; default all.

    Returns:
        The sources, brightest first; possibly none.

    Raises:
        BadFrame: the noise or the exposure time is not positive, or the frame is too crowded for the threshold.
    """
    if not (np.isfinite(rms) and rms > 0 and exptime > 0):
        raise BadFrame(
            f"background noise {rms!r} e-/s and exposure time {exptime!r} s: both must be positive"
        )
    usable = np.isfinite(image_e_per_s)
    if good is not None:
        usable &= good
    electrons = np.where(usable, image_e_per_s, 0.0).astype(np.float64, order="C") * exptime
    variance = (rms * exptime) ** 2 + np.abs(electrons)
    found = detect(electrons, threshold, var=variance, mask=~usable, minarea=min_area)

    found = found[np.isfinite(found["flux"]) & (found["flux"] > 0) & (found["a"] > 0) & (found["b"] > 0)]
    if len(found):
        elongation = found["a"] / found["b"]
        found = found[elongation <= np.median(elongation) + 3 * np.std(elongation)]
    found = found[np.argsort(-found["flux"], kind="stable")]

    columns = {name: found[name].astype(np.float64) for name in ("x", "y", "a", "b", "theta")}
    return Sources(
        **columns,
        flux=found["flux"] / exptime,
        peak=found["peak"] / exptime,
        fwhm=2 * np.sqrt(np.log(2) * (columns["a"] ** 2 + columns["b"] ** 2)),
        ellipticity=1 - columns["b"] / columns["a"],
        npix=found["npix"].astype(np.int64),
        flag=found["flag"].astype(np.int64),
    )
