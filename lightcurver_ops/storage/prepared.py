"""The calibrated cutouts of the ROI: all that the joint model needs, in one HDF5 file."""

from dataclasses import dataclass, fields, replace
from pathlib import Path

import h5py
import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.cutouts import wcs_of_cutout
from lightcurver_ops.storage.hdf5 import opened_hdf5, write_hdf5


@dataclass(frozen=True)
class PreparedCutouts:
    """Calibrated cutouts of the ROI in E frames of one filter.

    frame_id: [E]; data, noisemap: [E, n, n] e-/s divided by the frame's normalization coefficient, noise of masked
    pixels times 1000; psf: [E, N, N] narrow PSF, N = n_psf * subsampling_factor; full_psf: [E, N, N] as stars look;
    seeing: [E] arcsec; sky_level_electron_per_second: [E]; mjd: [E]; global_zeropoint, global_zeropoint_scatter: mag,
    NaN where no reference star has a catalogue magnitude; coefficient: [E] what data were divided by;
    relative_normalization_error: [E]; roi_offset: [E, 2] (x, y) of the ROI from the centre of its cutout, px; wcs: E
    headers; pixel_scale: [E] arcsec; subsampling_factor; angle_to_north: [E] degrees; psf_slope: [E, 2, N, N] what
    full_psf changes by per px along x and y, None (and not in the file) where the PSF is one over the field;
    aperture_radius: [E] px, None where the reference stars were measured by the PSF; roi_offset_error: [E] px, of
    roi_offset where the frame's stars tell it, None where the plate solution does.
    """

    frame_id: NDArray[np.int64]
    data: NDArray[np.float64]
    noisemap: NDArray[np.float64]
    psf: NDArray[np.float64]
    full_psf: NDArray[np.float64]
    seeing: NDArray[np.float64]
    sky_level_electron_per_second: NDArray[np.float64]
    mjd: NDArray[np.float64]
    global_zeropoint: float
    global_zeropoint_scatter: float
    coefficient: NDArray[np.float64]
    relative_normalization_error: NDArray[np.float64]
    roi_offset: NDArray[np.float64]
    wcs: tuple[Header, ...]
    pixel_scale: NDArray[np.float64]
    subsampling_factor: int
    angle_to_north: NDArray[np.float64]
    psf_slope: NDArray[np.float64] | None = None
    aperture_radius: NDArray[np.float64] | None = None
    roi_offset_error: NDArray[np.float64] | None = None

    @property
    def good(self) -> NDArray[np.bool_]:
        """[E, n, n], True where a pixel is not masked: the noise of masked ones is 1000 times that of the others."""
        # Not relative to the median: most of a stamp may be masked.
        return self.noisemap < 100 * self.noisemap.min(axis=(1, 2), keepdims=True)


def central(prepared: PreparedCutouts, side: int) -> PreparedCutouts:
    """The middle of the cutouts, [E, side, side]; as they are where they are no larger.

    Args:
        prepared: cutouts of even size.
        side: even.
    """
    margin = (prepared.data.shape[1] - side) // 2
    if margin <= 0:
        return prepared
    middle = slice(margin, -margin)
    return replace(
        prepared,
        data=prepared.data[:, middle, middle],
        noisemap=prepared.noisemap[:, middle, middle],
        wcs=tuple(wcs_of_cutout(header, margin, margin) for header in prepared.wcs),
    )


# The headers are no numbers; a band without catalogue magnitudes has no zero point.
_MAY_BE_UNKNOWN = {"wcs", "global_zeropoint", "global_zeropoint_scatter"}
_OPTIONAL = {"psf_slope", "aperture_radius", "roi_offset_error"}
_SCALARS = {"global_zeropoint": float, "global_zeropoint_scatter": float, "subsampling_factor": int}


def write_prepared(path: str | Path, prepared: PreparedCutouts) -> None:
    """Write the prepared cutouts, after validating them.

    Raises:
        BadFrame: as `validate_prepared`.
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    validate_prepared(prepared, path)

    def fill(file: h5py.File) -> None:
        for field in fields(PreparedCutouts):
            value = getattr(prepared, field.name)
            if value is not None:
                file[field.name] = [one.tostring(sep="\n") for one in value] if field.name == "wcs" else value

    write_hdf5(path, fill)


def read_prepared(path: str | Path) -> PreparedCutouts:
    """Read and validate the prepared cutouts.

    Raises:
        BadFrame: the file is missing, damaged, lacks a dataset, or as `validate_prepared`.
    """
    with opened_hdf5(path, "prepare_calibrated_cutouts") as file:
        names = {field.name for field in fields(PreparedCutouts)}
        missing = [name for name in sorted(names - _OPTIONAL) if name not in file]
        if missing:
            raise BadFrame(f"{path}: lacks the datasets {', '.join(missing)}: make it again")
        values = {name: file[name][()] for name in names - {"wcs"} if name in file}
        wcs = tuple(Header.fromstring(text, sep="\n") for text in file["wcs"].asstr()[()])
    for name, kind in _SCALARS.items():
        values[name] = kind(values[name])
    prepared = PreparedCutouts(wcs=wcs, **values)
    validate_prepared(prepared, path)
    return prepared


def validate_prepared(prepared: PreparedCutouts, path: str | Path) -> None:
    """Check shapes and values, so that no fit has to.

    Raises:
        BadFrame: arrays that do not fit together, a frame twice, a value that is not finite, noise or PSF without a
            positive value.
    """
    n_epochs = len(prepared.frame_id)
    faults = []
    if n_epochs == 0:
        faults.append("it has no frame")
    for field in fields(PreparedCutouts):
        value = getattr(prepared, field.name)
        if value is None and field.name in _OPTIONAL:
            continue
        if field.name not in _SCALARS and len(value) != n_epochs:
            faults.append(f"{field.name} has {len(value)} entries for {n_epochs} frames")
        if field.name not in _MAY_BE_UNKNOWN and not np.all(np.isfinite(value)):
            faults.append(f"{field.name} has values that are not finite")
    square = prepared.data.ndim == 3 and prepared.data.shape[1] == prepared.data.shape[2]
    if not square or prepared.data.shape != prepared.noisemap.shape:
        faults.append(
            f"data {prepared.data.shape} and noisemap {prepared.noisemap.shape}, expected twice (frames, n, n)"
        )
    if prepared.psf.ndim != 3 or prepared.psf.shape[1] != prepared.psf.shape[2]:
        faults.append(f"psf {prepared.psf.shape}, expected (frames, N, N)")
    slope, shape = prepared.psf_slope, prepared.full_psf.shape
    if slope is not None and slope.shape != (n_epochs, 2, *shape[1:]):
        faults.append(f"psf_slope {slope.shape} for a full_psf {shape}, expected (frames, 2, N, N)")
    if np.any(prepared.noisemap <= 0):
        faults.append("noisemap has values of 0 or less")
    if prepared.subsampling_factor < 1:
        faults.append(f"subsampling_factor is {prepared.subsampling_factor}, expected 1 or more")
    if len(np.unique(prepared.frame_id)) != n_epochs:
        faults.append("a frame is in it more than once")
    if faults:
        raise BadFrame(f"{path}: not a set of prepared cutouts: {'; '.join(faults)}")
