"""How long the night of a whole observatory takes: computed from the measured core seconds of one lens's night."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measure import in_fresh_process
from benchmarks.pipeline import configured
from lightcurver_ops.airflow.deployment import NIGHT_STAGES, POOL_OF, SEASON_STAGES
from lightcurver_ops.config.observatory import Pools
from lightcurver_ops.errors import TemporaryFailure
from lightcurver_ops.simulation.options import SeasonOptions
from lightcurver_ops.stages.pipeline import STAGE_NAMES

LOOK = "look_for_frames"


@dataclass(frozen=True)
class Cost:
    """What the night of one lens costs, in seconds of one core.

    Attributes:
        stages: of the worker process of each stage, and of one that finds nothing (`LOOK`), as one counts that is
            not in it; its start included.
        task: of a task that finds nothing, with the part of Airflow.
    """

    stages: dict[str, float]
    task: float


def stage_seconds(
    season: SeasonOptions, settings: dict[str, dict[str, Any]], last: str = STAGE_NAMES[-1]
) -> dict[str, float]:
    """Core seconds of the stages up to `last` for the last night of a season whose others have been reduced before.

    Each stage is done by the worker process of Airflow's tasks. Core seconds are what a process needs on a machine
    that has a core for it, however busy this one is.
    """
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        number = STAGE_NAMES.index(last)
        path = in_fresh_process(_reduce, directory, season, settings, number)
        in_fresh_process(_simulate, directory, season)
        requests: dict[str, dict[str, Any]] = {LOOK: {"action": "look_at_season", "first": SEASON_STAGES[0]}}
        for stage in STAGE_NAMES[1 : number + 1]:
            requests[stage] = {
                "action": "stage",
                "stage": stage,
                "raw_ids": None,
                "gates": (),
                "in_parts": False,
            }
        return dict(zip(requests, _work(path, list(requests.values())), strict=True))


def _simulate(directory: Path, season: SeasonOptions) -> None:
    from lightcurver_ops.simulation import simulate_season

    simulate_season(season, directory, nights=[season.n_nights - 1])


def _reduce(directory: Path, season: SeasonOptions, settings: dict[str, dict[str, Any]], number: int) -> Path:
    """All nights but the last one."""
    from lightcurver_ops.config import load_lens
    from lightcurver_ops.simulation import simulate_season
    from lightcurver_ops.simulation.lens_file import write_lens_file
    from lightcurver_ops.stages.base import Lens
    from lightcurver_ops.stages.pipeline import run_pipeline

    truth = simulate_season(season, directory, nights=range(season.n_nights - 1))
    path = configured(write_lens_file(truth, directory / "lens.yaml"), **settings)
    configured(path, compute={"processes": 1, "diagnostics": False})
    lens = Lens(load_lens(path))
    run_pipeline(lens, last=number)
    lens.close()
    return path


# As under Airflow: forks of a process that has imported what they need.
_WORK = """
import json, resource, sys
from airflow.sdk.exceptions import AirflowSkipException
from lightcurver_ops.airflow.child import Child
from lightcurver_ops.airflow.preload import preload
preload()
seconds = []
for request in json.load(sys.stdin):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        Child(forks=True).ask(request)
    except AirflowSkipException:
        pass
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
print(json.dumps(seconds))
"""


def _work(config: Path, requests: list[dict[str, Any]]) -> list[float]:
    """Core seconds of worker processes that do requests, one after the other, as Airflow's tasks give them."""
    common = {"config": str(config), "processes": 1}
    result = subprocess.run(
        [sys.executable, "-c", _WORK],
        input=json.dumps([common | request for request in requests]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    if result.returncode:
        raise TemporaryFailure(f"{requests}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def wall_clock(cost: Cost, n_lenses: int, pools: Pools, cores: int) -> dict[str, Any]:
    """Hours until the light curves of all lenses have their last night, if its frames come at once.

    What a pool has to do goes through its slots, and everything through the cores, one per task; of all these the
    longest decides, and the way of a single lens through all its tasks comes on top.
    """
    nothing = cost.stages[LOOK]
    around = max(0.0, cost.task - nothing)
    # What the night has done is up to date for the season; look_for_frames, night_done, wait_for_nights.
    tasks = [(POOL_OF[stage], cost.stages.get(stage, nothing)) for stage in NIGHT_STAGES]
    for stage in SEASON_STAGES:
        again = stage in NIGHT_STAGES
        tasks.append((POOL_OF[stage], nothing if again else cost.stages.get(stage, nothing)))
    tasks += [("frames", nothing), ("frames", nothing), ("joint", nothing)]
    by_pool: dict[str, float] = {}
    for pool, seconds in tasks:
        by_pool[pool] = by_pool.get(pool, 0.0) + around + seconds
    one_lens = sum(by_pool.values())
    started = len(tasks) * (around + nothing)
    slots = pools.model_dump()
    hours = {pool: n_lenses * seconds / slots[pool] / 3600 for pool, seconds in by_pool.items()}
    hours["cores"] = n_lenses * one_lens / cores / 3600
    limit = max(hours, key=lambda name: hours[name])
    return {
        "tasks": len(tasks) * n_lenses,
        "core_hours": n_lenses * one_lens / 3600,
        "hours": hours[limit] + one_lens / 3600,
        "limit": limit,
        "of_tasks": started / one_lens,
    }
