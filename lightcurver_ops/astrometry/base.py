"""What a plate solver is given, what it returns, and the protocol that all of them follow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from numpy.typing import NDArray

from lightcurver_ops.errors import BadFrame

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Catalogue:
    """Stars with known places, brightest first (sorted here; rows with a non-finite place are dropped).

    Args:
        ra, dec: (M,) ICRS degrees at the epoch of the frame (proper motions already applied).
        mag: (M,) magnitudes in any band near that of the frame; only their order matters. Unknown ones go last.
    """

    ra: FloatArray
    dec: FloatArray
    mag: FloatArray

    def __post_init__(self) -> None:
        ra, dec, mag = (np.asarray(a, dtype=np.float64).ravel() for a in (self.ra, self.dec, self.mag))
        order = np.argsort(np.nan_to_num(mag, nan=np.inf), kind="stable")
        order = order[np.isfinite(ra[order]) & np.isfinite(dec[order])]
        for name, values in (("ra", ra % 360.0), ("dec", dec), ("mag", mag)):
            object.__setattr__(self, name, values[order])

    def __len__(self) -> int:
        return len(self.ra)

    def subset(self, index: NDArray) -> Catalogue:
        """The stars that an index array or boolean mask selects."""
        return Catalogue(self.ra[index], self.dec[index], self.mag[index])


@dataclass(frozen=True)
class SolveRequest:
    """One frame to solve (sources are sorted brightest first here; non-finite ones are dropped).

    Args:
        name: the frame, for messages.
        x, y: (N,) positions of the sources, 0-based pixels, (0, 0) the centre of the first pixel, x = column.
        flux: (N,) their fluxes, any unit.
        shape: (ny, nx) of the image.
        hint_ra, hint_dec: ICRS degrees, where the field is thought to be.
        radius_deg: the centre of the frame is within this many degrees of the hint.
        plate_scale_interval: (low, high) in arcsec/pixel; None where unknown (only already solved frames).
        header: the frame's header, where the strategy reads a WCS from it.
        catalogue: stars of the field; needed to solve against them, else only used to verify and refine.
        sip_order: order of the distortion polynomial to fit where the solution has none; below 2: none.
        allow_unverified: a solution that too few catalogue stars can verify counts, one that they contradict does not.
    """

    name: str
    x: FloatArray
    y: FloatArray
    flux: FloatArray
    shape: tuple[int, int]
    hint_ra: float
    hint_dec: float
    radius_deg: float
    plate_scale_interval: tuple[float, float] | None = None
    header: fits.Header | None = None
    catalogue: Catalogue | None = None
    sip_order: int = 0
    allow_unverified: bool = False

    def __post_init__(self) -> None:
        x, y, flux = (np.asarray(a, dtype=np.float64).ravel() for a in (self.x, self.y, self.flux))
        order = np.argsort(-flux, kind="stable")
        order = order[np.isfinite(x[order]) & np.isfinite(y[order]) & np.isfinite(flux[order])]
        for name, values in (("x", x), ("y", y), ("flux", flux)):
            object.__setattr__(self, name, values[order])

    @property
    def scale_interval(self) -> tuple[float, float]:
        """The plate scale interval; a frame that has none cannot be solved blindly: BadFrame."""
        if self.plate_scale_interval is None:
            raise BadFrame(
                f"{self.name}: cannot be plate solved without a plate_scale_interval; "
                "give the lowest and highest arcsec/pixel that the telescope can have"
            )
        return self.plate_scale_interval


@dataclass(frozen=True)
class Solution:
    """The solved astrometry of one frame.

    Args:
        header: the cards of the WCS, to be written into the frame's header (old WCS cards removed first).
        method: which solver found it.
        n_matched: sources of the frame paired with catalogue stars; 0 where there was no catalogue.
        rms_arcsec, rms_pixels: two-dimensional rms distance of these pairs; NaN where there was no catalogue.
        n_catalogue: catalogue stars on the frame.
        log10_chance: log10 of the probability that so many pairs are chance; 0: nothing was verified.
        log: what was tried, for the ledger.
    """

    header: fits.Header
    method: str
    n_matched: int = 0
    rms_arcsec: float = float("nan")
    rms_pixels: float = float("nan")
    n_catalogue: int = 0
    log10_chance: float = 0.0
    log: str = ""
    wcs: WCS = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wcs", WCS(self.header))


class PlateSolver(Protocol):
    """Finds the WCS of a frame."""

    def solve(self, request: SolveRequest) -> Solution:
        """Solve one frame.

        Raises:
            BadFrame: no trustworthy solution; says why and what was tried.
            ConfigurationError: the solver cannot work on this machine; says what to install or to write.
            TemporaryFailure: network or machine trouble; trying again can succeed.
        """
        ...
