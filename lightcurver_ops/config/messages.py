"""Pydantic's findings as messages for people: file, line, key, value, what is allowed, nearest known key."""

import difflib
import typing
from typing import Any

from pydantic import BaseModel, ValidationError

from lightcurver_ops.config.base import CREDENTIALS, looks_like_credentials
from lightcurver_ops.config.yaml_source import KeyPath, YamlSource

_SHOWN = 80  # characters of a value
_LONGEST = 2000  # characters of a finding: a key may be as long as its file
_MOST_FINDINGS = 30


def explain(error: ValidationError, model: type[BaseModel], source: YamlSource) -> str:
    """One line per finding; of many, the first."""
    errors = error.errors()
    found = dict.fromkeys(_explain_one(dict(item), model, source) for item in errors[:_MOST_FINDINGS])
    lines = [line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..." for line in found]
    more = len(errors) - _MOST_FINDINGS
    return "\n".join([*lines, f"and {more} findings more"] if more > 0 else lines)


def _explain_one(item: dict[str, Any], model: type[BaseModel], source: YamlSource) -> str:
    location: KeyPath = item["loc"]
    known = _path_in_file(location, source.content)
    key = ".".join(map(str, known)) or "the file"
    where = source.where(known)
    if item["type"] == "extra_forbidden":
        if looks_like_credentials(str(location[-1])):
            return f"{where}: {key}: {CREDENTIALS}"
        parent = _model_at(model, location[:-1])
        return f"{where}: unknown key '{key}'{_nearest(str(location[-1]), parent, model)}"
    if item["type"] == "missing":
        missing = ".".join(map(str, location))
        return f"{where}: the key '{missing}' is required and missing{_description(model, location)}"
    if "FILL_IN" in str(item["input"]):
        return f"{where}: {key} is still to be filled in{_description(model, location)}"
    if item["type"] == "credentials" or _is_secret(model, location):  # whose value nobody should see
        return f"{where}: {key}: {item['msg']}"
    if not known:  # the whole file, which may hold a password
        moved = "".join(
            f"{'.'.join(map(str, location))}: " for _ in location[:1]
        )  # from a flat configuration
        return f"{where}: {moved}{item['msg'].removeprefix('Value error, ')}"
    value = repr(item["input"])
    value = value if len(value) <= _SHOWN else value[:_SHOWN] + "..."
    return f"{where}: {key} = {value}: {item['msg'].removeprefix('Value error, ')}{_description(model, location)}"


def _path_in_file(location: KeyPath, content: Any) -> KeyPath:
    """The part of pydantic's location that names keys of the file (unions add names of their own)."""
    path: list[str | int] = []
    for part in location:
        known: Any = content if isinstance(content, dict) else {}
        if isinstance(content, list):
            known = dict(enumerate(content))
        if part in known:
            content = known[part]
            path.append(part)
    return tuple(path)


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in typing.get_args(annotation) for model in _models_in(argument)]


def _model_at(model: type[BaseModel], location: KeyPath) -> type[BaseModel] | None:
    current: type[BaseModel] | None = model
    for part in location:
        if current is None or part not in current.model_fields:
            continue
        models = _models_in(current.model_fields[str(part)].annotation)
        current = models[0] if models else None
    return current


def _is_secret(model: type[BaseModel], location: KeyPath) -> bool:
    """Whether a key is marked as `config.base.Secret`."""
    parent = _model_at(model, location[:-1])
    field = parent.model_fields.get(str(location[-1])) if parent is not None and location else None
    return field is not None and field.exclude is True


def _all_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    keys = []
    for name, field in model.model_fields.items():
        keys.append(prefix + name)
        for nested in _models_in(field.annotation):
            keys += _all_keys(nested, f"{prefix}{name}.")
    return keys


def _nearest(name: str, parent: type[BaseModel] | None, root: type[BaseModel]) -> str:
    """Among the keys of the same group first, then anywhere: a key in the wrong group is a common slip."""
    here = sorted(parent.model_fields) if parent else []
    folded = {key.lower(): key for key in here}
    close = difflib.get_close_matches(name.lower(), folded, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{folded[close[0]]}'?"
    by_last = {key.rsplit(".", 1)[-1].lower(): key for key in _all_keys(root)}
    close = difflib.get_close_matches(name.lower(), by_last, n=1, cutoff=0.75)
    if close:
        return f"; did you mean '{by_last[close[0]]}'?"
    return f"; known here are: {', '.join(here)}" if here else ""


def _description(model: type[BaseModel], location: KeyPath) -> str:
    current: type[BaseModel] | None = model
    text = ""
    for part in location:
        if current is None or part not in current.model_fields:
            continue
        field = current.model_fields[str(part)]
        text = field.description or ""
        models = _models_in(field.annotation)
        current = models[0] if models else None
    return f" ({' '.join(text.split()).rstrip('.')})" if text else ""
