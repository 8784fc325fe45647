"""Cutouts and PSFs of each frame, and the index `regions.h5` over all of them.

A frame has its own `regions/<stem>.h5` and `psfs/<stem>.h5`, so that tasks can write different frames at the same time;
`regions.h5` only links: `f["frames"][<frame>]["data"][<star>]` reads the pixels wherever the workdir lies.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np
from astropy.io.fits import Header
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.storage.atomic import locked
from lightcurver_ops.storage.hdf5 import opened_hdf5, write_hdf5

ROI = "ROI"
_CUTOUT_KINDS = ("data", "noisemap", "cosmicsmask", "wcs", "image_pixel_coordinates", "frame_shape")
_PSF_KINDS = ("narrow_psf", "full_psf", "distortion", "wing")


@dataclass(frozen=True)
class Cutout:
    """An object cut out of a frame.

    data, noisemap: [n, n] e-/s; good: [n, n], True for pixels to use; wcs: of the cutout; position: (x, y) of the
    object in the frame, 0-based; origin: (x0, y0) of the cutout's first pixel in the frame.
    """

    data: NDArray
    noisemap: NDArray
    good: NDArray[np.bool_]
    wcs: Header
    position: tuple[float, float]
    origin: tuple[int, int]


@dataclass(frozen=True)
class CutoutStack:
    """Cutouts of S objects of one frame: data, noisemap, good [S, n, n]; position, origin [S, 2] (x, y); frame_shape
    (ny, nx)."""

    objects: tuple[str, ...]
    data: NDArray[np.float64]
    noisemap: NDArray[np.float64]
    good: NDArray[np.bool_]
    wcs: tuple[Header, ...]
    position: NDArray[np.float64]
    origin: NDArray[np.int64]
    frame_shape: tuple[int, int]


@dataclass(frozen=True)
class FramePsf:
    """PSF of a frame at the ROI, on the grid of subsampled pixels.

    narrow, full: [N, N], the sum of full is the fraction of the flux of a star inside; distortion: how the PSF changes
    over the field (see numerics.psf.distortion), all 0 where it does not; wing: how it goes on beyond the grid (see
    numerics.psf.wings), all 0 where that is not known.
    """

    narrow: NDArray[np.float64]
    full: NDArray[np.float64]
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(15))
    wing: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))


def regions_path(workdir: str | Path, stem: str) -> Path:
    """The file of the cutouts of a frame."""
    return Path(workdir) / "regions" / f"{stem}.h5"


def psf_path(workdir: str | Path, stem: str) -> Path:
    """The file of the PSFs of a frame."""
    return Path(workdir) / "psfs" / f"{stem}.h5"


def write_regions(path: str | Path, cutouts: Mapping[str, Cutout], frame_shape: tuple[int, int]) -> None:
    """Write all cutouts of one frame, in place of those it had.

    Args:
        path: as `regions_path`.
        cutouts: by object: the identifier of a star, "ROI", or the name of a control star cut like the ROI.
        frame_shape: (ny, nx) of the frame.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """

    def fill(file: h5py.File) -> None:
        groups = {kind: file.create_group(kind) for kind in _CUTOUT_KINDS}
        groups["cosmicsmask"].attrs["meaning"] = (
            "1: do not use this pixel (cosmic, bad line, saturated, not finite)"
        )
        for name, cutout in cutouts.items():
            groups["data"][name] = np.asarray(cutout.data, dtype=np.float32)
            groups["data"][name].attrs["origin"] = cutout.origin
            groups["noisemap"][name] = np.asarray(cutout.noisemap, dtype=np.float32)
            groups["cosmicsmask"][name] = ~np.asarray(cutout.good, dtype=bool)
            groups["wcs"][name] = cutout.wcs.tostring(sep="\n")
            groups["image_pixel_coordinates"][name] = np.asarray(cutout.position, dtype=np.float64)
            groups["frame_shape"][name] = np.asarray(frame_shape, dtype=np.int64)

    write_hdf5(path, fill)


def objects_in(path: str | Path) -> tuple[str, ...]:
    """The objects that a frame has cutouts of, sorted; BadFrame where the file is missing or damaged."""
    with opened_hdf5(path, "stamp_extraction") as file:
        return tuple(sorted(file["data"]))


def read_regions(path: str | Path, objects: Sequence[str]) -> CutoutStack:
    """Read cutouts of one frame.

    Args:
        path: as `regions_path`.
        objects: their names, at least one; all cutouts of one size.

    Raises:
        BadFrame: the file is missing or damaged, or has no cutout of one of the objects.
    """
    with opened_hdf5(path, "stamp_extraction") as file:
        missing = [name for name in objects if name not in file["data"]]
        if missing or not objects:
            raise BadFrame(
                f"{path}: no cutout of {', '.join(missing) or 'any object (none was asked for)'}; it has "
                f"{', '.join(file['data'])}: run stamp_extraction for the present selection of stars"
            )
        stacked = {
            kind: np.stack([file[kind][name][()] for name in objects])
            for kind in ("data", "noisemap", "cosmicsmask", "image_pixel_coordinates")
        }
        return CutoutStack(
            objects=tuple(objects),
            data=stacked["data"].astype(np.float64),
            noisemap=stacked["noisemap"].astype(np.float64),
            good=~stacked["cosmicsmask"].astype(bool),
            wcs=tuple(Header.fromstring(file["wcs"][name].asstr()[()], sep="\n") for name in objects),
            position=stacked["image_pixel_coordinates"],
            origin=np.stack([file["data"][name].attrs["origin"] for name in objects]).astype(np.int64),
            frame_shape=(int(file["frame_shape"][objects[0]][0]), int(file["frame_shape"][objects[0]][1])),
        )


def write_psf(path: str | Path, psf_ref: str, psf: FramePsf) -> None:
    """Add a PSF to those of a frame, or replace the one of the same reference.

    Args:
        path: as `psf_path`.
        psf_ref: what identifies it among the PSFs of this frame (selection of stars, settings).
        psf: the PSF.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    with locked(Path(path).parent):
        kept = {}
        if Path(path).exists():
            with opened_hdf5(path, "psf_modeling") as old:
                kept = {ref: _stored_psf(old, ref) for ref in old[_PSF_KINDS[0]]}
        kept[psf_ref] = psf

        def fill(file: h5py.File) -> None:
            for ref, one in kept.items():
                for kind, pixels in zip(
                    _PSF_KINDS, (one.narrow, one.full, one.distortion, one.wing), strict=True
                ):
                    file[f"{kind}/{ref}"] = np.asarray(pixels, dtype=np.float64)

        write_hdf5(path, fill)


def read_psf(path: str | Path, psf_ref: str) -> FramePsf:
    """Read a PSF of a frame; BadFrame where the file or this PSF is missing or damaged."""
    with opened_hdf5(path, "psf_modeling") as file:
        return _stored_psf(file, psf_ref)


def _stored_psf(file: h5py.File, psf_ref: str) -> FramePsf:
    # Earlier versions kept no wings.
    narrow, full, distortion, wing = (
        file[kind][psf_ref][()] if kind in file else np.zeros(3) for kind in _PSF_KINDS
    )
    if distortion.size == 6:  # of earlier versions: the terms in X and Y alone
        distortion = np.pad(distortion.reshape(3, 2), ((0, 0), (0, 3))).ravel()
    return FramePsf(narrow, full, distortion, wing)


def rebuild_index(workdir: str | Path, frames: Iterable[str]) -> Path:
    """Write `<workdir>/regions.h5`: links to the cutouts and PSFs of the frames.

    Args:
        workdir: working directory of the lens.
        frames: stems of the frames; those without cutouts are left out.

    Returns:
        The index.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    workdir = Path(workdir)
    index = workdir / "regions.h5"

    def link(group: h5py.Group, kinds: Sequence[str], target: Path) -> None:
        if target.is_file():
            for kind in kinds:
                # Relative to the index: a workdir can be moved, or mounted elsewhere.
                group[kind] = h5py.ExternalLink(os.path.relpath(target, workdir), f"/{kind}")

    def fill(file: h5py.File) -> None:
        root = file.create_group("frames")
        for stem in frames:
            if regions_path(workdir, stem).is_file():
                group = root.create_group(stem)
                link(group, _CUTOUT_KINDS, regions_path(workdir, stem))
                link(group, _PSF_KINDS, psf_path(workdir, stem))

    write_hdf5(index, fill)
    return index
