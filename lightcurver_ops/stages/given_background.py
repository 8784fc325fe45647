"""The background that the configuration gives the joint model: its own grid, or a sharper image of the lens."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError

Array = NDArray[np.float64]


def starting_background_path(config: LensConfig) -> Path | None:
    """The file of the starting background, if the configuration names one."""
    path = config.roi_model.starting_background
    return None if path is None else config.workdir / path


def given_background(config: LensConfig, prepared: Any) -> tuple[Array | None, bool]:
    """The starting background [N, N], or None, and whether its brightness is to be fitted.

    An image of the shape of the model's is taken as it is; another one is laid on the model's grid by its WCS, at the
    model's resolution, and in whatever unit: its shape counts.

    Args:
        config, prepared: of a lens, its calibrated cutouts.

    Raises:
        ConfigurationError: it has neither the shape of the model nor a WCS, does not cover the model or is coarser, or
            its brightness is not to be fitted.
    """
    path = starting_background_path(config)
    if path is None:
        return None, False
    from lightcurver_ops.numerics.resampling import Grid, resampled
    from lightcurver_ops.storage.frames import centred_wcs, wcs_of
    from lightcurver_ops.storage.images import read_background, subsampled_wcs

    image, wcs = read_background(path)
    k = prepared.subsampling_factor
    side = prepared.data.shape[1] * k
    if image.shape == (side, side):
        return image, False
    named = f"roi_model.starting_background = {path}"
    if wcs is None:
        raise ConfigurationError(
            f"{named}: its shape is {image.shape}, expected ({side}, {side}): stamp_size_ROI times subsampling_factor, "
            "or a FITS image with a WCS"
        )
    if not config.roi_model.further_optimize_background or config.roi_model.solver != "lcops":
        raise ConfigurationError(
            f"{named}: the brightness of an image with a WCS is fitted: that needs further_optimize_background: true "
            "and solver: lcops"
        )
    from astropy.wcs.utils import proj_plane_pixel_scales

    centred = centred_wcs(prepared.wcs[0], config.roi.ra, config.roi.dec, prepared.data.shape[1])
    small = wcs_of(subsampled_wcs(centred, k))
    ours, its = (float(np.mean(proj_plane_pixel_scales(one.celestial))) for one in (small, wcs))
    if its > ours:
        raise ConfigurationError(
            f"{named}: its pixels of {3600 * its:.3g} arcsec are larger than the model's of {3600 * ours:.3g}"
        )
    y, x = np.mgrid[:side, :side]
    at = wcs.celestial.world_to_pixel_values(*small.celestial.pixel_to_world_values(x, y))
    laid = resampled(image, Grid(np.asarray(at[0]), np.asarray(at[1]), ours / its))
    if not np.all(np.isfinite(laid)):
        raise ConfigurationError(f"{named}: it does not cover the region of interest")
    if not np.any(laid):
        raise ConfigurationError(f"{named}: there is nothing in the region of interest")
    return laid, True
