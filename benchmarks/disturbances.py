"""What bad epochs do to the joint model's fluxes of all others, and what they cost in time."""

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from benchmarks.measure import in_fresh_process
from benchmarks.report import Report

if TYPE_CHECKING:
    from lightcurver_ops.numerics.roi.result import RoiFit
    from lightcurver_ops.simulation.roi import RoiStamps

PURPOSE = (
    "One kind of disturbance at a time in some epochs of a lens of two images: how far the fluxes of all other epochs "
    "move, and how much longer the joint model takes."
)
POSITIONS = ((-1.9, 0.8), (1.6, -0.7))
MAGNITUDES = (18.6, 19.4)
GALAXY_MAGNITUDE = 20.0
SUBSAMPLING = 2
Given = dict[str, NDArray[Any]]


def _pixels(given: Given) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """x and y of the pixels from the middle of the stamps."""
    size = given["data"].shape[1]
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    return x, y


def trail(given: Given, e: int, level: float) -> None:
    """A satellite's, through the lens."""
    x, y = _pixels(given)
    given["data"][e] += 60 * level * np.exp(-0.5 * ((0.5 * x - 0.87 * y + 0.3) / 2.2) ** 2)


def cosmic(given: Given, e: int, level: float) -> None:
    """On an image."""
    given["data"][e, 7:9, 3:7] += 80 * level


def hot_column(given: Given, e: int, level: float) -> None:
    """Through an image."""
    given["data"][e, :, 5] += 40 * level


def noise_too_small(given: Given, e: int, level: float) -> None:
    """A noise map that claims a tenth of the noise."""
    given["noise"][e] /= 10


def noise_too_large(given: Given, e: int, level: float) -> None:
    """A noise map that claims ten times the noise."""
    given["noise"][e] *= 10


def broad_psf(given: Given, e: int, level: float) -> None:
    """A PSF much wider than that of the pixels."""
    for name in ("psf", "narrow_psf"):
        given[name][e] = gaussian_filter(given[name][e], 3.0)


def another_place(given: Given, e: int, level: float) -> None:
    """Pixels of empty sky: a frame of elsewhere."""
    given["data"][e] = level * np.random.default_rng(e).normal(size=given["data"][e].shape)


def neighbour(given: Given, e: int, level: float) -> None:
    """A source that is there in this epoch only."""
    x, y = _pixels(given)
    given["data"][e] += 80 * level * np.exp(-0.5 * ((x + 4) ** 2 + (y - 4) ** 2) / 1.5**2)


KINDS: tuple[Callable[[Given, int, float], None], ...] = (
    trail, cosmic, hot_column, noise_too_small, noise_too_large, broad_psf, another_place, neighbour
)  # fmt: skip


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        seasons: epochs, and how many of these are bad.
        size: of the stamps, pixels.
        kinds: of disturbances.
    """

    seasons: tuple[tuple[int, int], ...] = ((6, 1), (60, 6))
    size: int = 14
    kinds: tuple[Callable[[Given, int, float], None], ...] = KINDS


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    return Sizes(seasons=((6, 1),)) if arguments.quick else Sizes()


def run(report: Report, size: Sizes) -> None:
    """Measure everything."""
    for n_epochs, n_bad in size.seasons:
        table = report.table(
            f"{n_bad} of {n_epochs} epochs, {size.size} px",
            {
                "kind": "disturbance",
                "moved": "largest move of another epoch's flux, in its error",
                "fewer": "that of a fit without the bad epochs",
                "own": "largest error of a bad epoch's flux, in its error",
                "aside": "bad epochs set aside",
                "noted": "with a note",
                "good_aside": "good epochs set aside",
                "converged": "converged",
                "time_ratio": "time over that of the undisturbed fit",
            },
        )
        table.notes.append(
            "Errors are the independent and the common one together: what all epochs share moves with the epochs that "
            "the scene is known from. Bad epochs that are set aside have no flux of their own."
        )
        roi = lens(n_epochs, size.size)
        bad = np.linspace(1, n_epochs - 2, n_bad).round().astype(int).tolist()
        # Its time does not count: the first one pays for the processor's clock and the file cache.
        others, _ = in_fresh_process(_timed, without(roi, bad), roi)
        clean, seconds = in_fresh_process(_timed, arrays(roi), roi)
        for kind in size.kinds:
            fit, needed = in_fresh_process(_timed, disturbed(roi, kind, bad), roi)
            table.add(
                kind=kind.__name__.replace("_", " "),
                **_compared(fit, clean, others, roi, bad),
                time_ratio=needed / seconds,
            )
            report.save()


def _compared(
    fit: "RoiFit", clean: "RoiFit", others: "RoiFit", roi: "RoiStamps", bad: list[int]
) -> dict[str, Any]:
    good = np.delete(np.arange(len(clean.flux)), bad)
    error = whole_error(clean)[good]
    own = np.abs(fit.flux - roi.flux)[bad] / whole_error(fit)[bad]
    return {
        "moved": float((np.abs(fit.flux - clean.flux)[good] / error).max()),
        "fewer": float((np.abs(others.flux - clean.flux[good]) / error).max()),
        "own": float(np.nanmax(own)) if np.isfinite(own).any() else None,
        "aside": int(fit.aside[bad].sum()),
        "noted": sum(bool(fit.epoch_note[e]) for e in bad),
        "good_aside": int(fit.aside[good].sum()),
        "converged": bool(fit.converged),
    }


def lens(n_epochs: int, size: int, seed: int = 1) -> "RoiStamps":
    """Simulated stamps of two images and a galaxy."""
    from lightcurver_ops.simulation.roi import roi_stamps

    return roi_stamps(
        seed,
        n_epochs,
        size,
        SUBSAMPLING,
        positions=POSITIONS,
        magnitudes=MAGNITUDES,
        galaxy_magnitude=GALAXY_MAGNITUDE,
    )


def arrays(roi: "RoiStamps") -> Given:
    """Copies of what `fit_roi` takes."""
    return {
        "data": roi.data.copy(),
        "noise": roi.noise.copy(),
        "psf": roi.psf.copy(),
        "narrow_psf": roi.narrow_psf.copy(),
        "translations": roi.translations.copy(),
    }


def disturbed(roi: "RoiStamps", kind: Callable[[Given, int, float], None], bad: list[int]) -> Given:
    """The stamps with some epochs made bad."""
    given = arrays(roi)
    for e in bad:
        kind(given, e, float(np.median(roi.noise[e])))
    return given


def without(roi: "RoiStamps", bad: list[int]) -> Given:
    """The stamps of the other epochs alone."""
    return {name: np.delete(array, bad, axis=0) for name, array in arrays(roi).items()}


def fitted(given: Given, roi: "RoiStamps", good: NDArray[np.bool_] | None = None, **more: Any) -> "RoiFit":
    """The joint model, from positions that are a tenth of a pixel off."""
    from lightcurver_ops.numerics.roi.fit import fit_roi

    return fit_roi(
        **given,
        good=np.ones(given["data"].shape, dtype=bool) if good is None else good,
        subsampling=SUBSAMPLING,
        positions=roi.positions + 0.1,
        **more,
    )


def whole_error(fit: "RoiFit") -> NDArray[np.float64]:
    """Of a flux, what all epochs share included: a scene known from fewer pixels moves all of them together."""
    return np.hypot(fit.flux_uncertainty, fit.common_flux_uncertainty)


def _timed(given: Given, roi: "RoiStamps") -> "tuple[RoiFit, float]":
    start = time.perf_counter()
    fit = fitted(given, roi)
    return fit, time.perf_counter() - start
