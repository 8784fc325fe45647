"""SQLite on a disk of another machine is refused."""

import shutil
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest

from lightcurver_ops.bookkeeping.network_disks import network_disk_of


@pytest.fixture
def mounted(monkeypatch, tmp_path):
    """Says what is mounted below tmp_path: (directory, type, device)."""

    def say(*mounts):
        every = [("", "ext4", "/dev/sda1"), *mounts]
        partitions = [
            SimpleNamespace(mountpoint=str(tmp_path / place), fstype=kind, device=device)
            for place, kind, device in every
        ]
        monkeypatch.setattr(psutil, "disk_partitions", lambda all: partitions)
        network_disk_of.cache_clear()

    (tmp_path / "data" / "lens").mkdir(parents=True)
    yield say
    network_disk_of.cache_clear()


@pytest.mark.parametrize(
    ("kind", "device", "network"),
    [
        ("nfs", "server:/export", True),
        ("nfs4", "[fe80::1]:/", True),
        ("cifs", "//server/share", True),
        ("smb3", "//server/share", True),
        ("ceph", "10.0.0.1:6789,10.0.0.2:6789:/", True),
        ("lustre", "10.0.0.1@tcp:/scratch", True),
        ("beegfs", "beegfs_nodev", True),
        ("gpfs", "gpfs0", True),
        ("fuse.sshfs", "me@server:/home", True),
        ("fuse.glusterfs", "server:/volume", True),
        ("9p", "server:/export", True),
        ("ext4", "/dev/mapper/vg-data", False),
        ("xfs", "/dev/disk/by-path/pci-0000:00:1f.2-ata-1", False),
        ("zfs", "tank/data", False),
        ("overlay", "overlay", False),
        ("tmpfs", "tmpfs", False),
        ("virtiofs", "host", False),
    ],
)
def test_which_disks_are_of_other_machines(tmp_path, mounted, kind, device, network):
    mounted(("data", kind, device))
    expected = f"{kind} of {device}" if network else None
    assert network_disk_of(tmp_path / "data" / "lens") == expected
    assert network_disk_of(tmp_path) is None


def test_what_is_mounted_nearest_and_last_decides(tmp_path, mounted):
    mounted(("data", "nfs4", "server:/export"), ("data/lens", "ext4", "/dev/sdb1"))
    assert network_disk_of(tmp_path / "data" / "lens") is None
    (tmp_path / "link").symlink_to(tmp_path / "data")
    assert network_disk_of(tmp_path / "link") == "nfs4 of server:/export"
    mounted(("data", "ext4", "/dev/sdb1"), ("data", "nfs4", "server:/export"))
    assert network_disk_of(tmp_path / "data" / "lens") == "nfs4 of server:/export"


def test_a_bookkeeping_there_is_refused(tmp_path):
    """On a disk in memory that calls itself as one of a server does, mounted for one process."""
    alone = ["unshare", "--mount", "--propagation", "private"]
    mount = ["mount", "-t", "tmpfs", "server:/export", str(tmp_path)]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*alone, *mount], capture_output=True, check=False).returncode
    ):
        pytest.skip("only root mounts something for one process alone")
    program = (
        "import sys; from lightcurver_ops.bookkeeping.engine import open_engine; open_engine(sys.argv[1])"
    )
    file = tmp_path / "lens.sqlite3"
    command = [sys.executable, "-c", program, f"sqlite:///{file}"]
    said = subprocess.run(
        [*alone, "sh", "-c", f'{" ".join(mount)} && exec "$@"', "sh", *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    expected = f"ConfigurationError: bookkeeping: {file} lies on a network disk (tmpfs of server:/export), where SQLite"
    assert expected in said.stderr
