"""Images of the joint model: `_high_res_model.fits`, `_background.fits`."""

import io
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS
from numpy.typing import NDArray

from lightcurver_ops.astrometry.wcs_cards import NEEDED, wcs_of_cards
from lightcurver_ops.errors import BadFrame, ConfigurationError
from lightcurver_ops.storage.atomic import write_bytes

HIGH_RES_MODEL = "_high_res_model.fits"
BACKGROUND = "_background.fits"


def subsampled_wcs(cutout_wcs: Header, subsampling: int) -> Header:
    """WCS of the grid whose pixels are 1 / subsampling of those of the cutout, with the same outer edges.

    The lower left corner of the first pixel is at 0.5 in FITS counting on both grids, hence
    `CRPIX' = (CRPIX - 0.5) * k + 0.5`; a SIP term of order p + q scales as k^(1 - p - q).

    Args:
        cutout_wcs: header of the cutout's WCS.
        subsampling: k, small pixels per pixel and axis.
    """
    wcs = WCS(cutout_wcs)
    wcs.wcs.crpix = (wcs.wcs.crpix - 0.5) * subsampling + 0.5
    if wcs.wcs.has_cd():
        wcs.wcs.cd = wcs.wcs.cd / subsampling
    else:
        wcs.wcs.cdelt = wcs.wcs.cdelt / subsampling
    header = wcs.to_header(relax=True)
    for keyword in header:
        prefix, _, order = keyword.partition("_")
        if prefix in {"A", "B", "AP", "BP"} and order[:1].isdigit():
            p, q = (int(part) for part in order.split("_"))
            header[keyword] *= float(subsampling) ** (1 - p - q)
    return header


def write_model_image(
    path: str | Path,
    image: NDArray,
    cutout_wcs: Header,
    subsampling: int,
    zeropoint: float,
    unit: str = "electron/s",
) -> None:
    """Write an image of the model with its WCS and its zero point (card ZPT: m = ZPT - 2.5 log10(flux)).

    Args:
        path: the file.
        image: [n k, n k] on the subsampled grid of the cutout.
        cutout_wcs: WCS of the cutout of n x n pixels.
        subsampling: k.
        zeropoint: mag; left out where it is not finite.
        unit: of the image.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    hdu = fits.PrimaryHDU(np.asarray(image, dtype=np.float32), subsampled_wcs(cutout_wcs, subsampling))
    hdu.header["BUNIT"] = unit
    if np.isfinite(zeropoint):
        hdu.header["ZPT"] = (float(zeropoint), "mag: m = ZPT - 2.5 log10(flux)")
    buffer = io.BytesIO()
    hdu.writeto(buffer)
    write_bytes(path, buffer.getvalue())


def read_background(path: str | Path) -> tuple[NDArray[np.float64], WCS | None]:
    """Read a background of the model, FITS or npy, and its WCS where it has one of the sky.

    Raises:
        ConfigurationError: the file is missing, holds no two-dimensional image, or its WCS is broken.
    """
    header = None
    try:
        if Path(path).suffix == ".npy":
            image = np.load(path)
        else:
            image, header = fits.getdata(path, header=True)
    except (OSError, ValueError, IndexError) as error:
        raise ConfigurationError(f"{path}: cannot be read as a FITS or npy image: {error}") from error
    if np.ndim(image) != 2 or not np.all(np.isfinite(image)):
        raise ConfigurationError(
            f"{path}: expected a two-dimensional image of finite values, got {np.shape(image)}"
        )
    wcs = None
    if header is not None and all(card in header for card in NEEDED):
        try:
            wcs = wcs_of_cards(header)
        except BadFrame as error:
            raise ConfigurationError(
                f"{path}: the WCS of its header cannot be used: {error}. Correct it, or give an image of the shape of "
                "the model"
            ) from error
    return np.asarray(image, dtype=np.float64), wcs if wcs is not None and wcs.has_celestial else None
