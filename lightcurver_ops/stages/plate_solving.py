"""Stage 2: a verified WCS for each frame, its footprint, plate scale, seeing in arcsec, and angle to north."""

import math
import statistics
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import attempts, frames, ledger
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.tables import footprints
from lightcurver_ops.errors import (
    BadFrame,
    ConfigurationError,
    LightcurverError,
    QualityGate,
    TemporaryFailure,
)
from lightcurver_ops.stages.astrometry_index import index_directory, stars_around
from lightcurver_ops.stages.base import Run, RunOptions, Stage, joined
from lightcurver_ops.stages.catalogs import catalog_identity, lacks_catalog
from lightcurver_ops.stages.frame_solving import Reference, Solved, SolveTask, solve_frame
from lightcurver_ops.stages.parallel import Outcome, map_tasks

SUSPICIOUS = "suspicious_plate_solved"
HEADERS_LOOKED_AT = 20
LONGEST_COMMENT = 2000


class PlateSolving(Stage):
    """Finds or checks the WCS of each frame."""

    name = "plate_solving"
    title = "Plate solve, footprints, plate scale, seeing in arcsec"
    depends_on = ("read_convert_skysub_character_catalog",)
    config_keys = (
        "plate_solving.already_plate_solved",
        "plate_solving.strategy",
        "plate_solving.fallbacks",
        "plate_solving.plate_scale_interval",
        "plate_solving.search_radius",
        "plate_solving.alternate_plate_solve_gaia_radius",
        "plate_solving.index_dir",
        "plate_solving.reference_frame",
        "plate_solving.sip_order",
        "plate_solving.allow_unverified",
        "plate_solving.max_pixel_anisotropy",
        "roi.ra",
        "roi.dec",
    )
    version = 2
    frame_wise = True

    def lacks_a_file(self) -> bool:
        return lacks_catalog(self.config)

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        catalogue = catalog_identity(self.config)
        return {
            row.image_relpath: self.hash_inputs(row.inputs_hash, catalogue)
            for row in frames.all_frames(connection, self.lens.name)
            if not row.eliminated or row.eliminated_by == self.name
        }

    def retries(self, product: ledger.Product) -> bool:
        again = self.config.plate_solving.frames
        if product.status == ledger.QUARANTINED:
            return again in ("all_not_plate_solved", "all_not_eliminated")
        return again == "all_not_eliminated" or super().retries(product)

    def make(self, units: dict[str, str], run: Run) -> None:
        with reading(self.lens.engine) as connection:
            rows = {row.image_relpath: row for row in frames.all_frames(connection, self.lens.name)}
        catalogue = self._catalogue([rows[unit] for unit in units])
        settings = self.config.plate_solving
        if (
            not settings.already_plate_solved
            and settings.strategy == "plate_solve"
            and _solves_here(settings)
        ):
            sample = next(iter(rows.values()))  # once, before many workers need it
            index_directory(self.config, catalogue, (sample.height, sample.width))
        reference = self._reference(rows)
        tasks = [
            SolveTask(
                self.config,
                unit,
                self.lens.workdir / rows[unit].image_relpath,
                self.lens.workdir / rows[unit].sources_relpath,
                rows[unit].mjd,
                catalogue,
                reference if reference and reference.name != unit else None,
            )
            for unit in units
        ]
        unsolved: list[SolveTask] = []
        for task, outcome in map_tasks(solve_frame, tasks, self.config.compute.processes):
            if outcome.error is None and outcome.result.error is not None:
                unsolved.append(replace(task, before=outcome.result))
            else:
                self._record(rows[task.name], units[task.name], outcome, run)
        # What is solved by the last solution depends on what was solved before: so this comes last of all.
        temporary = []
        for task, outcome in map_tasks(
            solve_frame,
            [self._from_last(task, rows[task.name]) for task in unsolved],
            self.config.compute.processes,
        ):
            error = self._record(rows[task.name], units[task.name], outcome, run)
            if isinstance(error, TemporaryFailure):
                temporary.append(str(error))
        if temporary:
            raise TemporaryFailure(f"{joined(temporary, 3)} (the other frames are done)")

    def _from_last(self, task: SolveTask, row: sa.Row) -> SolveTask:
        with reading(self.lens.engine) as connection:
            last = attempts.last_solution(connection, row)
        return replace(task, last=self.lens.workdir / last.image_relpath if last else None)

    def _record(self, row: sa.Row, inputs_hash: str, outcome: Outcome, run: Run) -> LightcurverError | None:
        """Enter what became of a frame; the error of one that is not solved."""
        if outcome.error is not None and not isinstance(outcome.error, BadFrame):
            run.fail(row.image_relpath, inputs_hash, outcome.error)
            return None
        result = outcome.result or Solved(error=outcome.error)
        tried = [asdict(one) for one in result.attempts]
        if result.error is None:
            run.done(row.image_relpath, inputs_hash, self._solved(row, inputs_hash, result, tried))
        elif isinstance(result.error, BadFrame):
            run.quarantine(
                row.image_relpath, inputs_hash, result.error, self._unsolved(row, result.error, tried)
            )
        else:
            with writing(self.lens.engine) as connection:
                attempts.save_attempts(connection, row.id, tried)
            run.fail(row.image_relpath, inputs_hash, result.error)
        return result.error

    def check(self, connection: sa.Connection, units: Collection[str] | None = None) -> None:
        """The minimum fraction of solved frames, among those not eliminated for another reason."""
        rows = [
            row
            for row in frames.all_frames(connection, self.lens.name)
            if row.attempted_plate_solve and not (row.eliminated and row.eliminated_by != self.name)
        ]
        unsolved = [row.image_relpath for row in rows if not row.plate_solved]
        needed = self.config.plate_solving.min_success_fraction
        if rows and (len(rows) - len(unsolved)) / len(rows) < needed:
            raise QualityGate(
                f"{self.lens.name}: only {len(rows) - len(unsolved)} of {len(rows)} frames are plate solved, "
                f"fewer than the fraction plate_solving.min_success_fraction = {needed}; "
                f"not solved: {joined(unsolved)}. See why with `lcops astrometry show CONFIG --unsolved`; check "
                "plate_scale_interval, search_radius and the ROI's position, or eliminate hopeless frames with "
                "`lcops frames eliminate`",
                solved=len(rows) - len(unsolved),
                attempted=len(rows),
            )

    def _catalogue(self, rows: list[sa.Row]) -> Any:
        """Stars around the ROI, to solve against and to verify with."""
        diagonal = max(math.hypot(row.width, row.height) for row in rows)
        scale = self._scale_of_headers(rows) if self.config.plate_solving.already_plate_solved else None
        return stars_around(self.config, diagonal, scale)

    def _scale_of_headers(self, rows: list[sa.Row]) -> float | None:
        """Of frames that come solved: a far smaller field than plate_scale_interval, which nobody sets then, allows."""
        from lightcurver_ops.astrometry.geometry import plate_scale
        from lightcurver_ops.astrometry.header_wcs import read_wcs
        from lightcurver_ops.storage import frames as frame_files

        scales = []
        for row in rows[:: max(1, len(rows) // HEADERS_LOOKED_AT)]:
            path, shape = self.lens.workdir / row.image_relpath, (row.height, row.width)
            try:
                header = frame_files.read_raw_wcs(path) or frame_files.read_header(path)
                scales.append(plate_scale(read_wcs(row.image_relpath, header, shape), shape))
            except BadFrame:
                continue
        return 1.1 * statistics.median(scales) if scales else None

    def _reference(self, rows: dict[str, sa.Row]) -> Reference | None:
        settings = self.config.plate_solving
        if settings.already_plate_solved or settings.strategy != "adapt_wcs_from_reference":
            return None
        solved = {unit: row for unit, row in rows.items() if row.plate_solved and not row.eliminated}
        if settings.reference_frame is not None:
            wanted = RunOptions(frames=(settings.reference_frame,)).wants
            solved = {
                unit: row
                for unit, row in solved.items()
                if wanted(unit) or str(row.number) == settings.reference_frame
            }
        if not solved:
            which = f"the frame {settings.reference_frame}" if settings.reference_frame else "any frame"
            raise ConfigurationError(
                f"plate_solving.strategy: adapt_wcs_from_reference needs a solved frame, and {which} is not: solve one "
                "with another strategy first (`lcops run CONFIG --to plate_solving --frames NAME`)"
            )
        unit = max(solved, key=lambda name: solved[name].n_sources)
        row = solved[unit]
        workdir, shape = self.lens.workdir, (row.height, row.width)
        return Reference(unit, workdir / row.image_relpath, workdir / row.sources_relpath, shape)

    def _solved(
        self, row: sa.Row, inputs_hash: str, result: Solved, tried: list[dict[str, Any]]
    ) -> Callable[[sa.Connection], None]:
        def write(connection: sa.Connection) -> None:
            attempts.save_attempts(connection, row.id, tried)
            footprint = {"frame_id": row.id, **result.footprint, **ledger.provenance(inputs_hash)}
            ledger.upsert(connection, footprints, [footprint])
            values = {**result.frame, "plate_solved": True, "attempted_plate_solve": True}
            if row.seeing_pixels is not None:
                values["seeing_arcseconds"] = row.seeing_pixels * result.frame["pixel_scale"]
            frames.restore(connection, [row.id], by=self.name)
            frames.update_frame(connection, row.id, **values)
            if result.anisotropy > self.config.plate_solving.max_pixel_anisotropy:
                frames.eliminate(connection, [row.id], SUSPICIOUS, self.name)

        return write

    def _unsolved(
        self, row: sa.Row, error: BadFrame, tried: list[dict[str, Any]]
    ) -> Callable[[sa.Connection], None]:
        """A frame that nothing solves is eliminated with the reason; with other inputs it is tried again."""

        def write(connection: sa.Connection) -> None:
            attempts.save_attempts(connection, row.id, tried)
            connection.execute(sa.delete(footprints).where(footprints.c.frame_id == row.id))
            frames.update_frame(
                connection,
                row.id,
                plate_solved=False,
                attempted_plate_solve=True,
                **dict.fromkeys(_ONLY_SOLVED),
            )
            frames.eliminate(connection, [row.id], f"not plate solved: {error}"[:LONGEST_COMMENT], self.name)

        return write


_ONLY_SOLVED = (
    "roi_in_footprint",
    "pixel_scale",
    "angle_to_north",
    "seeing_arcseconds",
    "plate_solve_method",
    "plate_solve_hint",
    "plate_solve_n_matched",
    "plate_solve_n_catalogue",
    "plate_solve_rms_arcsec",
    "plate_solve_rms_pixels",
)


def _solves_here(settings: Any) -> bool:
    """Whether solve-field is to run on this machine: without it, and with a key, the hosted solver is asked."""
    import shutil

    return settings.astrometry_net_api_key_file is None or shutil.which("solve-field") is not None
