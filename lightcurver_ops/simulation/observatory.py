"""A synthetic observatory: several lenses with their raw frames, and the configuration files of all of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from .lens_file import write_lens_file
from .options import GalaxyOptions, LensOptions, SeasonOptions, StarOptions
from .season import RAW, simulate_season
from .truth import SEASON, Truth, load_truth, options_record

QUAD = SeasonOptions()
DOUBLE = SeasonOptions(
    name="double",
    seed=2,
    shape=(240, 240),
    stars=StarOptions(number=80, separation_arcsec=6.0),
    lens=LensOptions(
        center=(151.1, -4.3),
        labels=("A", "B"),
        offsets_arcsec=((0.9, 0.4), (-0.8, -0.5)),
        magnitudes=(18.4, 19.1),
        delays_days=(0.0, 8.0),
        galaxy=GalaxyOptions(magnitude=20.0),
    ),
)


def simulate_observatory(
    directory: str | Path,
    lenses: tuple[SeasonOptions, ...] = (QUAD, DOUBLE),
    *,
    nights: dict[str, list[int]] | None = None,
    settings: dict[str, Any] | None = None,
    keys: dict[str, Any] | None = None,
) -> dict[str, Truth]:
    """Write `observatory.yaml`, `lenses/<name>.yaml` and, in `sim/<name>/raw`, the raw frames of each lens.

    What is made of them goes to `work/<name>`. Raw frames that are there stay as they are: a file that is written again
    would count as a changed one. Configuration files are written again.

    Args:
        directory: made if needed.
        lenses: the seasons, by different names.
        nights: lens: nights to write, counted from 0; a lens that is not named has all.
        settings: keys of `observatory.yaml` beside its name and its lenses.
        keys: groups of keys of all lens files, {group: {key: value}}.

    Returns:
        lens: its truth.
    """
    directory = Path(directory).absolute()
    (directory / "lenses").mkdir(parents=True, exist_ok=True)
    truths = {}
    for options in lenses:
        wanted = (nights or {}).get(options.name)
        truth = truths[options.name] = _season(options, directory / "sim" / options.name, wanted)
        path = write_lens_file(truth, directory / "lenses" / f"{options.name}.yaml")
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        content = {name: group for name, group in content.items() if group is not None}
        content["workdir"] = str(directory / "work" / options.name)
        content["observatory"] = "../observatory.yaml"
        for group, values in (keys or {}).items():
            content[group] = {**content.get(group, {}), **values}
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    observatory = {"name": "demo", "lenses": ["lenses/*.yaml"], **(settings or {})}
    (directory / "observatory.yaml").write_text(
        yaml.safe_dump(observatory, sort_keys=False), encoding="utf-8"
    )
    return truths


def _season(options: SeasonOptions, directory: Path, nights: list[int] | None) -> Truth:
    """The truth of a season, simulated where a frame is missing."""
    if (directory / SEASON).is_file():
        truth = load_truth(directory)
        wanted = set(range(options.n_nights) if nights is None else nights)
        there = wanted <= set(truth.frames["night"])
        there &= all((directory / RAW / name).is_file() for name in truth.frames["file"])
        if there and options_record(truth.options) == options_record(options):
            return truth
    return simulate_season(options, directory, nights)


def shifted(options: SeasonOptions, last_night_mjd: int) -> SeasonOptions:
    """The same season, ending on the night that begins on this day."""
    days = options.day(options.n_nights - 1) - options.day(0)
    return replace(options, first_mjd=float(last_night_mjd - days))
