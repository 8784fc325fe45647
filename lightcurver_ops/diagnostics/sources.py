"""The figure of a frame with the sources that were found in it."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import EllipseCollection
from numpy.typing import NDArray

from lightcurver_ops.diagnostics import pixels
from lightcurver_ops.diagnostics.canvas import (
    ALARM,
    COLOURS,
    add_axes,
    finite,
    name_axes,
    new_figure,
    save,
    say_empty,
)

_SIDE = 8.0  # inches, longer side of the frame
_PIXELS = 1000  # more than the figure resolves need not be drawn


def plot_sources(path: str | Path, image: NDArray, sources: Any, title: str) -> None:
    """Write the figure of the sources of one frame.

    Args:
        path: the file; its suffix names the format.
        image: [ny, nx], e-/s, sky subtracted; pixels that are not finite are marked.
        sources: arrays [n] x, y (pixels), a, b (pixels), theta (radians), fwhm (pixels).
        title: above the figure.

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    ny, nx = image.shape
    width, height = _SIDE * nx / max(nx, ny), _SIDE * ny / max(nx, ny)
    width, height = max(width, 2.0), max(height, 3.2)
    figure = new_figure(width + 4.1, height + 1.1, title)

    axes = add_axes(figure, 0.7, 0.6, width, height)
    step = max(1, int(np.ceil(max(nx, ny) / _PIXELS)))
    axes.imshow(
        pixels.asinh_colours(block_mean(image, step)),
        origin="lower",
        interpolation="nearest",
        extent=(-0.5, -0.5 + step * -(-nx // step), -0.5, -0.5 + step * -(-ny // step)),
    )
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5))
    _draw_ellipses(axes, sources, max(nx, ny))
    name_axes(axes, "x (pixels)", "y (pixels)", f"{len(sources.x)} sources, ellipses enlarged, asinh stretch")

    left, panel = width + 1.35, (height - 0.75) / 2
    _draw_distribution(
        add_axes(figure, left, 0.6 + panel + 0.75, 2.5, panel), sources.fwhm, "FWHM (pixels)", 3.0
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        ellipticity = 1 - np.asarray(sources.b) / np.asarray(sources.a)
    _draw_distribution(add_axes(figure, left, 0.6, 2.5, panel), ellipticity, "ellipticity 1 - b/a", np.inf)
    pixels.masked_key(figure, 0.15, 0.12)
    save(figure, path)


def block_mean(image: NDArray, step: int) -> NDArray[np.float64]:
    """Means of blocks of step x step pixels; NaN where any pixel of a block is not finite, so that none is hidden.

    Args:
        image: [ny, nx]; incomplete blocks at the upper and right border are averaged over the pixels they have.
    """
    if step == 1:
        return np.asarray(image, dtype=float)
    rows, columns = np.arange(0, image.shape[0], step), np.arange(0, image.shape[1], step)
    with np.errstate(invalid="ignore"):
        total = np.add.reduceat(np.add.reduceat(image, columns, axis=1, dtype=float), rows, axis=0)
    counts = np.diff([*rows, image.shape[0]])[:, None] * np.diff([*columns, image.shape[1]])
    return total / counts


def _draw_ellipses(axes: Axes, sources: Any, side: int) -> None:
    a, b = np.asarray(sources.a, dtype=float), np.asarray(sources.b, dtype=float)
    if not finite(a).size:
        return
    # Four second moments reach the edge of a star; in a large frame more, or nobody sees the ellipse.
    enlarged = max(4.0, 0.008 * side / float(np.median(finite(a))))
    axes.add_collection(
        EllipseCollection(
            2 * enlarged * a,
            2 * enlarged * b,
            np.degrees(np.asarray(sources.theta, dtype=float)),
            units="xy",
            offsets=np.column_stack([sources.x, sources.y]),
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=COLOURS[4],
            linewidths=0.9,
        ),
        autolim=False,
    )


def _draw_distribution(axes: Axes, values: NDArray, label: str, reach: float) -> None:
    """Histogram of what most sources have: 0 to `reach` medians, the rest in the last bin."""
    known = finite(values)
    name_axes(axes, label, "sources")
    if not known.size:
        return say_empty(axes, "no source")
    median = float(np.median(known))
    top = min(reach * median, float(known.max()))
    axes.hist(np.minimum(known, top), np.linspace(0, max(top, 1e-3), 31).tolist(), color=COLOURS[5])
    axes.axvline(median, color=ALARM, lw=1.2)
    name_axes(axes, label, "sources", f"median {median:.2f}")
    return None
