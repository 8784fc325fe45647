"""Disks covered by smaller ones."""

import numpy as np
import pytest

from lightcurver_ops.catalogs.regions import Disk
from lightcurver_ops.catalogs.tiling import LARGEST, covering
from lightcurver_ops.errors import ConfigurationError


@pytest.mark.parametrize("radius", [1e-3, 0.3, LARGEST])
@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.9999, 88.0), (10.0, 90.0), (123.0, -89.99)])
def test_no_direction_is_left_out(ra, dec, radius):
    disk = Disk(ra, dec, radius)
    rng = np.random.default_rng(3)
    # Directions in the disk, a third of them at its edge: turned from around the pole to its centre.
    distance = np.radians(radius * np.sqrt(rng.uniform(0, 1, 6000)))
    distance[::3] = np.radians(radius * (1 - 1e-9))
    angle = rng.uniform(0, 2 * np.pi, 6000)
    x, y, z = np.sin(distance) * np.cos(angle), np.sin(distance) * np.sin(angle), np.cos(distance)
    tilt, turn = np.radians(90.0 - dec), np.radians(ra)
    x, z = np.cos(tilt) * x + np.sin(tilt) * z, -np.sin(tilt) * x + np.cos(tilt) * z
    x, y = np.cos(turn) * x - np.sin(turn) * y, np.sin(turn) * x + np.cos(turn) * y
    stars = np.degrees(np.arctan2(y, x)) % 360, np.degrees(np.arctan2(z, np.hypot(x, y)))
    assert disk.contains(*stars).mean() > 0.99
    parts = covering(disk)
    assert np.any([part.contains(*stars) for part in parts], axis=0).all()
    assert all(part.radius_deg < 0.51 * radius for part in parts)


def test_a_region_too_wide_for_parts_is_refused():
    with pytest.raises(ConfigurationError, match=r"a region of 11 degrees around ra 5\.0.*choose a smaller"):
        covering(Disk(5.0, 0.0, 11.0))
