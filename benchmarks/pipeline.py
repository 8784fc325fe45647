"""The whole pipeline on a simulated season: seconds per frame, by stage."""

import os
import tempfile
import time
from argparse import Namespace
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.measure import Watch, in_fresh_process
from benchmarks.report import Report
from lightcurver_ops.simulation.options import SeasonOptions

PURPOSE = (
    "The whole pipeline (`stages.pipeline.run_pipeline`) on a simulated season: seconds per frame, by stage."
)
MODELS = ("psf_modeling", "star_photometry", "model_calibrated_cutouts")


@dataclass(frozen=True)
class Run:
    """How a season is reduced: with figures or not, and with compiled code on disk or none."""

    figures: bool
    compiled: bool

    @property
    def name(self) -> str:
        return (
            f"{'figures' if self.figures else 'no figures'}, {'' if self.compiled else 'not '}compiled before"
        )


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        season: what is simulated.
        processes: of the frame-wise stages.
        runs: each in a working directory of its own, one after the other; the first one compiles.
        settings: sections of the lens's configuration.
    """

    season: SeasonOptions = field(
        default_factory=lambda: SeasonOptions(name="bench", seed=1, n_nights=15, exposures_per_night=4)
    )
    processes: int = 2
    runs: tuple[Run, ...] = (Run(True, False), Run(True, True), Run(False, True))
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    chosen = Sizes()
    if arguments.quick:
        chosen = replace(chosen, season=replace(chosen.season, n_nights=6), runs=chosen.runs[:2])
    return replace(chosen, processes=arguments.processes)


def run(report: Report, size: Sizes) -> None:
    """Measure everything."""
    if size.runs[0].compiled:
        raise ValueError("the first run is the one that compiles")
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        in_fresh_process(_simulate, directory, size.season)
        results = {}
        for number, one in enumerate(size.runs):
            results[one] = in_fresh_process(_reduce, directory, number, one, size)
    frames = size.season.n_nights * size.season.exposures_per_night * len(size.season.filters)
    table = report.table(
        f"{frames} frames of {size.season.shape[1]} x {size.season.shape[0]} pixels, {size.processes} processes",
        {
            "run": "run",
            "frames_per_s": "frames per s",
            "s_per_frame": "s per frame",
            "models": "of it models (stages 6, 7, 11)",
            "rest": "stamps, import and everything else",
            "used": "frames in the light curve",
            "peak_mib": "peak memory [MiB]",
            "peak_worker_mib": "of a worker process [MiB]",
        },
    )
    table.notes.append("Wanted: less than 0.25 s a frame for stamps, import and everything else.")
    stages = report.table(
        "Seconds per frame by stage",
        {"stage": "stage"} | {f"run{number}": one.name for number, one in enumerate(results)},
    )
    for one, result in results.items():
        seconds = result["seconds"]
        total, models = sum(seconds.values()), sum(seconds[stage] for stage in MODELS)
        table.add(
            run=one.name,
            frames_per_s=frames / total,
            s_per_frame=total / frames,
            models=models / frames,
            rest=(total - models) / frames,
            **{key: result[key] for key in ("used", "peak_mib", "peak_worker_mib")},
        )
    for stage in next(iter(results.values()))["seconds"]:
        costs = {
            f"run{number}": one["seconds"][stage] / frames for number, one in enumerate(results.values())
        }
        stages.add(stage=stage, **costs)
    report.save()


def configured(path: Path, **sections: dict[str, Any]) -> Path:
    """A lens's file with other values: section={key: value}."""
    content = yaml.safe_load(path.read_text())
    for name, keys in sections.items():
        content[name] = {**(content.get(name) or {}), **keys} if isinstance(keys, dict) else keys
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _simulate(directory: Path, season: SeasonOptions) -> None:
    from lightcurver_ops.simulation import simulate_season

    simulate_season(season, directory)


def _reduce(directory: Path, number: int, one: Run, size: Sizes) -> dict[str, Any]:
    import resource

    from lightcurver_ops.config import load_lens
    from lightcurver_ops.simulation import load_truth
    from lightcurver_ops.simulation.lens_file import write_lens_file
    from lightcurver_ops.stages.base import Lens
    from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
    from lightcurver_ops.stages.pipeline import StageResult, run_pipeline
    from lightcurver_ops.storage.prepared import read_prepared

    # What another benchmark, or the user, has compiled before must not help the first run.
    os.environ["LCOPS_CACHE"] = str(directory / "cache")
    path = write_lens_file(load_truth(directory), directory / f"run{number}.yaml")
    configured(
        path,
        **size.settings,
        workdir=f"./work{number}",
        compute={"processes": size.processes, "diagnostics": one.figures},
    )
    lens = Lens(load_lens(path))
    seconds: dict[str, float] = {}
    last = time.perf_counter()

    def announce(result: StageResult) -> None:
        nonlocal last
        now = time.perf_counter()
        seconds[result.name], last = now - last, now

    with Watch() as watch:
        run_pipeline(lens, announce=announce)
    lens.close()
    used = sum(len(read_prepared(prepared_path(lens.config, one.name)).mjd) for one in size.season.filters)
    workers = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    return {
        "seconds": seconds,
        "used": used,
        "peak_mib": watch.peak_mib,
        "peak_worker_mib": workers if size.processes > 1 else None,
    }
