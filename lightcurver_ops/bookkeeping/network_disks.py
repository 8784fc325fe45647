"""Whether a file lies on a disk of another machine, where SQLite's locks and shared memory do not hold."""

import re
from functools import lru_cache
from pathlib import Path

import psutil

# Some are missing whose devices say it: HOST:/DIRECTORY (nfs, ceph, glusterfs, sshfs), //HOST/SHARE (cifs, smb3).
_TYPES = re.compile(
    r"(nfs\d?|cifs|smb\w*|afs|auristorfs|coda|ceph|lustre|gpfs|beegfs|fhgfs|ocfs2|gfs2?|panfs)"
    r"|fuse\.(sshfs|s3fs|rclone|glusterfs|juicefs|\w*nfs)"
)
_DEVICES = re.compile(r"[^/:][^/]*:/|//[^/]")


@lru_cache(maxsize=256)
def network_disk_of(directory: Path) -> str | None:
    """The network disk that has a directory, as `nfs4 of server:/export`; None: it is a disk of this machine.

    Args:
        directory: that exists.
    """
    real = directory.resolve()
    # Of several at one place the last is seen.
    mounts = {Path(one.mountpoint): one for one in psutil.disk_partitions(all=True)}
    mount = next((mounts[place] for place in (real, *real.parents) if place in mounts), None)
    if mount is None or not (_TYPES.fullmatch(mount.fstype) or _DEVICES.match(mount.device)):
        return None
    return f"{mount.fstype} of {mount.device}"
