"""The joint model of a lens: ours against STARRED's optimiser on STARRED's own loss, and its daily update."""

import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Watch, device_peak_mib, in_fresh_process, warmed_up
from benchmarks.report import Report, Table

PURPOSE = (
    "The joint model of all epochs of a lens (four images, a galaxy): `numerics.roi.fit`, to convergence, against "
    "STARRED's optimiser on STARRED's own loss, until that is as low as for our solution."
)
POINTS_OF_HISTORY = 25
NIGHT = 4  # epochs


@dataclass(frozen=True)
class Stamps:
    """What is simulated."""

    epochs: int = 60
    size: int = 32
    subsampling: int = 2


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        stamps: of the comparison.
        geometries: "held" (positions known, no translations: fluxes and background are free, and both minimise the
            same function) and "free" (positions and translations too).
        limit_s: STARRED is stopped after so long.
        learning_rate: of STARRED's adabelief, for pixels in e-/s.
        tolerance: STARRED has arrived when its loss is within this fraction of that of our solution.
        check_every: iterations of STARRED between two looks at its loss.
        epochs, stamp_sizes, subsamplings: of the growth, one changed at a time.
        daily: epochs that there are when `NIGHT` more come.
    """

    stamps: Stamps = Stamps()
    geometries: tuple[str, ...] = ("held", "free")
    limit_s: float = 1200.0
    learning_rate: float = 1e-2
    tolerance: float = 1e-3
    check_every: int = 10
    epochs: tuple[int, ...] = (60, 250, 1000)
    stamp_sizes: tuple[int, ...] = (24, 32, 48, 64)
    subsamplings: tuple[int, ...] = (1, 2, 3)
    daily: tuple[int, ...] = (60, 1000)


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    chosen = Sizes()
    if arguments.quick:
        chosen = Sizes(
            Stamps(epochs=12, size=24),
            limit_s=60.0,
            epochs=(12, 24),
            stamp_sizes=(24,),
            subsamplings=(1, 2),
            daily=(24, 48),
        )
    if arguments.limit is not None:
        chosen = replace(chosen, limit_s=arguments.limit)
    if arguments.learning_rate is not None:
        chosen = replace(chosen, learning_rate=arguments.learning_rate)
    return chosen


def run(report: Report, size: Sizes) -> None:
    """Measure everything."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        _compare(report, size, directory)
        report.save()
        _growth(report, size, directory)
        _daily(report, size, directory)
    report.save()


def _compare(report: Report, size: Sizes, directory: Path) -> None:
    stamps = size.stamps
    table = report.table(
        f"Objective reached: {stamps.epochs} epochs, {stamps.size} x {stamps.size} pixels, k = {stamps.subsampling}",
        {
            "geometry": "positions and translations",
            "solver": "solver",
            "seconds": "time [s]",
            "frames_per_s": "epochs per second",
            "iterations": "iterations",
            "compile_s": "compilation [s]",
            "arrived": "arrived",
            "loss": "STARRED's loss at the end",
            "loss_ratio": "over that of our solution",
            "speed_ratio": "time over ours",
            "peak_mib": "peak memory [MiB]",
            "added_mib": "of it beyond libraries and inputs [MiB]",
            "device_mib": "peak on the GPU [MiB]",
        },
    )
    table.notes += [
        "Wanted: 20 times faster. Ours ends when no flux moves by more than a fiftieth of its uncertainty.",
        "Compilation: of STARRED in its time, up to its first iteration; ours compiles on a GPU only, and that is not "
        "in its time.",
        f"STARRED has arrived when its loss is at most {1 + size.tolerance:g} times that of our solution; "
        f"it is stopped after {size.limit_s:g} s. It starts from the fluxes of linear least squares, "
        f"which are not in its time; adabelief, learning rate {size.learning_rate:g} for pixels in e-/s.",
        "held: positions known, no translations, the two losses are one function. free: STARRED's first steps are "
        "translations and fluxes alone; it moves the image of an epoch by bilinear interpolation, ours does not, so "
        "that our solution is not quite the minimum of its loss: the mark that it has to reach is higher.",
    ]
    histories = {}
    for geometry in size.geometries:
        inputs = in_fresh_process(_simulate, directory / "compared.npz", stamps, geometry)
        ours = in_fresh_process(_fit_ours, inputs, stamps, geometry)
        theirs = in_fresh_process(_fit_starred, inputs, stamps, geometry, ours, size)
        memory = ("peak_mib", "added_mib", "device_mib")
        table.add(
            geometry=geometry,
            solver="lcops",
            seconds=ours["seconds"],
            frames_per_s=stamps.epochs / ours["seconds"],
            iterations=ours["iterations"],
            compile_s=ours["compile_s"],
            arrived=ours["converged"],
            loss=theirs["target"],
            loss_ratio=1.0,
            speed_ratio=1.0,
            **{key: ours[key] for key in memory},
        )
        table.add(
            geometry=geometry,
            solver="STARRED",
            seconds=theirs["seconds"],
            frames_per_s=stamps.epochs / theirs["seconds"],
            iterations=theirs["iterations"],
            compile_s=theirs["compile_s"],
            arrived=theirs["arrived"],
            loss=theirs["loss"],
            loss_ratio=theirs["loss"] / theirs["target"],
            speed_ratio=theirs["seconds"] / ours["seconds"],
            **{key: theirs[key] for key in memory},
        )
        if not theirs["arrived"]:
            table.notes.append(
                f"{geometry}: not reached after {theirs['seconds']:.0f} s, objective {theirs['loss']:.6g} against "
                f"{theirs['target']:.6g}: the ratio of times is a lower bound."
            )
        histories[geometry] = theirs["history"], theirs["target"]
        report.save()
    history = report.table(
        "STARRED's loss against time",
        {
            "geometry": "positions and translations",
            "seconds": "time [s]",
            "iteration": "iteration",
            "loss_ratio": "loss over that of our solution",
        },
    )
    for geometry, (points, target) in histories.items():
        for seconds, iteration, loss in _thinned(points):
            history.add(geometry=geometry, seconds=seconds, iteration=iteration, loss_ratio=loss / target)


def _thinned(points: list[tuple[float, int, float]]) -> list[tuple[float, int, float]]:
    """At most some points, as far apart at the start as at the end on a logarithmic scale."""
    if not points:
        return []
    index = np.geomspace(1, len(points), POINTS_OF_HISTORY).round().astype(int) - 1
    return [points[i] for i in np.unique(index)]


def _growth(report: Report, size: Sizes, directory: Path) -> None:
    base = size.stamps
    cases = [replace(base, epochs=epochs) for epochs in size.epochs]
    cases += [replace(base, size=side) for side in size.stamp_sizes]
    cases += [replace(base, subsampling=k) for k in size.subsamplings]
    table = report.table(
        "Growth of ours, as the pipeline uses it (with the smooth galaxy): one quantity at a time",
        {
            "epochs": "epochs",
            "size": "stamp [px]",
            "subsampling": "k",
            "seconds": "time [s]",
            "ms_per_epoch": "ms per epoch",
            "iterations": "outer iterations",
            "converged": "converged",
            "peak_mib": "peak memory [MiB]",
            "added_mib": "of it beyond libraries and inputs [MiB]",
            "device_mib": "peak on the GPU [MiB]",
        },
    )
    for case in dict.fromkeys(cases):
        measure_growth(table, directory, case)
        report.save()


def measure_growth(table: Table, directory: Path, case: Stamps) -> None:
    """A row of the growth; a case that the memory does not hold becomes a note."""
    try:
        inputs = in_fresh_process(_simulate, directory / "grown.npz", case, "free", True)
        fit = in_fresh_process(_fit_as_the_pipeline, inputs, case)
    except MemoryError as error:
        table.notes.append(f"{case}: {error}")
        return
    table.add(**vars(case), ms_per_epoch=1e3 * fit["seconds"] / case.epochs, **fit)


def _daily(report: Report, size: Sizes, directory: Path) -> None:
    base = size.stamps
    table = report.table(
        f"The daily update: {NIGHT} epochs more, {base.size} x {base.size} pixels, k = {base.subsampling}",
        {
            "epochs": "epochs before",
            "scratch_s": "from scratch [s]",
            "seconds": "update [s]",
            "file_s": "of it reading and writing what is kept [s]",
            "file_mib": "size of that file [MiB]",
            "updated": "was an update",
            "iterations": "outer iterations",
            "over_first": "time over that of the first row",
            "peak_mib": "peak memory [MiB]",
        },
    )
    table.notes.append(
        "Wanted: 4 epochs more than 1000 take at most twice as long as 4 more than 60. On a GPU with "
        "compilations, which the pipeline keeps on disk."
    )
    first = None
    for epochs in size.daily:
        inputs = in_fresh_process(
            _simulate, directory / "daily.npz", replace(base, epochs=epochs + NIGHT), "free", True
        )
        scratch = in_fresh_process(_first_night, inputs, base, epochs, directory / "memory.h5")
        update = in_fresh_process(_next_night, inputs, base, directory / "memory.h5")
        first = first or update["seconds"]
        table.add(epochs=epochs, scratch_s=scratch, over_first=update["seconds"] / first, **update)
        report.save()


def _first_night(inputs: Path, case: Stamps, epochs: int, path: Path) -> float:
    from lightcurver_ops.storage.roi_memory import write_roi_memory

    arrays = {name: array[:epochs] if name != "positions" else array for name, array in _load(inputs).items()}
    with Watch() as watch:
        _fit_from(arrays, case, None, lambda kept: write_roi_memory(path, kept))
    return watch.seconds


def _next_night(inputs: Path, case: Stamps, path: Path) -> dict[str, Any]:
    from lightcurver_ops.storage.roi_memory import read_roi_memory, write_roi_memory

    arrays = _load(inputs)
    with Watch() as watch:
        begun = time.perf_counter()
        known = read_roi_memory(path)
        file_s = time.perf_counter() - begun

        def remember(kept: Any) -> None:
            nonlocal file_s
            begun = time.perf_counter()
            write_roi_memory(path, kept)
            file_s += time.perf_counter() - begun

        fit = _fit_from(arrays, case, known, remember)
    return {
        "seconds": watch.seconds,
        "file_s": file_s,
        "file_mib": path.stat().st_size / 2**20,
        "updated": fit.updated,
        "iterations": fit.n_iter,
        "peak_mib": watch.peak_mib,
    }


def _fit_from(arrays: dict[str, np.ndarray], case: Stamps, known: Any, remember: Any) -> Any:
    from lightcurver_ops.numerics.roi.fit import fit_roi

    keys = [str(epoch) for epoch in range(len(arrays["data"]))]
    return fit_roi(**arrays, subsampling=case.subsampling, keys=keys, memory=known, remember=remember)


def _simulate(path: Path, case: Stamps, geometry: str, as_the_pipeline: bool = False) -> Path:
    from lightcurver_ops.numerics.psf.operators import narrow_from_full
    from lightcurver_ops.simulation.roi import roi_stamps

    translation = 0.0 if geometry == "held" else 0.5
    stamps = roi_stamps(33, case.epochs, case.size, case.subsampling, translation=translation)
    psf = stamps.psf
    if not as_the_pipeline:
        # With a PSF of even side STARRED's background lies half a small pixel beside ours.
        odd = psf.shape[-1] - 1 + psf.shape[-1] % 2
        side = odd / case.subsampling
        psf = np.array([shape.at().image(side, case.subsampling) for shape in stamps.shapes])
    np.savez(
        path,
        data=stamps.data,
        noise=stamps.noise,
        psf=psf,
        narrow_psf=narrow_from_full(psf),
        positions=stamps.positions,
    )
    return path


def _load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        arrays = dict(file)
    return arrays | {"good": np.ones(arrays["data"].shape, dtype=bool)}


def _problem(arrays: dict[str, np.ndarray], case: Stamps, geometry: str) -> Any:
    """The problem that both solve, and where they start."""
    from lightcurver_ops.numerics.roi.fit import set_up
    from lightcurver_ops.numerics.roi.result import RoiOptions

    free = geometry == "free"
    return set_up(
        arrays["data"],
        arrays["noise"],
        arrays["good"],
        arrays["psf"],
        case.subsampling,
        arrays["positions"],
        None,
        None,
        not free,
        None,
        True,
        arrays["narrow_psf"],
        RoiOptions(galaxy=False, reject=False, translation_sigma=0.5 if free else 0.0),
        like_starred=True,
    )


def _fit_ours(inputs: Path, case: Stamps, geometry: str) -> dict[str, Any]:
    from lightcurver_ops.numerics.roi.finish import finish
    from lightcurver_ops.numerics.roi.iterate import solve

    arrays = _load(inputs)

    def once() -> tuple[Any, Any]:
        problem, outcome = solve(*_problem(arrays, case, geometry))
        return outcome, finish(problem, outcome)

    with Watch() as watch:
        (outcome, fit), seconds, compile_s = warmed_up(once)
    assert outcome.normal is not None
    # Our weights in STARRED's units: it multiplies by the epochs over k^2, and shares strengths by scale.
    weights = np.sqrt(outcome.normal.starlet_variance) * case.subsampling**2 / case.epochs
    return {
        "seconds": seconds,
        "compile_s": compile_s,
        "iterations": fit.n_iter,
        "converged": bool(fit.converged),
        "state": outcome.state,
        "weights": np.concatenate([weights, weights[-1:]]),
        "peak_mib": watch.peak_mib,
        "added_mib": watch.added_mib,
        "device_mib": device_peak_mib(),
    }


def _fit_as_the_pipeline(inputs: Path, case: Stamps) -> dict[str, Any]:
    from lightcurver_ops.numerics.roi.fit import fit_roi

    arrays = _load(inputs)
    with Watch() as watch:
        fit, seconds, _ = warmed_up(lambda: fit_roi(**arrays, subsampling=case.subsampling))
    return {
        "seconds": seconds,
        "iterations": fit.n_iter,
        "converged": bool(fit.converged),
        "peak_mib": watch.peak_mib,
        "added_mib": watch.added_mib,
        "device_mib": device_peak_mib(),
    }


def _fit_starred(
    inputs: Path, case: Stamps, geometry: str, ours: dict[str, Any], size: Sizes
) -> dict[str, Any]:
    """STARRED's optimiser until its loss is as low as ours, or the time is over."""
    import warnings

    import jax
    from starred.optim.optimization import Optimizer

    from lightcurver_ops.numerics.roi.points import points_only
    from lightcurver_ops.numerics.roi.reference import starred_loss

    class Watched(Optimizer):
        """STARRED's own loop, which ends at a loss or at a time, and remembers both."""

        until, target = np.inf, -np.inf

        def _for_loop(self, iterable: Any, *_: Any, **__: Any) -> Iterator[int]:
            self.points: list[tuple[float, float, int]] = []
            for iteration in iterable:
                yield iteration
                # Looking waits for the device: not every time.
                if iteration == 0 or (iteration + 1) % size.check_every == 0:
                    loss = float(self._metrics.loss_history[-1])
                    now = time.perf_counter()
                    self.points.append((now, iteration + 1, loss))
                    if loss <= self.target or now > self.until:
                        return

    # Our PSFs are one small pixel narrower than its images, on purpose.
    warnings.filterwarnings("ignore", message="The narrow PSF does not have the same size")
    arrays = _load(inputs)
    problem, state = _problem(arrays, case, geometry)
    held = ("c_x", "c_y", "dx", "dy") if geometry == "held" else ()
    with jax.enable_x64(False), Watch() as watch:
        _, loss, at_ours = starred_loss(problem, ours["state"], ours["weights"])
        fixed = {"kwargs_analytic": {name: at_ours["kwargs_analytic"][name] for name in held}}
        function, parameters = loss(fixed, at_ours, True)
        target = float(function(parameters.kwargs2args(at_ours)))
        linear = replace(problem.layout, background=False, move_positions=False, translation_sigma=0.0)
        begin = points_only(replace(problem, layout=linear), state).state
        _, loss, kwargs = starred_loss(problem, begin, ours["weights"])
        started = time.perf_counter()
        options = {"max_iterations": 10**9, "init_learning_rate": size.learning_rate}
        if geometry == "free":
            still = {
                "kwargs_analytic": {name: kwargs["kwargs_analytic"][name] for name in ("c_x", "c_y")},
                "kwargs_background": {"h": kwargs["kwargs_background"]["h"]},
            }
            function, parameters = loss(still, kwargs, False)
            first = Watched(function, parameters, method="adabelief")
            first.until = started + size.limit_s
            first.minimize(**options | {"max_iterations": problem.options.max_first_iterations})
            kwargs = parameters.best_fit_values(as_kwargs=True)
        fixed = {"kwargs_analytic": {name: kwargs["kwargs_analytic"][name] for name in held}}
        function, parameters = loss(fixed, kwargs, True)
        begun = time.perf_counter()
        optimiser = Watched(function, parameters, method="adabelief")
        optimiser.until, optimiser.target = started + size.limit_s, (1 + size.tolerance) * target
        optimiser.minimize(**options)
    best = min(loss for _, _, loss in optimiser.points)
    end, iterations, _ = optimiser.points[-1]
    return {
        "target": target,
        "seconds": end - started,
        "compile_s": optimiser.points[0][0] - begun,
        "iterations": iterations,
        "arrived": best <= optimiser.target,
        "loss": best,
        "history": [(now - started, iteration, loss) for now, iteration, loss in optimiser.points],
        "peak_mib": watch.peak_mib,
        "added_mib": watch.added_mib,
        "device_mib": device_peak_mib(),
    }
