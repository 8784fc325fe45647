"""A small observatory under a real Airflow: raw frames wait in `sim` and are dropped into `raw` for it to take."""

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from lightcurver_ops.airflow.local import LocalAirflow, wait_for
from lightcurver_ops.bookkeeping import ledger, photometry
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import LensConfig, load_lens
from lightcurver_ops.demo import free_port
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.nights import night_at, night_of_mjd
from lightcurver_ops.simulation import SeasonOptions
from lightcurver_ops.simulation.observatory import simulate_observatory
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import run_pipeline
from lightcurver_ops.storage.tables import read_table
from tests.seasons import FAST

SOURCE = Path(__file__).parents[1]
ZONE = "Etc/GMT+5"  # that of the simulated telescope's longitude
PATIENCE_S = 900
# A crashed scheduler's tasks are given up after seconds, not minutes; files are looked at as they change.
QUICK = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "20",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "3",
    "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL": "10",
    "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "5",
}


def last_night() -> date:
    """The night that ended last at the simulated telescope."""
    return night_at(datetime.now(UTC), ZONE) - timedelta(days=1)


def mjd_of(night: date) -> int:
    """MJD of the day (UTC) that has the middle of a night at the simulated telescope."""
    return (night - date(1858, 11, 17)).days + 1


class RunningObservatory:
    """Some simulated lenses, and the Airflow that reduces them."""

    def __init__(
        self,
        directory: Path,
        lenses: list[SeasonOptions],
        *,
        settings: dict[str, Any],
        operations: dict[str, Any],
        variables: dict[str, str] | None = None,
        database: str | None = None,
        bookkeeping: str | None = None,
    ):
        """`database` has Airflow's metadata; `bookkeeping` is the connection lightcurver_db; None: files."""
        self.directory = directory
        self.bookkeeping = bookkeeping
        if bookkeeping is not None:
            connection = {"AIRFLOW_CONN_LIGHTCURVER_DB": bookkeeping.replace("+psycopg", "")}
            variables = {**(variables or {}), **connection}
        keys = {**FAST, "operations": operations}
        self.truths = simulate_observatory(directory, tuple(lenses), settings=settings, keys=keys)
        for name in self.truths:
            raw = directory / "raw" / name
            raw.mkdir(parents=True)
            self.configure(name, raw={"raw_dirs": [str(raw)]})
        self.airflow = LocalAirflow(
            directory / "airflow",
            directory / "observatory.yaml",
            SOURCE,
            port=free_port(),
            database=database,
            variables={**QUICK, **(variables or {})},
        )
        self._api: httpx.Client | None = None

    @property
    def home(self) -> Path:
        """Where the processes of its Airflow are."""
        return self.airflow.home

    @property
    def api(self) -> httpx.Client:
        if self._api is None:
            self._api = self.airflow.api()
        return self._api

    def configure(self, lens: str, **groups: dict[str, Any]) -> None:
        """Change keys of a lens's file: section={key: value}."""
        path = self.directory / "lenses" / f"{lens}.yaml"
        content = yaml.safe_load(path.read_text())
        for group, values in groups.items():
            content[group] = {**content.get(group, {}), **values}
        path.write_text(yaml.safe_dump(content))

    def config(self, lens: str) -> LensConfig:
        return load_lens(self.directory / "lenses" / f"{lens}.yaml")

    def frames(self, lens: str, night: int) -> list[Path]:
        table = self.truths[lens].frames
        return [
            self.directory / "sim" / lens / "raw" / name for name in table["file"][table["night"] == night]
        ]

    def drop(self, lens: str, night: int, exposures: slice = slice(None)) -> None:
        """A night's frames, or some of them, arrive as over a slow line: each file grows for a while."""
        for source in self.frames(lens, night)[exposures]:
            with (self.directory / "raw" / lens / source.name).open("wb") as target:
                for part in np.array_split(np.frombuffer(source.read_bytes(), np.uint8), 3):
                    target.write(part.tobytes())
                    target.flush()
                    time.sleep(0.2)

    def night(self, lens: str, night: int) -> str:
        """The date of a simulated night."""
        table = self.truths[lens].frames
        return night_of_mjd(float(table["mjd"][table["night"] == night][0]), ZONE).isoformat()

    def runs(self, dag_id: str = "~") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            params: dict[str, Any] = {"limit": 100, "offset": len(found), "order_by": "id"}
            answer = self.api.get(f"/dags/{dag_id}/dagRuns", params=params).json()
            found += answer["dag_runs"]
            if not answer["dag_runs"] or len(found) >= answer["total_entries"]:
                return found

    def tasks(self, run: dict[str, Any]) -> list[dict[str, Any]]:
        answer = self.api.get(f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances")
        return answer.json()["task_instances"]

    def states(self, run: dict[str, Any]) -> dict[str, list[str]]:
        """task: states of its instances."""
        states: dict[str, list[str]] = {}
        for task in self.tasks(run):
            states.setdefault(task["task_id"], []).append(task["state"])
        return states

    def reprocess(self, lens: str, **form: str) -> None:
        """Fill in the form of a lens's page."""
        page = f"{self.airflow.url}/lcops/lens/{lens}__season/reprocess"
        headers = {"Authorization": self.api.headers["Authorization"], "Origin": self.airflow.url}
        with httpx.Client(headers=headers, timeout=60) as client:
            (csrf,) = re.findall(r'name="csrf" value="([^"]+)"', client.get(f"{page}/").text)
            answer = client.post(f"{page}/start", data={"csrf": csrf, **form}, follow_redirects=True)
        assert "is reduced again" in answer.text, answer.text

    def runs_to_come(self) -> bool:
        """Whether something has happened that the scheduler has not started a season's run for yet."""
        answers = [self.api.get(f"/dags/{lens}__season/assets/queuedEvents") for lens in self.truths]
        assert {answer.status_code for answer in answers} <= {200, 404}
        return any(answer.status_code == 200 and answer.json()["total_entries"] for answer in answers)

    def wait_for_runs(self, condition: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Until a condition on the list of runs holds, and none is at work; returns them."""

        seen: list[dict[str, Any]] = []

        def over() -> bool:
            seen[:] = self.runs()
            if not condition(seen) or any(run["state"] in ("queued", "running") for run in seen):
                return False
            # A night that is over has asked for a season's run, which the scheduler makes when it comes to it.
            return not self.runs_to_come() and self.runs() == seen

        if not wait_for(over, PATIENCE_S, 2.0):
            lines = [f"{run['dag_id']} {run['dag_run_id']} {run['state']}" for run in self.runs()]
            raise AssertionError("the runs are not as awaited:\n" + "\n".join(lines))
        return seen  # not asked again: another may have begun

    def light_curve(self, lens: str, workdir: Path | None = None) -> dict[str, np.ndarray]:
        products = (workdir or self.config(lens).workdir) / "prepared_roi_cutouts"
        return read_table(products / f"{lens}_r_photometry_per_epoch.csv")

    def by_hand(self, lens: str, directory: Path) -> dict[str, np.ndarray]:
        """The light curve of `lcops run` over the same raw frames, from nothing."""
        config = self.config(lens).model_copy(update={"workdir": directory / lens})
        config.__dict__.pop("database_url", None)
        one = Lens(config)
        run_pipeline(one)
        one.close()
        return self.light_curve(lens, directory / lens)

    def version(self, lens: str) -> int:
        """Of the newest light curve; 0 where there is none."""
        one = Lens(self.config(lens).with_settings(database=self.bookkeeping))
        try:
            with reading(one.engine) as connection:
                publication = photometry.publication_of(connection, lens, "r")
            return publication.version if publication else 0
        except ConfigurationError:  # no tables yet
            return 0
        finally:
            one.close()

    def modelled(self, lens: str) -> datetime | None:
        """When the model of its light curve was made, published as a new version or not; None: it is to be made."""
        one = Lens(self.config(lens).with_settings(database=self.bookkeeping))
        try:
            with reading(one.engine) as connection:
                product = ledger.products_of(connection, lens, "model_calibrated_cutouts").get("r")
            return product.made_at if product and product.status == ledger.DONE else None
        finally:
            one.close()

    def workers(self, stage: str | None = None) -> list[int]:
        """Processes that do a stage, or any, for this Airflow, in whose directory they are."""
        found = []
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes().decode().replace("\0", " ").split()
                if "lightcurver_ops.operations.worker" not in command or (stage and stage not in command):
                    continue
                if (entry / "cwd").readlink().is_relative_to(self.home):
                    found.append(int(entry.name))
            except (OSError, UnicodeDecodeError):
                continue
        return found


def has_imported(pid: int, package: str) -> bool:
    """Whether a process has libraries of a package."""
    return f"/{package}/" in Path(f"/proc/{pid}/maps").read_text()


def same_light_curve(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Every column but the numbers of the frames, which depend on their order of arrival."""
    assert list(one) == list(other)
    for column in one.keys() - {"frame_id"}:
        np.testing.assert_allclose(one[column], other[column], rtol=1e-6, err_msg=column)


def arrived_nights(runs: list[dict[str, Any]], lens: str, state: str = "success") -> set[str]:
    """Nights whose runs that were started by arrivals have ended so."""
    return {
        run["dag_run_id"].split("__")[1]
        for run in runs
        if run["dag_id"] == f"{lens}__nightly"
        and run["dag_run_id"].startswith("late__")
        and run["state"] == state
    }


def scheduled_nights(runs: list[dict[str, Any]], lens: str) -> set[str]:
    """Nights whose scheduled runs are over."""
    return {
        night_at(datetime.fromisoformat(run["data_interval_start"]) + timedelta(hours=1), ZONE).isoformat()
        for run in runs
        if run["dag_id"] == f"{lens}__nightly"
        and run["run_type"] == "scheduled"
        and run["state"] == "success"
    }
