"""Stage 2: a verified WCS for each frame, its footprint, plate scale, seeing in arcsec, and angle to north."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import footprints
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame, ConfigurationError, QualityGate
from lightcurver_ops.stages.base import Run, RunOptions, Stage, joined
from lightcurver_ops.stages.catalogs import catalog_identity, catalog_of
from lightcurver_ops.stages.parallel import map_tasks

SUSPICIOUS = "suspicious_plate_solved"
_INDEX_EPOCH_MJD = (
    59580.0  # one index for all frames: 2022.0, and solutions are refined at each frame's epoch
)


@dataclass(frozen=True)
class Reference:
    """A solved frame whose WCS is adapted to the others."""

    name: str
    image: Path
    sources: Path
    shape: tuple[int, int]


@dataclass(frozen=True)
class SolveTask:
    """One frame to solve."""

    config: LensConfig
    name: str
    image: Path
    sources: Path
    mjd: float
    catalogue: Any = None
    """Table of catalogue stars around the ROI, at their own epochs; None: no verification."""
    index_dir: Path | None = None
    reference: Reference | None = None


class PlateSolving(Stage):
    """Finds or checks the WCS of each frame."""

    name = "plate_solving"
    title = "Plate solve, footprints, plate scale, seeing in arcsec"
    depends_on = ("read_convert_skysub_character_catalog",)
    config_keys = (
        "plate_solving.already_plate_solved",
        "plate_solving.strategy",
        "plate_solving.plate_scale_interval",
        "plate_solving.search_radius",
        "plate_solving.alternate_plate_solve_gaia_radius",
        "plate_solving.index_dir",
        "plate_solving.reference_frame",
        "plate_solving.max_pixel_anisotropy",
        "roi.ra",
        "roi.dec",
    )
    frame_wise = True

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
        index_dir = self._index_dir(catalogue, rows)
        reference = self._reference(rows)
        tasks = [
            SolveTask(
                self.config,
                unit,
                self.lens.workdir / rows[unit].image_relpath,
                self.lens.workdir / rows[unit].sources_relpath,
                rows[unit].mjd,
                catalogue,
                index_dir,
                reference if reference and reference.name != unit else None,
            )
            for unit in units
        ]
        for task, outcome in map_tasks(solve_frame, tasks, self.config.compute.processes):
            row, inputs_hash = rows[task.name], units[task.name]
            if outcome.error is None:
                run.done(task.name, inputs_hash, self._solved(row, inputs_hash, outcome.result))
            elif isinstance(outcome.error, BadFrame):
                run.quarantine(task.name, inputs_hash, outcome.error, self._unsolved(row, outcome.error))
            else:
                run.fail(task.name, inputs_hash, outcome.error)

    def check(self, connection: sa.Connection) -> None:
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
                f"not solved: {joined(unsolved)}. See why with `lcops frames list`; check plate_scale_interval, "
                "search_radius and the ROI's position, or eliminate hopeless frames with `lcops frames eliminate`",
                solved=len(rows) - len(unsolved),
                attempted=len(rows),
            )

    def _catalogue(self, rows: list[sa.Row]) -> Any:
        """Stars around the ROI to solve against and to verify with; a lens that comes solved does without."""
        from lightcurver_ops.catalogs.regions import Disk

        settings = self.config.plate_solving
        if settings.already_plate_solved and self.config.stars.gaia_provider != "file":
            return None  # the solutions are trusted: no query for their sake
        roi = self.config.roi
        diagonal = max(math.hypot(row.width, row.height) for row in rows)
        radius = settings.alternate_plate_solve_gaia_radius or min(
            0.5 * diagonal * settings.plate_scale_interval[1] + 3600 * settings.search_radius, 3600 * 5.0
        )
        provider = catalog_of(self.config)
        table = provider.query(Disk(roi.ra, roi.dec, radius / 3600))
        if len(table) == 0 and not settings.already_plate_solved:
            raise ConfigurationError(
                f"the catalogue {provider.name} has no star within {radius:.0f} arcsec of the ROI "
                f"({roi.ra:.5f}, {roi.dec:+.5f}): check roi.ra and roi.dec, and that the catalogue covers them"
            )
        return table

    def _index_dir(self, catalogue: Any, rows: dict[str, sa.Row]) -> Path | None:
        settings = self.config.plate_solving
        if settings.already_plate_solved or settings.strategy != "plate_solve":
            return None
        if settings.index_dir is not None:
            if not settings.index_dir.is_dir():
                raise ConfigurationError(
                    f"plate_solving.index_dir = {settings.index_dir} is not a directory; name the one with the index "
                    "files, or null to build an index from the lens's catalogue"
                )
            return settings.index_dir
        from lightcurver_ops.astrometry.index_files import build_index

        if settings.astrometry_net_api_key_file is not None:
            return None
        sample = next(iter(rows.values()))
        return build_index(
            _at_epoch(catalogue, _INDEX_EPOCH_MJD),
            self.lens.workdir / "astrometry_index",
            (sample.height, sample.width),
            settings.plate_scale_interval,
        )

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
                if wanted(unit) or str(row.id) == settings.reference_frame
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
        self, row: sa.Row, inputs_hash: str, result: dict[str, Any]
    ) -> Callable[[sa.Connection], None]:
        def write(connection: sa.Connection) -> None:
            footprint = {"frame_id": row.id, **result["footprint"], **ledger.provenance(inputs_hash)}
            ledger.upsert(connection, footprints, [footprint])
            values = {**result["frame"], "plate_solved": True, "attempted_plate_solve": True}
            if row.seeing_pixels is not None:
                values["seeing_arcseconds"] = row.seeing_pixels * result["frame"]["pixel_scale"]
            frames.restore(connection, [row.id], by=self.name)
            frames.update_frame(connection, row.id, **values)
            if result["anisotropy"] > self.config.plate_solving.max_pixel_anisotropy:
                frames.eliminate(connection, [row.id], SUSPICIOUS, self.name)

        return write

    def _unsolved(self, row: sa.Row, error: BadFrame) -> Callable[[sa.Connection], None]:
        def write(connection: sa.Connection) -> None:
            connection.execute(sa.delete(footprints).where(footprints.c.frame_id == row.id))
            frames.restore(connection, [row.id], by=self.name)
            frames.update_frame(
                connection,
                row.id,
                plate_solved=False,
                attempted_plate_solve=True,
                roi_in_footprint=None,
                pixel_scale=None,
                seeing_arcseconds=None,
                comment=None if row.eliminated else f"not plate solved: {error}"[:500],
            )

        return write


def solve_frame(task: SolveTask) -> dict[str, Any]:
    """Solve one frame and write its WCS into its file; returns what the rows hold. Runs in a worker."""
    from lightcurver_ops.astrometry import geometry
    from lightcurver_ops.astrometry.footprints import polygon_to_text
    from lightcurver_ops.storage import frames as frame_files

    request = _request(task)
    solution = _solver(task).solve(request)
    settings = task.config.plate_solving
    if not settings.already_plate_solved:
        frame_files.write_wcs(task.image, solution.header)
    roi = task.config.roi
    wcs, shape = solution.wcs, request.shape
    polygon = geometry.footprint_polygon(wcs, shape)
    center = geometry.frame_centre(wcs, shape)
    return {
        "anisotropy": geometry.pixel_anisotropy(wcs, shape),
        "footprint": {
            "polygon": polygon_to_text(polygon),
            "center_ra": center[0],
            "center_dec": center[1],
        },
        "frame": {
            "pixel_scale": geometry.plate_scale(wcs, shape),
            "angle_to_north": geometry.angle_to_north(wcs, shape),
            "roi_in_footprint": geometry.roi_in_footprint(polygon, roi.ra, roi.dec),
            "plate_solve_method": solution.method,
            "plate_solve_n_matched": solution.n_matched,
            "plate_solve_rms_arcsec": solution.rms_arcsec if math.isfinite(solution.rms_arcsec) else None,
        },
    }


def _request(task: SolveTask) -> Any:
    from lightcurver_ops.astrometry.base import SolveRequest
    from lightcurver_ops.storage import frames as frame_files

    found = frame_files.read_sources(task.sources)
    header = frame_files.read_header(task.image)
    known = task.catalogue is not None and len(task.catalogue)
    roi, settings = task.config.roi, task.config.plate_solving
    return SolveRequest(
        name=task.name,
        x=found.x,
        y=found.y,
        flux=found.flux,
        shape=(header["NAXIS2"], header["NAXIS1"]),
        hint_ra=roi.ra,
        hint_dec=roi.dec,
        radius_deg=settings.search_radius,
        plate_scale_interval=settings.plate_scale_interval,
        header=header,
        catalogue=_at_epoch(task.catalogue, task.mjd) if known else None,
    )


def _at_epoch(table: Any, mjd: float) -> Any:
    """The catalogue with its stars where they are at an epoch."""
    from lightcurver_ops.astrometry.base import Catalogue
    from lightcurver_ops.catalogs.base import unmasked
    from lightcurver_ops.catalogs.motion import positions_at

    motion = unmasked(table, "pmra"), unmasked(table, "pmdec")
    ra, dec = positions_at(table["ra"], table["dec"], *motion, table["ref_epoch"], mjd)
    return Catalogue(ra, dec, unmasked(table, "phot_g_mean_mag"))


def _solver(task: SolveTask) -> Any:
    settings = task.config.plate_solving
    if settings.already_plate_solved:
        from lightcurver_ops.astrometry.header_wcs import HeaderWcsSolver

        return HeaderWcsSolver()
    if settings.strategy == "adapt_wcs_from_reference" and task.reference is not None:
        from lightcurver_ops.astrometry.reference_wcs import ReferenceWcsSolver
        from lightcurver_ops.storage import frames as frame_files

        found = frame_files.read_sources(task.reference.sources)
        header = frame_files.read_header(task.reference.image)
        return ReferenceWcsSolver(header, task.reference.shape, found.x, found.y, found.flux)
    if settings.strategy == "plate_solve":
        if settings.astrometry_net_api_key_file is not None:
            from lightcurver_ops.astrometry.hosted import HostedSolver

            return HostedSolver(_api_key(settings.astrometry_net_api_key_file))
        from lightcurver_ops.astrometry.solve_field import SolveFieldSolver

        return SolveFieldSolver(index_directory=task.index_dir)
    from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver

    return CatalogMatchSolver()


def _api_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"plate_solving.astrometry_net_api_key_file = {path}: cannot be read: {error.strerror}"
        ) from error
