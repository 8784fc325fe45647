"""Imported frames: `frames/<stem>.fits`, and their sources: `frames/<stem>_sources.fits`.

The primary HDU holds the sky-subtracted image (float32, e-/s) with the cards of the raw header that still hold, the
extension MASK a bit per fault of a pixel: 1 saturated, 2 not finite, and the
extension RAW_WCS, which has no pixels, the WCS cards of the raw header, where it had any.
"""

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.io.fits import Header
from astropy.wcs import WCS, FITSFixedWarning
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.sources import Sources
from lightcurver_ops.storage.atomic import write_bytes

SATURATED, NOT_FINITE = 1, 2
RAW_WCS = "RAW_WCS"

# About the layout or the encoding of the raw file: wrong, or written anew, in ours.
_STRUCTURE = re.compile(
    r"(SIMPLE|BITPIX|NAXIS\d*|EXTEND|XTENSION|PCOUNT|GCOUNT|GROUPS|EXTNAME|EXTVER|EXTLEVEL|INHERIT|BSCALE|BZERO|BLANK|"
    r"BUNIT|DATAMIN|DATAMAX|CHECKSUM|DATASUM|END|FZ\w+|Z(IMAGE|TABLE|SIMPLE|TENSION|EXTEND|BITPIX|NAXIS\d*|TILE\d+|CMPTYPE|"
    r"NAME\d+|VAL\d+|MASKCMP|QUANTIZ|DITHER0|PCOUNT|GCOUNT|BLANK|HECKSUM|DATASUM|SCALE|ZERO)|)$"
)
# Distortion tables in further HDUs, which the frame does not have.
_TABLE_DISTORTION = re.compile(r"(CPDIS|CQDIS|D2IMDIS|DP|DQ|D2IM|DVERR|AXISCORR)\d*(\.\w+)*$")
_WCS = re.compile(
    r"(WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH)[A-Z]?$"
    r"|(CTYPE|CRVAL|CRPIX|CUNIT|CDELT|CROTA|CNAME|CRDER|CSYER)\d[A-Z]?$"
    r"|(CD|PC)\d_\d[A-Z]?$|(PC|CD)00\d00\d$|(PV|PS)\d_\d{1,2}[A-Z]?$"
    r"|[AB]P?_(ORDER|DMAX|\d_\d)$|WAT\d_\d{3}$|LT[MV]\d(_\d)?$"
)
# Without one of these, what looks like a WCS is an equinox of the pointing, or so.
_PLACES = ("CTYPE", "CRVAL", "CRPIX", "CD", "PC")


@dataclass(frozen=True)
class Frame:
    """An imported frame.

    image: [ny, nx] e-/s, sky subtracted, float64; header: with the WCS once solved; saturated, bad: [ny, nx], True
    where the pixel was saturated, or not finite.
    """

    image: NDArray[np.float64]
    header: Header
    saturated: NDArray[np.bool_]
    bad: NDArray[np.bool_]


def write_frame(
    path: str | Path,
    image: NDArray,
    header: Header,
    *,
    saturated: NDArray[np.bool_] | None = None,
    trim: tuple[int, int] = (0, 0),
    keep_wcs: bool = True,
) -> None:
    """Write an imported frame.

    Args:
        path: the file.
        image: [ny, nx] e-/s, trimmed.
        header: of the raw frame; invalid cards and those on the layout of the raw file are left out.
        saturated: [ny, nx], True where saturated, trimmed too.
        trim: (vertical, horizontal) pixels cut at each end: CRPIX moves by as much.
        keep_wcs: keep the WCS cards of the raw header; False for a frame that will be plate solved.

    Raises:
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    mask = np.where(np.isfinite(image), 0, NOT_FINITE).astype(np.uint8)
    if saturated is not None:
        mask |= np.where(saturated, SATURATED, 0).astype(np.uint8)
    primary = fits.PrimaryHDU(np.asarray(image, dtype=np.float32), _kept_cards(header, trim, keep_wcs))
    primary.header["BUNIT"] = ("electron/s", "sky subtracted")
    extension = fits.ImageHDU(mask, name="MASK")
    extension.header["COMMENT"] = "bit 1: saturated; bit 2: not finite"
    hdus = [primary, extension]
    raw_wcs = [card for card in _kept_cards(header, trim, True).cards if _WCS.match(card.keyword)]
    if any(card.keyword.startswith(_PLACES) for card in raw_wcs):
        hdus.append(fits.ImageHDU(header=Header(raw_wcs), name=RAW_WCS))
    _write(path, fits.HDUList(hdus))


def write_wcs(path: str | Path, wcs_header: Header) -> None:
    """Replace all WCS cards of a frame by those of another header, in one step.

    Args:
        path: an imported frame.
        wcs_header: header of the solution; cards that are not about the WCS are ignored.

    Raises:
        BadFrame: the frame cannot be read.
        TemporaryFailure, ConfigurationError: as `atomic_path`.
    """
    with _opened(path) as hdus:
        header = hdus[0].header
        for keyword in [keyword for keyword in header if _WCS.match(keyword)]:
            header.remove(keyword, ignore_missing=True, remove_all=True)
        for card in wcs_header.cards:
            if _WCS.match(card.keyword):
                header.append((card.keyword, card.value, card.comment), end=True)
        _write(path, hdus)


def read_frame(path: str | Path) -> Frame:
    """Read an imported frame; BadFrame where it is missing or corrupt."""
    with _opened(path) as hdus:
        mask = np.asarray(hdus["MASK"].data)
        return Frame(
            np.asarray(hdus[0].data, dtype=np.float64),
            hdus[0].header.copy(),
            (mask & SATURATED) > 0,
            (mask & NOT_FINITE) > 0,
        )


@contextmanager
def mapped_image(path: str | Path) -> Iterator[NDArray]:
    """The pixels of an imported frame, left on the disk until they are looked at; BadFrame as `read_frame`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with fits.open(path, memmap=True) as hdus:
                yield hdus[0].data
    except (OSError, ValueError, TypeError, fits.VerifyError) as error:
        raise _unreadable(path, error) from error


def read_header(path: str | Path) -> Header:
    """Read the header of an imported frame, without its pixels; BadFrame where it is missing or corrupt."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fits.getheader(path)
    except (OSError, ValueError, fits.VerifyError) as error:
        raise _unreadable(path, error) from error


def read_raw_wcs(path: str | Path) -> Header | None:
    """The WCS cards that the raw frame of an imported frame had; None where it had none. BadFrame as `read_frame`."""
    with _opened(path) as hdus:
        if RAW_WCS not in hdus:
            return None
        return Header([card for card in hdus[RAW_WCS].header.cards if _WCS.match(card.keyword)])


def wcs_of(header: Header) -> WCS:
    """The WCS of a header, without astropy's remarks on dates that it completes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


def centred_wcs(header: Header, ra: float, dec: float, size: int) -> Header:
    """The WCS of a stamp of that side which is centred on a place (degrees), with the pixels of another WCS."""
    moved = wcs_of(header)
    x, y = moved.world_to_pixel_values(ra, dec)
    moved.wcs.crpix += (size - 1) / 2 - np.array([float(x), float(y)])
    return moved.to_header(relax=True)


def write_sources(path: str | Path, sources: Sources) -> None:
    """Write the sources of a frame, brightest first; errors as `atomic_path`."""
    units = {"flux": "electron/s", "peak": "electron/s", "theta": "rad"}
    units |= dict.fromkeys(("x", "y", "a", "b", "fwhm"), "pix")
    columns = []
    for field in fields(Sources):
        values = getattr(sources, field.name)
        kind = "K" if values.dtype.kind == "i" else "D"
        columns.append(fits.Column(field.name, kind, units.get(field.name), array=values))
    table = fits.BinTableHDU.from_columns(columns)
    table.header["COMMENT"] = "x, y are 0-based: (0, 0) is the centre of the first pixel"
    _write(path, fits.HDUList([fits.PrimaryHDU(), table]))


def read_sources(path: str | Path) -> Sources:
    """Read the sources of a frame; BadFrame where the file is missing or corrupt."""
    with _opened(path) as hdus:
        table = hdus[1].data
        # Native byte order, which sep and jax insist on.
        columns = {
            field.name: np.array(table[field.name], dtype=table[field.name].dtype.newbyteorder("="))
            for field in fields(Sources)
        }
    return Sources(**columns)


def _kept_cards(header: Header, trim: tuple[int, int], keep_wcs: bool) -> Header:
    kept = Header()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for card in header.cards:
            copy = _valid_copy(card)
            if copy is None or (not keep_wcs and _WCS.match(copy.keyword)):
                continue
            shift = {"CRPIX1": trim[1], "CRPIX2": trim[0]}.get(copy.keyword[:6])
            # A reference pixel that is no number is none of a WCS that anybody could use.
            if shift and _WCS.match(copy.keyword) and _is_number(copy.value):
                copy = fits.Card(copy.keyword, copy.value - shift, copy.comment)
            kept.append(copy, end=True)
    return kept


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _valid_copy(card: fits.Card) -> fits.Card | None:
    """The card in standard form, or None where it cannot or should not be kept."""
    try:
        keyword, value, comment = card.keyword, card.value, card.comment
        if _STRUCTURE.match(keyword) or _TABLE_DISTORTION.match(keyword) or card.field_specifier:
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return None
        copy = fits.Card(keyword, value, comment)
        copy.verify("exception")
        str(copy)
    except (ValueError, TypeError, AttributeError, fits.VerifyError):
        return None
    return copy


def _write(path: str | Path, hdus: fits.HDUList) -> None:
    # Through memory: astropy's own writing hides why a disk refused it.
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hdus.writeto(buffer, output_verify="silentfix")
    write_bytes(path, buffer.getvalue())


class _opened:
    """The HDUs of one of our files, in memory; whatever is wrong with it becomes a BadFrame."""

    def __init__(self, path: str | Path):
        self._path = path

    def __enter__(self) -> Any:
        try:
            content = io.BytesIO(Path(self._path).read_bytes())
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of a truncated file: it becomes an error below
                self._hdus = fits.open(content, memmap=False, lazy_load_hdus=False)
        except (OSError, ValueError) as error:
            raise _unreadable(self._path, error) from error
        return self._hdus

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        self._hdus.close()
        if isinstance(error, (OSError, ValueError, TypeError, KeyError, IndexError, fits.VerifyError)):
            raise _unreadable(self._path, error) from error


def _unreadable(path: str | Path, error: BaseException) -> BadFrame:
    return BadFrame(
        f"{path}: the imported frame is missing or damaged ({type(error).__name__}: {error}); delete it if it is "
        "there, and import the frame again: lcops run CONFIG --redo read_convert_skysub_character_catalog"
    )
