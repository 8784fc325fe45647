"""Strategy `plate_solve`: astrometry.net's solve-field on the list of sources, with position and scale hints."""

from __future__ import annotations

import logging
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Catalogue, Solution, SolveRequest
from lightcurver_ops.astrometry.index_files import (
    IndexFile,
    find_program,
    index_files_in,
    quad_range,
    suitable,
)
from lightcurver_ops.errors import BadFrame, ConfigurationError, TemporaryFailure
from lightcurver_ops.processes import run_guarded
from lightcurver_ops.storage.scratch import scratch_directory

log = logging.getLogger(__name__)

PROGRAM = "solve-field"
MAX_SOURCES = 500
# How many of the brightest sources the quads are made of, in turn. Without an end the search takes minutes, since the
# program looks at its processor time only now and then; a field that the brightest 100 do not solve stays unsolved.
DEPTHS = range(10, 101, 10)
NO_INDEX = "You must list at least one index"


@dataclass(frozen=True)
class SolveFieldSolver:
    """Runs solve-field in a temporary directory of its own.

    Args:
        index_directory: index files to use (see index_files.build_index); None: those of the system's configuration.
        cpu_limit_s: the search gives up after this much processor time: the frame is not solvable then.
        wall_limit_s: the program is killed after this long on the clock: the machine is overloaded then.
        sip_order: order of the distortion polynomial; 0 or 1: none, and the linear WCS is refined with all stars.
    """

    index_directory: Path | None = None
    cpu_limit_s: float = 30.0
    wall_limit_s: float = 300.0
    sip_order: int = 0

    method = "plate_solve"

    def solve(self, request: SolveRequest) -> Solution:
        """Solve one frame. Raises BadFrame, ConfigurationError (program or index files missing), TemporaryFailure."""
        program = find_program(PROGRAM)
        low, high = request.scale_interval
        files = self._index_files(request)
        try:
            with scratch_directory() as scratch:
                said = self._run(program, request, scratch, files)
                found = scratch / "frame.wcs"
                if not found.exists():
                    raise BadFrame(
                        f"{request.name}: {PROGRAM} found no solution for {len(request.x)} sources within "
                        f"{request.radius_deg:g} deg of ({request.hint_ra:.4f}, {request.hint_dec:.4f}) at {low:g} to "
                        f"{high:g} arcsec/px ({_summary(said)}). Check hint, radius, plate_scale_interval, and that "
                        "the index files suit the size of the field"
                    )
                wcs = self._read_wcs(found)
                stars = Table.read(scratch / "frame.rdls", format="fits")
        except OSError as error:
            raise TemporaryFailure(
                f"{request.name}: cannot run {PROGRAM}: {error}; check the disk's space"
            ) from error
        used = Catalogue(
            np.asarray(stars["RA"]), np.asarray(stars["DEC"]), np.arange(len(stars), dtype=float)
        )
        return accept(request, wcs, self.method, _summary(said), used)

    def _index_files(self, request: SolveRequest) -> list[IndexFile]:
        """The files of the directory that suit the request; empty where there is no directory: then the system's."""
        if self.index_directory is None:
            return []
        found = index_files_in(self.index_directory)
        files = suitable(found, request.shape, request.scale_interval)
        if not files:
            low, high = quad_range(request.shape, request.scale_interval)
            raise ConfigurationError(
                f"{self.index_directory} has {len(found)} astrometry.net index files (*.fits), none of which has quads "
                f"of {low:.2g} to {high:.2g} arcmin, as these frames need; build them from the catalogue "
                "(plate_solving.index_dir: null), or install a Debian package astrometry-data-*"
            )
        return files

    def _run(self, program: str, request: SolveRequest, scratch: Path, files: list[IndexFile]) -> str:
        """The program's output. It may leave frame.wcs and frame.rdls in the scratch directory."""
        sources = {"X": request.x + 1.0, "Y": request.y + 1.0, "FLUX": request.flux}
        Table({k: v[:MAX_SOURCES] for k, v in sources.items()}).write(scratch / "frame.xyls", format="fits")
        command = [program, *self._arguments(request, scratch, files)]
        output = scratch / "output.txt"
        environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(scratch)}
        try:
            with output.open("wb") as stream:
                code = run_guarded(
                    command, stream, self.wall_limit_s, directory=scratch, environment=environment
                )
        except subprocess.TimeoutExpired as error:
            raise TemporaryFailure(
                f"{request.name}: {PROGRAM} did not end within {self.wall_limit_s:g} s though it may use only "
                f"{self.cpu_limit_s:g} s of processor time; the machine is overloaded, try again later"
            ) from error
        said = output.read_text(errors="replace")
        if NO_INDEX in said:
            raise ConfigurationError(
                f"{PROGRAM} has no index files to search (configuration: "
                f"{self.index_directory or 'the one of the system, /etc/astrometry.cfg'}); install a Debian package "
                "astrometry-data-* that suits the size of the field, or build index files from a catalogue"
            )
        if code < 0 or "signal" in said.lower():
            raise TemporaryFailure(f"{request.name}: {PROGRAM} was killed ({_summary(said)}); try again")
        if code != 0:
            raise BadFrame(f"{request.name}: {PROGRAM} failed with exit status {code}: {_summary(said)}")
        return said

    def _arguments(self, request: SolveRequest, scratch: Path, files: list[IndexFile]) -> list[str]:
        low, high = request.scale_interval
        options: dict[str, object] = {
            "--dir": scratch, "--temp-dir": scratch, "--wcs": scratch / "frame.wcs", "--rdls": scratch / "frame.rdls",
            "--width": request.shape[1], "--height": request.shape[0],
            "--x-column": "X", "--y-column": "Y",
            "--ra": f"{request.hint_ra:.7f}", "--dec": f"{request.hint_dec:.7f}", "--radius": f"{request.radius_deg:g}",
            "--scale-units": "arcsecperpix", "--scale-low": f"{low:g}", "--scale-high": f"{high:g}",
            "--cpulimit": max(1, round(self.cpu_limit_s)),
            # Order 1 is a linear fit to all stars; without any the WCS is that of four stars, a percent off.
            "--tweak-order": max(1, self.sip_order),
            "--depth": ",".join(str(n) for n in DEPTHS),
            "--uniformize": 0,
            **dict.fromkeys(("--new-fits", "--corr", "--match", "--index-xyls", "--solved"), "none"),
        }  # fmt: skip
        if files:
            configuration = scratch / "backend.cfg"
            names = "".join(f"index {file.path.resolve()}\n" for file in files)
            configuration.write_text(f"cpulimit {max(1, round(self.cpu_limit_s))}\n{names}")
            options["--config"] = configuration
        flags = ["--overwrite", "--no-plots", "--crpix-center", "--no-remove-lines"]
        return [
            str(scratch / "frame.xyls"),
            *flags,
            *(str(part) for item in options.items() for part in item),
        ]

    def _read_wcs(self, path: Path) -> WCS:
        header = fits.getheader(path)
        if self.sip_order < 2:  # an order 1 polynomial is empty, and astropy would warn of it
            for card in [c for c in header if c.startswith(("A_", "B_", "AP_", "BP_"))]:
                del header[card]
            header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
        del header["NAXIS"]  # 0: the file has no image, and astropy would warn of that
        return WCS(header)


def _summary(said: str) -> str:
    """The lines of the program's output that matter, on one line."""
    words = ("log-odds", "solved with", "error", "failed", "killed", "cpu", "time limit", "did not solve")
    lines = [line.strip() for line in said.splitlines() if any(w in line.lower() for w in words)]
    # At every depth, and for every index file, it says anew that nothing was found yet.
    lines = [line for line in dict.fromkeys(lines) if not line.startswith("Field ") or "solved with" in line]
    return "; ".join(lines[-4:])[:600] or "the program said nothing"
