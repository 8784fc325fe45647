"""Stage 1: raw frames become sky-subtracted images in electrons per second, with sources and a row each."""

import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger, raw_files
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.hashing import ABSENT, hash_of, hash_of_file
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame, FrameUnavailable, QualityGate
from lightcurver_ops.stages.base import Run, Stage, joined
from lightcurver_ops.stages.gain_check import (
    contradicted_gains,
    contradicted_read_noises,
    remark_on_read_noise,
)
from lightcurver_ops.stages.parallel import map_tasks
from lightcurver_ops.stages.raw_listing import RawFile, list_raw_files

# What decides the pixels and the header values of an imported frame; the rest (ephemerides, names of the
# telescope) may change without touching what was made from it.
_PIXEL_KEYS = (
    "raw.header",
    "raw.hdu_data",
    "raw.hdus_header",
    "raw.trim_vertical",
    "raw.trim_horizontal",
    "background",
    "detection.threshold",
    "detection.min_area",
    "cutouts.saturation_level",
    "plate_solving.already_plate_solved",
)


@dataclass(frozen=True)
class ImportTask:
    """One raw file to import."""

    config: LensConfig
    raw: RawFile
    stem: str
    keys_hash: str
    existing_hash: str | None
    """Inputs of the frame that this file gave before: if they are the same, its files stay as they are."""


class ReadConvertSkysubCharacterCatalog(Stage):
    """Imports raw frames."""

    name = "read_convert_skysub_character_catalog"
    title = "Import raw frames: electrons, sky, sources, seeing, ephemerides"
    version = 2
    config_keys = (*_PIXEL_KEYS, "detection.do_plots", "telescope", "roi.ra", "roi.dec")
    frame_wise = True

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        parser = self._parser_hash()
        listed = list_raw_files(self.config.raw, may_be_empty=frames.any_frame(connection, self.lens.name))
        return {raw.path: self._inputs(parser, raw.path, raw.size, raw.modified) for raw in listed}

    def known_plan(self, connection: sa.Connection) -> Mapping[str, str | None]:
        """Raw files as they were noticed; those that were imported before anybody noticed them, as they were then."""
        made = ledger.done_hashes(connection, self.lens.name, self.name)
        noticed = raw_files.known_raw_files(connection, self.lens.name)
        units: dict[str, str | None] = dict.fromkeys(sorted({*made, *noticed}))
        parser = self._parser_hash()
        if parser != ABSENT:
            units |= {
                row.path: self._inputs(parser, row.path, row.size, row.modified) for row in noticed.values()
            }
        return units

    def _inputs(self, parser: str | None, path: str, size: int, modified: str) -> str:
        # Not among the keys: where nothing is compared, nothing is read again.
        compared = [self.config.value("raw.read_noise")] if self.config.raw.read_noise else []
        return self.hash_inputs(parser, path, size, modified, *compared)

    def retries(self, product: ledger.Product) -> bool:
        """As every stage; and files that could not be had, or were too large for another limit."""
        reason, limit = product.reason or "", f"{self.config.raw.max_pixels} (raw.max_pixels)"
        was_too_large = "(raw.max_pixels)" in reason and limit not in reason
        unavailable = product.error_class == FrameUnavailable.__name__
        return super().retries(product) or unavailable or was_too_large

    def make(self, units: dict[str, str], run: Run) -> None:
        listed = {raw.path: raw for raw in list_raw_files(self.config.raw)}
        with reading(self.lens.engine) as connection:
            known = frames.all_frames(connection, self.lens.name)
        stems = _stems(listed, {row.original_image_path: Path(row.image_relpath).stem for row in known})
        existing = {row.original_image_path: row.inputs_hash for row in known}
        keys_hash = hash_of(
            {key: self.config.value(key) for key in _PIXEL_KEYS}, self._parser_hash(), self.version
        )
        tasks = [
            ImportTask(self.config, listed[path], stems[path], keys_hash, existing.get(path))
            for path in units
        ]
        for task, outcome in map_tasks(import_frame, tasks, self.config.compute.processes):
            path = task.raw.path
            if outcome.error is None:
                self._save(path, units[path], outcome.result, run)
            elif isinstance(outcome.error, BadFrame):
                run.quarantine(path, units[path], outcome.error, self._without_frame(path))
            else:
                run.fail(path, units[path], outcome.error)
        with reading(self.lens.engine) as connection:
            rows = frames.all_frames(connection, self.lens.name)
        _note_odd_shapes(rows, run)
        _note_remarks([row for row in rows if row.original_image_path in units], run)
        for note in [*contradicted_gains(rows), *contradicted_read_noises(rows)]:
            run.note(note)

    def check(self, connection: sa.Connection, units: Collection[str] | None = None) -> None:
        """Some frame: of those asked for where it is some, else of the lens."""
        known = ledger.products_of(connection, self.lens.name, self.name)
        asked = {unit: one for unit, one in known.items() if units is None or unit in units}
        if not asked or any(one.status != ledger.QUARANTINED for one in asked.values()):
            return
        reasons = Counter((one.reason or "").removeprefix(f"{unit}: ") for unit, one in asked.items())
        (reason, count), *_ = reasons.most_common()
        raise QualityGate(
            f"{self.lens.name}: no raw frame could be imported ({len(asked)} tried); {count} of them: {reason}",
            tried=len(asked),
            count=count,
            reason=reason,
        )

    def _parser_hash(self) -> str | None:
        parser = self.config.raw.header_parser
        return hash_of_file(parser) if parser else None

    def _save(self, path: str, inputs_hash: str, row: dict[str, Any], run: Run) -> None:
        if self._is_duplicate(path, inputs_hash, row, run):
            return

        def done() -> None:
            run.done(path, inputs_hash, lambda connection: self._write_row(connection, row))

        try:
            done()
        except sa.exc.IntegrityError:
            # Another run imported the same exposure meanwhile: under its other name, or this file, which Postgres
            # reports so where both insert at once.
            if not self._is_duplicate(path, inputs_hash, row, run):
                done()

    def _is_duplicate(self, path: str, inputs_hash: str, row: dict[str, Any], run: Run) -> bool:
        with reading(self.lens.engine) as connection:
            twin = frames.frame_with_pixels(connection, self.lens.name, row["pixel_hash"])
        if twin is None or twin.original_image_path == path:
            return False
        for key in ("image_relpath", "sources_relpath"):
            if row[key] != getattr(twin, key):
                (self.lens.workdir / row[key]).unlink(missing_ok=True)
        error = BadFrame(
            f"{path}: the same exposure as {twin.original_image_path} (equal pixels under another name); "
            "it is used once"
        )
        run.quarantine(path, inputs_hash, error)
        return True

    def _write_row(self, connection: sa.Connection, row: dict[str, Any]) -> None:
        previous = frames.frame_of_raw(connection, self.lens.name, row["original_image_path"])
        row = {"lens": self.lens.name, **row}
        row |= ledger.provenance(row["inputs_hash"])
        if previous is not None and previous.inputs_hash == row["inputs_hash"]:
            # What later stages found out about this frame stays.
            for column in _REFRESHED_ONLY_WITH_PIXELS:
                row.pop(column, None)
        frames.save_frame(connection, row)
        if previous is not None:
            frames.restore(connection, [previous.id], by=self.name)

    def _without_frame(self, path: str):
        """A file that is no longer good takes its frame with it: eliminated, with the reason in the ledger."""

        def write(connection: sa.Connection) -> None:
            row = frames.frame_of_raw(connection, self.lens.name, path)
            if row is not None:
                frames.eliminate(connection, [row.id], "the raw file is no longer readable", self.name)

        return write


_REFRESHED_ONLY_WITH_PIXELS = (
    "plate_solved",
    "attempted_plate_solve",
    "eliminated",
    "eliminated_by",
    "comment",
    "seeing_arcseconds",
    "pixel_scale",
    "roi_in_footprint",
    "angle_to_north",
)


def _note_odd_shapes(rows: list[sa.Row], run: Run) -> None:
    shapes = Counter((row.width, row.height) for row in rows)
    if len(shapes) > 1:
        usual = shapes.most_common(1)[0][0]
        odd = [row.image_relpath for row in rows if (row.width, row.height) != usual]
        run.note(f"{len(odd)} frames are not {usual[0]} x {usual[1]} px as the others: {joined(odd, 3)}")


def _note_remarks(rows: list[sa.Row], run: Run) -> None:
    """What is odd about frames, each kind once."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for row in rows:
        for remark in row.warnings.split("; ") if row.warnings else ():
            kinds.setdefault(re.sub(r"[\d.]+", "", remark), []).append((remark, row.image_relpath))
    for having in kinds.values():
        named = joined((name for _, name in having), 3)
        run.note(f"WARNING: {len(having)} frames: {having[0][0]} ({named})")


def _stems(listed: dict[str, RawFile], taken: dict[str, str]) -> dict[str, str]:
    """A file name in frames/ for each raw file: its own stem, or one that no other raw file has."""
    owners: dict[str, set[str]] = {}
    for path, raw in listed.items():
        owners.setdefault(raw.stem.lower(), set()).add(path)
    for path, stem in taken.items():
        owners.setdefault(stem.lower(), set()).add(path)
    return {
        path: taken.get(path)
        or (raw.stem if len(owners[raw.stem.lower()]) == 1 else f"{raw.stem}_{hash_of(path)[:8]}")
        for path, raw in listed.items()
    }


def import_frame(task: ImportTask) -> dict[str, Any]:
    """Read, convert, subtract the sky, find sources; write both files; return the row. Runs in a worker."""
    try:
        return _imported(task)
    except MemoryError as error:
        raise FrameUnavailable(
            f"{task.raw.path}: there is not enough memory for it; lower compute.processes, or raw.max_pixels"
        ) from error


def _imported(task: ImportTask) -> dict[str, Any]:
    import numpy as np

    from lightcurver_ops.numerics import background, conversion, seeing, sources
    from lightcurver_ops.numerics.gain import remark as noise_remark
    from lightcurver_ops.storage import frames as frame_files
    from lightcurver_ops.storage import header as headers
    from lightcurver_ops.storage import raw as raw_storage
    from lightcurver_ops.storage.object_store import store_of

    config, raw = task.config, task.config.raw
    name = task.raw.path
    if task.raw.problem:
        raise BadFrame(task.raw.problem)
    image = raw_storage.read_raw(
        name,
        hdu_data=raw.hdu_data,
        hdus_header=raw.hdus_header,
        max_pixels=raw.max_pixels,
        saturation_adu=config.cutouts.saturation_level,
        store=store_of(raw, config.workdir),
        inside=raw.raw_dirs,
    )
    fields = headers.fields_of(image.header, raw, name)
    read_noise, remarks = headers.read_noise_of(image.header, raw, fields.gain, name)
    pixel_hash = raw_storage.content_hash(image.data)
    inputs_hash = hash_of(task.keys_hash, pixel_hash, fields.mjd, fields.exptime, fields.gain, fields.filter)

    adu = conversion.trim(image.data, raw.trim_vertical, raw.trim_horizontal)
    saturated = conversion.saturated_pixels(adu, config.cutouts.saturation_level)
    electrons = conversion.adu_to_electrons_per_second(adu, fields.gain, fields.exptime)
    finite = np.isfinite(electrons)
    try:
        if config.background.do_background_subtraction:
            sky = background.subtract_background(
                electrons,
                config.background.n_boxes,
                config.background.mask_sources_before_background,
                config.detection.threshold,
                finite,
            )
            clean, rms, level = sky.image, sky.rms, sky.sky_level
        else:
            clean, rms = electrons, background.measure_rms(electrons, finite)
            level = float(np.nanmedian(electrons))
        found = sources.extract_sources(
            clean, rms, fields.exptime, config.detection.threshold, config.detection.min_area, finite
        )
        seeing_pixels = seeing.seeing_pixels(found.fwhm, flux=found.flux)
    except BadFrame as error:
        raise BadFrame(f"{name}: {error}") from error

    image_relpath, sources_relpath = f"frames/{task.stem}.fits", f"frames/{task.stem}_sources.fits"
    workdir = config.workdir
    if inputs_hash != task.existing_hash or not (workdir / image_relpath).exists():
        frame_files.write_frame(
            workdir / image_relpath,
            clean,
            image.header,
            saturated=saturated,
            trim=(raw.trim_vertical, raw.trim_horizontal),
            keep_wcs=config.plate_solving.already_plate_solved,
        )
        frame_files.write_sources(workdir / sources_relpath, found)
    if config.detection.do_plots and config.compute.diagnostics:
        from lightcurver_ops.diagnostics import sources as source_figures

        source_figures.plot_sources(workdir / f"diagnostics/sources/{task.stem}.png", clean, found, task.stem)
    telescope = config.telescope
    row = {
        "original_image_path": name,
        "image_relpath": image_relpath,
        "sources_relpath": sources_relpath,
        "pixel_hash": pixel_hash,
        "raw_sha256": image.sha256,
        "mjd": fields.mjd,
        "exptime": fields.exptime,
        "gain": fields.gain,
        "read_noise": read_noise,
        "filter": fields.filter,
        "telescope_name": telescope.name if telescope else None,
        "telescope_latitude": telescope.latitude if telescope else None,
        "telescope_longitude": telescope.longitude if telescope else None,
        "telescope_elevation": telescope.elevation if telescope else None,
        "telescope_imager_name": telescope.imager if telescope else None,
        "width": clean.shape[1],
        "height": clean.shape[0],
        "n_sources": len(found),
        "plate_solved": False,
        "attempted_plate_solve": False,
        "eliminated": False,
        "eliminated_by": None,
        "comment": None,
        "seeing_pixels": seeing_pixels,
        "seeing_arcseconds": None,
        "pixel_scale": None,
        "roi_in_footprint": None,
        "angle_to_north": None,
        "sky_level_electron_per_second": level,
        "background_rms_electron_per_second": rms,
        "ellipticity": float(np.median(found.ellipticity)),
        "inputs_hash": inputs_hash,
    }
    noisy = noise_remark(level * fields.exptime, rms * fields.exptime, fields.gain)
    values, more = _ephemerides(config, fields.mjd)
    odd = [*fields.remarks, *remarks, noisy, remark_on_read_noise(adu, fields.gain, read_noise), *more]
    return {**row, **values, "warnings": "; ".join(filter(None, odd)) or None}


def _ephemerides(config: LensConfig, mjd: float) -> tuple[dict[str, Any], list[str]]:
    columns = ("airmass", "degrees_to_moon", "moon_phase", "sun_altitude", "azimuth", "altitude")
    telescope = config.telescope
    if telescope is None:
        return dict.fromkeys(columns), []
    from lightcurver_ops.astrometry.ephemerides import ephemerides

    values = ephemerides(
        config.roi.ra, config.roi.dec, mjd, telescope.latitude, telescope.longitude, telescope.elevation
    )
    row = {column: _finite(getattr(values, column)) for column in columns}
    warnings = []
    if row["sun_altitude"] is not None and row["sun_altitude"] > 0:
        warnings.append(f"the Sun is up ({row['sun_altitude']:.1f} deg): check telescope and time keywords")
    if row["altitude"] is not None and row["altitude"] < 0:
        warnings.append(
            f"the ROI is below the horizon ({row['altitude']:.1f} deg): check telescope and time keywords"
        )
    return row, warnings


def _finite(value: Any) -> float | None:
    import math

    value = float(value)
    return value if math.isfinite(value) else None
