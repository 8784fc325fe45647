"""What a raw file claims before it is believed: unpacked no further than it may be, its headers read from their cards.

A few kilobytes can announce an image of 400000 x 400000 px, or unpack to gigabytes. A FITS library allocates what the
header says; here it is checked first, on the cards themselves (FITS Standard 4.0, sections 3.3, 4.4.1 and 10.1).
"""

import bz2
import gzip
import io
import lzma
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from lightcurver_ops.errors import BadFrame, LightcurverError

BLOCK, CARD = 2880, 80
MOST_AXES = 999
BYTES_PER_PIXEL = 4  # an unpacked file may have this many for each pixel of the largest image allowed
LONGEST_HEADER = 1 << 24  # bytes
_CHUNK = 1 << 24
_ENDLESS = re.compile(rb"NAXIS {3}= {1,20}\+?(\d{4,20})")
_CARD = re.compile(
    rb"(?P<keyword>Z?(?:NAXIS|TILE)\d*|BITPIX|PCOUNT|GCOUNT|XTENSION)\s*= *(?P<value>'?[^/']*)"
)


def unpacked(content: bytes, path: str | Path, most_pixels: int) -> bytes:
    """The content of a file that may be compressed with gzip, bzip2, xz, or be the only member of a zip archive.

    Args:
        content: of the file.
        path: for messages.
        most_pixels: of an image; what unpacks to more than 4 bytes for each of them is refused.

    Raises:
        BadFrame: damaged, too large, not one member, encrypted, or compressed in another way.
    """
    opener = _opener(content, path)
    if opener is None:
        return content
    most, size, result = BYTES_PER_PIXEL * most_pixels, 0, io.BytesIO()
    try:
        with opener(io.BytesIO(content)) as file:
            while chunk := file.read(_CHUNK):
                size += len(chunk)
                if size > most:
                    raise BadFrame(
                        f"{path}: unpacks to more than {most / 1e6:g} MB, {BYTES_PER_PIXEL} bytes for each pixel of "
                        f"the largest image, {most_pixels} (raw.max_pixels)"
                    )
                result.write(chunk)
    except (LightcurverError, MemoryError):
        raise
    except Exception as error:  # whatever the libraries make of a damaged file: it is this file's
        raise BadFrame(
            f"{path}: truncated or corrupt compressed file ({error}); copy it again from the telescope"
        ) from error
    return result.getvalue()


def _opener(content: bytes, path: str | Path) -> Callable[[io.BytesIO], Any] | None:
    if content.startswith(b"\x1f\x8b"):
        return lambda file: gzip.GzipFile(fileobj=file)
    if content.startswith(b"BZh"):
        return bz2.BZ2File
    if content.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile
    if content.startswith(b"PK\x03\x04"):
        return _only_member
    if content.startswith(b"\x1f\x9d"):
        raise BadFrame(
            f"{path}: packed by compress (.Z), which is not read: unpack it (`gunzip`), or use gzip"
        )
    return None


def _only_member(file: io.BytesIO) -> IO[bytes]:
    archive = zipfile.ZipFile(file)
    names = [one.filename for one in archive.infolist() if not one.is_dir()]
    if len(names) != 1:
        raise ValueError(f"a zip archive of {len(names)} files, expected one")
    return archive.open(names[0])


def refuse_what_is_too_large(
    file: IO[bytes], path: str | Path, most_pixels: int, hdus: int | None = None
) -> None:
    """Check what the headers of a FITS file announce.

    Headers that cannot be followed from here on are left to the FITS library, which may follow them elsewhere.

    Args:
        file: open for reading, and to be positioned; it is left anywhere.
        path: for messages.
        most_pixels: of an image, or of one of its tiles.
        hdus: how many headers; None: all. Of a file without an image in its first HDU three, as fpacked files have
            theirs in the second one, and none after it.

    Raises:
        BadFrame: more axes than FITS has, or an image with more pixels.
    """
    for number, (cards, header) in enumerate(_headers(file)):
        if hdus is not None and number == 0 and cards.get("NAXIS") == "0":
            hdus = max(hdus, 3)
        refuse_endless(header, path)
        for prefix in ("", "Z"):
            text = cards.get(f"{prefix}NAXIS")
            if text is None:
                continue
            axes = _whole(text)
            if axes is None or not 0 <= axes <= MOST_AXES:
                raise BadFrame(
                    f"{path}: {prefix}NAXIS of HDU {number} is {text[:20]}, expected a number of axes; copy it again "
                    "from the telescope"
                )
            is_table = prefix == "" and "TABLE" in cards.get("XTENSION", "")
            for kind in () if is_table else ("NAXIS", "TILE") if prefix else ("NAXIS",):
                sides = [_whole(cards.get(f"{prefix}{kind}{axis}", "1")) or 0 for axis in range(1, axes + 1)]
                if axes and math.prod(sides) > most_pixels:
                    raise BadFrame(
                        f"{path}: its header announces an image of {' x '.join(map(str, sides))} px in HDU {number}, "
                        f"more than {most_pixels} (raw.max_pixels)"
                    )
        if number + 1 == hdus:
            return


def refuse_endless(content: bytes, path: str | Path) -> None:
    """Refuse a number of axes that a FITS library would count through, wherever it stands: damaged headers are found
    at other places than the sizes of those before them say.

    Raises:
        BadFrame: there is one.
    """
    if endless := _ENDLESS.search(content):
        raise BadFrame(
            f"{path}: a header announces {endless[1].decode()} axes, expected 0 to {MOST_AXES}; copy it again from the "
            "telescope"
        )


def _headers(file: IO[bytes]) -> Iterator[tuple[dict[str, str], bytes]]:
    """Of each header what counts of its cards, keyword: value (the first of cards that stand twice), and its bytes."""
    start = 0
    while True:
        file.seek(start)
        cards: dict[str, str] = {}
        header = bytearray()
        end = None
        while end is None and len(header) < LONGEST_HEADER and (block := file.read(BLOCK)):
            for at in range(0, len(block) - CARD + 1, CARD):
                card = block[at : at + CARD]
                if card.startswith(b"END     "):
                    end = len(header) + at + CARD
                    break
                if match := _CARD.match(card):
                    keyword = match["keyword"].decode()
                    cards.setdefault(keyword, match["value"].strip(b"' ").decode("latin-1"))
            header += block
        if not header:
            return
        yield cards, bytes(header)
        size = _data_size(cards)
        if end is None or size is None:
            return
        start += BLOCK * math.ceil(end / BLOCK) + BLOCK * math.ceil(size / BLOCK)


def _data_size(cards: dict[str, str]) -> int | None:
    """Bytes of the data of an HDU; None where the header does not say."""
    axes, bits = _whole(cards.get("NAXIS", "")), _whole(cards.get("BITPIX", ""))
    if axes is None or bits is None or not 0 <= axes <= MOST_AXES:
        return None
    sides = [_whole(cards.get(f"NAXIS{axis}", "")) for axis in range(1, axes + 1)]
    extra, groups = _whole(cards.get("PCOUNT", "0")), _whole(cards.get("GCOUNT", "1"))
    if None in sides or extra is None or groups is None:
        return None
    elements = math.prod(side for side in sides if side is not None) if axes else 0
    return max(abs(bits) // 8 * groups * (extra + elements), 0)


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[+-]?\d{1,30}", text) else None
