"""Where the diagram of the reference stars draws what."""

import math

import pytest

from lightcurver_ops.airflow.pages.scatter_plot import Star, scatter_plot


def star(name, mag, scatter, expected=None, kind="usual"):
    return Star(name, mag, scatter, expected, kind)


def test_magnitudes_are_linear_and_scatter_is_logarithmic():
    plot = scatter_plot([star("a", 15, 0.001), star("b", 16, 0.01), star("c", 18, 0.1, 0.01)])
    a, b, c = plot.points
    assert (c.x - b.x) == pytest.approx(2 * (b.x - a.x), abs=0.2)
    assert (a.y - b.y) == pytest.approx(b.y - c.y, abs=0.2)
    assert c.expected_y == pytest.approx(b.y, abs=0.2)
    assert plot.expected == f"{c.x:g},{c.expected_y:g}"
    for x, text in plot.x_ticks:
        assert x == pytest.approx(a.x + (float(text) - 15) * (b.x - a.x), abs=0.2)
    for y, text in plot.y_ticks:
        assert y == pytest.approx(b.y + (a.y - b.y) * -math.log10(float(text)), abs=0.2)
    assert {"0.1", "1", "10"} < {text for _, text in plot.y_ticks}
    assert all(plot.left < point.x < plot.right and plot.top < point.y < plot.bottom for point in plot.points)


def test_names_of_neighbours_do_not_lie_on_each_other():
    a, b = scatter_plot([star("a", 15, 0.01), star("b", 15.01, 0.01), star("c", 18, 0.01)]).points[:2]
    assert a.label_y < a.y < b.label_y


@pytest.mark.parametrize("stars", [[], [star("a", 15, 0.0)]])
def test_without_a_measured_star_there_is_no_diagram(stars):
    assert scatter_plot(stars) is None


def test_one_star_is_a_diagram():
    plot = scatter_plot([star("a", 15.2, 0.004)])
    assert plot.x_ticks
    assert plot.y_ticks
    assert plot.expected == ""
