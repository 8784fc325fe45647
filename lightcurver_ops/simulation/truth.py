"""What a season truly was: one row per frame, and everything behind it."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.table import Table
from pydantic import TypeAdapter

from lightcurver_ops.errors import ConfigurationError

from .exposures import Exposure, night_exposures, tangent_plane
from .field import exposure_lens_light, make_sources, point_sources
from .lens import image_magnitudes
from .options import SeasonOptions
from .psf import Array, LocalPsf
from .roi import RoiStamps, lens_stamps

FRAMES = "truth.ecsv"
SEASON = "truth.json"


@dataclass(frozen=True)
class Truth:
    """The truth of the frames written so far.

    Attributes:
        directory: with `raw/`, `catalogue.ecsv`, `truth.ecsv` and `truth.json`.
        options: of the season; `lens.light_curves` are not kept in files (None after loading): the frames' table has
            their magnitudes.
        frames: one row per frame, by date: file, night, number, filter, mjd (UTC, mid-exposure), exptime (s),
            transparency, seeing_arcsec (FWHM of the seeing alone), airmass, sky (e-/s/px), zeropoint (magnitude of
            1 e-/s in this frame), ra, dec (of the frame's centre, degrees), and per image flux_<label> (e-/s at
            transparency 1) and mag_<label>.
    """

    directory: Path
    options: SeasonOptions
    frames: Table

    def image_positions(self) -> dict[str, tuple[float, float]]:
        """ICRS (ra, dec) in degrees by image label."""
        lens = self.options.lens
        offsets = np.array(lens.offsets_arcsec).reshape(-1, 2)
        sky = tangent_plane(*lens.center).wcs_pix2world(offsets, 0)
        return {label: (float(ra), float(dec)) for label, (ra, dec) in zip(lens.labels, sky, strict=True)}

    def sources(self) -> Table:
        """All sources of the field, see `make_sources`."""
        return make_sources(self.options)

    def exposure(self, file: str) -> Exposure:
        """Pointing, PSF and sky of a frame, by its file name."""
        (row,) = self.frames[self.frames["file"] == file]
        return night_exposures(self.options, int(row["night"]))[int(row["number"]) - 1]

    def point_sources(self, file: str) -> Table:
        """Stars and images in a frame: see there."""
        return point_sources(self.options, self.sources(), self.exposure(file))

    def roi(self, size: int = 32, subsampling: int = 2, files: list[str] | None = None) -> RoiStamps:
        """The noiseless cutouts around the lens that an ideal reduction would have, in e-/s at transparency 1.

        What `expected_flux_errors` takes. Epochs in the order of `files` (default: all frames).
        """
        options, lens = self.options, self.options.lens
        names = list(self.frames["file"]) if files is None else files
        rows = [self.frames[self.frames["file"] == name][0] for name in names]
        exposures = [self.exposure(name) for name in names]
        centres = np.array([exposure.wcs.wcs_world2pix([lens.center], 0)[0] for exposure in exposures])
        sky = np.array(list(self.image_positions().values()))
        places = np.array([exposure.wcs.wcs_world2pix(sky, 0) for exposure in exposures])
        # What the air does to the images, of one colour, moves all of them alike.
        lifted = np.array([exposure.lifted(lens.bp_rp) for exposure in exposures])
        cell = np.floor(centres + (0.5 if size % 2 else 0.0)) + (0.0 if size % 2 else 0.5)
        varies = options.psf_varies > 0 or options.optics.pattern > 0

        def local(e: int, offset: Array) -> LocalPsf:
            x, y = cell[e] + offset
            return exposures[e].psf_at(float(x), float(y), lens.bp_rp)

        scenes = [exposure_lens_light(options, exposure) for exposure in exposures]
        transparency = np.array([exposure.transparency for exposure in exposures])
        return lens_stamps(
            positions=places[0] - centres[0],
            translations=centres + lifted - cell,
            flux=np.array([[row[f"flux_{label}"] for label in lens.labels] for row in rows]),
            shapes=tuple(exposure.psf for exposure in exposures),
            extended=[
                None if scene is None else scene.shift(*-moved)
                for scene, moved in zip(scenes, lifted, strict=True)
            ],
            # A frame of transparency T, divided by T, has the noise of T times the exposure under 1 / T the sky.
            sky=np.array([exposure.sky for exposure in exposures]) / transparency,
            exptime=options.exptime * transparency,
            readnoise=options.detector.readnoise,
            size=size,
            subsampling=subsampling,
            local_at=local,
            varies=varies,
        )


def frame_truth(options: SeasonOptions, exposure: Exposure) -> dict[str, Any]:
    """The row of a frame."""
    zeropoint = options.filter(exposure.filter).zeropoint
    lens = options.lens
    magnitudes = image_magnitudes(lens, options.seed, options.first_mjd, np.array([exposure.mjd]))[:, 0]
    ra, dec = exposure.wcs.wcs.crval
    row = {
        "file": exposure.file,
        "night": exposure.night,
        "number": exposure.number,
        "filter": exposure.filter,
        "mjd": exposure.mjd,
        "exptime": options.exptime,
        "transparency": exposure.transparency,
        "seeing_arcsec": exposure.seeing_arcsec,
        "airmass": exposure.zenith.airmass,
        "sky": exposure.sky,
        "zeropoint": zeropoint + 2.5 * np.log10(exposure.transparency),
        "ra": ra,
        "dec": dec,
    }
    for label, magnitude in zip(lens.labels, magnitudes, strict=True):
        row[f"flux_{label}"] = 10 ** (0.4 * (zeropoint - magnitude))
        row[f"mag_{label}"] = magnitude
    return row


def load_truth(directory: str | Path) -> Truth:
    """The truth of a season written by `simulate_season`.

    Raises:
        ConfigurationError: the directory holds none, or one of another version.
    """
    directory = Path(directory)
    for name in (SEASON, FRAMES):
        if not (directory / name).is_file():
            raise ConfigurationError(
                f"{directory} holds no simulated season ({name} is missing): simulate one there"
            )
    stored = json.loads((directory / SEASON).read_text())
    if set(stored["options"]) != {one.name for one in fields(SeasonOptions)}:
        raise ConfigurationError(
            f"{directory} holds a season that another version simulated: simulate into another directory, or delete "
            "this one"
        )
    options = TypeAdapter(SeasonOptions).validate_python(stored["options"])
    return Truth(directory, options, Table.read(directory / FRAMES))


def season_record(truth: Truth) -> dict[str, Any]:
    """What `truth.json` holds: the options, and where the images and the galaxy are."""
    galaxy = truth.options.lens.galaxy
    record: dict[str, Any] = {
        "options": options_record(truth.options),
        "images": {label: {"ra": ra, "dec": dec} for label, (ra, dec) in truth.image_positions().items()},
        "galaxy": None,
    }
    if galaxy is not None:
        plane = tangent_plane(*truth.options.lens.center)
        ra, dec = plane.wcs_pix2world([galaxy.offset_arcsec], 0)[0]
        record["galaxy"] = {"ra": float(ra), "dec": float(dec), "magnitude": galaxy.magnitude}
    return record


def options_record(options: SeasonOptions) -> dict[str, Any]:
    """The options as JSON types, without the callables."""
    plain = replace(options, lens=replace(options.lens, light_curves=None))
    return TypeAdapter(SeasonOptions).dump_python(plain, mode="json")
