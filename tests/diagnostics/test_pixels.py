import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from lightcurver_ops.diagnostics import pixels

pytestmark = pytest.mark.filterwarnings("error")

GREEN = (0, 255, 0, 255)

# What people who lack one kind of cone see: Machado, Oliveira & Fernandes 2009, IEEE TVCG 15, 1291, table 1.
VISION = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def lab(rgb, vision):
    """CIE L*a*b* (D65) of sRGB colours [..., 3], as somebody sees them; 2.3 is a just noticeable difference."""
    rgb = np.asarray(rgb, dtype=float)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4) @ np.array(vision).T
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = np.clip(linear, 0, 1) @ to_xyz.T / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack(
        [116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1
    )


@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("name", [pixels.INTENSITY_MAP, pixels.RESIDUAL_MAP])
def test_everybody_tells_masked_pixels_from_all_others(name, vision):
    others = matplotlib.colormaps[name](np.arange(256))[:, :3]
    distance = np.linalg.norm(
        lab(others, VISION[vision]) - lab(to_rgb(pixels.MASKED), VISION[vision]), axis=-1
    )
    assert distance.min() > 20


@pytest.mark.parametrize("vision", VISION)
def test_everybody_tells_negative_from_positive_residuals(vision):
    low, high = pixels.residual_colours(np.array([[-4.0, 4.0]]))[0, :, :3] / 255
    assert np.linalg.norm(lab(low, VISION[vision]) - lab(high, VISION[vision])) > 30


@pytest.mark.parametrize("draw", [pixels.asinh_colours, pixels.linear_colours, pixels.residual_colours])
def test_masked_and_non_finite_pixels_are_marked(draw):
    image = np.random.default_rng(1).normal(size=(6, 7))
    good = np.ones(image.shape, dtype=bool)
    good[2, 3] = False
    image[4, 5], image[0, 0] = np.nan, np.inf
    marked = np.all(draw(image, good) == GREEN, axis=-1)
    assert set(zip(*np.nonzero(marked), strict=True)) == {(2, 3), (4, 5), (0, 0)}
    assert np.all(draw(np.full((3, 3), np.nan)) == GREEN)


@pytest.mark.parametrize("image", [np.zeros((4, 4)), np.full((4, 4), 1e9), np.full((4, 4), -3.0)])
@pytest.mark.parametrize("draw", [pixels.asinh_colours, pixels.linear_colours])
def test_flat_images_are_flat(draw, image):
    assert np.ptp(draw(image), axis=(0, 1)).max() == 0


def test_brighter_is_lighter_and_masked_pixels_do_not_stretch():
    image = np.array([[0.0, 1.0, 2.0, 10.0, 1000.0, 1e9]])
    levels = pixels.asinh_colours(image, image < 1e8, scale=1.0)[0, :, 0].astype(int)
    assert np.all(np.diff(levels[:5]) > 0)
    assert levels[4] == 255
    # A sky difference of 1 in 1000 is seen, which a linear stretch would not show.
    assert levels[1] - levels[0] > 10


def test_a_model_is_shown_with_the_stretch_of_its_data():
    data = np.array([[-1.0, 0.0, 1.0, 100.0]])
    assert np.array_equal(pixels.asinh_colours(data / 2, like=data)[0, 1], pixels.asinh_colours(data)[0, 1])
    assert pixels.asinh_colours(data / 2, like=data)[0, 3, 0] < 255


def test_residuals_are_clipped():
    shown = pixels.residual_colours(np.array([[-100.0, -5.0, 0.0, 5.0, 100.0]]))[0]
    assert np.array_equal(shown[0], shown[1])
    assert np.array_equal(shown[3], shown[4])
    assert shown[2, :3].min() > 240  # white: no residual
    assert shown[0, 2] > shown[0, 0]  # blue: negative
    assert shown[4, 0] > shown[4, 2]  # red: positive


def test_tiles_keep_their_places():
    tiles = [
        [np.full((2, 3, 4), 10 * row + column, dtype=np.uint8) for column in range(2)] for row in range(2)
    ]
    sheet = pixels.tiled([*tiles, tiles[0][:1]], gap=1)
    assert sheet.shape == (8, 7, 4)
    assert (sheet[7, 0, 0], sheet[7, 4, 0], sheet[3, 0, 0], sheet[4, 6, 0], sheet[0, 0, 0]) == (
        0,
        1,
        10,
        11,
        0,
    )
    assert sheet[2, 0, 0] == sheet[0, 3, 0] == sheet[0, 6, 0] == 255


@pytest.mark.parametrize(
    ("values", "expected"), [([np.nan], 5), ([0.01], 0.5), ([50.0], 5), ([-2.0, 2.0], 2)]
)
def test_limit_of_averaged_residuals(values, expected):
    assert pixels.robust_limit(values) == pytest.approx(expected)
