"""The image is built and run, with `make image-test`: as one container, and as the services of compose.yaml."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from lightcurver_ops.airflow.local import wait_for
from lightcurver_ops.simulation.observatory import shifted, simulate_observatory
from lightcurver_ops.storage.tables import read_table
from tests.conftest import postgres_bin
from tests.docker.built import ContainerDeployment, Image, missing_programs, own_network
from tests.running_observatory import PATIENCE_S, last_night, mjd_of
from tests.seasons import FAST, SMALL

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(3600)]

UID = 50000
LENS = "contained"
SERVICES = ("api-server", "scheduler", "dag-processor", "triggerer", "worker")


@pytest.fixture(scope="module")
def image():
    storage = os.environ.get("LCOPS_IMAGE_TEST")
    if not storage:
        pytest.skip("the image is not built and run here: `make image-test` does that (LCOPS_IMAGE_TEST)")
    if missing := missing_programs():
        pytest.skip(f"the image cannot be built here: {missing}")
    image = Image(Path(storage))
    print(f"\nThe image was built in {image.build_seconds:.0f} s.")
    yield image
    image.remove_container()


@pytest.fixture
def work(tmp_path):
    path = tmp_path / "work"
    path.mkdir()
    os.chown(path, UID, 0)
    return path


def light_curve(directory: Path):
    (table,) = directory.rglob("*_photometry_per_epoch.csv")
    return read_table(table)


def test_it_says_its_version_and_by_itself_its_help(image):
    said = image.run("lcops", "--version")
    assert (said.returncode, said.stdout) == (0, "lcops 0.1.0\n"), said.stderr
    assert "Usage: lcops" in image.run(*image.config["Cmd"]).stdout


def test_a_container_is_what_the_compose_file_promises(image):
    script = (
        "id -u; id -g; touch /x; touch /opt/lcops/x; touch /airflow/x /tmp/x && ls -A /airflow; "
        "grep CapBnd /proc/self/status"
    )
    said = image.run("sh", "-c", script)
    assert said.stdout.split() == ["50000", "0", "x", "CapBnd:", "0000000000000000"]
    assert said.stderr.count("Read-only file system") == 2


def test_nothing_of_the_machine_that_built_it_is_in_it(image):
    for path in ("etc/pip.conf", "etc/apt/apt.conf.d/99host", "etc/host-certificates.crt"):
        there = image.root / path
        assert not there.exists() or there.read_text() == ""
    own = {path.name for path in (image.root / "opt/lcops").iterdir()}
    assert own == {"venv", "dags", "plugins", "docker"}
    assert [path.name for path in (image.root / "opt/lcops/docker").iterdir()] == ["init.sh"]


def test_a_lens_is_reduced_by_hand(image, work):
    """All twelve stages, with the image's solve-field."""
    mounts = [(work, "/work", True)]
    made = image.run("lcops", "simulate", "/work/demo", "--nights", "2", mounts=mounts)
    assert made.returncode == 0, made.stderr
    file = work / "demo" / "demo.yaml"
    content = yaml.safe_load(file.read_text())
    content["plate_solving"].update(strategy="plate_solve", fallbacks=[])
    file.write_text(yaml.safe_dump(content))
    run = image.run("lcops", "run", "/work/demo/demo.yaml", mounts=mounts, timeout=1800)
    assert run.returncode == 0, run.stdout + run.stderr
    assert len(light_curve(work / "demo")["mjd"]) == 8
    assert {path.stat().st_uid for path in work.rglob("*")} == {UID}


@pytest.fixture(scope="module")
def observatory(tmp_path_factory):
    """What an operator prepares: /config, /raw, /work of the containers."""
    directory = tmp_path_factory.mktemp("observatory")
    directory.chmod(0o755)
    season = replace(SMALL, name=LENS, n_nights=1, exposures_per_night=3)
    season = shifted(season, mjd_of(last_night()))
    settings = {
        "watch": {"raw_roots": ["/raw"], "poll_seconds": 1, "settle_seconds": 1, "gather_seconds": 1},
        "airflow": {"retry_delay_seconds": 2, "season_poll_seconds": 2},
    }
    simulate_observatory(directory, (season,), settings=settings, keys=FAST)
    file = directory / "lenses" / f"{LENS}.yaml"
    content = yaml.safe_load(file.read_text())
    content["workdir"] = f"/work/{LENS}"
    content["raw"] = {**(content.get("raw") or {}), "raw_dirs": [f"/raw/{LENS}"]}
    content["stars"]["gaia_catalog_file"] = "/config/catalogue.ecsv"
    file.write_text(yaml.safe_dump(content))
    shutil.copy(directory / "sim" / LENS / "catalogue.ecsv", directory)
    shutil.copytree(directory / "sim" / LENS / "raw", directory / "raw" / LENS)
    (directory / "work").mkdir()
    os.chown(directory / "work", UID, 0)
    return directory


def test_the_services_of_the_compose_file_reduce_a_night(image, observatory):
    for program, package in ((shutil.which("redis-server"), "redis-server"), (postgres_bin(), "postgresql")):
        if program is None:
            pytest.skip(f"no {package} (Debian: apt install {package})")
    volumes = {"raw": observatory / "raw", "work": observatory / "work", "config": observatory}
    with own_network():
        deployment = ContainerDeployment(image, volumes, {"LCOPS_WORKER_CONCURRENCY": "2"})
        try:
            deployment.up("init")
            deployment.up(*SERVICES)
            deployment.wait_until_healthy(*SERVICES)
            wait_for(lambda: list(observatory.glob("work/**/*_photometry_per_epoch.csv")), PATIENCE_S, 1.0)
            said = "\n".join(deployment.services[name].log[-3000:] for name in ("scheduler", "worker"))
            assert len(light_curve(observatory / "work")["mjd"]) == 3, said
            # It may run again at any time.
            deployment.run("init")
            assert {service.starts for service in deployment.services.values() if service.wanted} == {1}
        finally:
            deployment.down()
