"""Covers a disk of the sky with smaller ones, for services that do not give, or do not admit, all of it at once."""

import numpy as np

from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.errors import ConfigurationError

LARGEST = 10.0
"""Degrees: below, the sphere is flat enough for the margin."""
_MARGIN = 1.01
"""In the plane, seven disks of half the radius cover a disk exactly: one in the middle, six around it at sqrt(3)/2 of
the radius. On the sphere each must be a little larger."""


def covering(disk: Disk) -> list[Disk]:
    """Seven disks of about half the radius that together hold all of a disk, and some of what is around it.

    Raises:
        ConfigurationError: a disk wider than `LARGEST`.
    """
    if disk.radius_deg > LARGEST:
        raise ConfigurationError(
            f"a region of {disk.radius_deg:g} degrees around ra {disk.ra:.5f}, dec {disk.dec:.5f} has more stars than "
            f"come in one answer, and regions wider than {LARGEST:g} degrees are not asked for in parts: choose a "
            "smaller one"
        )
    half = disk.radius_deg / 2
    around = [_offset(disk, np.sqrt(3.0) * half, 60.0 * k) for k in range(6)]
    return [Disk(ra, dec, half * _MARGIN) for ra, dec in [(disk.ra, disk.dec), *around]]


def _offset(disk: Disk, distance_deg: float, angle_deg: float) -> tuple[float, float]:
    """The direction at a distance from the disk's centre, at an angle from north over east; ICRS degrees."""
    distance, angle, dec = np.radians([distance_deg, angle_deg, disk.dec])
    up = np.sin(dec) * np.cos(distance) + np.cos(dec) * np.sin(distance) * np.cos(angle)
    east = np.sin(distance) * np.sin(angle)
    north = np.cos(dec) * np.cos(distance) - np.sin(dec) * np.sin(distance) * np.cos(angle)
    ra = (disk.ra + np.degrees(np.arctan2(east, north))) % 360.0
    return float(ra), float(np.degrees(np.arcsin(np.clip(up, -1.0, 1.0))))
