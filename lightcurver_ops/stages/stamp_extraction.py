"""Stage 5: cutouts of the stars and of the ROI with noise maps and masks; no pixel is ever resampled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import WHOLE_LENS, Lens, Run, Stage
from lightcurver_ops.stages.control_stars import candidates_of_lens, object_name
from lightcurver_ops.stages.parallel import map_tasks
from lightcurver_ops.stages.query_gaia_for_stars import QueryGaiaForStars

ROI = "ROI"
Positions = dict[str, tuple[float, float]]


@dataclass(frozen=True)
class StampTask:
    """The stamps of one frame."""

    config: LensConfig
    unit: str
    image: Path
    regions: Path
    rms: float
    exptime: float
    fwhm: float | None
    positions: Positions
    controls: Positions
    """Control stars by the names of their large cutouts."""


class StampExtraction(Stage):
    """Cuts out stars and ROI; control stars twice, once as stars and once as the ROI is."""

    name = "stamp_extraction"
    title = "Cutouts, noise maps, masks"
    depends_on = ("read_convert_skysub_character_catalog", "plate_solving", "query_gaia_for_stars")
    version = 2
    config_keys = ("cutouts", "roi.ra", "roi.dec")
    frame_wise = True

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        located = ledger.done_hashes(connection, self.lens.name, QueryGaiaForStars.name)
        selection = stars.current_selection(connection, self.lens.name)
        if WHOLE_LENS not in located or selection is None:
            return {}
        controls = candidates_of_lens(connection, self.config, selection).ids
        present = stars.ids_in_frames(connection, self.lens.name, selection) if controls else {}
        # Nothing is added for a frame without control star: it need not be cut again when these are chosen anew.
        return {
            row.image_relpath: self.hash_inputs(
                row.inputs_hash,
                located[row.image_relpath],
                *sorted(controls & present.get(row.id, set())),
            )
            for row in frames.usable_frames(connection, self.lens.name)
            if row.image_relpath in located
        }

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.storage import regions as region_files

        with reading(self.lens.engine) as connection:
            rows = {row.image_relpath: row for row in frames.usable_frames(connection, self.lens.name)}
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            controls = candidates_of_lens(connection, self.config, selection).ids
            inside = {unit: stars.stars_in_frame(connection, rows[unit].id, selection) for unit in units}
            tasks = [
                StampTask(
                    self.config,
                    unit,
                    self.lens.workdir / unit,
                    region_files.regions_path(self.lens.workdir, Path(unit).stem),
                    rows[unit].background_rms_electron_per_second,
                    rows[unit].exptime,
                    rows[unit].seeing_pixels,
                    inside[unit],
                    {object_name(star): place for star, place in inside[unit].items() if star in controls},
                )
                for unit in units
            ]
        try:
            for task, outcome in map_tasks(extract_stamps, tasks, self.config.compute.processes):
                if outcome.error is None:
                    run.done(task.unit, units[task.unit])
                elif isinstance(outcome.error, BadFrame):
                    run.quarantine(task.unit, units[task.unit], outcome.error)
                else:
                    run.fail(task.unit, units[task.unit], outcome.error)
        finally:
            index_regions(self.lens)


def index_regions(lens: Lens) -> None:
    """Make <workdir>/regions.h5 anew: links to the cutouts and PSFs of every frame that has them."""
    from lightcurver_ops.storage.regions import rebuild_index

    with reading(lens.engine) as connection:
        done = ledger.done_hashes(connection, lens.name, StampExtraction.name)
    rebuild_index(lens.workdir, sorted(Path(unit).stem for unit in done))


def extract_stamps(task: StampTask) -> None:
    """Cut the stamps of one frame and write its regions file. Runs in a worker."""
    from lightcurver_ops.astrometry.geometry import sky_to_pixel
    from lightcurver_ops.numerics import cosmics, noise, trails
    from lightcurver_ops.storage import frames as frame_files
    from lightcurver_ops.storage import regions as region_files

    frame = frame_files.read_frame(task.image)
    settings, roi = task.config.cutouts, task.config.roi
    wcs = frame_files.wcs_of(frame.header)
    noise_map = noise.noise_map(frame.image, task.rms, task.exptime)
    unusable = frame.saturated | frame.bad
    if settings.mask_bad_rows_and_columns:
        unusable = unusable | cosmics.bad_rows_and_columns(frame.image, noise_map)
    if settings.mask_trails:
        unusable = unusable | trails.trail_pixels(frame.image, noise_map, task.fwhm)
    roi_x, roi_y = (float(value[0]) for value in sky_to_pixel(wcs, roi.ra, roi.dec))
    stars, size = task.positions, settings.stamp_size_stars
    cut = _cut(task, frame, noise_map, unusable, wcs, stars, size) if stars else {}
    like_roi = {ROI: (roi_x, roi_y), **task.controls}
    cut |= _cut(task, frame, noise_map, unusable, wcs, like_roi, settings.stamp_size_ROI)
    if not cut[ROI].good.any():
        raise BadFrame(
            f"{task.unit}: no usable pixel in the ROI: it lies outside the frame, or is all masked"
        )
    cut = {name: one for name, one in cut.items() if name not in task.controls or one.good.any()}
    region_files.write_regions(task.regions, cut, frame.image.shape)


def _cut(
    task: StampTask, frame: Any, noise_map: Any, unusable: Any, wcs: Any, positions: Positions, size: int
) -> dict[str, Any]:
    """object: cutout, of objects with stamps of one size."""
    from lightcurver_ops.numerics import cosmics, cutouts
    from lightcurver_ops.storage.regions import Cutout

    settings = task.config.cutouts
    parameters = settings.cosmics_masking_params
    data = {name: cutouts.cutout(frame.image, x, y, size) for name, (x, y) in positions.items()}
    good = cosmics.good_stamps(
        frame.image,
        noise_map,
        [origin for _, origin in data.values()],
        size,
        sigclip=parameters.sigclip,
        sigfrac=parameters.sigfrac,
        objlim=parameters.objlim,
        clean_cosmics=settings.clean_cosmics,
        mask_bad_rows_and_columns=False,  # they are among what is unusable
        saturated=unusable,
        fwhm=task.fwhm,
    )
    return {
        name: Cutout(
            pixels,
            cutouts.cutout(noise_map, *positions[name], size)[0],
            stamp_good,
            cutouts.wcs_of_cutout(wcs, *origin),
            positions[name],
            origin,
        )
        for (name, (pixels, origin)), stamp_good in zip(data.items(), good, strict=True)
    }
