"""What all figures share: paper, pen, and a safe place on the disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.storage.atomic import atomic_path

# Okabe & Ito 2008, "Color Universal Design", in an order whose neighbours differ most; yellow is left out since it
# vanishes on white paper.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
QUIET, ALARM = "#777777", COLOURS[1]
SMALL, NORMAL = 8, 9


def new_figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of that size in inches, 100 pixels per inch when it becomes a bitmap."""
    figure = Figure(figsize=(width, height), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.5, 1 - 0.08 / height, plain(title), ha="center", va="top", fontsize=11)
    return figure


def save(figure: Figure, path: str | Path) -> None:
    """Write the figure in the format that the suffix names; errors as `atomic_path`.

    Raises:
        ConfigurationError: no such format.
    """
    path = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if path.suffix.lower().lstrip(".") not in formats:
        raise ConfigurationError(
            f"{path}: a figure cannot be written as {path.suffix or 'a file without suffix'!r}; "
            f"give the file one of the suffixes {', '.join('.' + name for name in sorted(formats))}"
        )
    # Harder compression takes twice the time, and noise does not become smaller by it.
    options: dict[str, Any] = {"pil_kwargs": {"compress_level": 3}} if path.suffix.lower() == ".png" else {}
    with atomic_path(path) as temporary:
        figure.savefig(temporary, **options)


def plain(text: object) -> str:
    """Text that matplotlib shows as it is: `$` starts no formula, line breaks and control characters are spaces."""
    shown = "".join(character if character.isprintable() else " " for character in str(text))
    return shown.replace("$", r"\$")


def colour(index: int) -> str:
    """The colour of the index-th curve."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """Its marker: with the colour, the two tell 49 curves apart."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def add_axes(figure: Figure, left: float, bottom: float, width: float, height: float, **options: Any) -> Axes:
    """Axes at a place given in inches from the lower left corner (a layout engine would draw everything twice)."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up), **options)
    axes.tick_params(labelsize=SMALL)
    return axes


def name_axes(axes: Axes, x: str = "", y: str = "", title: str = "") -> None:
    """Labels of the axes, with units, and what is shown."""
    axes.set_xlabel(plain(x), fontsize=NORMAL, labelpad=2)
    axes.set_ylabel(plain(y), fontsize=NORMAL, labelpad=2)
    axes.set_title(plain(title), fontsize=NORMAL, pad=4)


def legend(axes: Axes, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    """A legend that shows any label; matplotlib would leave out those that begin with an underscore."""
    drawn = axes.legend(list(handles), ["x" * len(label) for label in labels], fontsize=SMALL, **options)
    for handle, text, label in zip(drawn.legend_handles, drawn.get_texts(), labels, strict=True):
        text.set_text(plain(label))
        if isinstance(handle, Line2D):
            handle.set_alpha(1)  # what is drawn faintly because there is much of it


def finite(values: ArrayLike) -> NDArray[np.float64]:
    """The finite ones among the values, in one row."""
    flat = np.asarray(values, dtype=float).ravel()
    return flat[np.isfinite(flat)]


def limits(values: ArrayLike, margin: float = 0.05, smallest: float = 0.0) -> tuple[float, float]:
    """Ends of an axis that shows the finite values: a margin around them, at least `smallest` wide; 0 to 1 for none."""
    known = finite(values)
    if not known.size:
        return 0.0, 1.0
    low, high = float(known.min()), float(known.max())
    width = max(high - low, smallest, 1e-6 * max(abs(low), abs(high)), 1e-12)
    middle = (low + high) / 2
    return middle - width * (0.5 + margin), middle + width * (0.5 + margin)


def time_axis(axes: Axes, mjd: ArrayLike, *, label: bool = True) -> None:
    """Days of the observations along x; a single exposure stands in the middle of an hour."""
    axes.set_xlim(*limits(mjd, 0.02, smallest=1 / 24))
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.locator_params(axis="x", nbins=8)
    if label:
        axes.set_xlabel("MJD (days, UTC)", fontsize=NORMAL, labelpad=2)
    else:
        axes.tick_params(labelbottom=False)


def say_empty(axes: Axes, text: str = "no finite value") -> None:
    """Why there is nothing to see."""
    axes.text(
        0.5, 0.5, text, ha="center", va="center", color=ALARM, fontsize=NORMAL, transform=axes.transAxes
    )
