"""What every solution goes through: stars, limits, and distortion that is kept, fitted, and used."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.wcs import WCS

from lightcurver_ops.astrometry.acceptance import accept
from lightcurver_ops.astrometry.base import Catalogue
from lightcurver_ops.astrometry.geometry import sky_to_pixel
from lightcurver_ops.errors import BadFrame

# At the corners 5 px off a plate without distortion; what is left after the best plate is about 1.5 px.
SIP = {"A_ORDER": 3, "B_ORDER": 3, "A_2_0": 2e-5, "A_0_2": -1e-5, "B_1_1": 1.5e-5, "B_0_2": 2e-5, "A_3_0": 2e-8,
       "A_1_2": 2e-8, "B_2_1": 2e-8, "B_0_3": 2e-8}  # fmt: skip


@pytest.fixture(scope="module")
def distorted(sim):
    """The header of a camera with distortion, and the request for a frame of 90 stars that it takes."""
    rng = np.random.default_rng(5)
    sky = sim.random_sky(rng, (150.0, 2.0), 0.25, 3500)
    header = sim.camera((150.0, 2.0), 0.7, 25.0).to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header.update(SIP)
    x, y = sky_to_pixel(WCS(header), sky.ra, sky.dec)
    seen = np.flatnonzero((x > 0) & (x < 649) & (y > 0) & (y < 499))[:110]
    noise = rng.normal(0, 0.05, (2, len(seen)))
    _, request = sim.frame(1)
    request = replace(
        request, x=x[seen] + noise[0], y=y[seen] + noise[1], flux=10 ** (-0.4 * sky.mag[seen]), catalogue=sky
    )
    return header, request


def errors_px(found, true):
    x, y = (a.ravel() for a in np.meshgrid(np.linspace(0, 649, 12), np.linspace(0, 499, 12)))
    return np.hypot(*((a - b) for a, b in zip(found.all_world2pix(*true.all_pix2world(x, y, 0), 0), (x, y))))


def test_the_distortion_of_a_solution_is_kept_and_its_place_refined(distorted):
    header, request = distorted
    moved = header.copy()
    moved["CRVAL1"] += 1.5 * 0.7 / 3600  # a solver's solution, 1.5 px off
    solution = accept(request, WCS(moved), "a solver", "")
    assert errors_px(solution.wcs, WCS(header)).max() < 0.15
    assert solution.wcs.sip is not None
    assert {card: solution.header[card] for card in SIP} == SIP
    assert solution.rms_pixels == pytest.approx(0.05 * np.sqrt(2), rel=0.2)
    assert solution.rms_arcsec == pytest.approx(0.7 * solution.rms_pixels, rel=0.01)
    assert solution.n_catalogue >= solution.n_matched > 90


def test_distortion_is_fitted_on_demand(distorted):
    header, request = distorted
    plain = WCS(header)
    plain.sip = None
    plain.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    straight = accept(request, plain, "a solver", "")
    bent = accept(replace(request, sip_order=3), plain, "a solver", "")
    assert straight.wcs.sip is None
    assert bent.wcs.sip.a_order == 3
    assert straight.rms_pixels > 0.4
    assert bent.rms_pixels < 0.1
    assert errors_px(straight.wcs, WCS(header)).max() > 1.0
    assert errors_px(bent.wcs, WCS(header)).max() < 0.3
    assert bent.n_matched >= straight.n_matched


def test_few_stars_carry_a_lower_order_or_none(distorted):
    _, request = distorted
    plain = WCS(distorted[0])
    plain.sip = None
    plain.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    for n, order in ((25, 2), (10, None)):
        few = replace(request, x=request.x[:n], y=request.y[:n], flux=request.flux[:n], sip_order=5)
        solution = accept(few, plain, "a solver", "")
        assert (solution.wcs.sip.a_order if solution.wcs.sip else None) == order
        assert errors_px(solution.wcs, WCS(distorted[0])).max() < 6.0  # and no wild edge


def test_other_projections_are_checked_and_never_changed(sim, distorted):
    model, request = sim.frame(1, angle=20.0)
    header = model.to_header()
    header["CTYPE1"], header["CTYPE2"] = "RA---ZPN", "DEC--ZPN"
    header["PV2_1"] = 1.0  # R = theta: 0.003 px off TAN in this field
    solution = accept(request, WCS(header), "a solver", "")
    assert list(solution.wcs.wcs.ctype) == ["RA---ZPN", "DEC--ZPN"]
    assert solution.rms_pixels < 0.5
    header["CRVAL2"] += 3 * 0.7 / 3600
    with pytest.raises(BadFrame, match=r"off by up to 3\.\d px"):
        accept(request, WCS(header), "a solver", "")


def test_too_few_stars_to_tell(sim):
    model, request = sim.frame(1)
    wcs = WCS(model.to_header())
    inside = np.flatnonzero(np.hypot(*(np.array(sky_to_pixel(wcs, request.catalogue.ra, request.catalogue.dec))
                                       - [[325], [250]])) < 200)  # fmt: skip
    few = replace(request, catalogue=request.catalogue.subset(inside[:4]))
    with pytest.raises(
        BadFrame, match=r"puts 4 catalogue stars on the frame, at least 5 are needed.*allow_unverified"
    ):
        accept(few, wcs, "a solver", "")
    trusted = accept(replace(few, allow_unverified=True), wcs, "a solver", "said so")
    assert (trusted.n_matched, trusted.log10_chance) == (0, 0.0)
    assert trusted.log.startswith("said so; not verified: ")


def test_stars_that_contradict_are_never_overruled(sim):
    model, request = sim.frame(1)
    other = replace(model, crval=model.crval + 0.03)
    with pytest.raises(BadFrame, match="no more than chance"):
        accept(replace(request, allow_unverified=True), WCS(other.to_header()), "a solver", "")


def test_stars_in_one_corner_leave_the_others_uncertain(sim):
    model, request = sim.frame(1, noise=0.6, stars_per_frame=400, lost=0.0)
    corner = (request.x < 90) & (request.y < 90)
    assert corner.sum() >= 5
    cut = replace(request, x=request.x[corner], y=request.y[corner], flux=request.flux[corner])
    with pytest.raises(BadFrame, match=r"leave it uncertain by \d+\.\d px in a corner"):
        accept(cut, WCS(model.to_header()), "a solver", "")


def test_far_outside_the_frame_a_distorted_wcs_gives_nan_and_no_error(distorted):
    header, _ = distorted
    wcs = WCS(header)
    ra = np.array([150.0, 150.0, 151.0, 330.0, np.nan])
    dec = np.array([2.0, 2.05, 12.0, -2.0, 2.0])
    x, y = sky_to_pixel(wcs, ra, dec)
    assert np.isfinite(x).tolist() == np.isfinite(y).tolist() == [True, True, False, False, False]
    assert (x[0], y[0]) == pytest.approx((324.5, 249.5), abs=1e-5)
    assert [len(a) for a in sky_to_pixel(wcs, [], [])] == [0, 0]
    assert Catalogue(ra, dec, ra).mag.size == 4
