import numpy as np
import pytest
from astropy.io.fits import Header
from astropy.wcs import WCS
from hypothesis import given
from hypothesis import strategies as st

from lightcurver_ops.errors import BadFrame
from lightcurver_ops.numerics.cutouts import cutout, wcs_of_cutout

IMAGE = np.arange(40 * 60, dtype=np.float32).reshape(40, 60)


@given(st.floats(-30, 90), st.floats(-30, 70), st.integers(1, 40))
def test_every_pixel_is_the_image_s_own(x, y, size):
    stamp, (x0, y0) = cutout(IMAGE, x, y, size)
    assert abs((x - x0) - (size - 1) / 2) <= 0.5
    assert abs((y - y0) - (size - 1) / 2) <= 0.5
    for j in range(size):
        for i in range(size):
            inside = 0 <= x0 + i < 60 and 0 <= y0 + j < 40
            if inside:
                assert stamp[j, i] == IMAGE[y0 + j, x0 + i]
            else:
                assert np.isnan(stamp[j, i])


def test_types_and_fill():
    assert cutout(IMAGE, 5, 5, 4)[0].dtype == np.float32
    mask, _ = cutout(np.ones((8, 8), dtype=bool), 0, 0, 4, fill=False)
    assert mask.dtype == bool
    assert mask.sum() == 9
    assert np.isnan(cutout(np.ones((8, 8), dtype=np.int16), 0, 0, 4)[0]).any()


def test_the_cutout_is_a_copy():
    stamp, _ = cutout(IMAGE, 20, 20, 6)
    stamp[:] = -1
    assert (IMAGE >= 0).all()


def test_a_position_that_is_no_number():
    with pytest.raises(BadFrame, match="position"):
        cutout(IMAGE, np.nan, 3.0, 4)


def sip_header() -> Header:
    header = Header()
    for axis, (kind, value, pixel) in enumerate(
        (("RA---TAN-SIP", 359.99, 300.0), ("DEC--TAN-SIP", -40.0, 200.5)), 1
    ):
        header[f"CTYPE{axis}"], header[f"CRVAL{axis}"], header[f"CRPIX{axis}"] = kind, value, pixel
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -5e-5, 1e-6, 2e-6, 5e-5
    header["A_ORDER"], header["A_2_0"], header["A_1_1"] = 2, 2e-6, -1e-6
    header["B_ORDER"], header["B_0_2"], header["B_1_1"] = 2, 1e-6, 3e-6
    return header


@pytest.mark.parametrize("as_header", [True, False])
@pytest.mark.parametrize("origin", [(120, 33), (-7, -11)])
def test_wcs_follows_the_cutout(as_header, origin):
    header = sip_header()
    frame = WCS(header)
    moved = WCS(wcs_of_cutout(header if as_header else frame, *origin))
    x, y = np.array([0.0, 12.0, 23.0]), np.array([5.0, 0.0, 23.0])
    np.testing.assert_allclose(
        moved.all_pix2world(x, y, 0), frame.all_pix2world(x + origin[0], y + origin[1], 0), rtol=0, atol=1e-10
    )
    assert WCS(header).wcs.crpix[0] == 300.0
