"""YAML files read so that messages can name the line of a key, and a key given twice is an error."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightcurver_ops.errors import ConfigurationError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True)
class YamlSource:
    """The content of a YAML file and the line of each of its keys."""

    path: Path
    content: dict[str, Any]
    lines: dict[KeyPath, int]

    def where(self, key: KeyPath) -> str:
        """``file, line n`` of the deepest part of the key that the file has."""
        for length in range(len(key), 0, -1):
            if key[:length] in self.lines:
                return f"{self.path}, line {self.lines[key[:length]]}"
        return str(self.path)


def read_yaml(path: Path) -> YamlSource:
    """Read a YAML file whose top level is a mapping.

    Raises:
        ConfigurationError: missing or unreadable file, YAML syntax (with line and column), a key given twice,
            or no mapping at the top level.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such configuration file; `lcops init {path}` writes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the configuration file cannot be read: {error}") from error
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        lines: dict[KeyPath, int] = {}
        _collect_lines(root, (), lines, path)
        content = loader.construct_document(root) if root is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"{path}{place}: this is not valid YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path}: this is not valid YAML: {error}") from error
    finally:
        loader.dispose()
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return YamlSource(path, content, lines)


def _collect_lines(node: Any, prefix: KeyPath, lines: dict[KeyPath, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key_node, value_node in node.value:
            key = (*prefix, key_node.value)
            line = key_node.start_mark.line + 1
            if key in lines:
                raise ConfigurationError(
                    f"{path}, line {line}: the key '{'.'.join(map(str, key))}' is given twice "
                    f"(first in line {lines[key]}); keep one"
                )
            lines[key] = line
            _collect_lines(value_node, key, lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            lines[(*prefix, index)] = item.start_mark.line + 1
            _collect_lines(item, (*prefix, index), lines, path)
