"""The figure of the joint model of the region of interest: stacks, background, single epochs, convergence."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightcurver_ops.diagnostics import pixels
from lightcurver_ops.diagnostics.canvas import (
    COLOURS,
    NORMAL,
    SMALL,
    add_axes,
    marker,
    name_axes,
    new_figure,
    plain,
    save,
)
from lightcurver_ops.diagnostics.curves import draw_chi2, draw_loss

_SINGLE_EPOCHS = 6
_SIDE = 2.2  # inches of the pictures above
_WIDTH, _HEIGHT = 11.4, 10.5


def plot_roi(
    path: str | Path,
    *,
    title: str,
    labels: Sequence[str],
    data: NDArray,
    noise: NDArray,
    good: NDArray,
    model: NDArray,
    residuals: NDArray,
    background: NDArray,
    positions: NDArray,
    mjd: NDArray,
    chi2: NDArray,
    loss_history: NDArray,
) -> None:
    """Write the figure of the joint model of E epochs.

    The single epochs run from the smallest chi2 to the largest, evenly by rank.

    Args:
        path: the file; its suffix names the format.
        title: above the figure.
        labels: of the J point sources.
        data, noise, model: [E, n, n], e-/s, divided by the coefficients.
        good: [E, n, n], True for the pixels that took part.
        residuals: [E, n, n], in sigma; NaN in masked pixels is allowed.
        background: [N, N], e-/s per small pixel.
        positions: [J, 2], (x, y) of the point sources from the stamp's centre, data pixels.
        mjd, chi2: [E].
        loss_history: [I].

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    data, noise, model, residuals = (
        np.asarray(stack, dtype=float) for stack in (data, noise, model, residuals)
    )
    mjd, chi2 = np.asarray(mjd, dtype=float), np.asarray(chi2, dtype=float)
    good = np.asarray(good, dtype=bool) & np.isfinite(data)
    figure = new_figure(_WIDTH, _HEIGHT, title)
    _draw_stacks(figure, data, good, model, residuals)
    axes = add_axes(figure, 9.0, _HEIGHT - 0.75 - _SIDE, _SIDE, _SIDE)
    _draw_background(axes, background, positions, labels, background.shape[-1] / data.shape[-1])
    shown = epochs_to_show(chi2)
    if shown:
        _draw_epochs(figure, shown, data, noise, good, model, residuals, mjd, chi2)
    axes = add_axes(figure, 0.8, 0.65, 6.9, 1.5)
    draw_chi2(axes, mjd, chi2)
    for number, epoch in enumerate(shown, start=1):
        if np.isfinite(mjd[epoch]):
            at = mjd[epoch], min(chi2[epoch], 0.9 * axes.get_ylim()[1])
            axes.annotate(str(number), at, (4, 3), textcoords="offset points", fontsize=SMALL)
    draw_loss(add_axes(figure, 8.6, 0.65, 2.6, 1.5), loss_history)
    pixels.masked_key(figure, 0.15, 0.12)
    save(figure, path)


def stack_mean(values: NDArray, good: NDArray) -> NDArray[np.float64]:
    """Mean over the epochs of the good values of each pixel, NaN where there is none; both [E, n, n]."""
    total, count = _sums(values, good)
    return total / np.where(count, count, np.nan)


def stack_residuals(residuals: NDArray, good: NDArray) -> NDArray[np.float64]:
    """Residuals of the stack, in its own sigma: the sum over the root of the number; NaN where there is none."""
    total, count = _sums(residuals, good)
    return total / np.sqrt(np.where(count, count, np.nan))


def epochs_to_show(chi2: NDArray) -> list[int]:
    """Some epochs from the best to the worst, evenly by rank of their finite chi2 [E]."""
    known = np.flatnonzero(np.isfinite(chi2))
    if not known.size:
        return []
    ranks = np.linspace(0, known.size - 1, min(_SINGLE_EPOCHS, known.size)).round().astype(int)
    return [int(epoch) for epoch in known[np.argsort(chi2[known], kind="stable")][ranks]]


def _sums(values: NDArray, good: NDArray) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    known = good & np.isfinite(values)
    return np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0)


def _draw_stacks(figure: Figure, data: NDArray, good: NDArray, model: NDArray, residuals: NDArray) -> None:
    seen = stack_mean(data, good)
    pictures = {
        "mean of the data": pixels.asinh_colours(seen),
        "mean of the model": pixels.asinh_colours(stack_mean(model, good), like=seen),
        "residuals, σ of the stack": pixels.residual_colours(stack_residuals(residuals, good)),
    }
    bottom = _HEIGHT - 0.75 - _SIDE
    for i, (name, picture) in enumerate(pictures.items()):
        axes = add_axes(figure, 0.55 + i * (_SIDE + 0.35), bottom, _SIDE, _SIDE)
        pixels.show(axes, picture)
        name_axes(axes, "x (pixels)", "y (pixels)" if i == 0 else "", name)
    pixels.residual_bar(figure, 0.55 + 3 * (_SIDE + 0.35) - 0.25, bottom, _SIDE)


def _draw_background(
    axes: Axes, background: NDArray, positions: NDArray, labels: Sequence[str], subsampling: float
) -> None:
    pixels.show(
        axes, pixels.asinh_colours(background, scale=0.005 * np.nanmax(background, initial=0.0) or None)
    )
    name_axes(axes, "x (small pixels)", title="background, asinh stretch")
    middle = (background.shape[-1] - 1) / 2
    places = middle + subsampling * np.reshape(np.asarray(positions, dtype=float), (-1, 2))
    for j, (label, (x, y)) in enumerate(zip(labels, places, strict=True)):
        if not np.isfinite([x, y]).all():
            continue
        axes.plot(x, y, marker(j), mfc="none", mec=COLOURS[4], ms=7, mew=1.2)
        # Labels stand outside the group, or they would hide each other.
        outwards = np.array([x, y]) - np.nanmean(places, axis=0)
        distance = float(np.hypot(*outwards))
        dx, dy = 12 * outwards / distance if distance > 0 else (0.0, 12.0)
        axes.annotate(
            plain(label),
            (x, y),
            (dx, dy),
            textcoords="offset points",
            ha="left" if dx > 4 else "right" if dx < -4 else "center",
            va="center",
            fontsize=NORMAL,
            color=COLOURS[4],
        )


def _draw_epochs(
    figure: Figure,
    shown: list[int],
    data: NDArray,
    noise: NDArray,
    good: NDArray,
    model: NDArray,
    residuals: NDArray,
    mjd: NDArray,
    chi2: NDArray,
) -> None:
    """Single epochs side by side; data, model and residuals below each other."""
    tiles: list[list[pixels.Colours]] = [[], [], []]
    for e in shown:
        known = noise[e][good[e]]
        bend = float(np.median(known)) if known.size else None
        tiles[0].append(pixels.asinh_colours(data[e], good[e], bend))
        tiles[1].append(pixels.asinh_colours(model[e], good[e], bend, like=data[e]))
        tiles[2].append(pixels.residual_colours(residuals[e], good[e]))
    captions = [(f"{i}: MJD {mjd[e]:.3f}", f"χ² {chi2[e]:.2f}") for i, e in enumerate(shown, start=1)]
    height = 4.15
    width = height * _SINGLE_EPOCHS / 3
    rows = ["data", "model", "residual"]
    pixels.show_sheet(add_axes(figure, 0.95, 2.6, width, height), tiles, rows, captions, _SINGLE_EPOCHS)
    pixels.residual_bar(figure, 0.95 + width + 0.15, 2.6, height / 3)
