"""The light curve of a transit: ours against plain aperture photometry of the same frames."""

import os
import tempfile
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.report import Report
from lightcurver_ops.constants import MAD_TO_SIGMA

PURPOSE = (
    "The star HAT-P-32 during a transit: our light curve against sums in circular apertures (photutils) of the same "
    "frames, with the radius that scatters least out of transit."
)
EXAMPLE = Path(__file__).parents[1] / "examples" / "hatp32.yaml"
TRANSIT = (58107.155, 58107.275)
"""MJD of its beginning and end."""
RADII = tuple(np.arange(1.5, 6.01, 0.5))
BRIGHTEST = 6
"""Comparison stars are tried from one to so many of the brightest in all frames, as an observer would."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """What is measured.

    Attributes:
        data: directory with raw/ and catalogue.ecsv; None: nothing is measured.
        settings: keys of the configuration beside those of the example.
        radii: of the apertures, px.
    """

    data: Path | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    radii: tuple[float, ...] = RADII


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for."""
    named = arguments.transit or os.environ.get("LCOPS_HATP32")
    return Sizes(data=Path(named) if named else None)


def run(report: Report, size: Sizes) -> None:
    """Measure everything."""
    table = report.table(
        "Scatter out of transit",
        {
            "method": "method",
            "frames": "frames",
            "all": "scatter [%]",
            "first": "of every other frame [%]",
            "second": "of the others [%]",
            "rms": "RMS [%]",
        },
    )
    if size.data is None or not (size.data / "raw").is_dir():
        where = (
            "no directory is given (--transit, or LCOPS_HATP32)"
            if size.data is None
            else f"not at {size.data}"
        )
        table.notes.append(
            f"Skipped: the frames of HAT-P-32 may not be copied into the repository, and {where}."
        )
        report.save()
        return
    with tempfile.TemporaryDirectory() as name:
        for method in ("psf", "aperture"):
            mjd, flux, frames = _ours(size, Path(name) / method, method)
            table.add(method=f"ours, {method}", **_scatter(mjd, flux))
            if method == "psf":
                radius, plain_mjd, plain = best_aperture(frames, size.radii)
        table.add(method=f"plain aperture of {radius:g} px", **_scatter(plain_mjd, plain))
    table.notes.append(
        "Scatter is 1.48 MAD. The aperture and the number of its comparison stars are the best of all tried."
    )
    report.save()


def out_of_transit(mjd: Array) -> NDArray[np.bool_]:
    """The epochs before and after the transit."""
    return (mjd < TRANSIT[0]) | (mjd > TRANSIT[1])


def scatter(flux: Array) -> float:
    """1.48 MAD over the median."""
    middle = np.median(flux)
    return float(MAD_TO_SIGMA * np.median(np.abs(flux / middle - 1)))


def _scatter(mjd: Array, flux: Array) -> dict[str, float | int]:
    """A row: of all epochs out of transit, and of each half of all frames."""
    outside, every_other = out_of_transit(mjd), np.arange(len(mjd)) % 2 == 0
    return {
        "frames": len(mjd),
        "all": 100 * scatter(flux[outside]),
        "first": 100 * scatter(flux[outside & every_other]),
        "second": 100 * scatter(flux[outside & ~every_other]),
        "rms": 100 * float(np.std(flux[outside]) / np.mean(flux[outside])),
    }


@dataclass(frozen=True)
class Frame:
    """An imported frame: electrons per second, sky subtracted, its time, and x, y of target and stars, [1 + S, 2]."""

    image: Array
    mjd: float
    positions: Array


def _ours(size: Sizes, directory: Path, method: str) -> tuple[Array, Array, list[Frame]]:
    """mjd and flux [E] of our light curve, and the frames that it was made from."""
    from lightcurver_ops.config import load_lens
    from lightcurver_ops.stages.base import Lens
    from lightcurver_ops.stages.pipeline import run_pipeline
    from lightcurver_ops.storage.tables import read_table

    assert size.data is not None
    content = yaml.safe_load(EXAMPLE.read_text())
    content["workdir"] = str(directory)
    content["raw"]["raw_dirs"] = [str(size.data / "raw")]
    content["stars"]["gaia_catalog_file"] = str(size.data / "catalogue.ecsv")
    content["compute"] = {"diagnostics": False}
    if method == "aperture":
        content["star_photometry"]["method"] = content["roi_model"]["method"] = "aperture"
    for section, keys in size.settings.items():
        content[section] = {**content.get(section, {}), **keys}
    directory.mkdir(parents=True)
    path = directory / "hatp32.yaml"
    path.write_text(yaml.safe_dump(content))
    lens = Lens(load_lens(path))
    try:
        run_pipeline(lens)
        (table,) = (lens.workdir / "prepared_roi_cutouts").glob("*_photometry_per_epoch.csv")
        columns = read_table(table)
        return columns["mjd"], columns["star_flux"], _frames(lens) if method == "psf" else []
    finally:
        lens.close()


def _frames(lens: Any) -> list[Frame]:
    """The frames in use, with the target and the stars of the normalization that lie in all of them."""
    from lightcurver_ops.bookkeeping import stars
    from lightcurver_ops.bookkeeping.engine import reading
    from lightcurver_ops.stages.reference_stars import ranking_of_lens
    from lightcurver_ops.stages.usage import usage
    from lightcurver_ops.storage import frames as frame_files

    with reading(lens.engine) as connection:
        selection = stars.current_selection(connection, lens.name)
        assert selection is not None
        rows = [item.frame for item in usage(connection, lens.config) if item.reason is None]
        places = [stars.stars_in_frame(connection, row.id, selection) for row in rows]
        ranked = ranking_of_lens(connection, lens.config, "norm", selection)
    ranked = sorted(ranked, key=lambda star: star.gmag)
    common = [star.gaia_id for star in ranked if all(star.gaia_id in place for place in places)]
    found = []
    for row, place in sorted(zip(rows, places, strict=True), key=lambda pair: pair[0].mjd):
        frame = frame_files.read_frame(lens.workdir / row.image_relpath)
        target = frame_files.wcs_of(frame.header).world_to_pixel_values(
            lens.config.roi.ra, lens.config.roi.dec
        )
        positions = np.array([target, *(place[star] for star in common)], dtype=np.float64)
        found.append(Frame(np.asarray(frame.image, dtype=np.float64), float(row.mjd), positions))
    return found


def best_aperture(frames: list[Frame], radii: tuple[float, ...]) -> tuple[float, Array, Array]:
    """The radius, of all tried, whose light curve scatters least out of transit; mjd [E], and that curve [E].

    Centroids within 5 px of the places, local sky in an annulus of 8 to 12 px, the target over the sum of the
    brightest comparison stars, of which as many are taken as scatter least.
    """
    from photutils.aperture import ApertureStats, CircularAnnulus, CircularAperture, aperture_photometry
    from photutils.centroids import centroid_2dg, centroid_sources

    mjd = np.array([frame.mjd for frame in frames])
    sums = np.empty((len(radii), len(frames), len(frames[0].positions)))
    for f, frame in enumerate(frames):
        x, y = centroid_sources(frame.image, *frame.positions.T, box_size=11, centroid_func=centroid_2dg)
        places = np.where(np.isfinite(x + y)[:, None], np.column_stack([x, y]), frame.positions)
        sky = ApertureStats(frame.image, CircularAnnulus(places, 8.0, 12.0)).median
        for r, radius in enumerate(radii):
            aperture = CircularAperture(places, radius)
            counted = np.asarray(aperture_photometry(frame.image, aperture)["aperture_sum"])
            sums[r, f] = counted - sky * aperture.area
    outside = out_of_transit(mjd)
    tried = [
        (scatter(curve[outside]), radius, curve)
        for r, radius in enumerate(radii)
        for number in range(1, min(BRIGHTEST, sums.shape[2] - 1) + 1)
        if np.all(np.isfinite(curve := sums[r, :, 0] / sums[r, :, 1 : number + 1].sum(axis=1)))
    ]
    _, radius, curve = min(tried, key=lambda one: one[0])
    return float(radius), mjd, curve
