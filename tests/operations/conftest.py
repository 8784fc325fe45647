"""Lenses whose raw frames are a few pixels, for everything that looks at files and headers alone."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from lightcurver_ops.config import LensConfig, load_lens
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.initialize_database import ensure_initialized

OLD = datetime(2020, 1, 1, tzinfo=UTC).timestamp()
"""A time stamp of files that nobody is writing any more."""


@dataclass(frozen=True)
class Site:
    """A directory with lens files and raw frames."""

    directory: Path

    def lens_file(self, name: str = "demo", **sections) -> Path:
        """Write `lenses/<name>.yaml`; its raw frames are in `raw/<name>` unless told otherwise."""
        content = {
            "name": name,
            "workdir": f"../work/{name}",
            "raw": {"raw_dirs": [f"../raw/{name}"]},
            "roi": {"ra": 10.0, "dec": -20.0, "point_sources": {"A": [10.0, -20.0]}},
            "telescope": {
                "name": "T",
                "latitude": -29.26,
                "longitude": -70.73,
                "elevation": 2400.0,
                "timezone": "America/Santiago",
            },
            **sections,
        }
        path = self.directory / "lenses" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        (self.directory / "raw" / name).mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(content))
        return path

    def config(self, name: str = "demo", **sections) -> LensConfig:
        return load_lens(self.lens_file(name, **sections))

    def frame(self, file: str, begin: str | None = "2026-03-10T03:00:00", modified: float = OLD) -> Path:
        """Write `raw/<file>`, an exposure that began at this time, UTC; None: its header does not say when."""
        path = self.directory / "raw" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        hdu = fits.PrimaryHDU(np.arange(64, dtype=np.float32).reshape(8, 8))
        hdu.header.update({"EXPTIME": 60.0, "GAIN": 1.0, "FILTER": "r"})
        if begin is not None:
            hdu.header["DATE-OBS"] = begin
        hdu.writeto(path, overwrite=True)
        os.utime(path, (modified, modified))
        return path


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def lens(site):
    """A lens with an empty bookkeeping, at a telescope in Chile."""
    lens = Lens(site.config())
    ensure_initialized(lens)
    yield lens
    lens.close()
