"""Light curves: a figure for a paper or a screen, and a page to explore."""

import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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
    legend,
    limits,
    marker,
    name_axes,
    new_figure,
    save,
    say_empty,
    time_axis,
)
from lightcurver_ops.diagnostics.curves import draw_chi2
from lightcurver_ops.storage.atomic import write_bytes

Columns = Mapping[str, NDArray]

_PLOTLY_MARKERS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "P": "cross",
    "X": "x",
}
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>html, body {{ height: 100%; margin: 0; font-family: sans-serif; }}</style>
</head>
<body>
{figure}
</body>
</html>
"""


def plot_light_curves(
    path: str | Path,
    *,
    title: str,
    labels: Sequence[str],
    epochs: Columns,
    nights: Columns,
    controls: Mapping[str, tuple[NDArray, NDArray, NDArray]] | None = None,
) -> None:
    """Write a figure of the light curves: nights with error bars on the single epochs, and chi2 of the epochs.

    Magnitudes, or fluxes where no image has a finite magnitude. The nights and all but outlying epochs decide
    the limits; the figure says how many lie beyond.

    Args:
        path: the file; its suffix names the format.
        title: above the figure.
        labels: of the images.
        epochs, nights: columns mjd, and per image <label>_flux, _d_flux, _mag, _d_mag; epochs also reduced_chi2.
        controls: by name of a control star its mjd, residuals and quoted errors (mmag), for a panel of their own.

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    kind = _quantity(labels, epochs, nights)
    figure = new_figure(11.0, 7.0, title)
    axes = add_axes(figure, 0.9, 3.5, 8.5, 3.0) if controls else add_axes(figure, 0.9, 2.2, 8.5, 4.3)
    handles = [_draw_curve(axes, j, f"{label}_", kind, epochs, nights) for j, label in enumerate(labels)]
    low, high = _reach(labels, kind, epochs, nights)
    axes.set_ylim(*((high, low) if kind == "mag" else (low, high)))
    days = np.concatenate([epochs["mjd"], nights["mjd"]])
    time_axis(axes, days, label=False)
    name_axes(axes, y=_NAMES[kind])
    if handles:
        legend(axes, handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    if len(nights["mjd"]) > 1:
        axes.text(1.01, 0.0, "bold: nights\npale: exposures", fontsize=SMALL, transform=axes.transAxes)
    every = np.concatenate([np.zeros(0), *(finite(epochs[f"{label}_{kind}"]) for label in labels)])
    if not every.size:
        say_empty(axes)
    elif beyond := np.count_nonzero((every < low) | (every > high)):
        text = f"{beyond} of {every.size} single measurements lie beyond this figure"
        axes.text(0.99, 0.02, text, ha="right", color=ALARM, fontsize=SMALL, transform=axes.transAxes)
    if controls:
        _draw_controls(add_axes(figure, 0.9, 2.2, 8.5, 1.05), controls, days)
    axes = add_axes(figure, 0.9, 0.6, 8.5, 1.35)
    draw_chi2(axes, epochs["mjd"], epochs["reduced_chi2"])
    time_axis(axes, days)
    save(figure, path)


def write_interactive(
    path: str | Path, *, title: str, labels: Sequence[str], epochs: Columns, nights: Columns
) -> None:
    """Write a page with the light curves: zoom, what each point is, switches for nights, epochs and error bars.

    The page needs no network: plotly's program is written beside it, once for all pages of a directory.

    Args:
        path: the page (.html).
        title, labels, epochs, nights: as in `plot_light_curves`; frame_id and seeing are shown where there are any.

    Raises:
        ConfigurationError, TemporaryFailure: a file cannot be written.
    """
    from plotly.io import to_html  # type: ignore[import-untyped]
    from plotly.offline import get_plotlyjs  # type: ignore[import-untyped]

    figure = to_html(
        {"data": _traces(labels, epochs, nights), "layout": _layout(title, labels, epochs, nights)},
        config={"displaylogo": False, "typesetMath": False, "scrollZoom": True, "plotlyServerURL": ""},
        include_plotlyjs="directory",
        full_html=False,
        default_height="100vh",
        div_id="light-curves",  # by default random: the same light curves would make another page each time
        # The schema is checked by the tests; checking each page would take longer than all the rest.
        validate=False,
    )
    program, written = Path(path).with_name("plotly.min.js"), get_plotlyjs().encode()
    # The page first meets a browser when its program is there; another version of plotly brings another program.
    if not program.is_file() or program.stat().st_size != len(written):
        write_bytes(program, written)
    write_bytes(path, _PAGE.format(title=html.escape(title), figure=figure).encode())


_NAMES = {"mag": "magnitude", "flux": "flux (e-/s)"}


def _quantity(labels: Sequence[str], epochs: Columns, nights: Columns) -> str:
    """What to show: "mag", or "flux" where no magnitude is finite."""
    known = any(finite(table[f"{label}_mag"]).size for label in labels for table in (epochs, nights))
    return "mag" if known else "flux"


def _reach(labels: Sequence[str], kind: str, epochs: Columns, nights: Columns) -> tuple[float, float]:
    """Ends of the axis: all nights, and the epochs except those far outside the range of most others."""
    shown = [np.zeros(0)]
    for label in labels:
        values, errors = nights[f"{label}_{kind}"], nights[f"{label}_d_{kind}"]
        # A night without information must not shrink the others to a line.
        typical = np.median(known) if (known := finite(errors)).size else 0.0
        bars = np.minimum(np.nan_to_num(errors), 5 * typical)
        shown += [finite(values - bars), finite(values + bars)]
        single = finite(epochs[f"{label}_{kind}"])
        if single.size:
            low, high = np.percentile(single, [1, 99])
            usual = np.abs(single - (low + high) / 2) <= (high - low)
            shown.append(single[usual])
    return limits(np.concatenate(shown), smallest=0.02 if kind == "mag" else 0.0)


def _draw_curve(axes: Axes, j: int, prefix: str, kind: str, epochs: Columns, nights: Columns) -> Any:
    """Nights on epochs; returns what the legend shows."""
    style: dict[str, Any] = {"fmt": marker(j), "color": colour(j)}
    axes.errorbar(
        epochs["mjd"], epochs[prefix + kind], epochs[f"{prefix}d_{kind}"], **style, ms=2.5, lw=0.5, alpha=0.3
    )
    if len(nights["mjd"]) == 1:
        # The mean of a single night says nothing beside its exposures, which are then what is to be seen.
        return axes.errorbar(
            epochs["mjd"], epochs[prefix + kind], epochs[f"{prefix}d_{kind}"], **style, ms=4, lw=1.0
        )
    return axes.errorbar(
        nights["mjd"],
        nights[prefix + kind],
        nights[f"{prefix}d_{kind}"],
        **style,
        ms=5,
        lw=1.2,
        mec="white",
        mew=0.4,
    )


def _draw_controls(
    axes: Axes, controls: Mapping[str, tuple[NDArray, NDArray, NDArray]], days: NDArray
) -> None:
    """Residuals of the control stars: what scatters here is no change of the lens."""
    axes.axhline(0, color=QUIET, lw=0.8, ls="--")
    handles = [
        axes.errorbar(
            mjd, residual, error, fmt=marker(j), color=QUIET, mfc="white" if j else QUIET, ms=3, lw=0.6
        )
        for j, (mjd, residual, error) in enumerate(controls.values())
    ]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False}
    legend(axes, handles, list(controls), title="control stars", title_fontsize=SMALL, **place)
    shown = np.concatenate([finite(residual) for _, residual, _ in controls.values()])
    if shown.size:
        reach = 1.3 * max(float(np.percentile(np.abs(shown), 98)), 1.0)
        axes.set_ylim(reach, -reach)
    time_axis(axes, days, label=False)
    name_axes(axes, y="mmag")


def _traces(labels: Sequence[str], epochs: Columns, nights: Columns) -> list[dict[str, Any]]:
    """Per image the epochs, then the nights on top of them."""
    kind = _quantity(labels, epochs, nights)
    traces = []
    for table, per, size, opacity in ((epochs, "epoch", 4, 0.4), (nights, "night", 8, 1.0)):
        for j, label in enumerate(labels):
            values, errors = table[f"{label}_{kind}"], table[f"{label}_d_{kind}"]
            known = np.flatnonzero(np.isfinite(table["mjd"]) & np.isfinite(values))
            name = f"{html.escape(label)}, per {per}"
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": table["mjd"][known].tolist(),
                    "y": values[known].tolist(),
                    "error_y": {
                        "type": "data",
                        "array": np.nan_to_num(errors[known]).tolist(),
                        "thickness": 1,
                        "width": 0,
                    },
                    "marker": {"color": colour(j), "symbol": _PLOTLY_MARKERS[marker(j)], "size": size},
                    "opacity": opacity,
                    "text": [_description(table, i, f"{values[i]:.4f} ± {errors[i]:.4f}") for i in known],
                    "hovertemplate": "%{text}<extra>" + name + "</extra>",
                }
            )
    return traces


def _description(table: Columns, i: np.integer, value: str) -> str:
    """What one point is, line by line."""
    lines = [f"MJD {table['mjd'][i]:.5f}", value]
    if "frame_id" in table:
        lines.insert(0, f"frame {table['frame_id'][i]}")
    for column, name, unit in (("seeing", "seeing", '"'), ("reduced_chi2", "χ²", "")):
        if column in table and np.isfinite(table[column][i]):
            lines.append(f"{name} {table[column][i]:.2f}{unit}")
    return "<br>".join(lines)


def _layout(title: str, labels: Sequence[str], epochs: Columns, nights: Columns) -> dict[str, Any]:
    kind = _quantity(labels, epochs, nights)
    low, high = _reach(labels, kind, epochs, nights)
    count = len(labels)
    choices = {
        "nights and epochs": [True] * (2 * count),
        "nights": ["legendonly"] * count + [True] * count,
        "epochs": [True] * count + ["legendonly"] * count,
    }
    switches: list[list[tuple[str, dict[str, Any]]]] = [
        [(name, {"visible": visible}) for name, visible in choices.items()],
        [("error bars", {"error_y.visible": True}), ("no error bars", {"error_y.visible": False})],
    ]
    return {
        "title": {"text": html.escape(title)},
        "hovermode": "closest",
        "xaxis": {
            "title": {"text": "MJD (days, UTC)"},
            "tickformat": ".6~f",
            "showgrid": True,
            "zeroline": False,
        },
        "yaxis": {
            "title": {"text": _NAMES[kind]},
            "autorange": "reversed" if kind == "mag" else True,
            # One epoch through a cloud must not decide the scale.
            "autorangeoptions": {"clipmin": low, "clipmax": high},
            "zeroline": False,
        },
        "legend": {"groupclick": "toggleitem"},
        "updatemenus": [
            {
                "type": "buttons",
                "direction": "right",
                "x": 0.0 if i == 0 else 1.0,
                "xanchor": "left" if i == 0 else "right",
                "y": 1.02,
                "yanchor": "bottom",
                "buttons": [{"label": name, "method": "restyle", "args": [change]} for name, change in row],
            }
            for i, row in enumerate(switches)
        ],
    }
