"""The figure of a frame's PSF: what each star looked like, what the model left of it, and the PSF itself."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from lightcurver_ops.diagnostics import pixels
from lightcurver_ops.diagnostics.canvas import (
    add_axes,
    finite,
    name_axes,
    new_figure,
    save,
)
from lightcurver_ops.diagnostics.curves import draw_loss, draw_residual_histogram

_PER_BAND = 10  # stars side by side
_TOP, _BAND, _WIDTH = 2.75, 3.4, 11.4  # inches


def plot_psf(
    path: str | Path,
    *,
    title: str,
    names: Sequence[str],
    data: NDArray,
    noise: NDArray,
    good: NDArray,
    residuals: NDArray,
    chi2: NDArray,
    narrow_psf: NDArray,
    full_psf: NDArray,
    loss_history: NDArray,
) -> None:
    """Write the figure of the PSF of one frame.

    Args:
        path: the file; its suffix names the format.
        title: above the figure.
        names: of the S stars.
        data, noise: [S, n, n], e-/s.
        good: [S, n, n], True for the pixels that took part.
        residuals: [S, n, n], in sigma; drawn clipped to +-5.
        chi2: [S], reduced; NaN marks a star that was not used.
        narrow_psf, full_psf: [N, N].
        loss_history: [I].

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    starts = range(0, max(len(names), 1), _PER_BAND)
    height = 0.35 + _TOP + len(starts) * _BAND
    figure = new_figure(_WIDTH, height, title)

    bottom = height - 0.35 - _TOP + 0.5
    side = _TOP - 0.8
    for i, (name, psf) in enumerate((("narrow PSF", narrow_psf), ("full PSF", full_psf))):
        axes = add_axes(figure, 0.5 + i * (side + 0.7), bottom, side, side)
        peak = np.nanmax(psf, initial=0.0)
        pixels.show(axes, pixels.asinh_colours(psf, scale=1e-3 * peak or None))
        name_axes(axes, "small pixels", title=f"{name}, asinh from 0.1 % of peak")
    draw_loss(add_axes(figure, 6.1, bottom, 2.1, side), loss_history)
    chi2, good = np.asarray(chi2, dtype=float), np.asarray(good, dtype=bool)
    taking_part = good & np.isfinite(chi2)[:, None, None]
    draw_residual_histogram(add_axes(figure, 9.0, bottom, 2.1, side), np.asarray(residuals)[taking_part])

    for band, start in enumerate(starts):
        stars = slice(start, start + _PER_BAND)
        tiles = [
            [
                pixels.asinh_colours(*stamp)
                for stamp in zip(data[stars], good[stars], _sky_noise(noise[stars]))
            ],
            [pixels.linear_colours(*stamp) for stamp in zip(noise[stars], good[stars])],
            [pixels.residual_colours(*stamp) for stamp in zip(residuals[stars], good[stars])],
        ]
        if tiles[0]:
            _draw_band(figure, height - 0.35 - _TOP - (band + 1) * _BAND, tiles, names[stars], chi2[stars])
    pixels.masked_key(figure, 0.75, 0.1)
    save(figure, path)


def _draw_band(
    figure: Figure, bottom: float, tiles: list[list[pixels.Colours]], names: Sequence[str], chi2: NDArray
) -> None:
    """Stars side by side; data, noise map and residuals below each other."""
    used = np.isfinite(chi2)
    captions = [
        (name, f"χ² {value:.2f}" if known else "not used") for name, value, known in zip(names, chi2, used)
    ]
    height = _BAND - 0.55
    width = height * _PER_BAND / 3
    pixels.show_sheet(
        add_axes(figure, 0.75, bottom + 0.15, width, height),
        tiles,
        ["data", "noise", "residual"],
        captions,
        _PER_BAND,
        alarms=np.flatnonzero(~used),
    )
    pixels.residual_bar(figure, 0.75 + width + 0.15, bottom + 0.15, height / 3)


def _sky_noise(noise: NDArray) -> list[float | None]:
    """Where the stretch of each stamp bends: at its faintest noise."""
    return [float(known.min()) if (known := finite(stamp)).size else None for stamp in noise]
