"""The figure of what the frames of a lens see of the sky."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import PathPatch
from matplotlib.path import Path as Outline
from numpy.typing import ArrayLike, NDArray

from lightcurver_ops.astrometry.tangent import to_plane
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
)

_MOST_NAMES = 120  # more of them hide the stars


def plot_footprints(
    path: str | Path,
    *,
    polygons: Sequence[NDArray],
    common: Mapping[str, Any],
    largest: Mapping[str, Any],
    roi: tuple[float, float],
    stars: tuple[NDArray, NDArray, Sequence[str]] | None = None,
    bad: ArrayLike | None = None,
    title: str = "",
) -> None:
    """Write the map of the footprints on the plane that touches the sky at the ROI; North up, East left.

    Args:
        path: the file; its suffix names the format.
        polygons: per frame (N, 2) ra, dec, ICRS degrees.
        common, largest: what all frames see, and any of them: GeoJSON (Multi)Polygons in ra, dec; may be empty.
        roi: ra, dec.
        stars: ra [S], dec [S] and names of the reference stars.
        bad: per frame, True where it points elsewhere; the map shows the region of the others.
        title: above the figure.

    Raises:
        ConfigurationError, TemporaryFailure: the file cannot be written.
    """
    is_bad = np.zeros(len(polygons), dtype=bool) if bad is None else np.asarray(bad, dtype=bool)
    outlines = [_on_plane(polygon, roi) for polygon in polygons]
    good = [outline for outline, astray in zip(outlines, is_bad, strict=True) if not astray]
    astray = [outline for outline, off in zip(outlines, is_bad, strict=True) if off]
    figure = new_figure(10.3, 8.0, title)
    axes = add_axes(figure, 0.8, 0.65, 6.8, 6.8)
    handles, labels = [], []

    def draw(artist: Any, label: str) -> None:
        axes.add_artist(artist)
        handles.append(artist)
        labels.append(label)

    many = max(0.1, min(0.6, 8 / max(len(good), 1)))
    draw(
        LineCollection([_closed(line) for line in good], colors=QUIET, lw=0.7, alpha=many),
        f"{len(good)} frames",
    )
    draw(_area(largest, roi, facecolor="none", edgecolor=COLOURS[0], lw=1.5), "seen by any frame")
    draw(
        _area(common, roi, facecolor=(*_RGB_COMMON, 0.25), edgecolor=COLOURS[2], lw=1.5),
        "seen by all frames",
    )
    x, y = _view(axes, good or outlines, largest, roi)
    if astray:
        hidden = sum(not _meets(outline, x, y) for outline in astray)
        text = f"{len(astray)} bad pointings" + (f" ({hidden} off the map)" if hidden else "")
        draw(LineCollection([_closed(line) for line in astray], colors=ALARM, lw=1.2, ls="--"), text)
    if stars is not None:
        handles.append(_draw_stars(axes, stars, roi))
        labels.append(f"{len(stars[2])} reference stars")
    handles += axes.plot(0, 0, "+", color="black", ms=14, mew=1.8)
    labels.append(f"ROI {roi[0]:.5f} {roi[1]:+.5f}")
    legend(axes, handles, labels, loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False)
    name_axes(axes, "East of the ROI (arcmin)", "North of the ROI (arcmin)")
    save(figure, path)


_RGB_COMMON = (0.0, 0.62, 0.45)


def _on_plane(points: ArrayLike, roi: tuple[float, float]) -> NDArray[np.float64]:
    """(N, 2) ra, dec in degrees to East, North in arcmin."""
    sky = np.asarray(points, dtype=float).reshape(-1, 2)
    return 60 * np.column_stack(to_plane(sky[:, 0], sky[:, 1], *roi))


def _closed(outline: NDArray) -> NDArray:
    return np.vstack([outline, outline[:1]])


def _rings(region: Mapping[str, Any]) -> list[list[ArrayLike]]:
    """Per piece its rings, the outline first."""
    pieces = region.get("coordinates") or []
    return list(pieces) if region.get("type") == "MultiPolygon" else ([pieces] if pieces else [])


def _area(region: Mapping[str, Any], roi: tuple[float, float], **style: Any) -> PathPatch:
    rings = [
        Outline(_closed(_on_plane(ring, roi)), closed=True) for piece in _rings(region) for ring in piece
    ]
    return PathPatch(Outline.make_compound_path(*rings), **style)


def _view(
    axes: Axes, outlines: list[NDArray], largest: Mapping[str, Any], roi: tuple[float, float]
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Limit the map to the frames, the total footprint and the ROI, as a square."""
    regions = [_on_plane(ring, roi) for piece in _rings(largest) for ring in piece]
    points = np.vstack([np.zeros((1, 2)), *outlines, *regions])
    x, y = limits(points[:, 0], smallest=0.1), limits(points[:, 1], smallest=0.1)
    half = max(x[1] - x[0], y[1] - y[0]) / 2
    x, y = ((sum(ends) / 2 - half, sum(ends) / 2 + half) for ends in (x, y))
    axes.set(xlim=x[::-1], ylim=y, aspect="equal")
    return x, y


def _meets(outline: NDArray, x: tuple[float, float], y: tuple[float, float]) -> bool:
    """Whether the box around the outline meets the map."""
    across, up = finite(outline[:, 0]), finite(outline[:, 1])
    if not across.size:
        return False
    return bool(across.min() < x[1] and across.max() > x[0] and up.min() < y[1] and up.max() > y[0])


def _draw_stars(axes: Axes, stars: tuple[NDArray, NDArray, Sequence[str]], roi: tuple[float, float]) -> Any:
    place = _on_plane(np.column_stack(stars[:2]), roi)
    (drawn,) = axes.plot(*place.T, "*", color=COLOURS[4], mec="black", mew=0.5, ms=9)
    for at, name in list(zip(place, stars[2], strict=True))[:_MOST_NAMES]:
        if np.isfinite(at).all():
            axes.annotate(plain(name), at, (4, 4), textcoords="offset points", fontsize=SMALL)
    return drawn
