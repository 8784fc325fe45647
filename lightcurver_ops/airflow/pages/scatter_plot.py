"""The diagram of the reference stars, as SVG: scatter over magnitude, with what their uncertainties predict."""

import math
from dataclasses import dataclass

WIDTH, HEIGHT = 760, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 14, 12, 44
_STEPS = (1, 2, 5)
_LABEL_GAP = 11.0


@dataclass(frozen=True)
class Star:
    """A star of the diagram.

    Attributes:
        name: of the star.
        mag: Gaia G, mag.
        scatter: relative.
        expected: relative scatter that the uncertainties predict; None where it is not known.
        kind: usual (it takes part in the normalization), variable, control, excluded or other.
    """

    name: str
    mag: float
    scatter: float
    expected: float | None
    kind: str


@dataclass(frozen=True)
class Point:
    """A star and where it is drawn (px); `expected_y` None: not drawn."""

    star: Star
    x: float
    y: float
    expected_y: float | None
    label_y: float


@dataclass(frozen=True)
class Plot:
    """What the template draws; ticks are (px, text)."""

    points: list[Point]
    expected: str
    """Points of the line of the predicted scatter."""
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = _LEFT
    right: int = WIDTH - _RIGHT
    top: int = _TOP
    bottom: int = HEIGHT - _BOTTOM

    @property
    def kinds(self) -> set[str]:
        return {point.star.kind for point in self.points}


def scatter_plot(stars: list[Star]) -> Plot | None:
    """The diagram: magnitudes along, the scatter upwards on a logarithmic scale; None where no star has both."""
    known = sorted((star for star in stars if star.scatter > 0), key=lambda star: star.mag)
    if not known:
        return None
    mags = [star.mag for star in known]
    values = [value for star in known for value in (star.scatter, star.expected) if value]
    begin, end = min(mags) - 0.3, max(mags) + 0.3
    low, high = math.log10(min(values)) - 0.1, math.log10(max(values)) + 0.1

    def x_of(mag: float) -> float:
        return round(_LEFT + (mag - begin) / (end - begin) * (WIDTH - _LEFT - _RIGHT), 1)

    def y_of(value: float) -> float:
        share = (math.log10(value) - low) / (high - low)
        return round(HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM), 1)

    predicted = [(x_of(star.mag), y_of(star.expected)) for star in known if star.expected]
    return Plot(
        _placed(known, x_of, y_of),
        " ".join(f"{x:g},{y:g}" for x, y in predicted),
        [(x_of(mag), f"{mag:g}") for mag in _magnitudes(begin, end)],
        [(y_of(value), f"{100 * value:g}") for value in _decades(low, high)],
    )


def _placed(stars: list[Star], x_of, y_of) -> list[Point]:
    """Points and their labels; one that would lie on its neighbour's goes below its point."""
    points: list[Point] = []
    for star in stars:
        x, y = x_of(star.mag), y_of(star.scatter)
        above = y - 7
        crowded = any(
            abs(other.x - x) < _LABEL_GAP and abs(other.label_y - above) < _LABEL_GAP for other in points
        )
        expected_y = y_of(star.expected) if star.expected else None
        points.append(Point(star, x, y, expected_y, y + 15 if crowded else above))
    return points


def _magnitudes(begin: float, end: float) -> list[float]:
    step = next((one for one in (0.2, 0.5, 1.0, 2.0) if (end - begin) / one <= 10), 5.0)
    return [round(number * step, 1) for number in range(math.ceil(begin / step), math.floor(end / step) + 1)]


def _decades(low: float, high: float) -> list[float]:
    exponents = range(math.floor(low), math.ceil(high) + 1)
    ticks = [step * 10.0**exponent for exponent in exponents for step in _STEPS]
    return [float(f"{one:.1g}") for one in ticks if low <= math.log10(one) <= high]
