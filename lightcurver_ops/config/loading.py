"""From YAML files to validated models."""

import functools
import logging
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lightcurver_ops.config import legacy
from lightcurver_ops.config.messages import explain
from lightcurver_ops.config.models import LensConfig
from lightcurver_ops.config.observatory import ObservatoryConfig
from lightcurver_ops.config.yaml_source import YamlSource, read_yaml
from lightcurver_ops.errors import ConfigurationError

log = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

_PATHS = [
    "workdir",
    "raw.header_parser",
    "raw.cache_dir",
    "stars.gaia_catalog_file",
    "catalogs.cache_dir",
    "plate_solving.index_dir",
    "plate_solving.astrometry_net_api_key_file",
]
_OBSERVATORY_PATHS = ["alerts.slack.url_file", "alerts.webhook.url_file", "airflow.gpu_pod_template"]


@dataclass(frozen=True)
class LoadedLens:
    """A lens, the file it came from, and what was said while loading."""

    lens: LensConfig
    path: Path
    observatory: Path | None = None
    notices: list[str] = field(default_factory=list)


def load_lens(path: str | Path) -> LensConfig:
    """Read and validate a lens's YAML file; notices go to the log.

    Raises:
        ConfigurationError: with one line per finding: file, line, key, value, what is allowed, nearest known key.
    """
    loaded = load_lens_with_notices(path)
    for notice in loaded.notices:
        log.info("%s: %s", loaded.path, notice)
    return loaded.lens


def _whatever_fails(load: Callable[[Path], Loaded]) -> Callable[[str | Path], Loaded]:
    """Nothing in a file may stop who loads others as well: what no message foresees is a finding about that file."""

    @functools.wraps(load)
    def guarded(path: str | Path) -> Loaded:
        path = _absolute(str(path), Path.cwd())
        try:
            return load(path)
        except ConfigurationError as error:
            if str(path) in str(error):
                raise
            raise ConfigurationError(f"{path}: {error}") from error
        except Exception as error:
            log.exception("%s", path)
            raise ConfigurationError(
                f"{path}: this configuration file cannot be used: {type(error).__name__}: {error}"
            ) from error

    return guarded


@_whatever_fails
def load_lens_with_notices(path: Path) -> LoadedLens:
    """As :func:`load_lens`, with where defaults came from and what a flat configuration was mapped to."""
    source = read_yaml(path)
    content = deepcopy(source.content)
    notices: list[str] = []
    if legacy.is_legacy(content):
        content, notices = legacy.translate(content)
        notices.insert(0, "this is a flat configuration of the original system; it was mapped:")
    observatory_path = None
    if (named := content.pop("observatory", None)) is not None:
        observatory_path = _absolute(str(named), path.parent)
        content = _merged(_defaults_of(observatory_path), content)
    _drop_empty_groups(content, LensConfig)
    _resolve_paths(content, path.parent)
    lens = _validated(LensConfig, content, source)
    return LoadedLens(lens, path, observatory_path, notices)


@_whatever_fails
def load_observatory(path: Path) -> ObservatoryConfig:
    """Read and validate an observatory's YAML file; relative paths in its defaults are relative to it."""
    source = read_yaml(path)
    content = deepcopy(source.content)
    if isinstance(content.get("defaults"), dict):
        _resolve_paths(content["defaults"], path.parent)
    _drop_empty_groups(content, ObservatoryConfig)
    _resolve_keys(content, path.parent, _OBSERVATORY_PATHS)
    return _validated(ObservatoryConfig, content, source)


def _defaults_of(path: Path) -> dict[str, Any]:
    """The defaults of an observatory; read once for all its lenses, and again when the file changes."""
    try:
        status = path.stat()
    except OSError:
        return load_observatory(path).defaults  # which says what is wrong
    return _cached_defaults(path, status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=8)
def _cached_defaults(path: Path, _mtime_ns: int, _size: int) -> dict[str, Any]:
    return load_observatory(path).defaults


def _validated(model: type[BaseModel], content: dict[str, Any], source: YamlSource) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ConfigurationError(explain(error, model, source)) from error


def _merged(defaults: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    merged = deepcopy(defaults)
    for key, value in own.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = _merged(merged[key], value)
        else:
            merged[key] = value
    return merged


def _drop_empty_groups(content: dict[str, Any], model: type[BaseModel]) -> None:
    """``psf:`` with nothing but comments below it means the defaults."""
    for name, group in model.model_fields.items():
        if content.get(name, "") is None and isinstance(group.default, BaseModel):
            del content[name]


def _absolute(value: str, directory: Path) -> Path:
    if "\0" in value:
        raise ConfigurationError(f"{value!r} cannot be a path: it has a character that no name has")
    try:
        path = Path(value).expanduser()
    except RuntimeError as error:
        raise ConfigurationError(f"{value}: there is no such user on this machine") from error
    return path if path.is_absolute() else Path(*(directory / path).parts)


def _resolve_paths(content: dict[str, Any], directory: Path) -> None:
    """Relative paths are relative to the file that says them, wherever the program is started."""
    _resolve_keys(content, directory, _PATHS)
    raw = content.get("raw")
    if isinstance(raw, dict) and isinstance(raw.get("raw_dirs"), list):
        raw["raw_dirs"] = [
            item if not isinstance(item, str) or "://" in item else str(_absolute(item, directory).resolve())
            for item in raw["raw_dirs"]
        ]


def _resolve_keys(content: dict[str, Any], directory: Path, keys: list[str]) -> None:
    for dotted in keys:
        *groups, last = dotted.split(".")
        target: Any = content
        for group in groups:
            target = target.get(group) if isinstance(target, dict) else None
        if isinstance(target, dict) and isinstance(target.get(last), str):
            target[last] = str(_absolute(target[last], directory).resolve())
