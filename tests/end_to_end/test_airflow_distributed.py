"""The deployment of several machines, on this one: the services of the compose files, as they are written there.

A season through Celery with Redis and Postgres, a CPU worker and a GPU worker. One story in the order of the tests
of this module.
"""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa

from lightcurver_ops.airflow.local import wait_for
from lightcurver_ops.simulation.observatory import shifted
from tests.conftest import postgres_bin
from tests.deployed import Deployment
from tests.planted import said_by_server, said_in, said_in_files
from tests.running_observatory import (
    PATIENCE_S,
    RunningObservatory,
    has_imported,
    last_night,
    mjd_of,
    same_light_curve,
)
from tests.seasons import SMALL

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(2400)]

NIGHTS = 2
LENS = "remote"
SERVERS = ("api-server", "scheduler", "dag-processor", "triggerer")
PASSWORDS = {"visitor": "planted-0a1b2c3d", "vera": "planted-4e5f6071"}
WORKERS = {"default": "worker", "gpu": "gpu-worker"}


class DeployedObservatory(RunningObservatory):
    """A simulated observatory whose Airflow is a deployment."""

    deployment: Deployment

    @property
    def home(self) -> Path:
        return self.deployment.directory

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.deployment.ports['api-server']}/astro"

    @property
    def api(self) -> httpx.Client:
        if self._api is None:
            password = self.deployment.secret("admin_password")
            answer = httpx.post(
                f"{self.url}/auth/token", json={"username": "admin", "password": password}, timeout=60
            )
            answer.raise_for_status()
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            self._api = httpx.Client(base_url=f"{self.url}/api/v2", headers=headers, timeout=60)
        return self._api

    def forget_login(self) -> None:
        self._api = None


@pytest.fixture(scope="module")
def observatory(tmp_path_factory):
    for program, package in ((shutil.which("redis-server"), "redis-server"), (postgres_bin(), "postgresql")):
        if program is None:
            pytest.skip(f"no {package} (Debian: apt install {package})")
    directory = tmp_path_factory.mktemp("distributed")
    season = replace(SMALL, name=LENS, n_nights=NIGHTS, exposures_per_night=2, night_gap_days=2.0)
    deployment = Deployment(
        {"raw": directory / "raw", "work": directory / "work", "config": directory},
        {
            "LCOPS_PREFIX": "/astro",
            "LCOPS_WORKER_CONCURRENCY": "2",
            "LCOPS_API_WORKERS": "1",
            "LCOPS_LOST_WORKER_SECONDS": "20",
        },
    )
    try:
        observatory = DeployedObservatory(
            directory,
            [shifted(season, mjd_of(last_night()) - 3)],  # the schedule's own run finds nothing
            settings={
                "watch": {"raw_roots": ["raw"], "poll_seconds": 1, "settle_seconds": 1, "gather_seconds": 1},
                "airflow": {
                    "require_connection": True, "retries": 5, "retry_delay_seconds": 2, "season_poll_seconds": 2,
                },
                "pools": {"frames": 2},
            },
            operations={"alert_after_nights_without_frames": None},
            bookkeeping=json.loads(deployment.secret("connections.json"))["lightcurver_db"],
        )  # fmt: skip
        observatory.deployment = deployment
        for night in range(NIGHTS):
            for frame in observatory.frames(LENS, night):
                shutil.copy(frame, directory / "raw" / LENS)
        deployment.up(*SERVERS, *WORKERS.values())
        deployment.wait_until_healthy(*WORKERS.values())
        yield observatory
    finally:
        deployment.down()
    left = [
        service.name
        for service in deployment.services.values()
        if service.process and service.process.poll() is None
    ]
    assert left == []


def test_a_season_with_everything_that_can_go_wrong_is_the_season_of_one_process(observatory, tmp_path):
    deployment = observatory.deployment
    gpu_worker = deployment.services["gpu-worker"]

    # A GPU worker is killed in the middle of a PSF task, with everything in it, and comes back.
    assert wait_for(lambda: observatory.workers("psf_modeling"), PATIENCE_S, 0.1)
    assert has_imported(gpu_worker.process.pid, "shapely")  # what tasks need, before they fork
    deployment.kill("gpu-worker")
    assert observatory.workers("psf_modeling") == []
    assert wait_for(lambda: gpu_worker.starts == 2, 60)

    # Redis is away while the next try is at work, Postgres during the photometry.
    assert wait_for(lambda: observatory.workers("psf_modeling"), PATIENCE_S, 0.1)
    deployment.restart("redis", pause=2.0)
    assert wait_for(lambda: observatory.workers("star_photometry"), PATIENCE_S, 0.1)
    deployment.restart("postgres", pause=2.0)
    deployment.wait_until_healthy("api-server")

    n_frames = len(observatory.truths[LENS].frames)
    runs = observatory.wait_for_runs(lambda _runs: _is_complete(observatory, n_frames))
    assert {run["state"] for run in runs} == {"success"}
    same_light_curve(observatory.light_curve(LENS), observatory.by_hand(LENS, tmp_path))
    tasks = [task for run in runs for task in observatory.tasks(run)]
    assert max(task["try_number"] for task in tasks if task["task_id"] == "psf_modeling") > 1


def _is_complete(observatory, n_frames: int) -> bool:
    return observatory.modelled(LENS) is not None and len(observatory.light_curve(LENS)["mjd"]) == n_frames


def test_each_task_ran_where_its_queue_is_served(observatory):
    tries = []
    for run in observatory.runs():
        for task in observatory.tasks(run):
            path = f"/dags/{run['dag_id']}/dagRuns/{run['dag_run_id']}/taskInstances/{task['task_id']}"
            if task["map_index"] >= 0:
                path += f"/{task['map_index']}"
            tries += observatory.api.get(f"{path}/tries").json()["task_instances"]
    ran = [task for task in tries if task["hostname"]]
    where = {(task["pool"], task["queue"], task["hostname"]) for task in ran}
    assert {(queue, host) for pool, queue, host in where if pool == "gpu"} == {("gpu", "gpu-worker")}
    assert {(queue, host) for pool, queue, host in where if pool != "gpu"} == {("default", "worker")}
    assert {task["task_id"] for task in ran if task["pool"] == "gpu"} == {
        "psf_modeling", "star_photometry", "model_calibrated_cutouts"
    }  # fmt: skip


def test_every_service_says_that_it_is_well(observatory):
    for name in (*SERVERS, *WORKERS.values(), "postgres", "redis"):
        observatory.deployment.wait_until_healthy(name)


def test_nobody_comes_in_without_a_password(observatory):
    pages = ("api/v2/dags", "api/v2/connections", "lcops/observatory/", f"lcops/lens/{LENS}__season/")
    token = {"Authorization": observatory.api.headers["Authorization"]}
    for path in pages:
        assert httpx.get(f"{observatory.url}/{path}", timeout=60).status_code == 401, path
        assert httpx.get(f"{observatory.url}/{path}", headers=token, timeout=60).status_code == 200, path
    wrong = {"username": "admin", "password": "admin"}
    assert httpx.post(f"{observatory.url}/auth/token", json=wrong, timeout=60).status_code == 401


def test_rights_are_those_of_the_roles(observatory):
    """As the page says: a viewer looks, a user decides, and only from a form of ours."""
    frames = f"{observatory.url}/lcops/lens/{LENS}__season/frames/"
    for name, role in (("visitor", "Viewer"), ("vera", "User")):
        observatory.deployment.run(
            "init", "airflow", "users", "create", "--username", name, "--role", role, "--password", PASSWORDS[name],
            "--firstname", name, "--lastname", role, "--email", f"{name}@example.org",
        )  # fmt: skip
    clients = {}
    for name in ("visitor", "vera"):
        credentials = {"username": name, "password": PASSWORDS[name]}
        token = httpx.post(f"{observatory.url}/auth/token", json=credentials, timeout=60).json()[
            "access_token"
        ]
        clients[name] = httpx.Client(headers={"Authorization": f"Bearer {token}"}, timeout=60)
    pages = {name: client.get(frames) for name, client in clients.items()}
    assert [page.status_code for page in pages.values()] == [200, 200]
    assert "You may look, not decide" in pages["visitor"].text
    assert 'name="csrf"' not in pages["visitor"].text
    (csrf,) = set(re.findall(r'name="csrf" value="([^"]+)"', pages["vera"].text))
    form = {"action": "eliminate", "frame": "1", "comment": "a satellite", "csrf": csrf}
    origin = {"Origin": observatory.url.removesuffix("/astro")}
    refused = {
        "another user": clients["visitor"].post(f"{frames}decide", data=form, headers=origin),
        "another site": clients["vera"].post(
            f"{frames}decide", data=form, headers={"Origin": "https://example.org"}
        ),
        "no form": clients["vera"].post(f"{frames}decide", data={**form, "csrf": ""}, headers=origin),
    }
    assert {why: answer.status_code for why, answer in refused.items()} == dict.fromkeys(refused, 403)
    done = clients["vera"].post(f"{frames}decide", data=form, headers=origin)
    assert done.status_code == 303, done.text
    told = clients["vera"].get(f"{frames}?{urlsplit(done.headers['location']).query}").text
    assert "1 frame eliminated by vera" in told


def test_no_password_is_found_in_any_file_row_log_or_page(observatory):
    """After all that has happened here: killed workers, lost connections, refused requests."""
    deployment = observatory.deployment
    secrets = {
        **PASSWORDS,
        **{
            path.name: path.read_text()
            for path in deployment.secrets.iterdir()
            if path.name.endswith(("password", "key", "secret"))
        },
    }
    pages = [f"{observatory.url}/lcops/observatory/", f"{observatory.url}/lcops/lens/{LENS}__season/"]
    said, read = said_by_server(secrets, observatory.api, pages, observatory.runs)
    assert said == []
    assert any("/logs/2" in address for address in read)
    rows = {name: json.dumps(_rows(deployment, name)).encode() for name in ("airflow", "lenses", "celery")}
    assert b"lightcurver_db" in rows["airflow"]
    assert [name for name, content in rows.items() if said_in(content, secrets)] == []
    places = {service.directory / "secrets" for service in deployment.services.values()}
    # In memory alone, where Redis reads it.
    own = [deployment.secrets, *places, deployment.services["redis"].directory / "tmpfs"]
    assert said_in_files(secrets, [observatory.directory, deployment.directory], but=own) == []


def test_a_backup_brings_both_databases_back(observatory):
    deployment = observatory.deployment
    before = observatory.light_curve(LENS), observatory.version(LENS), observatory.runs()
    for name in (*WORKERS.values(), *SERVERS):  # what writes: the rows are then those of the backup
        deployment.stop(name)
    rows = {name: _rows(deployment, name) for name in ("airflow", "lenses")}
    assert all(any(table.values()) for table in rows.values())
    said = deployment.run("backup", "backup.sh").split()
    assert said[0] == "backup"
    backup = Path(said[1])
    assert {path.name for path in backup.iterdir()} == {
        f"{name}.{suffix}" for name in rows for suffix in ("dump", "list")
    }
    assert deployment.is_healthy("backup")

    for name in rows:
        with _connection(deployment, name) as connection:
            connection.exec_driver_sql("drop schema public cascade")
            connection.exec_driver_sql("create schema public")
    assert _rows(deployment, "lenses") == {}
    deployment.run("backup", "restore.sh", backup.name)
    assert {name: _rows(deployment, name) for name in rows} == rows

    # As on the page: init gives the roles their rights, and everything goes on.
    deployment.run("init")
    deployment.up("api-server")
    deployment.wait_until_healthy("api-server")
    observatory.forget_login()
    assert [run["dag_run_id"] for run in observatory.runs()] == [run["dag_run_id"] for run in before[2]]
    assert observatory.version(LENS) == before[1]  # read as lcops_writer
    page = httpx.get(
        f"{observatory.url}/lcops/lens/{LENS}__season/", headers=observatory.api.headers, timeout=60
    )
    assert page.status_code == 200  # read as lcops_reader, the connection decrypted with the same key

    # An unknown name is refused before anything is touched, and old backups go.
    with pytest.raises(AssertionError, match=backup.name):
        deployment.run("backup", "restore.sh", "20000101T000000Z")
    for number in range(20):
        (backup.parent / f"200001{number + 1:02d}T000000Z").mkdir()
    deployment.run("backup", "backup.sh")
    kept = sorted(path.name for path in backup.parent.iterdir())
    assert len(kept) == 14
    assert backup.name in kept


def _connection(deployment, database: str):
    password, port = deployment.secret("postgres_password"), deployment.ports["postgres"]
    url = f"postgresql+psycopg://postgres:{password}@127.0.0.1:{port}/{database}"
    return sa.create_engine(url, poolclass=sa.NullPool).begin()


def _rows(deployment, database: str) -> dict[str, list[str]]:
    """table: its rows as text, in the order of that text."""
    with _connection(deployment, database) as connection:
        tables = sa.inspect(connection).get_table_names()
        return {
            name: sorted(row[0] for row in connection.exec_driver_sql(f'select t::text from "{name}" t'))
            for name in tables
        }
