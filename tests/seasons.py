"""Fixtures: a small simulated season, raw or gone through the whole pipeline once; tests work on copies of it."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lightcurver_ops.config import load_lens
from lightcurver_ops.simulation import GalaxyOptions, LensOptions, SeasonOptions, StarOptions, simulate_season
from lightcurver_ops.simulation.lens_file import write_lens_file
from lightcurver_ops.simulation.truth import Truth
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.pipeline import run_pipeline

SMALL = SeasonOptions(
    name="small",
    seed=4,
    n_nights=3,
    exposures_per_night=2,
    shape=(200, 200),
    stars=StarOptions(number=60, separation_arcsec=6.0),
    lens=LensOptions(
        labels=("A", "B"),
        offsets_arcsec=((0.9, 0.4), (-0.8, -0.5)),
        magnitudes=(18.4, 18.9),
        delays_days=(0.0, 8.0),
        galaxy=GalaxyOptions(magnitude=20.0),
    ),
)

FAST = {
    "cutouts": {
        "stamp_size_stars": 16,
        "stamp_size_ROI": 16,
        "saturation_level": SMALL.detector.saturation_adu,
    },
    "stars": {"stars_to_use_psf": 5, "stars_to_use_norm": 8, "stars_to_use_control": 0},
    "compute": {"processes": 1, "diagnostics": False},
}


@dataclass
class Season:
    """A season on disk, and the lens that reduces it."""

    directory: Path
    truth: Truth
    config_path: Path

    def configure(self, **sections: dict) -> Path:
        """Change keys of the configuration: section={key: value}."""
        content = yaml.safe_load(self.config_path.read_text())
        for section, keys in sections.items():
            if isinstance(keys, dict):
                content[section] = {**(content.get(section) or {}), **keys}
            else:
                content[section] = keys
        self.config_path.write_text(yaml.safe_dump(content))
        return self.config_path

    def lens(self) -> Lens:
        return Lens(load_lens(self.config_path))

    @property
    def raw(self) -> list[Path]:
        return sorted((self.directory / "raw").glob("small_*.fits"))

    @property
    def work(self) -> Path:
        return self.directory / "work"


def relocated(season: Season, directory: Path) -> Season:
    """A copy of a season, its paths those of the copy; what was reduced stays up to date."""
    shutil.copytree(season.directory, directory)  # copies keep their time stamps
    config = directory / season.config_path.name
    config.write_text(season.config_path.read_text().replace(str(season.directory), str(directory)))
    return Season(directory, Truth(directory, season.truth.options, season.truth.frames), config)


@pytest.fixture(scope="session")
def raw_season(tmp_path_factory) -> Season:
    """Raw frames of the small season and its configuration; nothing reduced."""
    directory = tmp_path_factory.mktemp("raw_season")
    truth = simulate_season(SMALL, directory)
    season = Season(directory, truth, write_lens_file(truth))
    season.configure(**FAST)
    return season


@pytest.fixture(scope="session")
def reduced_season(raw_season, tmp_path_factory) -> Season:
    """The small season after a full run; not to be changed."""
    season = relocated(raw_season, tmp_path_factory.mktemp("reduced") / "season")
    lens = season.lens()
    run_pipeline(lens)
    lens.close()
    return season


@pytest.fixture(scope="session")
def controlled_season(reduced_season, tmp_path_factory) -> Season:
    """The small season with two control stars, modelled without background, which is quick; not to be changed."""
    season = copied(reduced_season, tmp_path_factory.mktemp("controlled") / "season")
    season.configure(stars={"stars_to_use_control": 2}, roi_model={"further_optimize_background": False})
    lens = season.lens()
    run_pipeline(lens)
    lens.close()
    return season


@pytest.fixture
def season(raw_season, tmp_path) -> Season:
    """A copy of the raw season."""
    return relocated(raw_season, tmp_path / "season")


@pytest.fixture
def season_copy(reduced_season, tmp_path) -> Callable[[], Season]:
    """Makes a season reduced up to a stage, without computing again what the full run made."""

    def copy() -> Season:
        return copied(reduced_season, tmp_path / "season")

    return copy


def copied(season: Season, directory: Path) -> Season:
    """A copy of a reduced season."""
    copy = relocated(season, directory)
    _move_raw_paths(copy, str(season.directory), str(copy.directory))
    return copy


def _move_raw_paths(season: Season, old: str, new: str) -> None:
    """Raw files are known by their paths: in a copy of the bookkeeping these are those of the copy."""
    import sqlite3

    connection = sqlite3.connect(season.work / "database.sqlite3")
    with connection:
        connection.execute(
            "update frames set original_image_path = replace(original_image_path, ?, ?)", (old, new)
        )
        connection.execute("delete from products where stage = 'read_convert_skysub_character_catalog'")
    connection.close()
