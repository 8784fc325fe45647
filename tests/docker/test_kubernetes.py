"""The pod templates of the Kubernetes executor."""

import re

import pytest
import yaml

from tests.docker.compose_files import DOCKER, SEVERAL_MACHINES, composed
from tests.docker.test_compose_files import VARIABLES

TEMPLATES = {"gpu": DOCKER / "kubernetes" / "gpu-pod.yaml", "default": DOCKER / "kubernetes" / "pod.yaml"}
SERVICES = {"gpu": "gpu-worker", "default": "worker"}


@pytest.fixture(params=TEMPLATES)
def queue(request) -> str:
    return request.param


@pytest.fixture
def pod(queue) -> dict:
    return yaml.safe_load(TEMPLATES[queue].read_text())


@pytest.fixture
def container(pod) -> dict:
    (container,) = pod["spec"]["containers"]
    return container


def test_the_executor_can_fill_it(pod, container):
    assert (pod["apiVersion"], pod["kind"]) == ("v1", "Pod")
    assert container["name"] == "base"  # Airflow puts the task's command into the container of this name
    assert "command" not in container
    assert "args" not in container
    assert pod["spec"]["restartPolicy"] == "Never"


def test_gpu_tasks_alone_have_a_gpu(pod, container, queue):
    assert pod["metadata"]["labels"]["queue"] == queue
    assert (container["resources"]["limits"].get("nvidia.com/gpu") == "1") == (queue == "gpu")
    assert {"cpu", "memory"} <= container["resources"]["requests"].keys() & container["resources"][
        "limits"
    ].keys()
    assert ("tolerations" in pod["spec"]) == (queue == "gpu")


def test_it_runs_with_few_rights(pod, container):
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert pod["spec"]["securityContext"]["runAsUser"] == 50000
    assert pod["spec"]["automountServiceAccountToken"] is False
    own = container["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["readOnlyRootFilesystem"] is True
    assert own["capabilities"] == {"drop": ["ALL"]}
    secret = re.compile("PASSWORD|SECRET|FERNET|SQL_ALCHEMY|BROKER")
    assert not [each["name"] for each in container["env"] if secret.search(each["name"])]


def test_it_is_what_the_compose_files_call_a_worker(pod, container, queue):
    """The same paths, read-only where they are there, and the same settings."""
    service = composed(SEVERAL_MACHINES, VARIABLES)["services"][SERVICES[queue]]
    volumes = {entry.split(":")[1]: entry.endswith(":ro") for entry in service["volumes"]}
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
    temporary = {entry.split(":")[0]: False for entry in service["tmpfs"]}
    assert mounts == {**volumes, **temporary}
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        each["name"] for each in pod["spec"]["volumes"]
    }
    for each in container["env"]:
        assert str(service["environment"][each["name"]]) == each["value"], each["name"]
    assert container["image"] == service["image"]
