"""Curves that several figures show: the loss of a fit, chi2 over time, a histogram of residuals."""

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from lightcurver_ops.constants import MAD_TO_SIGMA
from lightcurver_ops.diagnostics.canvas import ALARM, COLOURS, QUIET, finite, name_axes, say_empty, time_axis


def draw_loss(axes: Axes, loss_history: ArrayLike) -> None:
    """How far the objective was above its lowest value, by iteration, until it stands still."""
    loss = finite(loss_history)
    name_axes(axes, "iteration", "loss / lowest loss - 1", "convergence")
    if not loss.size:
        return say_empty(axes, "no loss recorded")
    moving = np.flatnonzero(loss != loss[-1])
    loss = loss[: moving[-1] + 2 if moving.size else 1]
    lowest = float(loss.min())
    excess = (loss - lowest) / (abs(lowest) or 1.0)
    if moving.size:
        # A logarithm has no place for the lowest loss itself: it stands at the lower border.
        bottom = 0.3 * excess[excess > 0].min()
        excess = np.maximum(excess, bottom)
        axes.set_yscale("log")
        axes.set_ylim(bottom, 3 * excess.max())
        axes.minorticks_off()
    iterations = np.arange(1, loss.size + 1)
    axes.plot(iterations, excess, color=COLOURS[0], marker="." if loss.size < 30 else "", lw=1.2)
    axes.text(0.97, 0.93, f"end: {loss[-1]:.5g}", ha="right", va="top", fontsize=8, transform=axes.transAxes)
    return None


def draw_chi2(axes: Axes, mjd: ArrayLike, chi2: ArrayLike, *, label_time: bool = True) -> None:
    """Reduced chi2 over time; values far above the others are drawn at the upper border, as triangles."""
    days, values = np.asarray(mjd, dtype=float), np.asarray(chi2, dtype=float)
    name_axes(axes, y="reduced χ²")
    time_axis(axes, days, label=label_time)
    known = finite(values)
    if not known.size:
        return say_empty(axes)
    top = max(2.0, 1.15 * float(known.max()))
    cut = max(2.0, 4 * float(np.median(known)))
    if known.max() > 2 * cut:
        top = 1.15 * cut
    inside = values <= top
    axes.axhline(1, color=QUIET, lw=0.8, ls="--")
    axes.plot(days[inside], values[inside], ".", color=COLOURS[0], ms=5)
    above = values > top
    axes.plot(days[above], np.full(np.count_nonzero(above), 0.96 * top), "^", color=ALARM, ms=5)
    if above.any():
        text = f"{np.count_nonzero(above)} above, up to {known.max():.3g}"
        axes.text(0.99, 0.85, text, ha="right", va="top", color=ALARM, fontsize=8, transform=axes.transAxes)
    axes.set_ylim(0, top)
    return None


def draw_residual_histogram(axes: Axes, residuals: ArrayLike) -> None:
    """Residuals in sigma against the normal distribution that right noise maps give."""
    known = finite(residuals)
    name_axes(axes, "residual (σ)", "pixels", "residuals and N(0, 1)")
    if not known.size:
        return say_empty(axes, "no good pixel")
    edges = np.linspace(-5, 5, 41)
    axes.hist(np.clip(known, -5, 5), edges.tolist(), color=COLOURS[5])
    grid = np.linspace(-5, 5, 101)
    expected = known.size * (edges[1] - edges[0]) * np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    axes.plot(grid, expected, color=COLOURS[-1], lw=1)
    spread = MAD_TO_SIGMA * np.median(np.abs(known - np.median(known)))
    axes.text(0.03, 0.93, f"1.48 MAD\n{spread:.2f} σ", va="top", fontsize=8, transform=axes.transAxes)
    return None
