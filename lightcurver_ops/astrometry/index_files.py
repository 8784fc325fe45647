"""Index files for astrometry.net from a local catalogue, in a fraction of a second."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from scipy.spatial import cKDTree

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.tangent import unit_vectors
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure
from lightcurver_ops.processes import run_guarded
from lightcurver_ops.storage.scratch import scratch_directory

log = logging.getLogger(__name__)

PROGRAM = "build-astrometry-index"
DEBIAN_PACKAGE = "astrometry.net"
# Of the program: quads of 2 arcmin go with healpixels of Nside 1760, about one healpixel per smallest quad.
SMALLEST_QUAD_ARCMIN, NSIDE = 2.0, 1760.0
# Sizes of quads relative to the frame: solve-field itself tries quads above a tenth of the short side.
SMALLEST_OF_SHORT_SIDE, LARGEST_OF_DIAGONAL = 0.15, 0.8
# Each file holds quads of one size to twice that. A frame of a quarter of a file's smallest quad, squared, that would
# show fewer stars than this cannot be solved, and the program takes longest to find that out.
STARS_OF_SMALLEST_FRAME = 5
MIN_STARS = 5
STARS_PER_HEALPIXEL = 30
PASSES = 4  # quads per healpixel; the program's 16 takes ten times as long and solves no more frames
RECIPE = 2  # part of the cache's key: raise it when the files would be made differently
BUILD_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class IndexFile:
    """What an index file says of itself.

    Args:
        path: the file.
        quad_sizes: (smallest, largest) arcmin.
        n_quads, n_stars: in it.
    """

    path: Path
    quad_sizes: tuple[float, float]
    n_quads: int
    n_stars: int


def find_program(name: str) -> str:
    """Path of a program of astrometry.net; ConfigurationError, with the package to install, where it is missing."""
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError(
            f"the program {name} is not installed (not found on PATH); install the Debian package {DEBIAN_PACKAGE} "
            f"(apt install {DEBIAN_PACKAGE}), or choose plate solving strategy alternate_gaia_solve, which needs none"
        )
    return path


def quad_range(shape: tuple[int, int], plate_scale_interval: tuple[float, float]) -> tuple[float, float]:
    """Sizes (smallest, largest) in arcmin of quads that help with frames of this (ny, nx) at any scale of the
    interval (arcsec/px)."""
    low, high = plate_scale_interval
    smallest = SMALLEST_OF_SHORT_SIDE * min(shape) * low / 60.0
    # The coarsest pixelisation is Nside 1.
    largest = min(LARGEST_OF_DIAGONAL * float(np.hypot(*shape)) * high / 60.0, SMALLEST_QUAD_ARCMIN * NSIDE)
    return smallest, max(largest, 1.01 * smallest)


def quad_sizes(
    catalogue: Catalogue, shape: tuple[int, int], plate_scale_interval: tuple[float, float]
) -> tuple[tuple[float, float], ...]:
    """(smallest, largest) quad in arcmin of each file: a factor of two each, from the largest down to where frames
    would be too small to show stars of this catalogue."""
    smallest, size = quad_range(shape, plate_scale_interval)
    density = _densest(catalogue)
    floor = np.sqrt(STARS_OF_SMALLEST_FRAME / max(density, 1e-12)) / 4.0
    sizes: list[tuple[float, float]] = []
    while size > smallest and (not sizes or size > floor):
        sizes.append((size / 2, size))
        size /= 2
    return tuple(reversed(sizes))


def _densest(catalogue: Catalogue) -> float:
    """Stars per square arcmin, in the densest tenth of the catalogue: it need not be even, nor fill a disk."""
    if len(catalogue) < 2:
        return 0.0
    k = max(1, min(len(catalogue) - 1, 10))
    xyz = unit_vectors(catalogue.ra, catalogue.dec)
    some = xyz[:: max(1, len(xyz) // 500)]
    chord = cKDTree(xyz).query(some, k + 1)[0][:, -1]
    radius_arcmin = np.degrees(np.quantile(chord, 0.1)) * 60.0
    return float(k / (np.pi * max(radius_arcmin, 1e-6) ** 2))


def index_files_in(directory: Path) -> list[IndexFile]:
    """The astrometry.net index files (*.fits) of a directory; other files are passed over.

    Raises:
        TemporaryFailure: the directory cannot be read.
    """
    try:
        changed = Path(directory).stat().st_mtime_ns
    except OSError as error:
        raise TemporaryFailure(f"{directory}: cannot be read: {error}; try again") from error
    return list(_index_files_in(Path(directory), changed))


@lru_cache(maxsize=16)  # the same directory for every frame
def _index_files_in(directory: Path, _changed: int) -> tuple[IndexFile, ...]:
    found = []
    for path in sorted(directory.glob("*.fits")):
        try:
            header = fits.getheader(path)
            low, high = (float(np.degrees(header[card]) * 60.0) for card in ("SCALE_L", "SCALE_U"))
            found.append(IndexFile(path, (low, high), int(header["NQUADS"]), int(header["NSTARS"])))
        except (OSError, KeyError, ValueError, TypeError):
            log.debug("%s is no astrometry.net index file", path)
    return tuple(found)


def suitable(
    files: list[IndexFile], shape: tuple[int, int], plate_scale_interval: tuple[float, float]
) -> list[IndexFile]:
    """Those files whose quads have sizes that help with such frames."""
    smallest, largest = quad_range(shape, plate_scale_interval)
    return [f for f in files if f.quad_sizes[0] < largest and f.quad_sizes[1] > smallest]


def index_path(
    catalogue: Catalogue, directory: Path, shape: tuple[int, int], plate_scale_interval: tuple[float, float]
) -> Path:
    """Where `build_index` puts, or has put, the index files of these arguments."""
    sizes = quad_sizes(catalogue, shape, plate_scale_interval)
    digest = hashlib.sha256(repr((RECIPE, [[round(v, 6) for v in pair] for pair in sizes])).encode())
    for column in (catalogue.ra, catalogue.dec, catalogue.mag):
        digest.update(np.ascontiguousarray(column, dtype="<f8").tobytes())
    return Path(directory) / f"index_{digest.hexdigest()[:16]}"


def build_index(
    catalogue: Catalogue, directory: Path, shape: tuple[int, int], plate_scale_interval: tuple[float, float]
) -> Path:
    """Index files of a catalogue for frames of one camera, made once and found again afterwards.

    Args:
        catalogue: stars of the field and its surroundings, at one epoch for all frames (else each gets its own).
        directory: where index directories are kept; one is made in it, named by a hash of all that decides
            its content. It appears complete or not at all.
        shape: (ny, nx) of the frames.
        plate_scale_interval: (low, high) arcsec/pixel.

    Returns:
        The directory of the index files.

    Raises:
        ConfigurationError: program missing, or the catalogue does not give a single quad.
        TemporaryFailure: the disk is full, or the program was killed.
    """
    final = index_path(catalogue, directory, shape, plate_scale_interval)
    if final.is_dir():
        return final
    program = find_program(PROGRAM)
    sizes = quad_sizes(catalogue, shape, plate_scale_interval)
    if len(catalogue) < MIN_STARS:
        raise ConfigurationError(
            f"cannot build index files from a catalogue of {len(catalogue)} stars, at least {MIN_STARS} are needed; "
            "use a deeper catalogue or a larger region"
        )
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with scratch_directory(directory) as scratch:
            complete = scratch / "complete"
            complete.mkdir()
            made = _build_all(program, catalogue, scratch, complete, sizes)
            try:
                complete.rename(final)
            except OSError:
                if not final.is_dir():  # else another process was faster: its files are the same
                    raise
    except OSError as error:
        raise TemporaryFailure(
            f"cannot write index files in {directory}: {error}; check space and rights"
        ) from error
    log.info("built %d astrometry.net index files of %d stars: %s", made, len(catalogue), final)
    return final


def _build_all(
    program: str, catalogue: Catalogue, scratch: Path, complete: Path, sizes: tuple[tuple[float, float], ...]
) -> int:
    stars = scratch / "stars.fits"
    # Unknown magnitudes sort last, but a NaN would not.
    mag = np.nan_to_num(catalogue.mag, nan=99.0)
    Table({"RA": catalogue.ra, "DEC": catalogue.dec, "MAG": mag}).write(stars, format="fits")

    def build(number: int) -> str | None:
        return _build_one(program, stars, complete / f"index-{number:02d}.fits", number, sizes[number])

    # The programs wait for nobody: two at a time take half as long.
    with ThreadPoolExecutor(min(len(sizes), os.cpu_count() or 1)) as threads:
        said = list(threads.map(build, range(len(sizes))))
    made = said.count(None)
    if not made:
        raise ConfigurationError(
            f"{PROGRAM} made no index file from {len(catalogue)} stars with quads of {sizes[0][0]:.2g} to "
            f"{sizes[-1][1]:.2g} arcmin (its last words: {said[-1]!r}); use a deeper catalogue, or check "
            "plate_scale_interval"
        )
    return made


def _build_one(program: str, stars: Path, output: Path, number: int, quad: tuple[float, float]) -> str | None:
    """Make one file; None, or what the program said where it made none."""
    command = [program, "-i", str(stars), "-o", str(output), "-S", "MAG", "-A", "RA", "-D", "DEC"]
    command += ["-N", str(max(1, round(NSIDE * SMALLEST_QUAD_ARCMIN / quad[0])))]
    command += ["-l", f"{quad[0]:.6f}", "-u", f"{quad[1]:.6f}", "-p", str(PASSES)]
    # -n: stars per healpixel, many, since they are also what the program verifies a solution with.
    command += ["-n", str(STARS_PER_HEALPIXEL)]
    # -E: only healpixels that hold stars; -I: an identifier that tells the files apart in the solver's log.
    command += ["-E", "-M", "-t", str(stars.parent), "-I", str(1000 + number)]
    words = stars.parent / f"{output.stem}.txt"
    try:
        with words.open("wb") as stream:
            status = run_guarded(command, stream, BUILD_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise TemporaryFailure(f"{PROGRAM} took longer than {BUILD_TIMEOUT_S:g} s; try again") from error
    said = words.read_text(errors="replace")
    if status < 0:
        raise TemporaryFailure(f"{PROGRAM} was killed by signal {-status}; try again")
    if status == 0 and output.exists():
        return None
    output.unlink(missing_ok=True)  # a size without quads is no failure, as long as another has some
    return said.strip().rsplit("\n", 1)[-1]
