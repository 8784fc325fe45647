"""Our docstrings, plain text with `code` in backticks and Google's sections, as the reStructuredText of autodoc."""

import re
from typing import Any

from sphinx.ext.napoleon import Config, GoogleDocstring

_CODE = re.compile(r"(``.+?``|`[^`]+`)")
_MARKS = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")
_SECTIONS = Config(napoleon_use_param=False, napoleon_use_rtype=False, napoleon_use_ivar=True)


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """An ``autodoc-process-docstring`` hook: changes the lines in place."""
    text = rst("\n".join(lines))
    # Not the line under an attribute, whose first words before a colon would be taken for its type.
    of_value = what in ("attribute", "data", "property")
    lines[:] = (
        text.split("\n")
        if of_value
        else GoogleDocstring(text, _SECTIONS, app, what, name, obj, options).lines()
    )


def rst(text: str) -> str:
    """Code as literals; what reStructuredText would take for markup is escaped."""
    parts = _CODE.split(text)
    parts[0::2] = [_MARKS.sub(r"\\\1", part) for part in parts[0::2]]
    parts[1::2] = [f"``{' '.join(part.strip('`').split())}``" for part in parts[1::2]]
    return "".join(parts)
