"""Index files for astrometry.net from a local catalogue, in a fraction of a second."""

from __future__ import annotations

import hashlib
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from astropy.table import Table

from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.errors import ConfigurationError, TemporaryFailure

log = logging.getLogger(__name__)

PROGRAM = "build-astrometry-index"
DEBIAN_PACKAGE = "astrometry.net"
# Of the program: scale number P holds quads of 2 * sqrt(2)**P arcmin and up to sqrt(2) more, on healpixels of Nside
# 1760 / sqrt(2)**P (about one healpixel per smallest quad).
SMALLEST_QUAD_ARCMIN, NSIDE = 2.0, 1760.0
# Sizes of quads relative to the frame: solve-field itself tries quads above a tenth of the short side.
SMALLEST_OF_SHORT_SIDE, LARGEST_OF_DIAGONAL = 0.15, 0.8
MIN_STARS = 5
STARS_PER_HEALPIXEL = 30
RECIPE = 1  # part of the cache's key: raise it when the files would be made differently
BUILD_TIMEOUT_S = 120.0


def find_program(name: str) -> str:
    """Path of a program of astrometry.net; ConfigurationError, with the package to install, where it is missing."""
    path = shutil.which(name)
    if path is None:
        raise ConfigurationError(
            f"the program {name} is not installed (not found on PATH); install the Debian package {DEBIAN_PACKAGE} "
            f"(apt install {DEBIAN_PACKAGE}), or choose plate solving strategy alternate_gaia_solve, which needs none"
        )
    return path


def quad_scales(shape: tuple[int, int], plate_scale_interval: tuple[float, float]) -> range:
    """The scale numbers P whose quads fit a frame of this (ny, nx) shape at any scale of the interval (arcsec/px)."""
    low, high = plate_scale_interval
    smallest = SMALLEST_OF_SHORT_SIDE * min(shape) * low / 60.0
    largest = LARGEST_OF_DIAGONAL * float(np.hypot(*shape)) * high / 60.0
    first, last = (2 * np.log2(size / SMALLEST_QUAD_ARCMIN) for size in (smallest, largest))
    # The coarsest pixelisation is Nside 1: quads of many degrees.
    return range(int(np.floor(first)), min(int(np.floor(last)), 19) + 1)


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
    scales = quad_scales(shape, plate_scale_interval)
    digest = hashlib.sha256(repr((RECIPE, scales)).encode())
    for column in (catalogue.ra, catalogue.dec, catalogue.mag):
        digest.update(np.ascontiguousarray(column, dtype="<f8").tobytes())
    final = Path(directory) / f"index_{digest.hexdigest()[:16]}"
    if final.is_dir():
        return final
    program = find_program(PROGRAM)
    if len(catalogue) < MIN_STARS:
        raise ConfigurationError(
            f"cannot build index files from a catalogue of {len(catalogue)} stars, at least {MIN_STARS} are needed; "
            "use a deeper catalogue or a larger region"
        )
    try:
        Path(directory).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".index_", dir=directory) as scratch:
            complete = Path(scratch) / "complete"
            complete.mkdir()
            made = _build_all(program, catalogue, Path(scratch), complete, scales)
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


def _build_all(program: str, catalogue: Catalogue, scratch: Path, complete: Path, scales: range) -> int:
    stars = scratch / "stars.fits"
    # Unknown magnitudes sort last, but a NaN would not.
    mag = np.nan_to_num(catalogue.mag, nan=99.0)
    Table({"RA": catalogue.ra, "DEC": catalogue.dec, "MAG": mag}).write(stars, format="fits")
    made, said = 0, ""
    for scale in scales:
        factor = 2.0 ** (scale / 2)
        output = complete / f"index-{scale - scales.start:02d}.fits"
        command = [program, "-i", str(stars), "-o", str(output), "-S", "MAG", "-A", "RA", "-D", "DEC"]
        command += ["-N", str(max(1, round(NSIDE / factor)))]
        command += ["-l", f"{SMALLEST_QUAD_ARCMIN * factor:.6f}"]
        command += ["-u", f"{SMALLEST_QUAD_ARCMIN * factor * np.sqrt(2):.6f}"]
        # -n: stars per healpixel, many, since they are also what a solution is verified and refined with.
        command += ["-n", str(STARS_PER_HEALPIXEL)]
        # -E: only healpixels that hold stars; -I: an identifier that tells the files apart in the solver's log.
        command += ["-E", "-M", "-t", str(scratch), "-I", str(1000 + scale)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise TemporaryFailure(f"{PROGRAM} took longer than {BUILD_TIMEOUT_S:g} s; try again") from error
        if done.returncode < 0:
            raise TemporaryFailure(f"{PROGRAM} was killed by signal {-done.returncode}; try again")
        if done.returncode == 0 and output.exists():
            made += 1
        else:  # a scale without quads is no failure, as long as another has some
            output.unlink(missing_ok=True)
            said = (done.stdout + done.stderr).strip().rsplit("\n", 1)[-1]
    if not made:
        raise ConfigurationError(
            f"{PROGRAM} made no index file from {len(catalogue)} stars at scales {scales.start} to {scales.stop - 1} "
            f"(its last words: {said!r}); use a deeper catalogue, or check plate_scale_interval"
        )
    return made
