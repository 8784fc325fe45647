"""Compose files as `docker compose config` reads them: variables, `extends`, and several files merged into one.

Of the specification what our files use; anything else is an error rather than ignored.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

DOCKER = Path(__file__).parents[2] / "docker"
ONE_MACHINE = (DOCKER / "compose.yaml",)
SEVERAL_MACHINES = (DOCKER / "compose.yaml", DOCKER / "compose.distributed.yaml")
SCHEMA = json.loads((Path(__file__).parent / "compose_spec" / "compose-spec.json").read_text())

_VARIABLE = re.compile(r"\$(?:\$|\{(\w+)(?:(:[-?])([^}]*))?\})")
# A later file replaces these as a whole.
_REPLACED = {"command", "entrypoint", "test"}
# Of these, one entry for each path in the container.
_BY_TARGET = {"volumes", "secrets", "ports"}


class MissingVariableError(Exception):
    """A variable that a file demands is not set."""


def interpolate(value: Any, variables: dict[str, str]) -> Any:
    """Variables replaced in all texts; `$$` becomes `$`."""
    if isinstance(value, dict):
        return {key: interpolate(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolate(each, variables) for each in value]
    if not isinstance(value, str):
        return value

    def replaced(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        found = variables.get(match[1], "")
        if found or match[2] is None:
            return found
        if match[2] == ":?":
            raise MissingVariableError(f"{match[1]}: {match[3]}")
        return match[3]

    # What is left of a dollar would be a form that is not known here.
    assert "$" not in _VARIABLE.sub("", value), value
    return _VARIABLE.sub(replaced, value)


def merge(old: Any, new: Any, key: str = "") -> Any:
    """Two values of the same key, of an earlier and of a later file."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {
            name: merge(old[name], new[name], name) if name in old and name in new else new.get(name, old.get(name))
            for name in {**old, **new}
        }  # fmt: skip
    if isinstance(old, list) and isinstance(new, list) and key not in _REPLACED:
        if key in _BY_TARGET:
            return list({target_of(each): each for each in [*old, *new]}.values())
        return [*old, *(each for each in new if each not in old)]
    return new


def target_of(entry: str | dict[str, Any]) -> str:
    """Path, name or port in the container, of a volume, secret or port."""
    if isinstance(entry, dict):
        return str(entry["target"])
    return entry if ":" not in entry else entry.split(":")[-2 if entry.endswith((":ro", ":rw")) else -1]


def load(file: Path, variables: dict[str, str]) -> dict[str, Any]:
    """One file with its variables replaced."""
    return interpolate(yaml.safe_load(file.read_text()), variables)


def composed(files: tuple[Path, ...], variables: dict[str, str]) -> dict[str, Any]:
    """All files as one; services have what they extend."""
    model: dict[str, Any] = {}
    for file in files:
        content = load(file, variables)
        for name, service in content.get("services", {}).items():
            if extended := service.pop("extends", None):
                base = load(file.parent / extended["file"], variables)["services"][extended["service"]]
                content["services"][name] = merge(base, service)
        model = merge(model, content)
    return model
