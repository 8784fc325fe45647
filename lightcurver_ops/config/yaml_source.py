"""YAML files read so that messages can name the line of a key, and a key given twice is an error."""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lightcurver_ops.errors import ConfigurationError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

KeyPath = tuple[str | int, ...]

MOST_BYTES = 1_000_000
DEEPEST = 50
"""Levels of a file."""
LONGEST_NUMBER = 64  # bits
MOST_NODES = 10_000
"""Keys and values of a file, each alias counted as often as it is used: a few lines of aliases of aliases unfold to
billions."""


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
        text = _read(path)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: there is no such configuration file; `lcops init {path}` writes one to start from"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: the configuration file cannot be read: {error}") from error
    loader = _Loader(text)
    try:
        _check_depth(path, text)
        root = loader.get_single_node()
        lines = _Lines(path)
        lines.collect(root, ())
        content = loader.construct_document(root) if root is not None else {}
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise ConfigurationError(f"{path}{place}: this is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # a date or a number that does not exist
        raise ConfigurationError(f"{path}: this is not valid YAML: {error}") from error
    except (AttributeError, LookupError, TypeError) as error:  # which PyYAML does not check
        raise ConfigurationError(
            f"{path}: this is not valid YAML: a value does not go with its !!tag"
        ) from error
    finally:
        loader.dispose()
    _check_numbers(path, content)
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return YamlSource(path, content, lines.of)


def _read(path: Path) -> str:
    """The text of a file.

    Raises:
        OSError, UnicodeDecodeError: it cannot be read.
        ConfigurationError: it is no configuration by its kind or size, which would be waited for, or fill the memory.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise ConfigurationError(f"{path}: the configuration file cannot be read: it is no regular file")
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ConfigurationError(
            f"{path}: this file has more than {MOST_BYTES} bytes: is it a configuration?"
        )
    return content.decode("utf-8")


def _check_depth(path: Path, text: str) -> None:
    """Before libyaml composes the nodes: it calls itself for each level, until the process crashes."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise _too_much(path, event)


def _check_numbers(path: Path, content: Any) -> None:
    """Python does not write out whole numbers of thousands of digits, which would hide what else is to be said."""
    if isinstance(content, int) and content.bit_length() > LONGEST_NUMBER:
        raise ConfigurationError(f"{path}: a whole number has more than {LONGEST_NUMBER} bits")
    if isinstance(content, dict):
        content = [*content, *content.values()]
    if isinstance(content, (list, tuple, set)):
        for one in content:
            _check_numbers(path, one)


def _too_much(path: Path, at: Any) -> ConfigurationError:
    return ConfigurationError(
        f"{path}{_line(at)}: its aliases lead back to themselves or unfold to too much: more than {DEEPEST} levels or "
        f"{MOST_NODES} values"
    )


class _Lines:
    """The lines of the keys of a file; refuses what no configuration has, before it is unfolded.

    Attributes:
        of: key: line.
    """

    def __init__(self, path: Path):
        self._path = path
        self._nodes = 0
        self.of: dict[KeyPath, int] = {}

    def collect(self, node: Any, prefix: KeyPath) -> None:
        """Add a node and what is in it."""
        self._nodes += 1
        if len(prefix) > DEEPEST or self._nodes > MOST_NODES:
            raise _too_much(self._path, node)
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                if not isinstance(key_node, yaml.ScalarNode):
                    raise ConfigurationError(
                        f"{self._path}{_line(key_node)}: a key must be a word; a value that begins with {{ or [ needs "
                        "quotes"
                    )
                self._add(prefix, key_node)
                self.collect(value_node, (*prefix, key_node.value))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.of[(*prefix, index)] = item.start_mark.line + 1
                self.collect(item, (*prefix, index))

    def _add(self, prefix: KeyPath, key_node: Any) -> None:
        key = (*prefix, key_node.value)
        line = key_node.start_mark.line + 1
        if key in self.of:
            raise ConfigurationError(
                f"{self._path}, line {line}: the key '{'.'.join(map(str, key))}' is given twice "
                f"(first in line {self.of[key]}); keep one"
            )
        self.of[key] = line


def _line(node: Any) -> str:
    return f", line {node.start_mark.line + 1}" if node.start_mark else ""
