"""What the tests of figures share: reading the picture back."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image


@pytest.fixture
def read_png():
    """Path to [rows from the top, columns, 3] levels 0 to 255 of a whole, decodable PNG of a readable size."""

    def read(path):
        with Image.open(path) as image:
            assert image.format == "PNG"
            levels = np.array(image.convert("RGB")).astype(np.int16)
        assert min(levels.shape[:2]) >= 400
        assert levels.std() > 1  # not a blank sheet
        return levels

    return read


@pytest.fixture
def painted(read_png):
    """Where a figure has a colour, to so many levels: [k, 2] of (row from the top, column)."""

    def find(path, colour, within=1):
        wanted = np.round(255 * np.array(to_rgb(colour))).astype(np.int16)
        return np.argwhere(np.abs(read_png(path) - wanted).max(axis=-1) <= within)

    return find
