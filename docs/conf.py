"""The documentation's site: `make docs` builds it, warnings are errors. Nothing in it comes from another host."""

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

from docs.tools import configuration, docstrings, formulas, handbook
from lightcurver_ops import __version__

project = "lightcurver-ops"
release = version = __version__
copyright = "the authors of lightcurver-ops, GPL-3.0-or-later"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["tools", "_build"]
source_suffix = {".md": "markdown"}
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "lightcurver-ops"
html_static_path = ["site"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_math_renderer = "mathml"
pygments_style = "friendly"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
autodoc_class_signature = "separated"
maximum_signature_line_length = 100
python_use_unqualified_type_names = True


def setup(app: Any) -> None:
    """Generate the configuration reference, complete the handbook's entries, and set formulas as MathML."""
    app.connect("builder-inited", _write_reference)
    app.connect("source-read", _complete)
    app.connect("autodoc-process-docstring", docstrings.as_rst)
    formulas.register(app)


def _write_reference(_app: Any) -> None:
    path, text = HERE / "configuration.md", configuration.reference()
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def _complete(_app: Any, name: str, source: list[str]) -> None:
    if name.startswith("handbook/"):
        source[0] = handbook.with_consequences(source[0])
