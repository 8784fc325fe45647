"""Formulas as MathML, made when the site is built: no script, no font, no other host."""

from typing import Any

from docutils import nodes
from latex2mathml.converter import convert


def register(app: Any) -> None:
    """Make ``mathml`` known to Sphinx as a renderer of formulas."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))


def _inline(translator: Any, node: nodes.math) -> None:
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _block(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(convert(node.astext(), display="block"))
    raise nodes.SkipNode
