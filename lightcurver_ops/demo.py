"""`make demo`, `make up`, `make down`: simulated lenses through the command line and through Airflow.

python -m lightcurver_ops.demo run|up|down|airflow DIRECTORY [PORT [ARGUMENTS OF AIRFLOW]]
"""

import shutil
import socket
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import yaml

from lightcurver_ops.airflow.local import LocalAirflow, wait_for
from lightcurver_ops.cli.common import shown_progress
from lightcurver_ops.config import load_lens
from lightcurver_ops.errors import ConfigurationError, LightcurverError, TemporaryFailure
from lightcurver_ops.stages.base import Lens, RunOptions
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.pipeline import StageResult, run_pipeline

SOURCE = Path(__file__).parents[1]
_FINISHED_S = 1800.0
# A demonstration need not wait for slow transfers; its season lies in the past.
_SETTINGS = {
    "watch": {"poll_seconds": 3, "settle_seconds": 3, "gather_seconds": 5},
    "airflow": {"retry_delay_seconds": 10, "season_poll_seconds": 3},
    "defaults": {"operations": {"alert_after_nights_without_frames": None}},
}


def demo(directory: Path) -> None:
    """Simulate two lenses, reduce them with the command line and with Airflow, compare with the truth and each other.

    A directory that holds an earlier demonstration is completed, not made again.
    """
    started = time.monotonic()
    if local_airflow(directory, 0).running():
        raise ConfigurationError(
            f"the Airflow of {directory} is up, and can have one master only: make down first"
        )
    by_hand = reduce_by_hand(directory)
    print(
        "\nNow the same nights through Airflow: scheduler, DAG processor, triggerer and API server ...",
        flush=True,
    )
    airflow = local_airflow(directory, free_port())
    airflow.prepare()
    airflow.start()
    try:
        airflow.wait_until_healthy()
        wait_until_reduced(airflow, by_hand)
    finally:
        airflow.stop()
    print("\nLight curves of the command line and of Airflow, largest difference of all magnitudes:\n")
    for name, lens in by_hand.items():
        other = load_lens(directory / "lenses" / f"{name}.yaml")
        for table in _tables(lens.config):
            here = _read(table)
            there = _read(other.workdir / "prepared_roi_cutouts" / table.name)
            print(f"  {name}: {len(here['mjd'])} epochs, {_largest_difference(here, there):.1e} mag")
    print(
        f"\nLight curves, figures and models: {directory / 'work'}\n"
        f"Look further:  lcops status {directory / 'lenses' / 'demo.yaml'};  make up  (Airflow's web pages)\n"
        f"{time.monotonic() - started:.0f} s"
    )


def reduce_by_hand(directory: Path, names: Sequence[str] | None = None) -> dict[str, Lens]:
    """Simulate two lenses; run these of them (default: both), compare with the truth.

    Returns:
        lens: the lens, in a working directory of its own.
    """
    from lightcurver_ops.simulation.comparison import as_text, compare
    from lightcurver_ops.simulation.observatory import simulate_observatory

    print(f"Simulating two lenses in {directory} ...", flush=True)
    truths = simulate_observatory(directory, settings=_SETTINGS)
    lenses = {}
    for name in truths if names is None else names:
        truth = truths[name]
        print(f"\n{name}: {len(truth.frames)} raw frames, with lcops:", flush=True)
        lens = lenses[name] = Lens(load_lens(_lens_file_by_hand(directory, name)))
        with shown_progress() as progress:
            run_pipeline(lens, options=RunOptions(progress=progress), announce=_announce)
        lens.close()
        for one in truth.options.filters:
            table = prepared_path(lens.config, one.name, "_photometry_per_epoch.csv")
            print(f"\nMeasured minus true magnitudes, filter {one.name}:\n")
            print(as_text(compare(truth, one.name, _read(table))), flush=True)
    return lenses


def _lens_file_by_hand(directory: Path, name: str) -> Path:
    """The lens's file with a working directory of its own, so that both ways start from raw frames."""
    content = yaml.safe_load((directory / "lenses" / f"{name}.yaml").read_text())
    content["workdir"] = str((directory / "by_hand" / name).absolute())
    content["observatory"] = str((directory / "observatory.yaml").absolute())
    path = directory / "by_hand" / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def _announce(result: StageResult) -> None:
    print(f"  {result.name}: {result.report.summary() if result.report else 'up to date'}", flush=True)


def wait_until_reduced(airflow: LocalAirflow, expected: dict[str, Lens]) -> None:
    """Wait until all runs are over and the light curves have as many epochs as they should.

    Raises:
        TemporaryFailure: a run failed, or it takes too long.
    """
    api = airflow.api()
    told: set[str] = set()
    begin = datetime.now(UTC) - timedelta(minutes=5)

    def finished() -> bool:
        runs = api.get("/dags/~/dagRuns", params={"limit": 500, "order_by": "run_after"}).json()["dag_runs"]
        for run in runs:
            name = f"{run['dag_id']} {run['dag_run_id']}"
            if run["state"] == "failed" and datetime.fromisoformat(run["queued_at"]) > begin:
                raise TemporaryFailure(f"{name} failed; its log is in {airflow.home / 'logs'}")
            if (
                run["state"] == "success"
                and name not in told
                and run["dag_id"].endswith(("__nightly", "__season"))
            ):
                told.add(name)
                print(f"  {name}: {run['state']}", flush=True)
        if any(run["state"] in ("queued", "running") for run in runs):
            return False
        return all(_is_as_long(airflow.observatory.parent, name, lens) for name, lens in expected.items())

    if not wait_for(finished, _FINISHED_S, 3.0):
        raise TemporaryFailure(
            f"Airflow has not finished after {_FINISHED_S / 60:.0f} minutes: see {airflow.home / 'logs'}"
        )


def _is_as_long(directory: Path, name: str, lens: Lens) -> bool:
    config = load_lens(directory / "lenses" / f"{name}.yaml")
    for table in _tables(lens.config):
        other = config.workdir / "prepared_roi_cutouts" / table.name
        if not other.exists() or len(_read(other)["mjd"]) != len(_read(table)["mjd"]):
            return False
    return True


def _tables(config: object) -> list[Path]:
    return sorted(prepared_path(config, "x").parent.glob("*_photometry_per_epoch.csv"))


def _read(path: Path) -> dict[str, np.ndarray]:
    from lightcurver_ops.storage.tables import read_table

    return read_table(path)


def _largest_difference(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> float:
    columns = [name for name in one if name.endswith("_mag") and "_d_" not in name]
    return max(float(np.nanmax(np.abs(one[name] - other[name]))) for name in columns)


def local_airflow(directory: Path, port: int) -> LocalAirflow:
    """The Airflow of a demonstration."""
    directory = directory.absolute()
    return LocalAirflow(directory / "airflow", directory / "observatory.yaml", SOURCE, port)


def up(directory: Path, port: int) -> None:
    """Start Airflow with the demonstration's observatory; it finds the raw frames by itself."""
    from lightcurver_ops.simulation.observatory import simulate_observatory

    airflow = local_airflow(directory, port)
    if airflow.running():
        print(f"Airflow is already up: {', '.join(airflow.running())}; make down stops it")
        return
    print(f"Simulating two lenses in {directory} ...", flush=True)
    simulate_observatory(directory, settings=_SETTINGS)
    print("Starting Airflow ...", flush=True)
    airflow.prepare()
    airflow.start()
    try:
        airflow.wait_until_healthy()
    except BaseException:
        airflow.stop()
        raise
    print(
        f"\nAirflow is up: {airflow.url}\n"
        f"    user admin, password {airflow.password()}\n\n"
        "The raw frames of two lenses are there: their nights start by themselves, then their seasons. In some\n"
        f"minutes the light curves are in {directory / 'work'}.\n"
        f"Logs: {airflow.home / 'logs'}.  Stop with: make down\n"
        "Commands of this Airflow: make airflow ARGS='dags list'"
    )


def down(directory: Path) -> None:
    """Stop it."""
    airflow = local_airflow(directory, 0)
    running = airflow.running()
    airflow.stop()
    print("Airflow is stopped." if running else "Airflow was not running.")


def free_port() -> int:
    """A port that nobody uses."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    action, directory = arguments[0], Path(arguments[1])
    if shutil.which("airflow", path=str(Path(sys.executable).parent)) is None:
        print(
            "Airflow is not installed in this environment: use make demo, make up, make down", file=sys.stderr
        )
        return 2
    try:
        if action == "run":
            demo(directory)
        elif action == "up":
            up(directory, int(arguments[2]))
        elif action == "airflow":
            print(local_airflow(directory, int(arguments[2])).airflow(*arguments[3:]))
        else:
            down(directory)
    except LightcurverError as error:
        print(f"{action}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
