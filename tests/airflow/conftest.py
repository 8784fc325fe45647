"""Fixtures: an Airflow home that is nobody else's, a small observatory, contexts as Airflow makes them."""

import atexit
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import yaml

# Airflow reads where its home is when it is imported: before any module of these tests is. Each worker of
# pytest-xdist has its own.
_HOME = Path(tempfile.mkdtemp(prefix="lcops-airflow-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
if "airflow" not in sys.modules:
    for _name in [name for name in os.environ if name.startswith(("AIRFLOW_", "LCOPS_"))]:
        del os.environ[_name]
    os.environ["AIRFLOW_HOME"] = str(_HOME)
    os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
    os.environ["AIRFLOW__API__BASE_URL"] = "http://airflow.test:8080"
    os.environ["AIRFLOW__API__SECRET_KEY"] = os.environ["AIRFLOW__API_AUTH__JWT_SECRET"] = "tests " * 16

from lightcurver_ops.airflow.deployment import settings  # noqa: E402 - it imports no Airflow, but shows the order
from lightcurver_ops.operations.observatory import Observatory, open_observatory  # noqa: E402

REPOSITORY = Path(__file__).parents[2]
SANTIAGO = {"name": "a telescope", "latitude": -29.3, "longitude": -70.7, "elevation": 2400.0,
            "timezone": "America/Santiago"}  # fmt: skip
AUCKLAND = {"name": "another", "latitude": -44.0, "longitude": 170.5, "elevation": 1030.0,
            "timezone": "Pacific/Auckland"}  # fmt: skip


@dataclass
class SmallObservatory:
    """An observatory on disk, without frames."""

    directory: Path

    @property
    def path(self) -> Path:
        return self.directory / "observatory.yaml"

    def lens_file(self, name: str) -> Path:
        return self.directory / "lenses" / f"{name}.yaml"

    def configure(self, **sections: Any) -> None:
        """Change keys of the observatory's file."""
        self.path.write_text(yaml.safe_dump({**yaml.safe_load(self.path.read_text()), **sections}))

    def add_lens(self, name: str, /, **sections: Any) -> Path:
        """Write a lens's file; its raw directory is there, and empty."""
        raw = self.directory / "raw" / name
        raw.mkdir(parents=True, exist_ok=True)
        content = {
            "name": name,
            "workdir": str(self.directory / "work" / name),
            "raw": {
                "raw_dirs": [str(raw)],
                "header": {
                    "mjd": {"keyword": "MJD-OBS", "format": "mjd"},
                    "exptime": {"constant": 60.0},
                    "gain": {"constant": 1.0},
                    "filter": {"constant": "r"},
                },
            },
            "roi": {"ra": 7.5, "dec": -15.2, "point_sources": {"A": [7.5, -15.2]}},
        }
        path = self.lens_file(name)
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump({**content, **sections}))
        return path

    def add_frame(self, lens: str, mjd: float, name: str = "frame.fits") -> Path:
        """A raw frame of a few pixels, with a header that says when it was taken; old enough to be complete."""
        from astropy.io import fits

        path = self.directory / "raw" / lens / name
        header = fits.Header({"MJD-OBS": mjd})
        fits.PrimaryHDU([[0.0, 1.0], [2.0, 3.0]], header).writeto(path)
        os.utime(path, (1e9, 1e9))
        return path

    def open(self) -> Observatory:
        return open_observatory(self.path)


@pytest.fixture
def observatory(tmp_path) -> SmallObservatory:
    """Three lenses: one in Chile with its stars in a disk, one in New Zealand with common stars and late frames, one
    without a telescope."""
    small = SmallObservatory(tmp_path / "observatory")
    small.directory.mkdir()
    small.path.write_text(
        yaml.safe_dump(
            {
                "name": "test-observatory",
                "timezone": "Europe/Zurich",
                "airflow": {
                    "max_active_runs": 40,
                    "processes_per_task": 2,
                    "retries": 5,
                    "retry_delay_seconds": 7.0,
                    "stage_timeout_hours": 1.5,
                    "gpu_queue": "cards",
                },
                "watch": {"raw_roots": ["raw"], "settle_seconds": 0.0},
            }
        )
    )
    operations = {"owner": "Vera", "tags": ["urgent"], "alert_after_nights_without_frames": 2}
    small.add_lens("J0030+15", telescope=SANTIAGO, operations=operations)
    small.add_lens(
        "late",
        telescope=AUCKLAND,
        stars={"strategy": "common_footprint_stars"},
        operations={"wait_for_frames_hours": 3.0, "season_overdue_hours": None},
    )
    small.add_lens("plain")
    return small


@dataclass
class Home:
    """An Airflow home with metadata, for processes of their own."""

    directory: Path

    def environment(self, observatory: Path, **more: str) -> dict[str, str]:
        without = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW_")}
        own = settings(
            home=self.directory,
            dags=self.directory / "dags",
            plugins=self.directory / "plugins",
            observatory=observatory,
            port=1,
        )
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**without, **own, "PATH": path, **more}


def run_python(code: str, environment: dict[str, str], *arguments: str) -> Any:
    """Run a program in a fresh interpreter; returns what its last line says, as JSON."""
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return json.loads(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def python() -> Callable[..., Any]:
    """Runs a program in a fresh interpreter."""
    return run_python


@pytest.fixture
def home(tmp_path) -> Home:
    """A home with the DAG files of the repository, and no metadata yet."""
    home = Home(tmp_path / "home")
    (home.directory / "dags").mkdir(parents=True)
    for file in (REPOSITORY / "dags").glob("*.py"):
        shutil.copy(file, home.directory / "dags")
    return home


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory) -> Path:
    """Metadata of an Airflow that nothing has run in; to be copied."""
    home = Home(tmp_path_factory.mktemp("airflow_metadata"))
    environment = home.environment(home.directory / "observatory.yaml")
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], env=environment, check=True, capture_output=True
    )
    return home.directory / "airflow.db"


@pytest.fixture
def migrated_home(home, migrated_database) -> Home:
    """A home with its own, empty metadata."""
    shutil.copy(migrated_database, home.directory / "airflow.db")
    return home


NOON = datetime(2026, 3, 10, 15, tzinfo=UTC)  # in Chile


@pytest.fixture
def context_of() -> Callable[..., Any]:
    """Makes the context of a task as Airflow's task runner does, from what the API server would say of the run."""
    from airflow.sdk.api.datamodels._generated import DagRun, TIRunContext
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    class WithXComs(RuntimeTaskInstance):
        """XComs and other runs in memory: there is no supervisor to ask."""

        xcoms: dict[tuple[str, str], Any] = {}  # noqa: RUF012 - pydantic copies defaults
        runs: set[tuple[str, str, str]] = set()  # noqa: RUF012
        instances: int = 1  # of every mapped task of this run

        def xcom_pull(self, task_ids=None, key="return_value", **_):
            return self.xcoms.get((task_ids or self.task_id, key))

        def xcom_push(self, key, value):
            self.xcoms[self.task_id, key] = value

        def get_ti_count(self, dag_id, task_ids=None, run_ids=None, **_):
            return self.instances

        def get_dr_count(self, dag_id, logical_dates=None, run_ids=None, states=None):
            return sum(
                dag == dag_id and (run_ids is None or run in run_ids) and (states is None or state in states)
                for dag, run, state in self.runs
            )

    def make(
        task,
        *,
        run_id="scheduled__2026-03-11T15:00:00+00:00",
        run_type="scheduled",
        begin=NOON,
        conf=None,
        clear_number=0,
        try_number=1,
        max_tries=0,
        map_index=-1,
        xcoms=None,
        runs=(),
        exception=None,
    ):
        run = DagRun(
            dag_id=task.dag_id,
            run_id=run_id,
            logical_date=begin,
            data_interval_start=begin,
            data_interval_end=None if begin is None else begin + timedelta(days=1),
            run_after=datetime(2026, 3, 11, 15, tzinfo=UTC),
            start_date=datetime(2026, 3, 11, 15, tzinfo=UTC),
            end_date=None,
            clear_number=clear_number,
            run_type=run_type,
            state="running",
            conf=conf,
            consumed_asset_events=[],
            partition_key=None,
        )
        ti = WithXComs.model_construct(
            id=uuid4(),
            task_id=task.task_id,
            dag_id=task.dag_id,
            run_id=run_id,
            try_number=try_number,
            map_index=map_index,
            hostname="here",
            task=task,
            max_tries=max_tries,
            xcoms=dict(xcoms or {}),
            runs=set(runs),
            _ti_context_from_server=TIRunContext(dag_run=run, max_tries=max_tries),
        )
        context = ti.get_template_context()
        if exception is not None:
            context["exception"] = exception
        return context

    return make


@dataclass
class Web:
    """The pages behind Airflow's own login and middlewares, in this process, with metadata of its own."""

    app: Any

    def client(self, role: str | None = None, name: str | None = None, **kwargs: Any) -> Any:
        """A browser of a user with this role of Airflow's simple auth manager; None: nobody has logged in."""
        from airflow.api_fastapi.app import get_auth_manager
        from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
        from fastapi.testclient import TestClient

        client = TestClient(self.app, base_url="http://airflow.test:8080", follow_redirects=False, **kwargs)
        if role is not None:
            user = SimpleAuthManagerUser(username=name or role, role=role.upper())
            client.cookies.set("_token", get_auth_manager().generate_jwt(user))
        return client


@pytest.fixture(scope="session")
def web(migrated_database) -> Web:
    """The pages, mounted as Airflow mounts them; the DAGs of the lens `small` are known to Airflow."""
    import sqlalchemy as sa
    from airflow import settings as airflow_settings
    from airflow.api_fastapi.app import init_auth_manager
    from airflow.api_fastapi.core_api.app import init_middlewares
    from fastapi import FastAPI

    from lightcurver_ops.airflow import pages

    source = sa.engine.make_url(airflow_settings.SQL_ALCHEMY_CONN).database
    shutil.copy(migrated_database, source)
    app = FastAPI()
    app.mount("/lcops", pages.app)
    init_auth_manager(app)
    init_middlewares(app)
    know_dags("small__nightly", "small__season")
    return Web(app)


def know_dags(*dag_ids: str) -> None:
    """Enter DAGs into Airflow's metadata, as its DAG processor would, but without what is in them."""
    from airflow.models import DagModel
    from airflow.models.dagbundle import DagBundleModel
    from airflow.utils.session import create_session

    with create_session() as session:
        if session.get(DagBundleModel, "here") is None:
            session.add(DagBundleModel(name="here"))
            session.flush()
        for dag_id in dag_ids:
            session.merge(DagModel(dag_id=dag_id, bundle_name="here", is_stale=False, is_paused=False))
