"""The Dockerfile and what it installs; no engine builds it here."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.docker.compose_files import DOCKER, SEVERAL_MACHINES, load
from tests.docker.test_compose_files import VARIABLES

REPOSITORY = DOCKER.parent
DOCKERFILE = (DOCKER / "Dockerfile").read_text()


def pins(path: Path) -> dict[str, set[str]]:
    """name: its pinned versions with their markers."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([^\\\n]+?) *\\?$", path.read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


def stages() -> dict[str, str]:
    """name: instructions, of the Dockerfile's stages."""
    parts = re.split(r"^FROM (\S+) AS (\S+)\n", DOCKERFILE, flags=re.MULTILINE)
    return {parts[at + 1]: f"FROM {parts[at]}\n{parts[at + 2]}" for at in range(1, len(parts), 3)}


def test_the_linter_has_no_complaint(tmp_path):
    linter = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert linter, "hadolint is one of requirements-dev.in"
    result = subprocess.run([linter, DOCKER / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout) == (0, "")
    bad = tmp_path / "Dockerfile"
    bad.write_text(DOCKERFILE.replace("astrometry.net=0.93+dfsg-1+b1", "astrometry.net"))
    assert subprocess.run([linter, bad], capture_output=True, check=False).returncode == 1


def test_everything_is_pinned():
    assert re.search(
        r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm@sha256:[0-9a-f]{64}$", DOCKERFILE, re.MULTILINE
    )
    found = stages()
    for base in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert base == "${PYTHON_IMAGE}" or base in found
    for command in re.findall(r"pip (?:install|wheel) [^\n&]*", DOCKERFILE):
        assert "--require-hashes" in command or ("--no-deps" in command and "--no-index" in command), command


def test_images_run_as_nobody_special_and_have_what_is_needed():
    found = stages()
    assert "USER 50000:0" in found["system"]
    assert "astrometry.net=" in found["system"]
    for name in ("cpu", "gpu"):
        assert found[name].startswith("FROM system\n")
        assert "USER" not in found[name]
    assert list(found)[-1] == "cpu"  # what is built unless a target is named
    for file in SEVERAL_MACHINES:
        for service in load(file, VARIABLES)["services"].values():
            if build := service.get("build"):
                assert build["target"] in found
                assert (file.parent / build["context"] / build["dockerfile"]).samefile(DOCKER / "Dockerfile")


def test_what_is_copied_is_there_and_not_ignored():
    kept = {
        line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (REPOSITORY / source).exists(), source
            assert source.split("/")[0] in kept, source
    ignored = (REPOSITORY / ".dockerignore").read_text().split()
    assert ignored.index("docker/secrets") > ignored.index("!docker")


def test_the_gpu_image_has_the_same_packages_and_cuda():
    everywhere, gpu = pins(REPOSITORY / "requirements.txt"), pins(DOCKER / "requirements-gpu.txt")
    for name in gpu.keys() & everywhere.keys():
        assert gpu[name] == everywhere[name], name
    assert "jax" in gpu
    own = gpu.keys() - everywhere.keys()
    assert {"jax-cuda12-plugin", "nvidia-cudnn-cu12"} <= own
    assert all(name.startswith(("jax-cuda12", "nvidia-")) for name in own)
    assert {version.split(" ")[0] for version in gpu["jax-cuda12-plugin"]} == {
        version.split(" ")[0] for version in everywhere["jax"]
    }
    for path in (REPOSITORY / "requirements.txt", *DOCKER.glob("requirements-*.txt")):
        text = path.read_text()
        assert len(re.findall(r"^[\w.-]+==", text, re.MULTILINE)) <= text.count("--hash=sha256:"), path
