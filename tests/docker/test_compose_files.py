"""The compose files: against the specification's schema, one with another, and with what the deployment promises."""

import json
import os
import re
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from lightcurver_ops.airflow.health import COMPONENTS
from tests.docker.compose_files import (
    DOCKER,
    ONE_MACHINE,
    SCHEMA,
    SEVERAL_MACHINES,
    MissingVariableError,
    composed,
    interpolate,
    load,
    merge,
    target_of,
)

VARIABLES = {
    **dict(
        line.removeprefix("#").split("=", 1)
        for line in (DOCKER / "env.example").read_text().splitlines()
        if re.match(r"#?LCOPS_\w+=", line)
    )
}
AIRFLOW = {"init", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}
DEPLOYMENTS = pytest.mark.parametrize("files", [ONE_MACHINE, SEVERAL_MACHINES], ids=["one", "several"])


@DEPLOYMENTS
def test_each_file_and_all_together_are_what_the_specification_says(files):
    validator = jsonschema.Draft7Validator(SCHEMA)
    for content in (*(load(file, VARIABLES) for file in files), composed(files, VARIABLES)):
        assert [f"{list(error.path)}: {error.message}" for error in validator.iter_errors(content)] == []


def test_the_schema_finds_mistakes():
    model = composed(ONE_MACHINE, VARIABLES)
    model["services"]["worker"]["volume"] = model["services"]["worker"].pop("volumes")
    errors = list(jsonschema.Draft7Validator(SCHEMA).iter_errors(model))
    assert any("'volume' does not match" in error.message for error in errors)


@DEPLOYMENTS
def test_docker_compose_reads_them_as_these_tests_do(files):
    """Where the real program is installed; it needs no engine for this."""
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no `docker compose` on this machine: the files are checked against the schema alone")
    command = ["docker", "compose", "--profile", "*"]
    for file in files:
        command += ["--file", str(file)]
    result = subprocess.run(
        [*command, "config", "--format", "json"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **VARIABLES},
    )
    assert result.returncode == 0, result.stderr
    theirs, ours = json.loads(result.stdout), composed(files, VARIABLES)
    assert set(theirs["services"]) == set(ours["services"])
    for name, service in ours["services"].items():
        their = theirs["services"][name]
        # It doubles dollars again, so that its output can be read as a compose file.
        assert interpolate(their["command"], {}) == service["command"], name
        assert interpolate(their.get("environment", {}), {}) == {
            key: str(value) for key, value in service.get("environment", {}).items()
        }, name
        assert {each["target"] for each in their["volumes"]} == {
            target_of(each) for each in service["volumes"]
        }
    for name, volume in ours["volumes"].items():
        assert theirs["volumes"][name].get("driver_opts") == (volume or {}).get("driver_opts"), name


def test_every_variable_that_has_no_default_is_in_the_example():
    with pytest.raises(MissingVariableError, match="LCOPS_RAW: the directory of the raw frames"):
        composed(ONE_MACHINE, {})
    for file in SEVERAL_MACHINES:
        demanded = set(re.findall(r"\$\{(\w+):\?", file.read_text()))
        assert demanded <= set(VARIABLES), file
    used = set().union(*(re.findall(r"\$\{(\w+)", file.read_text()) for file in SEVERAL_MACHINES))
    assert set(VARIABLES) <= used


def test_the_services_of_one_machine_and_of_several():
    one = set(composed(ONE_MACHINE, VARIABLES)["services"])
    assert one == AIRFLOW | {"postgres", "redis", "backup"}
    several = composed(SEVERAL_MACHINES, VARIABLES)["services"]
    assert set(several) == one | {"gpu-worker"}
    # The machine that controls starts no worker unless it is named.
    assert {name for name, service in several.items() if "profiles" in service} == {"worker", "gpu-worker"}


@DEPLOYMENTS
def test_no_service_has_more_than_it_needs(files):
    services = composed(files, VARIABLES)["services"]
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert {"cpus", "memory"} <= set(limits), name
        assert service.get("healthcheck") or name == "init", name
        assert not service.get("privileged"), name
        assert "docker.sock" not in json.dumps(service), name
        for volume in service["volumes"]:
            if target_of(volume) in ("/raw", "/config"):
                assert volume.endswith(":ro"), (name, volume)
        if name != "postgres":  # whose entrypoint gives its rights up by itself
            assert service["user"].split(":")[0] not in ("0", "root"), name
            assert service["cap_drop"] == ["ALL"], name
        image = service["image"]
        if not image.startswith("lightcurver-ops"):
            assert re.fullmatch(
                r"\w+:\d+\.\d+-bookworm@sha256:[0-9a-f]{64}|\w+:\d+\.\d+\.\d+-bookworm@sha256:[0-9a-f]{64}",
                image,
            )
        for published in service.get("ports", ()):
            assert published.split(":")[0] in ("127.0.0.1", VARIABLES["LCOPS_CONTROL_ADDRESS"]), published
    for name in services.keys() & {"worker", "gpu-worker"}:
        assert "work:/work" in services[name]["volumes"]
        assert set(services[name]["secrets"]) == {"celery_broker_url", "celery_result_url"}


@DEPLOYMENTS
def test_secrets_are_files_that_the_script_makes_and_stand_nowhere_else(files, tmp_path):
    subprocess.run(["sh", DOCKER / "make-secrets.sh", tmp_path / "secrets"], check=True, capture_output=True)
    made = {file.name: file.read_text() for file in (tmp_path / "secrets").iterdir()}
    model = composed(files, {**VARIABLES, "LCOPS_SECRETS": str(tmp_path / "secrets")})
    assert set(model["secrets"]) == set(made)
    assert {entry["file"] for entry in model["secrets"].values()} == {
        str(tmp_path / "secrets" / name) for name in made
    }
    for name, service in model["services"].items():
        asked = set(re.findall(r"/run/secrets/([\w.]+)", json.dumps(service)))
        assert asked <= set(service.get("secrets", ())), name
        # Airflow takes every one of its secrets from a command that reads its file.
        for key in service.get("environment", {}):
            assert not re.search(r"(CONN|_URL|BACKEND|KEY|SECRET|PASSWORD)$", key) or key in (
                "LCOPS_LENSES_URL", "AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "AIRFLOW__API__BASE_URL"
            ), key  # fmt: skip


def test_secrets_are_made_once_and_by_chance(tmp_path):
    def make(directory):
        result = subprocess.run(
            ["sh", DOCKER / "make-secrets.sh", directory], check=True, capture_output=True, text=True
        )
        return result.stdout, {file.name: file.read_text() for file in directory.iterdir()}

    said, first = make(tmp_path / "one")
    assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700
    assert not any(len(value) > 20 and value in said for value in first.values())
    (tmp_path / "one" / "admin_password").unlink()
    said, again = make(tmp_path / "one")
    assert said.split() == ["made", str(tmp_path / "one" / "admin_password")]
    assert {name for name in first if first[name] != again[name]} == {"admin_password"}
    _, other = make(tmp_path / "two")
    assert not {value for name, value in first.items()} & set(other.values())
    from cryptography.fernet import Fernet

    assert Fernet(first["fernet_key"])
    assert first["redis_password"] in first["celery_broker_url"]
    connections = json.loads(first["connections.json"])
    assert first["lenses_writer_password"] in connections["lightcurver_db"]
    assert first["lenses_reader_password"] in connections["lightcurver_db_read_only"]


def test_the_health_of_each_component_is_asked_for():
    services = composed(ONE_MACHINE, VARIABLES)["services"]
    asked = {
        service["healthcheck"]["test"][-1]
        for service in services.values()
        if "lightcurver_ops.airflow.health" in service.get("healthcheck", {}).get("test", ())
    }
    assert asked == set(COMPONENTS)


def test_a_task_is_longer_neither_than_the_brokers_patience_nor_than_its_workers_stop():
    """A message that is delivered again while its task still runs would only be turned away, with an error."""
    from lightcurver_ops.config.observatory import Orchestration

    settings = composed(ONE_MACHINE, VARIABLES)["services"]["scheduler"]["environment"]
    visibility = int(settings["AIRFLOW__CELERY_BROKER_TRANSPORT_OPTIONS__VISIBILITY_TIMEOUT"])
    assert visibility > 3600 * Orchestration().stage_timeout_hours


@pytest.mark.parametrize(
    ("old", "new", "key", "expected"),
    [
        ({"a": 1, "b": 2}, {"b": 3}, "x", {"a": 1, "b": 3}),
        (["a"], ["b", "a"], "cap_drop", ["a", "b"]),
        (["a", "b"], ["c"], "command", ["c"]),
        (["w:/work", "r:/raw:ro"], ["x:/work"], "volumes", ["x:/work", "r:/raw:ro"]),
    ],
)
def test_merging(old, new, key, expected):
    assert merge(old, new, key) == expected


def test_unknown_forms_of_variables_are_refused():
    assert interpolate("$$A ${B:-c} ${D}", {"D": "d"}) == "$A c d"
    with pytest.raises(AssertionError):
        interpolate("${A:+b}", {})
    assert yaml.safe_load("a: $$") == {"a": "$$"}
