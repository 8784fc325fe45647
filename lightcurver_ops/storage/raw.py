"""Raw frames, as the telescope left them. They are only ever read."""

import errno
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from numpy.typing import NDArray

from lightcurver_ops.config.sections import MAX_PIXELS
from lightcurver_ops.errors import (
    BadFrame,
    ConfigurationError,
    FrameUnavailable,
    LightcurverError,
    TemporaryFailure,
)
from lightcurver_ops.storage.fits_limits import refuse_endless, refuse_what_is_too_large, unpacked
from lightcurver_ops.storage.object_store import ObjectStore, is_object

# Beyond this part of saturated pixels, nothing in the frame can be measured (twilight, dome light).
_SATURATED_PART = 0.5
_PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH}
_PASSING |= {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN}


@dataclass(frozen=True)
class RawImage:
    """A raw frame: data [ny, nx] in the file's unit (ADU), float64, NaN where blank; header merged from its HDUs;
    sha256 of the bytes of its file."""

    data: NDArray[np.float64]
    header: Header
    sha256: str


def read_raw(
    path: str | Path,
    *,
    hdu_data: int = 0,
    hdus_header: Sequence[int] = (0,),
    saturation_adu: float | None = None,
    max_pixels: int = MAX_PIXELS,
    store: ObjectStore | None = None,
    inside: Sequence[str | Path] = (),
) -> RawImage:
    """Read a raw frame: FITS, plain or packed by gzip, bzip2, xz, zip or fpack, local or remote.

    BZERO, BSCALE and BLANK are applied. An fpack'ed file keeps the image and the header that were in HDU 0 in HDU 1:
    asking for 0 finds both. Planes of length 1 beyond the second axis are dropped.

    Args:
        path: local path, or a URL that fsspec knows (`s3://...`; S3 needs the package s3fs).
        hdu_data: number of the HDU of the image.
        hdus_header: numbers of the HDUs whose headers are merged, in this order: the later ones win.
        saturation_adu: saturation level; a frame of which more than half is saturated is refused.
        max_pixels: a larger image is refused before anything is allocated for it.
        store: of an s3:// URL, with the cache through which it is read; None: Amazon's, without a cache.
        inside: directories in one of which a local file must lie when its links are followed; none: anywhere. Who may
            write into a raw directory must not have this program read what they may not.

    Raises:
        FrameUnavailable: this user may not read it.
        BadFrame: missing, unreadable, outside, empty, truncated, not FITS, no such HDU, no image in it, not 2-D, too
            large, all NaN, constant, or saturated.
        TemporaryFailure: the disk or the network failed.
        ConfigurationError: the package for this kind of URL is missing.
    """
    _refuse_outside(path, inside)
    stored = _read_bytes(path, store)
    content = unpacked(stored, path, max_pixels)
    if not content:
        raise BadFrame(
            f"{path}: the file is empty (0 bytes), expected a FITS image: copy it again from the telescope"
        )
    if not content.startswith(b"SIMPLE  ="):
        raise BadFrame(f"{path}: not a FITS file: it starts with {content[:9]!r}, expected b'SIMPLE  ='")
    refuse_endless(content, path)
    refuse_what_is_too_large(io.BytesIO(content), path, max_pixels)
    try:
        # Headers of telescopes bend the standard in harmless ways; what matters is checked below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # uint=False: with astropy's unsigned integers BLANK would be lost.
            with fits.open(io.BytesIO(content), memmap=False, uint=False) as hdus:
                header = _merged_header(hdus, hdus_header, path)
                data = np.array(_image_hdu(hdus, hdu_data, path).data, dtype=np.float64)
    except (LightcurverError, MemoryError):
        raise
    except Exception as error:  # whatever the library makes of a damaged file: it is this file's
        raise BadFrame(
            f"{path}: truncated or corrupt: {len(content)} bytes do not hold the image that its header announces "
            f"({error}); copy it again from the telescope"
        ) from error
    return RawImage(
        _checked(data, path, hdu_data, saturation_adu), header, hashlib.sha256(stored).hexdigest()
    )


def read_raw_header(
    path: str | Path,
    *,
    hdus_header: Sequence[int] = (0,),
    max_pixels: int = MAX_PIXELS,
    store: ObjectStore | None = None,
    inside: Sequence[str | Path] = (),
) -> Header:
    """The header of a raw frame, merged from its HDUs, without reading its pixels where the file is not compressed.

    Args:
        path, hdus_header, max_pixels, store, inside: as `read_raw`.

    Raises:
        BadFrame: missing, unreadable, outside, not FITS, no such HDU.
        TemporaryFailure: the disk or the network failed.
    """
    _refuse_outside(path, inside)
    try:
        with _opened(path, store) as stored:
            file, start = stored, stored.read(9)
            stored.seek(0)
            if start != b"SIMPLE  =":
                file = io.BytesIO(unpacked(stored.read(), path, max_pixels))
                start = file.read(9)
            if start != b"SIMPLE  =":
                raise BadFrame(f"{path}: not a FITS file: it starts with {start!r}, expected b'SIMPLE  ='")
            refuse_what_is_too_large(file, path, max_pixels, max(hdus_header, default=0) + 1)
            file.seek(0)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                # memmap=False: the file object may be remote. HDUs are read as they are asked for.
                with fits.open(file, memmap=False, lazy_load_hdus=True) as hdus:
                    return _merged_header(hdus, hdus_header, path)
    except (LightcurverError, MemoryError):
        raise
    except OSError as error:
        # astropy's word on the content has no number, the storage's on itself has one
        if error.errno is not None or "FITS" not in str(error):
            raise _not_read(error, path) from error
        raise _no_header(error, path) from error
    except Exception as error:  # as in `read_raw`
        raise _no_header(error, path) from error


def _no_header(error: Exception, path: str | Path) -> BadFrame:
    return BadFrame(f"{path}: its header cannot be read ({error}); copy it again from the telescope")


def content_hash(data: NDArray) -> str:
    """Hash of the pixel values, the same for one exposure under any name, compression or integer encoding.

    Args:
        data: any numeric array.

    Returns:
        64 hexadecimal digits.
    """
    # + 0.0 turns -0 into 0, and all NaN become the same bits.
    values = np.ascontiguousarray(data, dtype="<f8") + 0.0
    values[np.isnan(values)] = np.nan
    digest = hashlib.sha256(repr(values.shape).encode())
    digest.update(values.tobytes())
    return digest.hexdigest()


def file_hash(path: str | Path, store: ObjectStore | None = None) -> str:
    """SHA-256 of the bytes of a file, local or remote; errors as `read_raw`."""
    return hashlib.sha256(_read_bytes(path, store)).hexdigest()


def _refuse_outside(path: str | Path, inside: Sequence[str | Path]) -> None:
    local = [Path(one) for one in inside if "://" not in str(one)]
    if not inside or "://" in str(path):
        return
    try:
        real = Path(path).resolve(strict=True)
    except (OSError, RuntimeError):  # not there, or links that go round: who opens it says so
        return
    if not any(real.is_relative_to(one.resolve()) for one in local):
        raise BadFrame(
            f"{path}: is a link to a file outside of raw.raw_dirs, which is not followed; add the directory of that "
            "file to raw.raw_dirs if it is meant"
        )


def _read_bytes(path: str | Path, store: ObjectStore | None) -> bytes:
    if store is not None and store.cache is not None and is_object(path):
        return store.fetched(str(path))
    try:
        with _opened(path, store) as file:
            return file.read()
    except OSError as error:
        raise _not_read(error, path) from error


def _not_read(error: OSError, path: str | Path) -> BadFrame | TemporaryFailure:
    """What a failure to read a file means for the frame."""
    if isinstance(error, FileNotFoundError):
        return BadFrame(f"{path}: does not exist (any more)")
    if isinstance(error, PermissionError):
        # Rights change neither size nor time of a file: nothing else would tell that it is worth another try.
        return FrameUnavailable(
            f"{path}: cannot be read: permission denied; give this user the right to read it"
        )
    if isinstance(error, IsADirectoryError):
        return BadFrame(f"{path}: is a directory, expected a FITS file")
    if "://" in str(path) or error.errno in _PASSING:
        return TemporaryFailure(f"{path}: could not be read: {error}; try again")
    return BadFrame(f"{path}: cannot be read: {error}")


def _opened(path: str | Path, store: ObjectStore | None) -> Any:
    if "://" not in str(path):
        return Path(path).open("rb")
    if is_object(path):
        return (store or ObjectStore()).opened(str(path))
    import fsspec

    try:
        return fsspec.open(str(path), "rb").open()
    except ImportError as error:
        raise ConfigurationError(
            f"{path}: reading this kind of URL needs another package: {error}"
        ) from error
    except ValueError as error:
        raise ConfigurationError(f"{path}: not a URL that can be read: {error}") from error


def _merged_header(hdus: fits.HDUList, numbers: Sequence[int], path: str | Path) -> Header:
    if list(numbers) == [0] and _is_packed(hdus):
        numbers = (0, 1)
    headers = [_hdu(hdus, number, "hdus_header", path).header.copy() for number in numbers]
    merged = headers[0] if headers else Header()
    for header in headers[1:]:
        merged.update(header)
    return merged


def _is_packed(hdus: fits.HDUList) -> bool:
    """Whether the first of two HDUs is but the shell that fpack puts before the image."""
    if hdus[0].header.get("NAXIS") != 0:
        return False
    try:
        if not isinstance(hdus[1], fits.CompImageHDU):
            return False
    except Exception:  # damaged, or not there: who asks for it hears so
        return False
    try:
        hdus[2]
    except IndexError:
        return True
    return False


def _hdu(hdus: fits.HDUList, number: int, key: str, path: str | Path) -> Any:
    try:
        return hdus[number]
    except IndexError:
        raise BadFrame(
            f"{path}: has no HDU {number}, as {key} asks for; it holds {_contents(hdus)}"
        ) from None


def _image_hdu(hdus: fits.HDUList, number: int, path: str | Path) -> Any:
    hdu = _hdu(hdus, number, "hdu_data", path)
    if number == 0 and _is_packed(hdus):
        hdu = hdus[1]
    if not hdu.is_image or hdu.header.get("NAXIS", 0) == 0:
        raise BadFrame(
            f"{path}: no image in HDU {number}; it holds {_contents(hdus)}: set hdu_data to the number of the image"
        )
    return hdu


def _contents(hdus: fits.HDUList) -> str:
    kinds = []
    for number, hdu in enumerate(hdus):
        axes = [str(hdu.header.get(f"NAXIS{axis}")) for axis in range(1, hdu.header.get("NAXIS", 0) + 1)]
        kind = "an image of " + " x ".join(axes) if hdu.is_image and axes else "no image"
        kinds.append(f"{number}: {kind}")
    return "; ".join(kinds)


def _checked(
    data: NDArray[np.float64], path: str | Path, hdu_data: int, saturation_adu: float | None
) -> NDArray[np.float64]:
    shape = data.shape
    while data.ndim > 2 and data.shape[0] == 1:
        data = data[0]
    if data.ndim != 2:
        raise BadFrame(f"{path}: the image in HDU {hdu_data} has the shape {shape}, expected two axes")
    finite = data[np.isfinite(data)]
    if not finite.size:
        raise BadFrame(f"{path}: all {data.size} pixels are NaN or blank, expected an image")
    low, high = float(finite.min()), float(finite.max())
    if saturation_adu is not None and low >= saturation_adu:
        raise BadFrame(
            f"{path}: every pixel is saturated (at or above {saturation_adu:g} ADU), expected an image"
        )
    if low == high:
        raise BadFrame(
            f"{path}: all pixels have the same value {low:g}: no exposure (shutter or camera), expected an image"
        )
    if saturation_adu is not None:
        part = float(np.mean(finite >= saturation_adu))
        if part > _SATURATED_PART:
            raise BadFrame(
                f"{path}: saturated: {100 * part:.0f} % of the pixels reach {saturation_adu:g} ADU, expected at most "
                f"{100 * _SATURATED_PART:.0f} %"
            )
    return data
