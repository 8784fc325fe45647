"""All lenses of an observatory: its file, the lens files that it names, and those of them that are broken."""

import glob
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from lightcurver_ops.config import ObservatoryConfig, load_observatory
from lightcurver_ops.config.loading import LoadedLens, load_lens_with_notices
from lightcurver_ops.errors import ConfigurationError


@dataclass(frozen=True)
class Observatory:
    """An observatory's configuration, and where it lies."""

    path: Path
    config: ObservatoryConfig

    def lens_files(self) -> list[Path]:
        """The lens files, sorted; each once, whatever number of patterns finds it."""
        found: set[Path] = set()
        for pattern in self.config.lenses:
            whole = Path(pattern).expanduser()
            pattern_path = whole if whole.is_absolute() else self.path.parent / whole
            found |= {Path(name).absolute() for name in glob.glob(str(pattern_path))}  # noqa: PTH207 - absolute ones
        return sorted(path for path in found if path != self.path and path.is_file())


@dataclass
class LensFiles:
    """What became of the lens files of an observatory."""

    lenses: list[LoadedLens] = field(default_factory=list)
    broken: dict[Path, str] = field(default_factory=dict)
    """file: what is wrong with it."""


def open_observatory(path: str | Path) -> Observatory:
    """Read an observatory's file.

    Raises:
        ConfigurationError: as `load_observatory`.
    """
    path = Path(path).expanduser().absolute()
    return Observatory(path, load_observatory(path))


def load_lenses(files: list[Path]) -> LensFiles:
    """Load lens files; one that is broken, or takes the name of another, spoils no other.

    A name belongs to the file that is called so, else to the first that has it: as `find_lens` finds it.
    """
    result = LensFiles()
    taken: dict[str, Path] = {}
    good = []
    for path in files:
        try:
            good.append(load_lens_with_notices(path))
        except ConfigurationError as error:
            result.broken[path] = str(error)
    for loaded in sorted(good, key=lambda one: dag_name(one.path.stem) != dag_name(one.lens.name)):
        path, identifier = loaded.path, dag_name(loaded.lens.name)
        if identifier in taken:
            result.broken[path] = (
                f"{path}: the name '{loaded.lens.name}' is taken by {taken[identifier]}; give each lens its own "
                "(in the names of DAGs, + is written p)"
            )
            continue
        taken[identifier] = path
    result.lenses = [loaded for loaded in good if taken[dag_name(loaded.lens.name)] == loaded.path]
    return result


def dag_name(lens: str) -> str:
    """The name of a lens in names of DAGs and runs, where + is not allowed (J0030+15: J0030p15)."""
    return lens.replace("+", "p")


def find_lens(observatory: Observatory, name: str) -> LoadedLens:
    """The lens of a name, or of a name as DAGs have it, without reading more files than needed.

    Raises:
        ConfigurationError: no lens has this name, or its file is broken.
    """
    broken = []
    for path in _likely_first(observatory.lens_files(), name):
        try:
            loaded = load_lens_with_notices(path)
        except ConfigurationError as error:
            if dag_name(path.stem) == dag_name(name):
                raise
            broken.append(str(error))
            continue
        if name in (loaded.lens.name, dag_name(loaded.lens.name)):
            return loaded
    more = "; these files are broken:\n" + "\n".join(broken) if broken else ""
    raise ConfigurationError(
        f"no lens of {observatory.path} is called '{name}' (lenses: {', '.join(observatory.config.lenses)}){more}"
    )


def _likely_first(files: list[Path], name: str) -> Iterator[Path]:
    named = [path for path in files if dag_name(path.stem) == dag_name(name)]
    yield from named
    yield from (path for path in files if path not in named)


def shard_of(path: Path, shards: int) -> int:
    """Which of so many DAG files a lens file belongs to, by its name alone."""
    return zlib.crc32(path.name.encode()) % shards
