"""A commented configuration file, written from the models: every key, what it means, and its default."""

import textwrap
import typing
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from lightcurver_ops.config.models import LensConfig

PLACEHOLDER = "FILL_IN"

_HEAD = """\
# A lens for lightcurver-ops. Lines like '#key: value' show defaults: remove the '#' to change one.
# `lcops check FILE` validates this file and explains it; `lcops run FILE` makes the light curve.
# Sky positions are ICRS degrees. Relative paths are relative to this file.
"""


def lens_template(values: dict[str, Any]) -> str:
    """A lens's YAML file with these values set (nested as in the file) and all other keys as comments.

    A required key without a value is written with a placeholder that validation refuses.
    """
    return _HEAD + "\n" + "\n".join(_lines(LensConfig, values, 0)) + "\n"


def _lines(model: type[BaseModel], values: dict[str, Any], depth: int) -> list[str]:
    indent = "  " * depth
    lines: list[str] = []
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        given = values.get(name, PydanticUndefined)
        if section is not None and depth == 0:
            # An empty group stands for its defaults, so its head need not be a comment.
            lines += ["", f"# {(section.__doc__ or '').strip()}"]
            if given is PydanticUndefined and field.default is None:
                body = _lines(section, {}, 0)
                lines += [
                    f"#{name}:",
                    *(f"#  {line.removeprefix('#')}" for line in body if not line.startswith("# ")),
                ]
            else:
                lines += [f"{name}:", *_lines(section, {} if given is PydanticUndefined else given, 1)]
            continue
        description = " ".join((field.description or "").split())
        lines += [f"{indent}# {line}" for line in textwrap.wrap(description, 105)]
        if given is not PydanticUndefined:
            lines.append(f"{indent}{name}: {_flow(given)}")
        elif field.is_required():
            lines.append(f"{indent}{name}: {PLACEHOLDER}")
        else:
            default = field.get_default(call_default_factory=True)
            shown = (
                default.model_dump(mode="json", exclude_none=True)
                if isinstance(default, BaseModel)
                else default
            )
            lines.append(f"{indent}#{name}: {_flow(shown)}")
    return lines


def _flow(value: Any) -> str:
    text = yaml.safe_dump(
        _plain(value), default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000
    )
    return text.removesuffix("\n").removesuffix("...").rstrip()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _section_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *typing.get_args(annotation)]
    models = [item for item in candidates if isinstance(item, type) and issubclass(item, BaseModel)]
    return models[0] if models else None
