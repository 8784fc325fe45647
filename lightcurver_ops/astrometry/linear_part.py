"""A WCS as a plate model without distortion, on pixels from which the distortion has been taken."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, Sip
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.astrometry.geometry import frame_centre, pixel_jacobian
from lightcurver_ops.astrometry.tangent import TanModel, to_plane

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LinearPart:
    """What a WCS does, in two steps.

    Args:
        model: the second step: TAN, linear.
        pixels: (N, 2) 0-based positions after the first step, which takes the distortion away.
        is_tan: the WCS is TAN or TAN-SIP itself, so that a better model can take the place of this one in it;
            other projections and distortions (TPV, ZPN) are followed, but never changed.
    """

    model: TanModel
    pixels: FloatArray
    is_tan: bool


def linear_part(wcs: WCS, shape: tuple[int, int], x: ArrayLike, y: ArrayLike) -> LinearPart:
    """Split a WCS, for the (N,) positions x, y (0-based pixels) of a frame of (ny, nx)."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if is_tan(wcs):
        model = TanModel(
            np.array(wcs.wcs.crpix) - 1.0, np.array(wcs.wcs.crval), np.array(wcs.pixel_scale_matrix)
        )
        return LinearPart(model, np.column_stack(undistorted(wcs, x, y)), True)
    ra0, dec0 = frame_centre(wcs, shape)
    matrix = pixel_jacobian(wcs, shape)
    model = TanModel(np.array([(shape[1] - 1) / 2, (shape[0] - 1) / 2]), np.array([ra0, dec0]), matrix)
    if not len(x):
        return LinearPart(model, np.empty((0, 2)), False)
    ra, dec = wcs.all_pix2world(x, y, 0)
    plane = np.stack(to_plane(ra, dec, ra0, dec0))
    return LinearPart(model, (np.linalg.inv(matrix) @ plane).T + model.crpix, False)


def is_tan(wcs: WCS) -> bool:
    """Whether a WCS is TAN or TAN-SIP, right ascension first, with nothing else to it."""
    types = [ctype.removesuffix("-SIP") for ctype in wcs.wcs.ctype]
    tables = wcs.cpdis1 is not None or wcs.cpdis2 is not None or wcs.det2im1 is not None
    tilted = np.isfinite(wcs.wcs.lonpole) and wcs.wcs.lonpole != 180.0
    return types == ["RA---TAN", "DEC--TAN"] and not tables and not tilted and not wcs.wcs.get_pv()


def undistorted(wcs: WCS, x: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    """0-based pixels after the SIP polynomial, as a camera without distortion would have measured them."""
    if wcs.sip is None or not len(x):
        return x, y
    # With origin 0 astropy's answer is a pixel off: it subtracts CRPIX, which counts from 1, from 0-based pixels.
    u, v = wcs.sip_pix2foc(x + 1.0, y + 1.0, 1)
    return u + wcs.wcs.crpix[0] - 1.0, v + wcs.wcs.crpix[1] - 1.0


def header_of(model: TanModel, sip: Sip | None = None) -> fits.Header:
    """The cards of a plate model and of a distortion polynomial around the same reference pixel (SIP convention:
    Shupe et al. 2005, ASPC 347, 491)."""
    header = model.to_header()
    if sip is None:
        return header
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    for name in ("A", "B", "AP", "BP"):
        matrix = getattr(sip, name.lower())
        if matrix is None:
            continue
        header[f"{name}_ORDER"] = len(matrix) - 1
        for i, j in zip(*np.nonzero(matrix), strict=True):
            header[f"{name}_{i}_{j}"] = float(matrix[i, j])
    return header
