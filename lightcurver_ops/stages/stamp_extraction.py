"""Stage 5: cutouts of the stars and of the ROI with noise maps and masks; no pixel is ever resampled."""

from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import WHOLE_LENS, Run, Stage
from lightcurver_ops.stages.parallel import map_tasks
from lightcurver_ops.stages.query_gaia_for_stars import QueryGaiaForStars

ROI = "ROI"


@dataclass(frozen=True)
class StampTask:
    """The stamps of one frame."""

    config: LensConfig
    unit: str
    image: Path
    regions: Path
    rms: float
    exptime: float
    positions: dict[str, tuple[float, float]]


class StampExtraction(Stage):
    """Cuts out stars and ROI."""

    name = "stamp_extraction"
    title = "Cutouts, noise maps, masks"
    config_keys = ("cutouts", "roi.ra", "roi.dec")
    frame_wise = True

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        located = ledger.done_hashes(connection, self.lens.name, QueryGaiaForStars.name)
        if WHOLE_LENS not in located:
            return {}
        return {
            row.image_relpath: self.hash_inputs(row.inputs_hash, located[row.image_relpath])
            for row in frames.usable_frames(connection, self.lens.name)
            if row.image_relpath in located
        }

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.storage import regions as region_files

        with reading(self.lens.engine) as connection:
            rows = {row.image_relpath: row for row in frames.usable_frames(connection, self.lens.name)}
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            tasks = [
                StampTask(
                    self.config,
                    unit,
                    self.lens.workdir / unit,
                    regions_path(self.lens.workdir, unit),
                    rows[unit].background_rms_electron_per_second,
                    rows[unit].exptime,
                    stars.stars_in_frame(connection, rows[unit].id, selection),
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
            with reading(self.lens.engine) as connection:
                done = ledger.done_hashes(connection, self.lens.name, self.name)
            region_files.rebuild_index(self.lens.workdir, [Path(unit).stem for unit in done])


def regions_path(workdir: Path, image_relpath: str) -> Path:
    """The file with the stamps of a frame."""
    return workdir / "regions" / f"{Path(image_relpath).stem}.h5"


def extract_stamps(task: StampTask) -> None:
    """Cut the stamps of one frame and write its regions file. Runs in a worker."""
    import numpy as np
    from astropy.wcs import WCS

    from lightcurver_ops.numerics import cosmics, cutouts, noise
    from lightcurver_ops.storage import frames as frame_files
    from lightcurver_ops.storage import regions as region_files

    image, header, saturated = frame_files.read_frame(task.image)
    settings, roi = task.config.cutouts, task.config.roi
    wcs = WCS(header)
    noise_map = noise.noise_map(image, task.rms, task.exptime)
    parameters = settings.cosmics_masking_params
    good = cosmics.good_pixels(
        image,
        noise_map,
        sigclip=parameters.sigclip,
        sigfrac=parameters.sigfrac,
        objlim=parameters.objlim,
        clean_cosmics=settings.clean_cosmics,
        mask_bad_rows_and_columns=settings.mask_bad_rows_and_columns,
        saturated=saturated,
    )
    roi_x, roi_y = (float(value) for value in wcs.world_to_pixel_values(roi.ra, roi.dec))
    wanted = {star: (x, y, settings.stamp_size_stars) for star, (x, y) in task.positions.items()}
    wanted[ROI] = (roi_x, roi_y, settings.stamp_size_ROI)
    stamps = {}
    for name, (x, y, size) in wanted.items():
        data, (x0, y0) = cutouts.cutout(image, x, y, size)
        stamp_noise, _ = cutouts.cutout(noise_map, x, y, size)
        stamp_good, _ = cutouts.cutout(good.astype(float), x, y, size)
        stamps[name] = region_files.Stamp(
            data=data,
            noise=stamp_noise,
            good=(stamp_good > 0.5) & np.isfinite(data) & np.isfinite(stamp_noise),
            wcs=cutouts.wcs_of_cutout(wcs, x0, y0),
            position=(x, y),
            corner=(x0, y0),
        )
    if not stamps[ROI].good.any():
        raise BadFrame(
            f"{task.unit}: no usable pixel in the ROI: it lies outside the frame, or is all masked"
        )
    region_files.write_regions(task.regions, stamps, image.shape)
