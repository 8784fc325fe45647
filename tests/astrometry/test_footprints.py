"""Intersections, unions and bad pointings, in places where right ascension misbehaves."""

import json

import numpy as np
import pytest

from lightcurver_ops.astrometry import footprints as fp
from lightcurver_ops.astrometry.tangent import from_plane, separation

PLACES = [(150.0, 2.0), (0.0, 30.0), (359.999, -45.0), (20.0, 89.98), (300.0, -90.0)]


def square(roi, x, y, size=0.2):
    """A footprint of this size (deg) with its centre at (x, y) degrees on the plane of the ROI."""
    corner = size / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return np.column_stack(from_plane(x + corner[:, 0], y + corner[:, 1], *roi))


@pytest.mark.parametrize("roi", PLACES)
def test_two_overlapping_squares(roi):
    combined = fp.combine_footprints([square(roi, 0, 0), square(roi, 0.1, 0)], *roi)
    assert combined.common.area_deg2 == pytest.approx(0.1 * 0.2, rel=1e-4)
    assert combined.largest.area_deg2 == pytest.approx(0.3 * 0.2, rel=1e-4)
    x = np.array([0.05, -0.05, 0.15, 0.5])
    ra, dec = from_plane(x, np.zeros(4), *roi)
    assert combined.common.contains(ra, dec).tolist() == [True, False, False, False]
    assert combined.largest.contains(ra, dec).tolist() == [True, True, True, False]
    assert not combined.largest.contains((roi[0] + 180) % 360, -roi[1])
    assert combined.message == ""


def test_area_is_that_of_the_sphere():
    # A cap of 10 degrees: 2 pi (1 - cos 10 deg) steradians; the plane would say 3 % more.
    angle = np.linspace(0, 2 * np.pi, 720, endpoint=False)
    radius = np.degrees(np.tan(np.radians(10.0)))
    cap = np.column_stack(from_plane(radius * np.cos(angle), radius * np.sin(angle), 40.0, 20.0))
    area = fp.combine_footprints([cap], 40.0, 20.0).common.area_deg2
    assert area == pytest.approx(np.degrees(np.degrees(2 * np.pi * (1 - np.cos(np.radians(10))))), rel=1e-4)


def test_no_common_area_says_so():
    roi = (0.0, 0.0)
    combined = fp.combine_footprints([square(roi, 0, 0), square(roi, 1, 0)], *roi)
    assert combined.common.is_empty
    assert combined.common.area_deg2 == 0
    assert not combined.common.contains(0.0, 0.0)
    assert len(combined.largest.polygons) == 2
    assert "no common area" in combined.message


def test_footprints_that_only_touch_have_no_common_area():
    roi = (10.0, 0.0)
    assert fp.combine_footprints([square(roi, -0.1, 0), square(roi, 0.1, 0)], *roi).common.is_empty


def test_a_frame_on_the_other_side_of_the_sky():
    roi = (10.0, 20.0)
    combined = fp.combine_footprints([square(roi, 0, 0), square((190.0, -20.0), 0, 0)], *roi)
    assert combined.common.is_empty
    assert "1 of 2" in combined.message
    assert combined.largest.area_deg2 == pytest.approx(0.04, rel=1e-4)


def test_no_footprints_at_all():
    combined = fp.combine_footprints([], 1.0, 2.0)
    assert combined.common.is_empty
    assert combined.largest.is_empty
    assert "no footprints" in combined.message


def test_a_ring_of_frames_has_a_hole():
    roi = (0.0, 50.0)
    ring = [square(roi, x, y) for x, y in ((-0.15, 0), (0.15, 0), (0, -0.15), (0, 0.15))]
    ring += [square(roi, x, y) for x in (-0.15, 0.15) for y in (-0.15, 0.15)]
    largest = fp.combine_footprints(ring, *roi).largest
    assert len(largest.polygons[0]) == 2
    assert not largest.contains(*roi)
    assert largest.area_deg2 == pytest.approx(0.5**2 - 0.1**2, rel=1e-4)


@pytest.mark.parametrize("roi", PLACES)
def test_text_and_back(roi):
    polygon = square(roi, 0.03, 0.02)
    np.testing.assert_array_equal(fp.polygon_from_text(fp.polygon_to_text(polygon)), polygon)
    assert json.loads(fp.polygon_to_text(polygon))["type"] == "Polygon"
    for region in vars(fp.combine_footprints([polygon, square(roi, 5, 0)], *roi)).values():
        if isinstance(region, fp.SkyRegion):
            back = fp.region_from_text(fp.region_to_text(region))
            assert back.area_deg2 == region.area_deg2
            assert back.tangent_point == region.tangent_point
            assert back.is_empty == region.is_empty
            ra, dec = from_plane(0.03, 0.02, *roi)
            assert back.contains(ra, dec) == region.contains(ra, dec)


def centres(roi, x, y):
    return from_plane(np.asarray(x, float), np.asarray(y, float), *roi)


@pytest.mark.parametrize("roi", PLACES)
@pytest.mark.parametrize("n", [3, 5, 20, 60])
def test_one_frame_elsewhere_is_found_among_few_and_many(roi, n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(0, 0.003, (2, n))
    x[n // 2] += 0.19  # shares a twentieth of its field with the others
    bad = fp.bad_pointings(*centres(roi, x, y), *roi, field_size_deg=0.2)
    assert np.flatnonzero(bad).tolist() == [n // 2]


def test_large_dithers_and_two_pointings_are_spared():
    roi = (359.9, 10.0)
    rng = np.random.default_rng(1)
    dithered = centres(roi, *rng.uniform(-0.08, 0.08, (2, 40)))
    assert not fp.bad_pointings(*dithered, *roi, field_size_deg=0.2).any()
    two = centres(roi, np.repeat([-0.07, 0.07], 20), np.zeros(40))
    assert not fp.bad_pointings(*two, *roi, field_size_deg=0.2).any()


def test_the_five_sigma_rule_needs_27_frames():
    roi = (10.0, 10.0)
    for n, expected in ((25, False), (27, True)):
        x = np.zeros(n)
        x[0] = 0.01  # a twentieth of the field: only the 5 sigma rule minds
        assert fp.bad_pointings(*centres(roi, x, x * 0), *roi, field_size_deg=0.2)[0] == expected


def test_one_two_and_unknown_centres():
    assert not fp.bad_pointings([10.0], [5.0], 10.0, 5.0, 0.2).any()
    assert not fp.bad_pointings([10.0, 50.0], [5.0, 5.0], 10.0, 5.0, 0.2).any()
    assert fp.bad_pointings([10.0, np.nan], [5.0, 5.0], 10.0, 5.0, 0.2).tolist() == [False, True]
    assert fp.bad_pointings([], [], 10.0, 5.0, 0.2).shape == (0,)


def test_separation_is_accurate_when_tiny_and_when_opposite():
    assert separation(0.0, 0.0, 1e-9, 0.0) == pytest.approx(1e-9, rel=1e-9)
    assert separation(10.0, 20.0, 190.0, -20.0) == pytest.approx(180.0)
