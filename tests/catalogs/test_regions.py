"""Disks and polygons on the sphere."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord, angular_separation

from lightcurver_ops.catalogs.regions import Disk, Polygon, separation_deg
from lightcurver_ops.errors import ConfigurationError


def square(ra, dec, half):
    """A square of great circles around (ra, dec), made by turning one at the pole into place."""
    corners = SkyCoord(ra, dec, unit="deg").directional_offset_by(
        [45, 135, 225, 315] * u.deg, half * np.sqrt(2) * u.deg
    )
    return np.stack([corners.ra.deg, corners.dec.deg], axis=-1)


CENTRES = [(150.0, 2.0), (0.001, -40.0), (359.9999, 60.0), (123.0, 90.0), (10.0, -89.95)]


@pytest.mark.parametrize(("ra", "dec"), CENTRES)
def test_disk_contains_what_is_within_its_radius(ra, dec):
    rng = np.random.default_rng(1)
    points = np.degrees(np.arcsin(rng.uniform(-1, 1, 4000)))
    ras = rng.uniform(0, 360, 4000)
    near = separation_deg(ras, points, ra, dec)
    disk = Disk(ra, dec, 40.0)
    np.testing.assert_array_equal(disk.contains(ras, points), near <= 40.0)
    # independent: haversine through astropy
    expected = np.degrees(
        angular_separation(np.radians(ras), np.radians(points), np.radians(ra), np.radians(dec))
    )
    np.testing.assert_allclose(near, expected, atol=1e-10)


@pytest.mark.parametrize(("ra", "dec"), CENTRES)
def test_polygon_is_the_same_wherever_it_lies(ra, dec):
    """Points at known offsets from the centre: across RA 0, over the pole, at the equator."""
    polygon = Polygon(square(ra, dec, 0.5))
    rng = np.random.default_rng(2)
    angle, distance = rng.uniform(0, 2 * np.pi, 2000), rng.uniform(0.0, 1.2, 2000)
    points = SkyCoord(ra, dec, unit="deg").directional_offset_by(angle * u.rad, distance * u.deg)
    # the square's side on the tangent plane, where great circles are straight
    half = np.tan(np.radians(0.5 * np.sqrt(2))) / np.sqrt(2)
    r = np.tan(np.radians(distance))
    expected = (np.abs(r * np.cos(angle)) <= half) & (np.abs(r * np.sin(angle)) <= half)
    np.testing.assert_array_equal(polygon.contains(points.ra.deg, points.dec.deg), expected)
    assert 0.2 < expected.mean() < 0.8


def test_polygon_excludes_the_opposite_side_of_the_sky():
    polygon = Polygon(square(30.0, 20.0, 1.0))
    assert polygon.contains(30.0, 20.0)
    assert not polygon.contains(210.0, -20.0)


def test_polygon_edge_follows_the_great_circle():
    """Between two points at declination 60, 40 degrees of RA apart, the great circle passes north of 60."""
    polygon = Polygon([(0, 60), (40, 60), (40, 50), (0, 50)])
    top = np.degrees(np.arctan(np.tan(np.radians(60)) / np.cos(np.radians(20))))
    assert polygon.contains(20.0, top - 1e-6)
    assert not polygon.contains(20.0, top + 1e-6)


def test_concave_polygon():
    polygon = Polygon([(10, 0), (12, 0), (12, 2), (11, 0.5), (10, 2)])
    np.testing.assert_array_equal(polygon.contains([11.0, 10.1, 11.0], [0.2, 1.5, 1.5]), [True, True, False])


@pytest.mark.parametrize(("ra", "dec"), CENTRES)
def test_bounding_disk_holds_the_polygon(ra, dec):
    corners = square(ra, dec, 0.3)
    disk = Polygon(corners).bounding_disk()
    assert disk.contains(corners[:, 0], corners[:, 1]).all()
    assert disk.radius_deg == pytest.approx(0.3 * np.sqrt(2), rel=1e-5)


def test_identity_depends_on_the_region_and_not_on_how_it_is_written():
    corners = square(359.99, 10.0, 0.3)
    same = [
        np.roll(corners, 2, axis=0),
        corners[::-1],
        np.vstack([corners, corners[:1]]),
        corners - [[360, 0]],
    ]
    assert {Polygon(c).key() for c in same} == {Polygon(corners).key()}
    assert Polygon(corners + 1e-5).key() != Polygon(corners).key()
    assert Disk(-0.5, 3.0, 1.0).key() == Disk(359.5, 3.0, 1.0).key() != Disk(359.5, 3.0, 1.1).key()


@pytest.mark.parametrize(
    ("corners", "complaint"),
    [
        ([(0, 0), (1, 1)], "3 or more"),
        ([(0, 0), (1, 1), (np.nan, 0)], "ICRS degrees"),
        ([(0, 0), (1, 1), (1, 0), (0, 1)], "edges cross"),
        ([(0, 0), (120, 0), (240, 0)], "hemisphere"),
        ([(0, 0), (85, 0), (170, 0), (85, 40)], "80 degrees"),
    ],
)
def test_impossible_polygons_are_refused(corners, complaint):
    with pytest.raises(ConfigurationError, match=complaint):
        Polygon(corners)


@pytest.mark.parametrize("arguments", [(0, 91, 1), (0, 0, 0), (np.nan, 0, 1), (0, 0, 181)])
def test_impossible_disks_are_refused(arguments):
    with pytest.raises(ConfigurationError):
        Disk(*arguments)
