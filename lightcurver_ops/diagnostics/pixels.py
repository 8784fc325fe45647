"""Pixels as colours: stamps, noise maps and residuals side by side in one picture.

Many stamps in one picture are drawn far faster than as many axes. Masked pixels are pure green, which neither of the
two colour maps comes near, for people with any kind of colour blindness either (a test measures it).
"""

from collections.abc import Container, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.diagnostics.canvas import ALARM, SMALL, add_axes, finite, name_axes, plain

MASKED = "#00FF00"
INTENSITY_MAP, RESIDUAL_MAP = "gray", "RdBu_r"
SIGMA_LIMIT = 5.0
_PAPER = np.array([255, 255, 255, 255], dtype=np.uint8)

Colours = NDArray[np.uint8]  # [ny, nx, 4]


def asinh_colours(
    image: ArrayLike,
    good: ArrayLike | None = None,
    scale: float | None = None,
    like: ArrayLike | None = None,
) -> Colours:
    """Grey levels [ny, nx, 4] from the faintest to the brightest good pixel, linear near the sky and then logarithmic.

    Args:
        image: [ny, nx], any unit, sky near 0.
        good: [ny, nx], False for pixels to mark as masked; those that are not finite are, too.
        scale: where the stretch bends, in the unit of the image; default: 1.48 MAD of the good pixels.
        like: [ny, nx], take the stretch from this image instead, so that the two compare.
    """
    values, usable = _usable(image, good)
    reference, known = (values, usable) if like is None else _usable(like, good)
    shown = reference[known]
    if not shown.size:
        return _painted(np.zeros(values.shape), usable, INTENSITY_MAP)
    median = float(np.median(shown))
    bend = scale or MAD_TO_SIGMA * float(np.median(np.abs(shown - median)))
    # A flat or nearly empty image has no spread to bend at.
    bend = max(bend, 1e-4 * float(np.abs(shown).max()), 1e-30)
    low, high = max(float(shown.min()), median - 3 * bend), float(shown.max())
    bottom, top = np.arcsinh((np.array([low, high]) - median) / bend)
    stretched = np.arcsinh((np.where(usable, values, median) - median) / bend)
    return _painted((stretched - bottom) / max(top - bottom, 1e-30), usable, INTENSITY_MAP)


def linear_colours(image: ArrayLike, good: ArrayLike | None = None) -> Colours:
    """Grey levels [ny, nx, 4] from the lowest to the highest good pixel; arguments as `asinh_colours`."""
    values, usable = _usable(image, good)
    known = values[usable]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    scaled = (np.where(usable, values, low) - low) / (high - low if high > low else 1.0)
    return _painted(scaled, usable, INTENSITY_MAP)


def residual_colours(
    residuals: ArrayLike, good: ArrayLike | None = None, limit: float = SIGMA_LIMIT
) -> Colours:
    """Blue to white to red [ny, nx, 4] for -limit to +limit (clipped) sigma; arguments as `asinh_colours`."""
    values, usable = _usable(residuals, good)
    return _painted(0.5 + 0.5 * np.where(usable, values, 0) / limit, usable, RESIDUAL_MAP)


def tiled(tiles: Sequence[Sequence[Colours]], gap: int) -> Colours:
    """Rows of pictures of one shape, the first row at the top, with white gaps; short rows are filled with white."""
    height, width = tiles[0][0].shape[:2]
    columns = max(len(row) for row in tiles)
    sheet = np.empty((len(tiles) * (height + gap) - gap, columns * (width + gap) - gap, 4), dtype=np.uint8)
    sheet[:] = _PAPER
    for r, row in enumerate(tiles):
        bottom = (len(tiles) - 1 - r) * (height + gap)
        for c, tile in enumerate(row):
            sheet[bottom : bottom + height, c * (width + gap) : c * (width + gap) + width] = tile
    return sheet


def show(axes: Axes, colours: Colours) -> None:
    """The picture in pixel coordinates: (0, 0) the centre of the first pixel, y upwards."""
    axes.imshow(colours, origin="lower", interpolation="nearest")
    axes.locator_params(nbins=5, integer=True)


def show_sheet(
    axes: Axes,
    tiles: Sequence[Sequence[Colours]],
    rows: Sequence[str],
    captions: Sequence[Sequence[str]],
    columns: int,
    alarms: Container[int] = (),
) -> None:
    """Stamps side by side, named rows below each other, a caption of two lines above each column.

    Args:
        axes: columns / rows times as wide as high, with 0.35 inches of paper above.
        tiles: per row the stamps [n, n, 4].
        rows: their names.
        captions: per column its lines.
        columns: room for so many, so that stamps have one size however few there are.
        alarms: columns whose caption is to stand out.
    """
    n = tiles[0][0].shape[0]
    gap = max(1, n // 12)
    pitch = n + gap
    show(axes, tiled(tiles, gap))
    axes.set(
        xlim=(-0.5, columns * pitch - gap - 0.5),
        ylim=(-0.5, len(tiles) * pitch - gap - 0.5),
        anchor="NW",
        xticks=[],
    )
    axes.set_yticks([(len(rows) - 1 - row) * pitch + n / 2 for row in range(len(rows))], rows)
    axes.tick_params(labelsize=SMALL, length=0)
    axes.spines[:].set_visible(False)
    for column, caption in enumerate(captions):
        axes.text(
            column * pitch + (n - 1) / 2,
            len(tiles) * pitch - gap,
            "\n".join(plain(line) for line in caption),
            ha="center",
            va="bottom",
            fontsize=SMALL,
            color=ALARM if column in alarms else "black",
        )


def residual_bar(
    figure: Figure, left: float, bottom: float, height: float, limit: float = SIGMA_LIMIT
) -> None:
    """The key to the colours of residuals; place in inches."""
    axes = add_axes(figure, left, bottom, 0.13, height)
    steps = np.linspace(-limit, limit, 256)[:, None]
    axes.imshow(
        residual_colours(steps, limit=limit), extent=(0, 1, -limit, limit), aspect="auto", origin="lower"
    )
    axes.set_xticks([])
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    name_axes(axes, y="residual (σ)")


def masked_key(figure: Figure, left: float, bottom: float) -> None:
    """What the green pixels are; place in inches."""
    across, up = figure.get_size_inches()
    figure.text(left / across, bottom / up, "■", color=MASKED, fontsize=11, va="center")
    figure.text((left + 0.15) / across, bottom / up, "masked pixel", fontsize=SMALL, va="center")


def robust_limit(residuals: ArrayLike) -> float:
    """A limit for `residual_colours` that shows faint structure of averaged residuals: 0.5 to 5."""
    known = np.abs(finite(residuals))
    return float(np.clip(np.percentile(known, 99), 0.5, SIGMA_LIMIT)) if known.size else SIGMA_LIMIT


def _usable(image: ArrayLike, good: ArrayLike | None) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values = np.asarray(image, dtype=float)
    usable = np.isfinite(values)
    return values, usable if good is None else usable & np.asarray(good, dtype=bool)


def _painted(level: NDArray[np.float64], usable: NDArray[np.bool_], colour_map: str) -> Colours:
    """Levels 0 to 1 (clipped) in the colours of the map."""
    table = (matplotlib.colormaps[colour_map](np.arange(256)) * 255).round().astype(np.uint8)
    painted = table[(np.clip(level, 0, 1) * 255).astype(np.uint8)]
    painted[~usable] = (0, 255, 0, 255)
    return painted
