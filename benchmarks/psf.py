"""PSFs of frames: ours against STARRED's `build_psf`, on the same stamps."""

import importlib
import tempfile
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Watch, device_peak_mib, in_fresh_process
from benchmarks.report import Report, Table
from benchmarks.stamps import COLUMNS, Growth, Stamps

PURPOSE = (
    "PSFs of frames from the stamps of their stars: `numerics.psf.fit.fit_psfs` against "
    "`starred.procedures.psf_routines.build_psf`, on the same simulated stamps."
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        stamps: of the comparison.
        starred_frames: frames that STARRED fits, after the one of its first call; 0: that one is timed.
        n_iter_analytic, n_iter_pixels: at most (ours), exactly (STARRED); the defaults of the configuration.
        repeat: fits of ours, of whose times the median is taken.
        growth: of ours.
    """

    stamps: Stamps = field(default_factory=Stamps)
    starred_frames: int = 3
    n_iter_analytic: int = 100
    n_iter_pixels: int = 3000
    repeat: int = 3
    growth: Growth = field(default_factory=Growth)


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    if not arguments.quick:
        return Sizes()
    return Sizes(
        stamps=Stamps(frames=8),
        starred_frames=1,
        repeat=1,
        growth=Growth(frames=(4, 16), sizes=(24, 32), subsamplings=(1, 2), stars=(4, 8)),
    )


def run(report: Report, size: Sizes) -> None:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _compare(report, size, directory)
        report.save()
        _growth(report, size, directory)
    report.save()


def _compare(report: Report, size: Sizes, directory: Path) -> None:
    stamps = size.stamps
    inputs = in_fresh_process(_simulate, directory / "compared.npz", stamps)
    limits = (size.n_iter_analytic, size.n_iter_pixels)
    cache = directory / "compiled"
    ours = in_fresh_process(_fit_ours, inputs, stamps, limits, cache, stamps.frames, size.repeat)
    cached = in_fresh_process(_fit_ours, inputs, stamps, limits, cache, stamps.frames, 0)
    theirs = in_fresh_process(_fit_starred, inputs, stamps, limits, ours["fits"], size.starred_frames + 1)
    losses = in_fresh_process(_losses, inputs, stamps, ours["fits"], theirs["fits"])
    table = report.table(
        f"Time and memory: {stamps.stars} stars, {stamps.size} x {stamps.size} pixels, k = {stamps.subsampling}",
        {
            "solver": "solver",
            "frames": "frames",
            "seconds_per_frame": "s per frame, compiled",
            "frames_per_s": "frames per second",
            "first_call_s": "first call, nothing compiled [s]",
            "first_call_cached_s": "first call, compiled code on disk [s]",
            "frames_of_first_call": "frames of the first call",
            "peak_mib": "peak memory [MiB]",
            "added_mib": "of it beyond libraries and inputs [MiB]",
            "device_mib": "peak on the GPU [MiB]",
        },
    )
    table.add(
        solver="lcops",
        frames=stamps.frames,
        seconds_per_frame=ours["seconds_per_frame"],
        frames_per_s=_rate(ours),
        first_call_s=ours["first_call_s"],
        first_call_cached_s=cached["first_call_s"],
        frames_of_first_call=stamps.frames,
        **{key: ours[key] for key in ("peak_mib", "added_mib", "device_mib")},
    )
    table.add(
        solver="STARRED",
        frames=max(size.starred_frames, 1),
        seconds_per_frame=theirs["seconds_per_frame"],
        frames_per_s=_rate(theirs),
        first_call_s=theirs["first_call_s"],
        first_call_cached_s=None,
        frames_of_first_call=1,
        **{key: theirs[key] for key in ("peak_mib", "added_mib", "device_mib")},
    )
    table.notes.append(
        f"STARRED: {size.n_iter_analytic} iterations of the Moffat, {size.n_iter_pixels} of the pixel grid; ours ends "
        "when it has converged. STARRED gets the pixels that ours used, and its time is that of `build_psf` alone."
    )
    ratios = [one["ours"] / one["theirs"] for one in losses]
    result = report.table(
        "Ours against STARRED",
        {
            "speed_ratio": "time of STARRED / ours",
            "frames_compared": "frames compared",
            "loss_ratio_median": "STARRED's loss: ours / its own, median",
            "loss_ratio_worst": "largest",
            "psf_difference": "sum of absolute differences of the full PSFs, largest",
            "converged": "ours converged, of the frames",
        },
    )
    result.add(
        speed_ratio=theirs["seconds_per_frame"] / ours["seconds_per_frame"],
        frames_compared=len(ratios),
        loss_ratio_median=float(np.median(ratios)) if ratios else None,
        loss_ratio_worst=max(ratios, default=None),
        psf_difference=max((one["difference"] for one in losses), default=None),
        converged=f"{int(ours['fits'].converged.sum())}/{stamps.frames}",
    )
    result.notes.append("Wanted: a ratio of STARRED's own loss of at most 1.001.")
    if len(ratios) < len(theirs["fits"]):
        result.notes.append(
            f"{len(theirs['fits']) - len(ratios)} frames are not compared: other pixels took part"
        )


def _rate(fit: dict[str, Any]) -> float | None:
    return 1.0 / fit["seconds_per_frame"] if fit["seconds_per_frame"] else None


def _growth(report: Report, size: Sizes, directory: Path) -> None:
    table = report.table(
        "Growth of ours: one quantity at a time",
        {
            **COLUMNS,
            "seconds_per_frame": "s per frame, compiled",
            "first_call_s": "first call, one frame, nothing compiled [s]",
            "iterations": "iterations of the pixel grid, median",
            "converged": "converged",
            "peak_mib": "peak memory [MiB]",
            "added_mib": "of it beyond libraries and inputs [MiB]",
            "device_mib": "peak on the GPU [MiB]",
        },
    )
    for case in size.growth.cases(size.stamps):
        measure_growth(table, directory, case, (size.n_iter_analytic, size.n_iter_pixels))
        report.save()


def measure_growth(table: Table, directory: Path, case: Stamps, limits: tuple[int, int]) -> None:
    """A row of the growth; a case that the memory does not hold becomes a note."""
    try:
        inputs = in_fresh_process(_simulate, directory / "grown.npz", case)
        with tempfile.TemporaryDirectory(dir=directory) as cache:
            ours = in_fresh_process(_fit_ours, inputs, case, limits, Path(cache), 1, 1)
    except MemoryError as error:
        table.notes.append(f"{case}: {error}")
        return
    fits = ours.pop("fits")
    table.add(
        **vars(case),
        **ours,
        iterations=int(np.median(fits.n_iter)),
        converged=f"{int(fits.converged.sum())}/{case.frames}",
    )


def _simulate(path: Path, case: Stamps) -> Path:
    from lightcurver_ops.simulation.stamps import star_stamps

    stamps = star_stamps(31, case.frames, case.stars, case.size, case.subsampling)
    np.savez(path, data=stamps.data, noise=stamps.noise)
    return path


def _load(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path) as file:
        data, noise = file["data"], file["noise"]
    return data, noise, np.ones(data.shape, dtype=bool)


def _fit_ours(
    inputs: Path, case: Stamps, limits: tuple[int, int], cache: Path, first: int, repeat: int
) -> dict[str, Any]:
    """The first call with some frames, and then as often as asked with all of them."""
    from lightcurver_ops.numerics.psf.compilation import enable_compilation_cache
    from lightcurver_ops.numerics.psf.fit import fit_psfs

    enable_compilation_cache(cache)
    data, noise, good = _load(inputs)
    options = {
        "subsampling": case.subsampling,
        "n_iter_analytic": limits[0],
        "n_iter_pixels": limits[1],
        # As STARRED's: its stamps have no background of their own.
        "local_sky": False,
    }
    with Watch() as whole:
        with Watch() as call:
            fits = fit_psfs(data[:first], noise[:first], good[:first], **options)
        times = []
        for _ in range(repeat):
            with Watch() as once:
                fits = fit_psfs(data, noise, good, **options)
            times.append(once.seconds)
    return {
        "first_call_s": call.seconds,
        "seconds_per_frame": float(np.median(times)) / len(data) if times else None,
        "peak_mib": whole.peak_mib,
        "added_mib": whole.added_mib,
        "device_mib": device_peak_mib(),
        "fits": fits,
    }


def _fit_starred(
    inputs: Path, case: Stamps, limits: tuple[int, int], ours: Any, count: int
) -> dict[str, Any]:
    """Some frames, one by one, with the pixels that ours used to the end."""
    from lightcurver_ops.numerics.psf.batch import Batch
    from lightcurver_ops.numerics.psf.prepare import prepare_stamps
    from lightcurver_ops.numerics.psf.reference import solve_with_starred

    importlib.import_module(
        "starred.procedures.psf_routines"
    )  # not in the time or the memory of the first call
    data, noise, _ = _load(inputs)
    good = ours.good & ours.used[..., None, None]
    fits, times = [], []
    with Watch() as whole:
        for frame in range(min(count, len(data))):
            part = slice(frame, frame + 1)
            prepared = prepare_stamps(data[part], noise[part], good[part], None)
            batch = Batch(prepared, case.subsampling, np.zeros((1, case.stars, 2)), 1, local_sky=False)
            with Watch() as once:
                solve_with_starred(batch, *limits, distorted=False)
            times.append(once.seconds)
            fits.append(batch.result())
    return {
        "first_call_s": times[0],
        "seconds_per_frame": float(np.median(times[1:] or times)),
        "peak_mib": whole.peak_mib,
        "added_mib": whole.added_mib,
        "device_mib": device_peak_mib(),
        "fits": fits,
    }


def _losses(inputs: Path, case: Stamps, ours: Any, theirs: list[Any]) -> list[dict[str, float]]:
    """STARRED's own loss of both solutions, per frame that both fitted to the same pixels."""
    from lightcurver_ops.numerics.psf.reference import starred_loss

    data, noise, _ = _load(inputs)
    found = []
    for frame, starred in enumerate(theirs):
        stars = ours.used[frame]
        if not np.array_equal(stars, starred.used[0]):
            continue
        good = ours.good[frame, stars]
        if not np.array_equal(good, starred.good[0, stars]):
            continue
        d, sigma = data[frame, stars], noise[frame, stars]
        found.append(
            {
                "ours": starred_loss(d, sigma, good, ours, frame, case.subsampling),
                "theirs": starred_loss(d, sigma, good, starred, 0, case.subsampling),
                "difference": float(np.abs(ours.full_psf[frame] - starred.full_psf[0]).sum()),
            }
        )
    return found
