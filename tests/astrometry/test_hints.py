"""Where the search begins: headers of every kind, none of which does harm."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver
from lightcurver_ops.astrometry.header_wcs import read_wcs
from lightcurver_ops.astrometry.hints import HEADER, header_hint, roi_hint, wcs_hint
from lightcurver_ops.astrometry.moved_wcs import MovedWcsSolver
from lightcurver_ops.errors import BadFrame


@pytest.fixture(scope="module")
def solved(sim):
    return sim.frame(1, angle=20.0, mirrored=False)


def cards(**values):
    header = fits.Header()
    for name, value in values.items():
        header[name] = value
    return header


def doubled(header, card):
    header = header.copy()
    header.append(fits.Card.fromstring(card), end=True)
    return header


BROKEN = {
    "CD and PC and CDELT": (
        lambda h: h.update(PC1_1=1.0, PC2_2=1.0, CDELT1=0.1, CDELT2=0.1), "both CDi_j and PCi_j"),
    "text for a number": (lambda h: h.update(CRVAL1="two hours"), "CRVAL1 is 'two hours', expected a number"),
    "a number in quotes": (lambda h: h.update(CRPIX2="249.5"), "CRPIX2 is '249.5', expected a number"),
    "true for a number": (lambda h: h.update(CD1_1=True), "CD1_1 is True, expected a number"),
    "no reference pixel": (lambda h: h.remove("CRPIX1"), "no celestial WCS .missing: CRPIX1"),
    "no matrix": (lambda h: [h.remove(f"CD{i}_{j}") for i in (1, 2) for j in (1, 2)], "no plate scale"),
    "SIP without its order": (
        lambda h: h.update(CTYPE1="RA---TAN-SIP", CTYPE2="DEC--TAN-SIP", A_2_0=1e-5, B_0_2=1e-5, B_ORDER=2),
        "distortion polynomial lacks A_ORDER"),
    "two projections": (lambda h: h.update(CTYPE1="RA---TAN", CTYPE2="DEC--SIN"), "cannot be used"),
    "another axis": (lambda h: h.update(CTYPE1="RA---TAN", CTYPE2="RA---TAN"), "cannot be used"),
    "unknown unit": (lambda h: h.update(CUNIT1="furlong"), "cannot be used"),
    "right ascension in hours": (lambda h: h.update(CRVAL1=h["CRVAL1"] / 15), r"\d+\.\d+ deg from the ROI, beyond"),
    "swapped": (lambda h: h.update(CRVAL1=h["CRVAL2"], CRVAL2=h["CRVAL1"]), "cannot be used|from the ROI"),
    "declination beyond the pole": (lambda h: h.update(CRVAL2=100.0), "cannot be used|from the ROI"),
    "scale ten times": (lambda h: [h.update({f"CD{i}_{j}": 10 * h[f"CD{i}_{j}"]}) for i in (1, 2) for j in (1, 2)],
                        "outside plate_scale_interval"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_wcs_is_no_hint_and_says_why(solved, kind):
    model, request = solved
    header = model.to_header()
    change, message = BROKEN[kind]
    change(header)
    with pytest.raises(BadFrame, match=message):
        header_hint(request, header, fits.Header())


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (
            "CRVAL1  =                151.0",
            r"CRVAL1 is there 2 times with different values: \[150.0, 151.0\]",
        ),
        ("CTYPE1  = 'DEC--TAN'", "CTYPE1 is there 2 times"),
    ],
)
def test_doubled_cards(solved, card, message):
    with pytest.raises(BadFrame, match=message):
        read_wcs("frame", doubled(solved[0].to_header(), card), (500, 650))


def test_cards_that_say_the_same_twice_or_more_than_needed_do_no_harm(solved):
    header = doubled(solved[0].to_header(), "CRVAL1  =                150.0")
    header.update(CDELT1=9.0, CDELT2=9.0)  # beside CDi_j these mean nothing (Calabretta & Greisen 2002)
    wcs = read_wcs("frame", header, (500, 650))
    assert wcs.pixel_scale_matrix == pytest.approx(solved[0].cd)


def test_a_broken_wcs_leaves_the_pointing(solved):
    model, request = solved
    broken = model.to_header()
    broken["CRVAL1"] = "?"
    hint = header_hint(request, broken, cards(RA=150.01, DEC=2.01))
    assert (hint.name, hint.origin, hint.wcs) == (HEADER, "RA, DEC", None)
    assert hint.radius_deg < request.radius_deg


@pytest.mark.parametrize(
    ("ra", "dec"),
    [
        (150.0, 2.0),
        (10.0, 2.0),  # hours
        ("10:00:00.0", "+02:00:00"),
        ("10 00 00", "2 00 00"),
        ("10h00m00s", "+2d00m00s"),
        ("150:00:00", "+02:00:00"),  # degrees after all
        ("150.0", "2.0"),
    ],
)
def test_pointings_as_telescopes_write_them(solved, ra, dec):
    hint = header_hint(solved[1], None, cards(OBJCTRA=ra, OBJCTDEC=dec))
    assert (hint.ra, hint.dec) == pytest.approx((150.0, 2.0))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "neither a WCS nor a pointing"),
        ({"RA": 2.0, "DEC": 80.0}, r"RA, DEC points to \(\d+\.\d+, 80.0000\), \d+\.\d+ deg from the ROI"),
        ({"RA": "unknown", "DEC": ""}, "RA, DEC = 'unknown', '' is no direction"),
        ({"RA": True, "DEC": 5.0}, "from the ROI|no direction"),
        ({"RA": 150.0, "DEC": 95.0}, "no direction"),
        ({"RA": 150.0}, "neither a WCS nor a pointing"),
    ],
)
def test_pointings_that_are_none(solved, values, message):
    with pytest.raises(BadFrame, match=message):
        header_hint(solved[1], None, cards(**values))


def test_a_card_that_cannot_be_read_is_no_pointing(solved):
    header = fits.Header()
    header.append(fits.Card.fromstring("RA      = 1.2.3"), end=True)
    header["DEC"] = 2.0
    with pytest.raises(BadFrame, match=r"RA cannot be read \(VerifyError\)|no direction"):
        header_hint(solved[1], None, header)


def test_a_wcs_narrows_place_and_scale_and_never_widens_them(solved):
    model, request = solved
    hint = header_hint(request, model.to_header(), fits.Header())
    assert hint.radius_deg == pytest.approx(0.75 * np.hypot(500, 650) * 0.7 / 3600, rel=1e-3)
    assert hint.scale_interval == pytest.approx((0.7 * 0.97, 0.7 * 1.03))
    tight = replace(request, plate_scale_interval=(0.695, 0.705), radius_deg=0.01)
    narrow = wcs_hint("last solution", WCS(model.to_header()), tight, "it")
    assert narrow.scale_interval == (0.695, 0.705)
    assert narrow.radius_deg == 0.01
    roi = roi_hint(request).applied_to(request)
    assert (roi.hint_ra, roi.radius_deg) == (request.hint_ra, request.radius_deg)


@pytest.mark.parametrize("seed", [401, 406])
def test_few_stars_among_many_false_sources_need_a_known_orientation(sim, seed):
    model, request = sim.frame(seed, (0.5, 0.9), stars_per_frame=9, false=25, lost=0.0)
    with pytest.raises(BadFrame):
        CatalogMatchSolver(quick=True).solve(request)
    # As a last solution knows it: elsewhere by a hundred pixels, a little turned, and beyond the meridian.
    turn = np.radians(180.15)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    last = replace(model, crval=model.crval + 0.02, cd=model.cd @ rotation)
    solution = MovedWcsSolver(WCS(last.to_header())).solve(replace(request, radius_deg=0.12))
    assert sim.corner_errors_px(solution.wcs, model).max() < 1.5


def test_a_known_orientation_needs_a_catalogue_that_fits(sim, solved):
    model, request = solved
    solver = MovedWcsSolver(WCS(model.to_header()))
    with pytest.raises(BadFrame, match="no catalogue stars"):
        solver.solve(replace(request, catalogue=None))
    _, other = sim.frame(77)
    with pytest.raises(BadFrame, match=r"no match with the known scale and orientation, 0.7000 arcsec/px"):
        solver.solve(replace(other, catalogue=request.catalogue))
    empty = np.empty(0)
    with pytest.raises(BadFrame, match="none fits"):
        solver.solve(replace(request, x=empty, y=empty, flux=empty))
