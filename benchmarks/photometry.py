"""Fluxes of stars in many frames: ours against STARRED's loop over the stars."""

import importlib
import tempfile
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Watch, device_peak_mib, in_fresh_process
from benchmarks.report import Report
from benchmarks.stamps import COLUMNS, Growth, Stamps

PURPOSE = (
    "Fluxes of stars of known PSF: `numerics.photometry.fit_star_fluxes` against STARRED, "
    "one star after the other, all its frames jointly, as the original does: `setup_model`, `Loss` and `Optimizer` of "
    "a point source with a flux and a translation per frame, no background."
)


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        stamps: of the comparison.
        starred_stars: stars that STARRED fits, after the one of its first call; 0: that one is timed.
        n_iter, learning_rate: of STARRED, those of the original.
        repeat: fits of ours, of whose times the median is taken.
        growth: of ours.
    """

    stamps: Stamps = field(default_factory=lambda: Stamps(frames=60))
    starred_stars: int = 3
    n_iter: int = 2000
    learning_rate: float = 1e-3
    repeat: int = 5
    growth: Growth = field(default_factory=Growth)


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    if not arguments.quick:
        return Sizes()
    return Sizes(
        stamps=Stamps(frames=16), starred_stars=1, repeat=3,
        growth=Growth(frames=(16, 64), sizes=(24, 32), subsamplings=(1, 2), stars=(4, 8)),
    )  # fmt: skip


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
    ours = in_fresh_process(_fit_ours, inputs, stamps, size.repeat)
    theirs = in_fresh_process(_fit_starred, inputs, stamps, size)
    table = report.table(
        f"Time and memory: {stamps.frames} frames, {stamps.size} x {stamps.size} pixels, k = {stamps.subsampling}",
        {
            "solver": "solver",
            "stars": "stars",
            "ms_per_star_and_frame": "ms per star and frame",
            "frames_per_s": "frames per second, all stars",
            "first_call_s": "first call [s]",
            "peak_mib": "peak memory [MiB]",
            "added_mib": "of it beyond libraries and inputs [MiB]",
            "device_mib": "peak on the GPU [MiB]",
        },
    )
    keys = ("ms_per_star_and_frame", "first_call_s", "peak_mib", "added_mib", "device_mib")
    for solver, stars, fit in (
        ("lcops", stamps.stars, ours),
        ("STARRED", max(size.starred_stars, 1), theirs),
    ):
        rate = 1e3 / (fit["ms_per_star_and_frame"] * stamps.stars)
        table.add(solver=solver, stars=stars, frames_per_s=rate, **{key: fit[key] for key in keys})
    table.notes.append(
        f"STARRED: {size.n_iter} iterations of adabelief, learning rate {size.learning_rate}, without the penalty on "
        "a background that is fixed at zero. Its first call is the first star; it compiles for each star again, and "
        "that is in its time."
    )
    # Where ours rejected a pixel, the two did not fit the same.
    count = len(theirs["chi2"])
    same = ours["complete"][:, :count]
    mine, its = ours["chi2"][:, :count][same], theirs["chi2"].T[same]
    flux = ours["flux"][:, :count][same] / theirs["flux"].T[same] - 1.0
    sigma = (ours["uncertainty"] / ours["flux"])[:, :count][same]
    result = report.table(
        "Ours against STARRED",
        {
            "speed_ratio": "time of STARRED / ours",
            "stamps": "stamps compared",
            "chi2_ratio": "chi2 of ours / STARRED's",
            "chi2_excess": "chi2 of ours - STARRED's, largest of a stamp",
            "flux_difference": "largest difference of a flux, in its uncertainty",
        },
    )
    result.add(
        speed_ratio=theirs["ms_per_star_and_frame"] / ours["ms_per_star_and_frame"],
        stamps=int(same.sum()),
        chi2_ratio=mine.sum() / its.sum(),
        chi2_excess=(mine - its).max(),
        flux_difference=np.abs(flux / sigma).max(),
    )
    result.notes += [
        "Wanted: 300 times faster, and a chi2 of no more than STARRED's.",
        "STARRED moves the image of a frame by bilinear interpolation, which blurs it: its chi2 stays higher "
        "however long it runs, and its fluxes of bright stars differ.",
    ]


def _growth(report: Report, size: Sizes, directory: Path) -> None:
    table = report.table(
        "Growth of ours: one quantity at a time",
        {
            **COLUMNS,
            "ms_per_star_and_frame": "ms per star and frame",
            "converged": "converged",
            "peak_mib": "peak memory [MiB]",
            "added_mib": "of it beyond libraries and inputs [MiB]",
        },
    )
    for case in size.growth.cases(size.stamps):
        inputs = in_fresh_process(_simulate, directory / "grown.npz", case)
        ours = in_fresh_process(_fit_ours, inputs, case, 1)
        table.add(
            **vars(case),
            converged=f"{int(ours['converged'].sum())}/{ours['converged'].size}",
            **{key: ours[key] for key in ("ms_per_star_and_frame", "peak_mib", "added_mib")},
        )
        report.save()


def _simulate(path: Path, case: Stamps) -> Path:
    from lightcurver_ops.simulation.stamps import star_stamps

    stamps = star_stamps(32, case.frames, case.stars, case.size, case.subsampling)
    np.savez(path, data=stamps.data, noise=stamps.noise, psf=stamps.psf)
    return path


def _load(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    with np.load(path) as file:
        return file["data"], file["noise"], file["psf"]


def _fit_ours(inputs: Path, case: Stamps, repeat: int) -> dict[str, Any]:
    from lightcurver_ops.numerics.photometry import fit_star_fluxes
    from lightcurver_ops.numerics.psf.operators import narrow_from_full, star_operator

    data, noise, psf = _load(inputs)
    good = np.ones(data.shape, dtype=bool)
    times = []
    with Watch() as whole:
        for _ in range(repeat + 1):
            with Watch() as once:
                fit = fit_star_fluxes(data, noise, good, psf, subsampling=case.subsampling)
            times.append(once.seconds)
    (across,), (down,) = (
        star_operator(x, case.size, case.subsampling, derivatives=0) for x in (fit.x, fit.y)
    )
    unit = down @ narrow_from_full(psf)[:, None] @ across.swapaxes(-1, -2) * case.subsampling**2
    return {
        "ms_per_star_and_frame": 1e3 * float(np.median(times[1:])) / (case.frames * case.stars),
        "first_call_s": times[0],
        "peak_mib": whole.peak_mib,
        "added_mib": whole.added_mib,
        "device_mib": device_peak_mib(),
        "flux": fit.flux,
        "uncertainty": fit.flux_uncertainty,
        "converged": fit.converged,
        "complete": fit.n_good == case.size**2,
        "chi2": (((data - fit.flux[..., None, None] * unit) / noise) ** 2).sum(axis=(2, 3)),
    }


def _fit_starred(inputs: Path, case: Stamps, size: Sizes) -> dict[str, Any]:
    import jax

    from lightcurver_ops.numerics.psf.operators import narrow_from_full

    importlib.import_module(
        "starred.deconvolution.deconvolution"
    )  # not in the time or memory of the first star
    data, noise, psf = _load(inputs)
    narrow = narrow_from_full(psf)
    times, fluxes, chi2s = [], [], []
    # float32 is STARRED's own precision.
    with Watch() as whole, jax.enable_x64(False):
        for star in range(min(size.starred_stars + 1, case.stars)):
            with Watch() as once:
                flux, model = _one_star(data[:, star], noise[:, star], narrow, case.subsampling, size)
            times.append(once.seconds)
            fluxes.append(flux)
            chi2s.append((((data[:, star] - model) / noise[:, star]) ** 2).sum(axis=(1, 2)))
    return {
        "ms_per_star_and_frame": 1e3 * float(np.median(times[1:] or times)) / case.frames,
        "first_call_s": times[0],
        "peak_mib": whole.peak_mib,
        "added_mib": whole.added_mib,
        "device_mib": device_peak_mib(),
        "flux": np.array(fluxes),
        "chi2": np.array(chi2s),
    }


def _one_star(
    data: np.ndarray, noise: np.ndarray, narrow: np.ndarray, subsampling: int, size: Sizes
) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes [E] and model [E, n, n] of a star in all frames, by STARRED's classes."""
    from starred.deconvolution.deconvolution import setup_model
    from starred.deconvolution.loss import Loss
    from starred.deconvolution.parameters import ParametersDeconv
    from starred.optim.optimization import Optimizer

    scale = float(data.max())
    pixels, variance = data / scale, (noise / scale) ** 2
    model, start, up, down, _ = setup_model(
        pixels,
        variance,
        narrow,
        np.zeros(1),
        np.zeros(1),
        subsampling,
        initial_a=pixels.sum(axis=(1, 2)),
    )
    still = {
        "kwargs_analytic": {"alpha": start["kwargs_analytic"]["alpha"]},
        "kwargs_background": {"h": start["kwargs_background"]["h"], "mean": np.zeros(len(data))},
        "kwargs_sersic": {},
    }
    parameters = ParametersDeconv(start, still, kwargs_up=up, kwargs_down=down)
    loss = Loss(
        pixels, model, parameters, variance, regularization_strength_scales=0, regularization_strength_hf=0
    )
    Optimizer(loss, parameters, method="adabelief").minimize(
        max_iterations=size.n_iter, init_learning_rate=size.learning_rate, progress_bar=False
    )
    best = parameters.best_fit_values(as_kwargs=True)
    flux = np.asarray(best["kwargs_analytic"]["a"], dtype=float) * scale * float(model.scale)
    return flux, np.asarray(model.model(best), dtype=float) * scale
