"""The figure of injected variations."""

import numpy as np
import pytest

from lightcurver_ops.diagnostics.canvas import ALARM
from lightcurver_ops.diagnostics.injection import plot_injection

pytestmark = pytest.mark.filterwarnings("error")


def inputs(labels, spread=1.0):
    rng = np.random.default_rng(1)
    count = len(labels)
    error = [np.full(40, 0.01) for _ in range(count)]
    ratio = [spread * rng.normal(size=40) for _ in range(count)]
    return {
        "title": "J0000 $r$",
        "labels": labels,
        "injected": [rng.normal(0, 0.1, 40) for _ in range(count)],
        "residual": [one * other for one, other in zip(error, ratio, strict=True)],
        "error": error,
        "ratio": ratio,
    }


def test_residuals_beyond_the_histogram_are_told_in_colour(tmp_path, painted):
    labels = ["A"]  # its own colour is another one
    plot_injection(tmp_path / "honest.png", **inputs(labels))
    plot_injection(tmp_path / "wrong.png", **inputs(labels, spread=8.0))
    assert not len(painted(tmp_path / "honest.png", ALARM))
    assert len(painted(tmp_path / "wrong.png", ALARM)) > 8


def test_eight_sources_in_two_rows(tmp_path, read_png):
    labels = ["A", "_B", "$C$", "D", "A*", "B*", "C*", "D*"]
    plot_injection(tmp_path / "one.png", **inputs(labels[:4]))
    plot_injection(tmp_path / "two.png", **inputs(labels))
    assert read_png(tmp_path / "two.png").shape[0] > 1.8 * read_png(tmp_path / "one.png").shape[0]


@pytest.mark.parametrize("labels", [[], ["A"]])
def test_nothing_measured(tmp_path, read_png, labels):
    nothing = inputs(labels)
    for name in ("residual", "error", "ratio"):
        nothing[name] = [np.full(40, np.nan) for _ in labels]
    plot_injection(tmp_path / "nothing.png", **nothing)
    read_png(tmp_path / "nothing.png")
