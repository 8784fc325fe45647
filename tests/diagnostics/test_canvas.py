import subprocess
import sys

import numpy as np
import pytest
from matplotlib.artist import Artist

from lightcurver_ops.diagnostics.canvas import (
    add_axes,
    legend,
    limits,
    name_axes,
    new_figure,
    plain,
    save,
    time_axis,
)
from lightcurver_ops.errors import ConfigurationError

pytestmark = pytest.mark.filterwarnings("error")


class Interrupted(Artist):
    """Breaks off in the middle of the drawing."""

    def draw(self, renderer):
        raise KeyboardInterrupt


def test_figures_appear_whole_in_new_directories(tmp_path, read_png):
    path = tmp_path / "new" / "er" / "figure.png"
    save(new_figure(5, 5, "title"), path)
    read_png(path)
    assert list(path.parent.iterdir()) == [path]


def test_an_interrupted_write_leaves_the_figure_of_before(tmp_path):
    path = tmp_path / "figure.png"
    path.write_text("before")
    figure = new_figure(5, 5, "title")
    figure.add_artist(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        save(figure, path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_text() == "before"


@pytest.mark.parametrize("name", ["figure.xyz", "figure"])
def test_unknown_format_is_explained(tmp_path, name):
    with pytest.raises(ConfigurationError, match=r"suffixes .*\.pdf, .*\.png, .*\.svg"):
        save(new_figure(5, 5, ""), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "start"), [("pdf", b"%PDF"), ("svg", b"<?xml"), ("PNG", b"\x89PNG")])
def test_the_suffix_names_the_format(tmp_path, suffix, start):
    path = tmp_path / f"figure.{suffix}"
    save(new_figure(4, 4, "a $b_c$ <d> & \x07"), path)
    assert path.read_bytes().startswith(start)


def test_any_text_is_drawn_as_it_is(tmp_path, read_png):
    """As a formula, $\\frac$ would be an error and $a_b$ other pixels than the same text piece by piece."""
    figure = new_figure(5, 5, r"$\frac$ a\$ $")
    axes = add_axes(figure, 1, 1, 3, 3)
    name_axes(axes, "$_$", "$^$", "$$")
    lines = axes.plot([0, 1], [0, 1]) + axes.plot([1, 0])
    legend(axes, lines, ["_hidden_$x$", r"\alpha $"])
    save(figure, tmp_path / "figure.png")
    read_png(tmp_path / "figure.png")
    shown = [text.get_text() for text in axes.get_legend().get_texts()]
    assert shown == [plain("_hidden_$x$"), plain(r"\alpha $")]
    assert plain("a\nb\x00c") == "a b c"


@pytest.mark.parametrize(
    "values", [[], [np.nan], [3.0], [0.0, 0.0], [-1e9, np.inf], [60000.0, 60000.0 + 1e-12]]
)
def test_limits_enclose_the_finite_values(values):
    low, high = limits(values)
    assert np.isfinite([low, high]).all()
    assert low < high
    assert all(low < value < high for value in values if np.isfinite(value))


def test_days_are_written_in_full():
    """Not as a difference from a number that is printed elsewhere, which nobody can compare with a table."""
    figure = new_figure(5, 5, "")
    axes = add_axes(figure, 1, 1, 3, 3)
    time_axis(axes, [58107.16, 58107.26])
    figure.canvas.draw()
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert "58107.20" in labels


def test_no_figure_needs_pyplot():
    modules = ["footprints", "light_curves", "normalization", "psf", "roi", "sources", "stars"]
    code = "import sys\n" + "\n".join(f"import lightcurver_ops.diagnostics.{name}" for name in modules)
    code += "\nsys.exit('matplotlib.pyplot' in sys.modules or 'jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
