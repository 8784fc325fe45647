"""Images that a user gives for the background of the model."""

import numpy as np
import pytest
from astropy.io import fits

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.storage.images import read_background

WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": 20.0, "CRPIX1": 4.5, "CRPIX2": 4.5,
       "PC1_1": -1e-5, "PC2_2": 1e-5}  # fmt: skip


def written(path, **cards):
    fits.PrimaryHDU(np.ones((8, 8)), fits.Header(cards)).writeto(path, overwrite=True)
    return path


def test_an_image_with_and_without_a_wcs(tmp_path):
    _, wcs = read_background(written(tmp_path / "a.fits", **WCS))
    assert np.asarray(wcs.wcs.cdelt).tolist() == [1.0, 1.0]
    assert read_background(written(tmp_path / "a.fits"))[1] is None
    assert read_background(written(tmp_path / "a.fits", **WCS | {"CTYPE1": "X", "CTYPE2": "Y"}))[1] is None


@pytest.mark.parametrize(
    ("cards", "why"),
    [
        ({"CTYPE1": 3}, "CTYPE1 is 3, expected a text"),
        ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "does not take these cards: CTYPE1"),
        ({"PC1_1": 0.0}, "singular"),
        ({"CPDIS1": "LOOKUP"}, "refers to a table"),
    ],
)
def test_a_broken_wcs_is_said_of_its_file(tmp_path, cards, why):
    with pytest.raises(ConfigurationError, match=f"a.fits: the WCS of its header cannot be used: .*{why}"):
        read_background(written(tmp_path / "a.fits", **WCS | cards))
