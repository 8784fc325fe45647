"""The figure of the normalization: the coefficient of each frame, and how well each star follows it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lightcurver_ops.diagnostics.canvas import (
    ALARM,
    COLOURS,
    QUIET,
    SMALL,
    add_axes,
    finite,
    legend,
    limits,
    name_axes,
    new_figure,
    plain,
    save,
    say_empty,
    time_axis,
)

_SCATTERS_PER_ROW = 4.0  # half the height of a star's row, in scatters of the typical star
_SUSPECT = 2.5  # a star that scatters this much more than the typical one stands out


def plot_normalization(
    path: str | Path,
    *,
    mjd: NDArray,
    names: Sequence[str],
    normalized: NDArray,
    uncertainty: NDArray,
    coefficient: NDArray,
    coefficient_uncertainty: NDArray,
    scatter: NDArray,
    variable: NDArray | None = None,
) -> None:
    """Write the figure of the normalization of E frames with S stars.

    Above: the star fluxes over their scale and the coefficients. Below: a row per star with what is left after
    division by the coefficients; the number on the right is the star's own scatter. Points beyond their row are
    triangles at its border.

    Args:
        path: the file; its suffix names the format.
        mjd: [E], days.
        names: of the S stars.
        normalized, uncertainty: [S, E], star flux over the star's scale; NaN where not measured.
        coefficient, coefficient_uncertainty: [E].
        scatter: [S], relative scatter of the star around the coefficients.
        variable: [S] bool, stars to point out beside those whose scatter is large; None: no others.

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    mjd = np.asarray(mjd, dtype=float)
    scatter = np.asarray(scatter, dtype=float)
    count = len(names)
    rows = max(1.2, 0.42 * count)
    figure = new_figure(11.0, 4.3 + rows, f"Normalization (frames: {mjd.size}, stars: {count})")

    axes = add_axes(figure, 0.8, 0.6 + rows + 0.35, 9.2, 2.9)
    stars = axes.plot(mjd, np.asarray(normalized, dtype=float).T, ".", color=COLOURS[5], ms=3, alpha=0.6)
    frames = axes.errorbar(
        mjd, coefficient, coefficient_uncertainty, fmt="o", color="black", ms=3, lw=0.8, zorder=3
    )
    legend(axes, [frames, *stars[:1]], ["coefficient", "star flux / scale"][: 1 + len(stars[:1])], loc="best")
    known = finite(coefficient)
    if known.size:
        reach = [finite(coefficient + coefficient_uncertainty), finite(coefficient - coefficient_uncertainty)]
        shown = [np.percentile(values, [1, 99]) for values in (*reach, finite(normalized)) if values.size]
        axes.set_ylim(*limits(np.concatenate([known, *shown]), 0.08, smallest=0.02))
    else:
        say_empty(axes)
    name_axes(axes, y="relative flux")
    time_axis(axes, mjd, label=False)

    axes = add_axes(figure, 0.8, 0.6, 9.2, rows)
    with np.errstate(invalid="ignore", divide="ignore"):
        residual = 100 * (normalized / np.asarray(coefficient) - 1)
        error = 100 * uncertainty / np.asarray(coefficient)
    marked = np.zeros(count, dtype=bool) if variable is None else np.asarray(variable, dtype=bool)
    _draw_residuals(axes, mjd, names, residual, error, 100 * scatter, marked)
    time_axis(axes, mjd)
    save(figure, path)


def _draw_residuals(
    axes: Axes,
    mjd: NDArray,
    names: Sequence[str],
    residual: NDArray,
    error: NDArray,
    scatter: NDArray,
    variable: NDArray,
) -> None:
    """Rows of residuals, all in per cent and on one scale."""
    # A single star follows its own coefficients exactly: its errors are all there is to see then.
    spread = next(
        (known for known in (scatter[scatter > 0], error[error > 0]) if known.size), np.array([0.1])
    )
    typical = float(np.median(spread))
    half = _SCATTERS_PER_ROW * typical
    heights, written = [], []
    for s, (values, errors) in enumerate(zip(residual, error, strict=True)):
        zero = -2 * half * s
        suspect = variable[s] or scatter[s] > _SUSPECT * typical
        colour = ALARM if suspect else COLOURS[0]
        inside = np.abs(values) <= half
        days, level = mjd[inside], values[inside]
        low = np.maximum(level - np.nan_to_num(errors[inside]), -half) + zero
        high = np.minimum(level + np.nan_to_num(errors[inside]), half) + zero
        axes.vlines(days, low, high, color=colour, lw=0.5)
        axes.plot(days, zero + level, ".", color=colour, ms=3)
        for sign, shape in ((1, "^"), (-1, "v")):
            beyond = mjd[sign * values > half]
            axes.plot(beyond, np.full(beyond.size, zero + sign * 0.8 * half), shape, color=ALARM, ms=4)
        axes.axhline(zero, color=QUIET, lw=0.5)
        axes.axhline(zero - half, color="black", lw=0.3)
        heights.append(zero)
        text = f"{scatter[s]:.2f} %" if np.isfinite(scatter[s]) else "-"
        written.append((plain(names[s]), f"{text} var." if variable[s] else text, colour))
    if not heights:
        return say_empty(axes, "no star")
    axes.set_ylim(heights[-1] - half, half)
    axes.set_yticks(heights, [name for name, _, _ in written])
    axes.tick_params(axis="y", length=0)
    for zero, (_, text, colour), tick in zip(heights, written, axes.get_yticklabels(), strict=True):
        tick.set_color(colour)
        axes.annotate(
            text, (1.01, zero), xycoords=("axes fraction", "data"), va="center", fontsize=SMALL, color=colour
        )
    name_axes(
        axes, y="star", title=f"star / coefficient - 1; rows reach ± {half:.2g} %; own scatter on the right"
    )
    return None
