"""A WCS that comes with the frame, and one that is moved from another frame."""

import re
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from lightcurver_ops.astrometry.geometry import angle_to_north
from lightcurver_ops.astrometry.header_wcs import HeaderWcsSolver, read_wcs
from lightcurver_ops.astrometry.reference_wcs import ReferenceWcsSolver
from lightcurver_ops.errors import BadFrame, ConfigurationError


@pytest.fixture(scope="module")
def solved(sim):
    model, request = sim.frame(1, angle=20.0, mirrored=False)
    return model, replace(request, header=model.to_header())


def with_cards(header, remove=(), **cards):
    header = header.copy()
    for card in remove:
        del header[card]
    header.update(cards)
    return header


def test_the_header_is_believed_and_checked(sim, solved):
    model, request = solved
    header = with_cards(request.header, **{"DATE-OBS": "2020-01-01T00:00:00", "EXPTIME": 3.0})
    solution = HeaderWcsSolver().solve(replace(request, header=header))
    assert sim.corner_errors_px(solution.wcs, model).max() < 1e-6
    assert solution.n_matched > 20
    assert not {"DATE-OBS", "MJD-OBS", "EXPTIME"} & set(solution.header)


def test_without_a_catalogue_nothing_is_believed_unless_the_user_says_so(solved):
    _, request = solved
    blind = replace(request, catalogue=None, plate_scale_interval=None)
    with pytest.raises(BadFrame, match="cannot be verified: no catalogue"):
        HeaderWcsSolver().solve(blind)
    solution = HeaderWcsSolver().solve(replace(blind, allow_unverified=True))
    assert solution.n_matched == 0
    assert np.isnan(solution.rms_arcsec)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"remove": ["CTYPE1", "CTYPE2"]}, "no celestial WCS"),
        ({"remove": ["CRVAL1"]}, "CRVAL1"),
        ({"CTYPE1": "LINEAR", "CTYPE2": "LINEAR"}, "not celestial"),
        ({"CTYPE2": "LINEAR"}, "WCS"),
        (
            {"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"},
            r"not take these cards: CTYPE1 = 'RA---XYZ' \(Unrecog",
        ),
        ({"CTYPE1": "RA---SIN"}, "not take these cards: CTYPE2"),
        ({"CTYPE1": 3}, "CTYPE1 is 3, expected a text"),
        ({"CTYPE1": "RA---TAB", "CTYPE2": "DEC--TAB"}, "refers to a table"),
        ({"CUNIT1": "furlong", "CUNIT2": "deg"}, "not take these cards: CUNIT1 = 'furlong'"),
        ({"CTYPE3": "RA---TAN", "WCSAXES": 3}, "cannot be used"),
        ({"CRPIX1": "middle"}, "CRPIX1 is 'middle', expected a number"),
        ({"CRVAL2": 120.0}, "CRVAL2 is 120.0, a declination"),
        ({"LONPOLE": "x"}, "LONPOLE is 'x', expected a number"),
        ({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_99": 1.0}, "not take these cards: .*PV1_99 = 1.0"),
        (
            {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "A_ORDER": 2, "B_ORDER": 2},
            "SIP polynomials .* not go with",
        ),
        ({"A_ORDER": 2, "A_2_0": 1e-5}, "polynomial lacks B_ORDER"),
        ({"A_2_0": 1e-5, "B_0_2": 1e-5}, "polynomial lacks A_ORDER, B_ORDER"),
        ({"A_ORDER": 2.5, "B_ORDER": 2}, "A_ORDER is 2.5, expected a whole number"),
        ({"remove": ["CD1_2", "CD2_1", "CD2_2"]}, r"singular \(CDi_j"),
        ({"remove": ["CD1_1", "CD1_2", "CD2_1", "CD2_2"]}, "no plate scale"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "GLON"),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0}, "first axis"),
        ({"RADESYS": "FK4"}, "FK4"),
        ({"RADESYS": "FK5", "EQUINOX": 2021.5}, "2021.5"),
        ({"PC1_1": 1.0, "CDELT1": 0.1}, "both CDi_j and PCi_j"),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, "singular"),
        ({"CD1_1": -0.01, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.01}, "plate_scale_interval"),
        ({"CRVAL1": 150.1}, "no more than chance"),
    ],
)
def test_broken_headers(solved, change, message):
    _, request = solved
    with pytest.raises(BadFrame, match=message) as refused:
        HeaderWcsSolver().solve(replace(request, header=with_cards(request.header, **change)))
    assert not re.search(r"ERROR \d|\.c:|has no attribute|verify\(", str(refused.value))


@pytest.mark.parametrize(
    ("card", "message"),
    [
        ("CRVAL1  =                  NaN", "the card CRVAL1 cannot be read"),
        ("CRPIX2  =                325,5", "the card CRPIX2 cannot be read"),
        ("CD1_1   =", "CD1_1 has no value"),
    ],
)
def test_cards_that_are_no_numbers(solved, card, message):
    _, request = solved
    header = with_cards(request.header, remove=[card[:8].strip()])
    header.append(fits.Card.fromstring(card))
    with pytest.raises(BadFrame, match=message):
        HeaderWcsSolver().solve(replace(request, header=header))


@pytest.mark.parametrize("cdelt", [{}, {"CDELT1": 1.0}])
def test_pc_without_cdelt_is_in_degrees(sim, solved, cdelt):
    model, request = solved
    header = with_cards(request.header, remove=[f"CD{i}_{j}" for i in (1, 2) for j in (1, 2)], **cdelt)
    for i, j in ((1, 1), (1, 2), (2, 1), (2, 2)):
        header[f"PC{i}_{j}"] = request.header[f"CD{i}_{j}"]
    solution = HeaderWcsSolver().solve(replace(request, header=header))
    assert sim.corner_errors_px(solution.wcs, model).max() < 1e-6


def test_polynomials_that_ctype_does_not_announce_count_in_silence(solved, caplog):
    _, request = solved
    polynomials = {"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 1e-5}
    with caplog.at_level("INFO", logger="astropy"):
        wcs = read_wcs("a.fits", with_cards(request.header, **polynomials), request.shape)
    assert wcs.sip is not None
    assert list(wcs.wcs.ctype) == ["RA---TAN-SIP", "DEC--TAN-SIP"]
    assert not caplog.records


def test_no_header_and_an_unsolved_real_one(solved, hatp32_requests):
    with pytest.raises(BadFrame, match="no header"):
        HeaderWcsSolver().solve(replace(solved[1], header=None))
    with pytest.raises(BadFrame, match="no celestial WCS"):
        HeaderWcsSolver().solve(hatp32_requests[0])


def test_fk5_j2000_is_icrs_enough(solved):
    header = with_cards(solved[1].header, RADESYS="FK5", EQUINOX=2000.0)
    assert HeaderWcsSolver().solve(replace(solved[1], header=header)).header["RADESYS"] == "ICRS"


@pytest.mark.parametrize("angle", [20.0, 20.7, 200.0])
def test_reference_moved_and_turned(sim, solved, angle):
    reference, request = solved
    rng = np.random.default_rng(3)
    model = sim.camera((150.02, 1.98), 0.703, angle)
    frame = sim.make_request(rng, model, request.catalogue, None, hint=(0.0, 0.0))
    solver = ReferenceWcsSolver(reference.to_header(), request.shape, request.x, request.y, request.flux)
    solution = solver.solve(frame)
    assert sim.corner_errors_px(solution.wcs, model).max() < 0.8
    assert angle_to_north(solution.wcs, request.shape) == pytest.approx(
        angle if angle < 180 else angle - 360, abs=0.1
    )
    assert solution.n_matched > 15
    alone = solver.solve(replace(frame, catalogue=None))
    assert alone.n_matched > 10


def test_reference_keeps_its_distortion(sim):
    rng = np.random.default_rng(8)
    sky = sim.random_sky(rng, (150.0, 2.0), 0.3, 2500)

    def distorted(centre, angle):
        header = sim.camera(centre, 0.7, angle).to_header()
        header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
        header.update(A_ORDER=2, B_ORDER=2, A_2_0=3e-5, A_0_2=-1e-5, B_1_1=2e-5, B_0_2=3e-5)
        return header

    def sources(header):
        wcs = WCS(header)
        x, y = wcs.all_world2pix(sky.ra, sky.dec, 0, quiet=True)
        seen = np.flatnonzero((x > 0) & (x < 649) & (y > 0) & (y < 499))
        x, y = x[seen] + rng.normal(0, 0.05, len(seen)), y[seen] + rng.normal(0, 0.05, len(seen))
        return x, y, 10 ** (-0.4 * sky.mag[seen])

    reference, truth = distorted((150.0, 2.0), 10.0), distorted((150.01, 2.015), 11.0)
    solver = ReferenceWcsSolver(reference, (500, 650), *sources(reference))
    _, request = sim.frame(1)
    x, y, flux = sources(truth)
    solution = solver.solve(replace(request, x=x, y=y, flux=flux, catalogue=sky))
    corners = np.array([[0, 0], [649, 0], [0, 499], [649, 499], [300, 200]])
    found, true = solution.wcs.all_pix2world(corners, 0), WCS(truth).all_pix2world(corners, 0)
    assert np.abs((found - true) * 3600 / 0.7).max() < 0.25
    assert solution.wcs.sip is not None
    assert solution.rms_arcsec / 0.7 < 0.15


def test_reference_of_another_field_or_without_wcs(sim, solved):
    reference, request = solved
    _, other = sim.frame(55)
    solver = ReferenceWcsSolver(reference.to_header(), request.shape, request.x, request.y, request.flux)
    with pytest.raises(BadFrame, match="no match"):
        solver.solve(other)
    blank = ReferenceWcsSolver(fits.Header(), request.shape, request.x, request.y, request.flux)
    with pytest.raises(ConfigurationError, match="no celestial WCS"):
        blank.solve(other)


def test_real_frames_from_the_first_one(sim, hatp32_requests):
    first = hatp32_requests[0]
    from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver

    solution = CatalogMatchSolver().solve(first)
    solver = ReferenceWcsSolver(solution.header, first.shape, first.x, first.y, first.flux)
    for request in hatp32_requests[1:]:
        moved = solver.solve(request)
        assert moved.n_matched >= 18
        assert moved.rms_arcsec / 5.164 < 0.5
