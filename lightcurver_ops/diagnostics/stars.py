"""The figure of one reference star over all frames."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from lightcurver_ops.diagnostics import pixels
from lightcurver_ops.diagnostics.canvas import (
    ALARM,
    COLOURS,
    QUIET,
    SMALL,
    add_axes,
    finite,
    limits,
    name_axes,
    new_figure,
    save,
    say_empty,
    time_axis,
)


def plot_star(
    path: str | Path,
    *,
    title: str,
    stack: NDArray,
    residual_stack: NDArray,
    chi2: NDArray,
    flux: NDArray,
    flux_uncertainty: NDArray,
    mjd: NDArray,
) -> None:
    """Write the figure of a star: mean stamp, mean residual, chi2 distribution, flux over time.

    Args:
        path: the file; its suffix names the format.
        title: above the figure.
        stack: [n, n], mean of the stamps, e-/s; NaN where every frame is masked.
        residual_stack: [n, n], mean of the residuals in sigma.
        chi2, flux (e-/s), flux_uncertainty, mjd: [E].

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    figure = new_figure(10.5, 6.0, title)
    axes = add_axes(figure, 0.6, 3.05, 2.4, 2.4)
    pixels.show(axes, pixels.asinh_colours(stack))
    name_axes(axes, "x (pixels)", "y (pixels)", "mean stamp, asinh stretch")
    axes = add_axes(figure, 3.55, 3.05, 2.4, 2.4)
    limit = pixels.robust_limit(residual_stack)
    pixels.show(axes, pixels.residual_colours(residual_stack, limit=limit))
    name_axes(axes, "x (pixels)", title="mean residual")
    pixels.residual_bar(figure, 6.05, 3.05, 2.4, limit)
    _draw_distribution(add_axes(figure, 7.7, 3.05, 2.5, 2.4), chi2)

    axes = add_axes(figure, 0.9, 0.6, 9.3, 1.8)
    days, values, errors = (np.asarray(column, dtype=float) for column in (mjd, flux, flux_uncertainty))
    time_axis(axes, days)
    name_axes(axes, "MJD (days, UTC)", "flux (e-/s)")
    known = finite(values)
    if known.size:
        axes.errorbar(days, values, errors, fmt="o", color=COLOURS[0], ecolor=COLOURS[5], ms=3, lw=0.8)
        median = float(np.median(known))
        axes.axhline(median, color=QUIET, lw=0.8, ls="--")
        axes.set_ylim(*limits([*(values + errors), *(values - errors), *known], smallest=0.01 * abs(median)))
        name_axes(
            axes,
            "MJD (days, UTC)",
            "flux (e-/s)",
            f"{known.size} of {values.size} frames, median {median:.5g} e-/s",
        )
    else:
        say_empty(axes)
    pixels.masked_key(figure, 0.15, 0.12)
    save(figure, path)


def _draw_distribution(axes: Axes, chi2: NDArray) -> None:
    known = finite(chi2)
    name_axes(axes, "reduced χ²", "frames", "χ² of the frames")
    if not known.size:
        return say_empty(axes)
    median = float(np.median(known))
    top = min(float(known.max()), max(4 * median, 2.0))
    axes.hist(np.minimum(known, top), np.linspace(0, max(1.05 * top, 1e-3), 31).tolist(), color=COLOURS[5])
    axes.axvline(1, color=QUIET, lw=0.8, ls="--")
    axes.axvline(median, color=ALARM, lw=1.2)
    text = f"median {median:.2f}\nlargest {known.max():.3g}"
    axes.text(0.97, 0.95, text, ha="right", va="top", fontsize=SMALL, color=ALARM, transform=axes.transAxes)
    return None
