"""The figure of injected variations: what was recovered of them, and whether the errors are honest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lightcurver_ops.diagnostics.canvas import (
    ALARM,
    QUIET,
    SMALL,
    add_axes,
    colour,
    finite,
    limits,
    name_axes,
    new_figure,
    save,
    say_empty,
)

_COLUMNS = 4
_SIDE, _HISTOGRAM = 2.2, 1.2  # inches
_ROW = _SIDE + _HISTOGRAM + 1.45
_REACH = 5.0  # residual over error at the borders of a histogram


def plot_injection(
    path: str | Path,
    *,
    title: str,
    labels: Sequence[str],
    injected: Sequence[NDArray],
    residual: Sequence[NDArray],
    error: Sequence[NDArray],
    ratio: Sequence[NDArray],
) -> None:
    """Write the figure of J sources: recovered against injected, and below, residual over error.

    The grey line is what was injected; in the histogram the grey curve is that of honest errors, and what lies
    beyond its borders is counted in words.

    Args:
        path: the file; its suffix names the format.
        title: above the figure.
        labels: of the J sources.
        injected, residual, error: per source [M], mag: what was injected, recovered minus injected, its expected
            error. NaN where not measured.
        ratio: per source [M], residual over error, for the histogram.

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    count = len(labels)
    across = min(max(count, 1), _COLUMNS)
    down = -(-max(count, 1) // _COLUMNS)
    height = 0.45 + _ROW * down
    figure = new_figure(max(0.5 + across * (_SIDE + 0.75), 4.5), height, title)
    for j, label in enumerate(labels):
        left = 0.75 + (j % _COLUMNS) * (_SIDE + 0.75)
        bottom = height - 0.7 - (j // _COLUMNS) * _ROW - _SIDE
        use = np.isfinite(residual[j]) & np.isfinite(error[j]) & (error[j] > 0)
        first = j % _COLUMNS == 0
        axes = add_axes(figure, left, bottom, _SIDE, _SIDE)
        name_axes(axes, "injected (mag)", "recovered (mag)" if first else "", label)
        _draw_recovered(axes, colour(j), injected[j][use], residual[j][use], error[j][use])
        axes = add_axes(figure, left, bottom - 0.5 - _HISTOGRAM, _SIDE, _HISTOGRAM)
        name_axes(axes, "residual / error", "fraction" if first else "")
        _draw_histogram(axes, colour(j), finite(ratio[j]))
    if not count:
        say_empty(add_axes(figure, 0.75, 0.75, 2.2, 2.2), "no source")
    save(figure, path)


def _draw_recovered(axes: Axes, shade: str, injected: NDArray, residual: NDArray, error: NDArray) -> None:
    if not injected.size:
        return say_empty(axes)
    axes.axline((0, 0), slope=1, color=QUIET, lw=0.8, zorder=1)
    axes.errorbar(injected, injected + residual, error, fmt="o", color=shade, ms=2.5, lw=0.6, alpha=0.7)
    axes.set_xlim(*limits(injected, 0.08, smallest=0.01))
    axes.set_ylim(*limits(injected + residual, 0.08, smallest=0.01))
    axes.locator_params(nbins=4)
    return None


def _draw_histogram(axes: Axes, shade: str, ratio: NDArray) -> None:
    if not ratio.size:
        return say_empty(axes)
    edges = np.linspace(-_REACH, _REACH, 21)
    inside = np.abs(ratio) <= _REACH
    weights = np.full(np.count_nonzero(inside), 1.0 / ratio.size)
    axes.hist(ratio[inside], bins=edges.tolist(), weights=weights, color=shade, alpha=0.7)
    grid = np.linspace(-_REACH, _REACH, 201)
    axes.plot(grid, np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi) * (edges[1] - edges[0]), color=QUIET, lw=1.0)
    axes.set_xlim(-_REACH, _REACH)
    text = f"rms {np.sqrt(np.mean(ratio**2)):.2f}"
    axes.text(0.03, 0.95, text, va="top", fontsize=SMALL, transform=axes.transAxes)
    if beyond := int(np.count_nonzero(~inside)):
        axes.text(
            0.97,
            0.95,
            f"{beyond} beyond",
            ha="right",
            va="top",
            color=ALARM,
            fontsize=SMALL,
            transform=axes.transAxes,
        )
    return None
