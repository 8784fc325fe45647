"""Damages thousands of raw files and reads them: `python -m tests.storage.damaged_fits FIRST COUNT`.

In a process of its own, whose address space is bounded: prints each outcome's number, and what no file may cause.
"""

import bz2
import gzip
import io
import lzma
import resource
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
from astropy.io import fits

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.storage.raw import read_raw, read_raw_header

HOSTILE = [
    b"NAXIS   =          99999999999", b"NAXIS   =                   -1", b"NAXIS   =                 1E99",
    b"NAXIS1  =               400000", b"NAXIS2  =            999999999", b"NAXIS1  =                   -5",
    b"ZNAXIS1 =               400000", b"ZNAXIS2 =  9999999999999999999", b"ZTILE1  =           1000000000",
    b"ZNAXIS  =                 9999", b"BITPIX  =                    7", b"BITPIX  =                 -640",
    b"PCOUNT  =       99999999999999", b"GCOUNT  =             99999999", b"BZERO   =                1E308",
    b"BSCALE  =                1E308", b"BSCALE  = 'x'", b"ZBITPIX =                  -64",
    b"TFIELDS =                 9999", b"TFORM1  = '99999999PB(9)'", b"TFORM1  = '1QE(99999999999)'",
    b"ZCMPTYPE= 'HCOMPRESS_1'", b"ZCMPTYPE= 'GZIP_2'", b"ZCMPTYPE= 'PLIO_1'", b"ZCMPTYPE= 'nothing'",
    b"ZVAL1   =             99999999", b"ZVAL2   =                   99", b"ZQUANTIZ= 'SUBTRACTIVE_DITHER_2'",
    b"ZDITHER0=                99999", b"XTENSION= 'IMAGE'", b"EXTEND  =                    F",
    b"BLANK   =                  1.5", b"SIMPLE  =                    F", b"END", b"CONTINUE  'x&'", b"",
]  # fmt: skip
MEMORY = 3 * 2**29  # bytes above what the libraries take


def sound_files() -> list[bytes]:
    """Small raw files, one of each kind that is read."""
    rng = np.random.default_rng(0)
    pixels = rng.poisson(300, (40, 48))
    header = fits.Header({"EXPTIME": 60.0, "GAIN": 1.5, "FILTER": "r", "DATE-OBS": "2020-01-01T00:00:00"})
    primary = fits.PrimaryHDU(pixels.astype(np.uint16), header)
    packed = [
        fits.CompImageHDU(pixels.astype(kind), header, compression_type=name)
        for name, kind in (
            ("RICE_1", np.int16),
            ("GZIP_1", np.float32),
            ("HCOMPRESS_1", np.int32),
            ("PLIO_1", np.int16),
        )
    ]
    files = [
        [primary],
        [fits.PrimaryHDU(pixels.astype(np.float32), header)],
        [fits.PrimaryHDU(), fits.ImageHDU(pixels.astype(np.int32), header)],
        *([fits.PrimaryHDU(), one] for one in packed),
    ]
    contents = []
    for hdus in files:
        buffer = io.BytesIO()
        fits.HDUList(hdus).writeto(buffer)
        contents.append(buffer.getvalue())
    return [*contents, gzip.compress(contents[0]), bz2.compress(contents[0]), lzma.compress(contents[0])]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The file with one to three faults: bytes flipped, lost, added, or a card with what nobody expects."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        size = max(len(data), 1)
        at = int(rng.integers(size))
        kind = rng.integers(6)
        if kind == 0:
            for place in rng.integers(size, size=rng.integers(1, 30)):
                data[place] = rng.integers(256)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            del data[at : at + int(rng.integers(1, 3000))]
        elif kind == 3:
            data[at:at] = rng.bytes(int(rng.integers(1, 3000)))
        elif kind == 4:
            for place in rng.integers(min(size, 8640), size=rng.integers(1, 10)):  # where headers are
                data[place] = rng.integers(32, 127)
        else:
            start = 80 * int(rng.integers(1, 90))
            data[start : start + 80] = HOSTILE[rng.integers(len(HOSTILE))].ljust(80)
        if not data:
            break
    return bytes(data)


def main(first: int, count: int) -> int:
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    sound, outcomes, faults = sound_files(), Counter(), []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "frame.fits")
        for number in range(first, first + count):
            rng = np.random.default_rng(number)
            path.write_bytes(damaged(sound[number % len(sound)], rng))
            for read in (read_raw, read_raw_header):
                try:
                    read(path, max_pixels=1_000_000)
                    outcomes["read"] += 1
                except BadFrame as error:
                    outcomes["refused"] += 1
                    if str(path) not in str(error):
                        faults.append(f"{number}: does not name its file: {error}")
                except BaseException:
                    faults.append(f"{number}: {read.__name__}: {traceback.format_exc(limit=-3)}")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - resident
    print(dict(outcomes), f"{grown / 2**20:.0f} MiB more")
    print("\n".join(faults[:10]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
