import html
import json
from html.parser import HTMLParser

import numpy as np
import plotly.graph_objects
import pytest

from lightcurver_ops.diagnostics.canvas import ALARM, COLOURS, QUIET
from lightcurver_ops.diagnostics.light_curves import plot_light_curves, write_interactive
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.light_curve_products import epoch_columns, night_columns

pytestmark = pytest.mark.filterwarnings("error")

ODD = ["_A", "$B_1$", "</script><b>C</b>", 'É "D" & \\']


def tables(labels, nights=12, per_night=3, zeropoint=25.0):
    """Images 1 mag apart, the first the brightest."""
    rng = np.random.default_rng(9)
    mjd = (60000 + 2.0 * np.arange(nights)[:, None] + 0.01 * np.arange(per_night)).ravel()
    flux = (
        1000 * 10 ** (-0.4 * np.arange(len(labels))) * (1 + 0.01 * rng.normal(size=(mjd.size, len(labels))))
    )
    common = {
        "frame_id": 700 + np.arange(mjd.size),
        "mjd": mjd,
        "zeropoint": np.full(mjd.size, zeropoint),
        "reduced_chi2": rng.uniform(0.9, 1.1, mjd.size),
        "seeing": rng.uniform(0.8, 1.4, mjd.size),
    }
    arguments = (labels, flux, 0.01 * flux, zeropoint, common)
    return {"title": "J0000_$r$ <&>", "labels": labels} | {
        "epochs": epoch_columns(*arguments),
        "nights": night_columns(*arguments),
    }


def without_values(inputs):
    """The same tables with NaN for every number."""
    for name in ("epochs", "nights"):
        inputs[name] = {c: v if c == "frame_id" else v * np.nan for c, v in inputs[name].items()}
    return inputs


def curve(painted, path, colour):
    """The mean row of a curve's colour, without the legend and the chi2 panel."""
    dots = painted(path, colour)
    dots = dots[(dots[:, 1] < 940) & (dots[:, 0] < 490)]
    return dots[:, 0].mean() if len(dots) else None


@pytest.mark.parametrize("zeropoint", [25.0, np.nan])
def test_the_brighter_image_is_above_the_fainter(tmp_path, painted, zeropoint):
    """In magnitudes, and in fluxes where there is no zero point."""
    path = tmp_path / "curves.png"
    plot_light_curves(path, **tables(["A", "B"], zeropoint=zeropoint))
    assert curve(painted, path, COLOURS[0]) < curve(painted, path, COLOURS[1]) - 100


def test_control_stars_have_a_panel_of_their_own(tmp_path, painted):
    """Below the curves, which stay complete: a star that is 20 mmag fainter stands lower than one 20 mmag brighter."""
    inputs = tables(["A"])
    mjd = inputs["epochs"]["mjd"]
    rows = {}
    for shift in (-20.0, 20.0):
        path = tmp_path / f"controls{shift:+.0f}.png"
        controls = {"$k$": (mjd, np.full(mjd.size, shift), np.full(mjd.size, 2.0))}
        plot_light_curves(path, **inputs, controls=controls)
        assert curve(painted, path, COLOURS[0]) < 360
        dots = painted(path, QUIET)
        dots = dots[(dots[:, 0] > 375) & (dots[:, 0] < 480) & (dots[:, 1] < 940)]
        rows[shift] = np.median(dots[np.abs(dots[:, 0] - 428) > 2, 0])  # without the line at zero
    plot_light_curves(tmp_path / "plain.png", **inputs, controls={})
    plot_light_curves(tmp_path / "same.png", **inputs)
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "same.png").read_bytes()
    assert rows[20.0] > rows[-20.0] + 30


def test_the_figure_says_how_many_epochs_lie_beyond(tmp_path, painted):
    inputs = tables(["A"], nights=100)
    plot_light_curves(tmp_path / "all.png", **inputs)
    inputs["epochs"]["A_mag"][17] = 5.0
    plot_light_curves(tmp_path / "beyond.png", **inputs)
    assert len(painted(tmp_path / "beyond.png", ALARM)) > len(painted(tmp_path / "all.png", ALARM)) == 0
    assert (
        abs(curve(painted, tmp_path / "beyond.png", COLOURS[0]) - 270) < 150
    )  # the curve still fills the figure


def test_light_curves_without_seeing_or_frame(tmp_path, read_png):
    inputs = tables(ODD, nights=2)
    for name in ("frame_id", "seeing"):
        del inputs["epochs"][name]
        inputs["nights"].pop(name, None)
    plot_light_curves(tmp_path / "curves.png", **inputs)
    read_png(tmp_path / "curves.png")


@pytest.mark.parametrize(
    "inputs",
    [tables(["A"], nights=1, per_night=1), tables([]), without_values(tables(["A", "B"], nights=2))],
    ids=["one epoch", "no image", "NaN"],
)
def test_light_curves_of_little_or_nothing(tmp_path, read_png, inputs):
    plot_light_curves(tmp_path / "curves.png", **inputs)
    read_png(tmp_path / "curves.png")
    write_interactive(tmp_path / "curves.html", **inputs)
    figure_of(tmp_path / "curves.html")


class Page(HTMLParser):
    """Scripts, addresses and the title of a page, as a browser finds them."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.addresses, self.title, self._inside = [], [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self._inside = tag
        self.addresses += [value for name, value in attrs if name in ("src", "href")]
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside == "title":
            self.title += data


def figure_of(path):
    """The figure of a page, after plotly has checked it against its schema."""
    script = next(s for s in Page(path.read_text()).scripts if "Plotly.newPlot" in s)
    decoder, rest, parts = json.JSONDecoder(), script.split("Plotly.newPlot(", 1)[1], []
    for _ in range(3):
        part, end = decoder.raw_decode(rest := rest.lstrip(" \n,"))
        parts.append(part)
        rest = rest[end:]
    return plotly.graph_objects.Figure(data=parts[1], layout=parts[2])


def test_the_page_holds_every_measurement(tmp_path):
    inputs = tables(ODD)
    inputs["epochs"]["_A_mag"][4] = np.nan
    write_interactive(tmp_path / "curves.html", **inputs)
    figure = figure_of(tmp_path / "curves.html")
    assert figure.layout.yaxis.autorange == "reversed"
    assert figure.layout.yaxis.title.text == "magnitude"
    traces = {html.unescape(trace.name): trace for trace in figure.data}
    assert set(traces) == {f"{label}, per {per}" for label in ODD for per in ("epoch", "night")}
    for label in ODD:
        for per, table in (("epoch", inputs["epochs"]), ("night", inputs["nights"])):
            trace = traces[f"{label}, per {per}"]
            known = np.isfinite(table[f"{label}_mag"])
            np.testing.assert_array_equal(trace.x, table["mjd"][known])
            np.testing.assert_array_equal(trace.y, table[f"{label}_mag"][known])
            np.testing.assert_array_equal(trace.error_y.array, table[f"{label}_d_mag"][known])
    texts = traces["_A, per epoch"].text
    assert len(texts) == len(inputs["epochs"]["mjd"]) - 1
    for part in (
        "frame 705",
        f"seeing {inputs['epochs']['seeing'][5]:.2f}",
        f"χ² {inputs['epochs']['reduced_chi2'][5]:.2f}",
    ):
        assert part in texts[4]


def test_the_page_has_switches(tmp_path):
    write_interactive(tmp_path / "curves.html", **tables(["A", "B"]))
    figure = figure_of(tmp_path / "curves.html")
    buttons = {button.label: button.args[0] for menu in figure.layout.updatemenus for button in menu.buttons}
    assert set(buttons) == {"nights and epochs", "nights", "epochs", "error bars", "no error bars"}
    shown = [
        trace.name for trace, on in zip(figure.data, buttons["nights"]["visible"], strict=True) if on is True
    ]
    assert shown == ["A, per night", "B, per night"]


def test_the_page_shows_fluxes_where_there_is_no_zero_point(tmp_path):
    inputs = tables(["A"], zeropoint=np.nan)
    write_interactive(tmp_path / "curves.html", **inputs)
    figure = figure_of(tmp_path / "curves.html")
    assert figure.layout.yaxis.title.text == "flux (e-/s)"
    assert figure.layout.yaxis.autorange is True
    np.testing.assert_array_equal(figure.data[0].y, inputs["epochs"]["A_flux"])


def test_the_page_needs_no_other_host_and_runs_no_label(tmp_path):
    write_interactive(tmp_path / "curves.html", **tables(ODD))
    text = (tmp_path / "curves.html").read_text()
    page = Page(text)
    assert page.addresses == ["plotly.min.js"]
    assert "http" not in text
    assert page.title == "J0000_$r$ <&>"
    assert len(page.scripts) == 3  # what plotly writes: no label has closed one early
    assert "<b>" not in text


def test_plotly_is_written_once_per_directory(tmp_path):
    inputs = tables(["A"], nights=2)
    program = tmp_path / "plotly.min.js"
    program.write_text("of another version")
    write_interactive(tmp_path / "one.html", **inputs)
    first = program.stat()
    assert first.st_size > 1e6
    write_interactive(tmp_path / "two.html", **inputs)
    assert (program.stat().st_mtime_ns, program.stat().st_ino) == (first.st_mtime_ns, first.st_ino)
    assert (tmp_path / "one.html").read_bytes() == (tmp_path / "two.html").read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {"one.html", "two.html", "plotly.min.js"}


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(ConfigurationError, match=r"page\.html: could not be written"):
        write_interactive(tmp_path / "page.html", **tables(["A"], nights=2))
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "plotly.min.js"}
    assert not list((tmp_path / "page.html").iterdir())
