"""The image, built by buildah and run by bubblewrap: programs of Debian that need neither a daemon nor a registry.

The Dockerfile's base image is not at hand where no registry is: debootstrap makes one of the same Debian. Containers
are as the compose files want them (read-only root, user, no capabilities, mounts, temporary file systems, an init,
names of hosts), but for limits of memory and cores, and for seccomp. They share one network, of their own, that has
loopback alone: addresses and ports are those of the files.
"""

import ast
import contextlib
import ctypes
import fcntl
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from tests.deployed import PORTS, Deployment, Service
from tests.docker.compose_files import DOCKER, ONE_MACHINE

REPOSITORY = DOCKER.parent
# Program: Debian's package.
PROGRAMS = {"buildah": "buildah", "bwrap": "bubblewrap", "debootstrap": "debootstrap"}
# What the official image of Python has, as far as our image needs it.
_BASE_PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv"
_PIP_SETTINGS = ("index-url", "extra-index-url", "proxy", "trusted-host")
_CERTIFICATES = "/etc/host-certificates.crt"
_CLONE_NEWNET = 0x40000000


def missing_programs() -> str | None:
    """What stands in the way of building the image here; None: nothing."""
    if os.geteuid() != 0:
        return "only root builds and runs an image without a daemon"
    packages = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    return f"not installed (Debian: apt install {' '.join(packages)})" if packages else None


class Image:
    """An image in a storage of its own, and one container of it, whose root is mounted.

    Args:
        storage: directory of layers, which a later build uses again.
    """

    def __init__(self, storage: Path):
        self._storage = storage.absolute()
        self._storage.mkdir(parents=True, exist_ok=True)
        self._settings = self._settings_of_this_machine()
        base = os.environ.get("PYTHON_IMAGE") or self._base()
        started = time.monotonic()
        self._buildah(
            "build", "--layers", *self._settings, f"--build-arg=PYTHON_IMAGE={base}", "--target=cpu",
            f"--file={DOCKER / 'Dockerfile'}", "--tag=localhost/lightcurver-ops", str(REPOSITORY),
        )  # fmt: skip
        self.build_seconds = time.monotonic() - started
        about = json.loads(self._buildah("inspect", "--type=image", "localhost/lightcurver-ops"))
        self.config: dict[str, Any] = about["OCIv1"]["config"]
        self._container = self._buildah("from", "localhost/lightcurver-ops")
        self.root = Path(self._buildah("mount", self._container))

    def remove_container(self) -> None:
        """Layers stay, for the next build."""
        self._buildah("umount", self._container)
        self._buildah("rm", self._container)

    @property
    def environment(self) -> dict[str, str]:
        return dict(entry.split("=", 1) for entry in self.config["Env"])

    def _buildah(self, *arguments: str) -> str:
        places = [f"--root={self._storage / 'images'}", f"--runroot={self._storage / 'run'}"]
        result = subprocess.run(
            ["buildah", "--storage-driver=overlay", *places, *arguments],
            env={**os.environ, "BUILDAH_ISOLATION": "chroot"}, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        last = "\n".join((result.stdout + result.stderr).splitlines()[-40:])
        assert result.returncode == 0, f"buildah {arguments[0]}\n{last}"
        return result.stdout.strip()

    def _base(self) -> str:
        """The base image: a Debian of the Dockerfile's release with its Python."""
        (release,) = re.findall(
            r"^ARG PYTHON_IMAGE=\S+-slim-(\w+)@", (DOCKER / "Dockerfile").read_text(), re.MULTILINE
        )
        name = f"localhost/python-{release}"
        if name in self._buildah("images", "--format={{.Name}}").split():
            return name
        directory = self._storage / "base"
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
        said = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", release, directory / "root",
             *_mirror(release)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert said.returncode == 0, said.stdout[-3000:] + said.stderr
        (directory / "root" / "usr" / "bin" / "python").symlink_to("python3")
        subprocess.run(["tar", "-C", directory / "root", "-cf", directory / "root.tar", "."], check=True)
        shutil.rmtree(directory / "root")
        (directory / "Dockerfile").write_text('FROM scratch\nADD root.tar /\nCMD ["python3"]\n')
        self._buildah("build", f"--tag={name}", str(directory))
        shutil.rmtree(directory)
        return name

    def _settings_of_this_machine(self) -> list[str]:
        """Options of the build with which apt and pip reach what they reach here; nothing of it gets into the image."""
        directory = self._storage / "settings"
        directory.mkdir(mode=0o700, exist_ok=True)
        mounts = {}
        if shutil.which("apt-config"):
            said = subprocess.run(
                ["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True
            )
            (directory / "apt.conf").write_text(said.stdout)
            mounts[directory / "apt.conf"] = "/etc/apt/apt.conf.d/99host"
        settings = _pip_settings()
        certificates = settings.pop("cert", None) or os.environ.get("SSL_CERT_FILE")
        if certificates and Path(certificates).is_file():
            mounts[Path(certificates)] = _CERTIFICATES
            settings["cert"] = _CERTIFICATES
        if settings:
            lines = [f"{key} = {value}\n" for key, value in settings.items()]
            (directory / "pip.conf").write_text("[global]\n" + "".join(lines))
            mounts[directory / "pip.conf"] = "/etc/pip.conf"
        return [f"--volume={source}:{target}:ro" for source, target in mounts.items()]

    def argv(
        self,
        command: Sequence[str],
        *,
        mounts: Sequence[tuple[Path, str, bool]] = (),
        tmpfs: Sequence[str] = ("/airflow", "/tmp"),
        hostname: str = "container",
        user: str | None = None,
        read_only: bool = True,
    ) -> list[str]:
        """What runs a command in a container of this image.

        Args:
            mounts: directory or file here, path in the container, whether it may be written.
            tmpfs: paths of empty directories that all may write.
            user: USER:GROUP, numbers; None: that of the image.
        """
        words = [
            "bwrap", "--die-with-parent", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--hostname", hostname,
            "--bind" if not read_only else "--ro-bind", str(self.root), "/",
            "--proc", "/proc", "--dev", "/dev", "--perms", "1777", "--tmpfs", "/dev/shm",
        ]  # fmt: skip
        for path in tmpfs:
            self._mount_point(path, directory=True)
            words += ["--perms", "1777", "--tmpfs", path]
        for source, target, writable in mounts:
            self._mount_point(target, directory=source.is_dir())
            words += ["--bind" if writable else "--ro-bind", str(source), target]
        # Rights that giving up all others takes.
        words += [each for name in ("SETUID", "SETGID", "SETPCAP") for each in ("--cap-add", f"CAP_{name}")]
        number, group = (user or self.config["User"]).split(":")
        return [
            *words, "--chdir", self.config["WorkingDir"], "/usr/bin/setpriv", "--reuid", number, "--regid", group,
            "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", "--no-new-privs",
            *command,
        ]  # fmt: skip

    def _mount_point(self, path: str, *, directory: bool) -> None:
        """As container engines make them, where the image has none."""
        place = self.root / path.lstrip("/")
        if directory:
            place.mkdir(parents=True, exist_ok=True)
        else:
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()

    def run(self, *command: str, timeout: float = 600, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, by default as the image's user, with a read-only root and an empty /airflow."""
        return subprocess.run(
            self.argv(command, **options), env=self.environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False, timeout=timeout,
        )  # fmt: skip


def _mirror(release: str) -> list[str]:
    """Where this machine has the release from, if it has it; else debootstrap's own choice."""
    if shutil.which("apt-get") is None:
        return []
    found = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)"],
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    return [line.split()[2] for line in found.splitlines() if line.startswith(f"{release} main ")][:1]


def _pip_settings() -> dict[str, str]:
    """Of this machine's pip what says where packages come from, without what lies on its disk."""
    said = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    # Variables of the environment go before files.
    lines = sorted(said.splitlines(), key=lambda line: line.startswith(":env:"))
    settings = {}
    for line in lines:
        name, _, value = line.partition("=")
        if (key := name.rpartition(".")[2]) in (*_PIP_SETTINGS, "cert"):
            kept = [part for part in ast.literal_eval(value).split() if not part.startswith("file:")]
            if kept:
                settings[key] = " ".join(kept)
    return settings


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """A network of its own, with loopback alone, for what this thread starts meanwhile."""
    library = ctypes.CDLL(None, use_errno=True)

    def checked(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    with Path("/proc/thread-self/ns/net").open() as before:
        checked(library.unshare(_CLONE_NEWNET))
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
                # SIOCSIFFLAGS of IFF_UP
                fcntl.ioctl(any_socket, 0x8914, struct.pack("16sH14x", b"lo", 1))
            yield
        finally:
            checked(library.setns(before.fileno(), _CLONE_NEWNET))


class ContainerDeployment(Deployment):
    """A deployment of one machine whose own services run in containers of the image, as the compose file has them.

    Postgres and Redis, whose images come from a registry, are processes as elsewhere in the tests.
    """

    files = ONE_MACHINE

    def __init__(self, image: Image, volumes: dict[str, Path], variables: dict[str, str]):
        self.image = image
        self._hosts: Path | None = None
        super().__init__(volumes, variables)
        self._hosts = self.directory / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {' '.join(self.services)}\n")

    def _ports(self) -> dict[str, int]:
        return dict(PORTS)

    def volume(self, name: str) -> Path:
        path = super().volume(name)
        there = self.image.root / name
        if name not in self._volumes and there.is_dir():  # a new volume is as the image has its directory
            os.chown(path, there.stat().st_uid, there.stat().st_gid)
            path.chmod(there.stat().st_mode & 0o7777)
        return path

    def _is_ours(self, spec: dict[str, Any]) -> bool:
        return "build" in spec

    def _address(self, name: str) -> str:
        return f"{name}:{PORTS[name]}"

    def _here(self, service: str, text: str) -> str:
        return text if self._is_ours(self.model["services"][service]) else super()._here(service, text)

    def _service(self, name: str, spec: dict[str, Any]) -> Service:
        service = super()._service(name, spec)
        if self._is_ours(spec):
            own = {key: str(value) for key, value in spec.get("environment", {}).items()}
            service.environment = {**self.image.environment, "HOSTNAME": name, **own}
        return service

    def _inside(self, service: Service, command: Sequence[str]) -> list[str]:
        spec = service.spec
        if not self._is_ours(spec):
            return super()._inside(service, command)
        assert self._hosts is not None
        assert spec["cap_drop"] == ["ALL"]
        mounts = [(self._hosts, "/etc/hosts", False)]
        for name in spec.get("secrets", ()):
            mounts.append((self.secrets / name, f"/run/secrets/{name}", False))
        for entry in spec["volumes"]:
            source, target, *mode = entry.split(":")
            mounts.append((self.volume(source), target, mode != ["ro"]))
        return self.image.argv(
            command, mounts=mounts, tmpfs=[each.split(":")[0] for each in spec["tmpfs"]], hostname=service.name,
            user=spec["user"], read_only=spec["read_only"],
        )  # fmt: skip

    def _main_process(self, service: Service) -> psutil.Process:
        """That of the container: its init passes signals on."""
        process = super()._main_process(service)
        while process.name() == "bwrap" and (children := process.children()):
            process = children[0]
        return process
