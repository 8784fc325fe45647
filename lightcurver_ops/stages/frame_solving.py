"""How one frame is plate solved: which trials, in which order. Runs in a worker.

1. The chosen strategy (`already_plate_solved`: the header's WCS, as it is), from each hint: the header, then the ROI.
2. Each fallback in turn, from the same hints.
3. Only where all of that failed: the chosen strategy and the fallbacks once more, from the last solution.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import BadFrame, ConfigurationError, LightcurverError
from lightcurver_ops.stages.astrometry_index import at_epoch, index_directory

ALREADY, MATCH, SOLVE_FIELD, REFERENCE = (
    "already_plate_solved",
    "alternate_gaia_solve",
    "plate_solve",
    "adapt_wcs_from_reference",
)
FALLBACKS = (MATCH, SOLVE_FIELD)
_LONGEST_CPU_S = 30.0


@dataclass(frozen=True)
class Reference:
    """A solved frame whose WCS is adapted to the others."""

    name: str
    image: Path
    sources: Path
    shape: tuple[int, int]


@dataclass(frozen=True)
class Solved:
    """What became of a frame: what its rows hold, or the error; and all attempts."""

    attempts: tuple[Any, ...] = ()
    error: LightcurverError | None = None
    anisotropy: float = 0.0
    footprint: dict[str, Any] = field(default_factory=dict)
    frame: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SolveTask:
    """One frame to solve."""

    config: LensConfig
    name: str
    image: Path
    sources: Path
    mjd: float
    catalogue: Any = None
    """Table of catalogue stars around the ROI, at their own epochs."""
    reference: Reference | None = None
    before: Solved | None = None
    """What the first round gave: the second one begins from the last solution."""
    last: Path | None = None
    """The frame of the last solution."""


def solve_frame(task: SolveTask) -> Solved:
    """Solve one frame and write its WCS into its file.

    Raises:
        BadFrame: its files are missing or damaged.
        ConfigurationError: the strategy that the user chose cannot work on this machine.
    """
    from lightcurver_ops.astrometry.sequence import solve_in_turn, unsolved
    from lightcurver_ops.errors import TemporaryFailure

    request, header, raw_wcs = _request(task)
    if task.before is None:
        outcome = solve_in_turn(task.name, _first_round(task, request, header, raw_wcs))
    else:
        outcome = solve_in_turn(task.name, _second_round(task, request))
        every = (*task.before.attempts, *outcome.attempts)
        temporary = any(isinstance(e, TemporaryFailure) for e in (task.before.error, outcome.error))
        error = None if outcome.solution else unsolved(task.name, every, temporary)
        outcome = replace(outcome, attempts=every, error=error)
    if outcome.solution is None:
        return Solved(outcome.attempts, outcome.error)
    return _solved(task, request.shape, outcome)


def _solved(task: SolveTask, shape: tuple[int, int], outcome: Any) -> Solved:
    from lightcurver_ops.astrometry import geometry
    from lightcurver_ops.astrometry.footprints import polygon_to_text
    from lightcurver_ops.storage import frames as frame_files

    solution = outcome.solution
    # Also where the header's own WCS is believed: what was verified is what all later stages read.
    frame_files.write_wcs(task.image, solution.header)
    roi, wcs = task.config.roi, solution.wcs
    polygon = geometry.footprint_polygon(wcs, shape)
    center = geometry.frame_centre(wcs, shape)
    verified = solution.n_matched > 0
    return Solved(
        outcome.attempts,
        None,
        geometry.pixel_anisotropy(wcs, shape),
        {"polygon": polygon_to_text(polygon), "center_ra": center[0], "center_dec": center[1]},
        {
            "pixel_scale": geometry.plate_scale(wcs, shape),
            "angle_to_north": geometry.angle_to_north(wcs, shape),
            "roi_in_footprint": geometry.roi_in_footprint(polygon, roi.ra, roi.dec),
            "plate_solve_method": solution.method,
            "plate_solve_hint": outcome.attempts[-1].hint,
            "plate_solve_n_matched": solution.n_matched,
            "plate_solve_n_catalogue": solution.n_catalogue,
            "plate_solve_rms_arcsec": solution.rms_arcsec if verified else None,
            "plate_solve_rms_pixels": solution.rms_pixels if verified else None,
        },
    )


def strategies_of(config: LensConfig) -> list[str]:
    """The strategies in the order in which they are tried."""
    settings = config.plate_solving
    first = ALREADY if settings.already_plate_solved else settings.strategy
    fallbacks = FALLBACKS if settings.fallbacks is None else settings.fallbacks
    return [first, *(strategy for strategy in dict.fromkeys(fallbacks) if strategy != first)]


def _first_round(task: SolveTask, request: Any, header: Any, raw_wcs: Any) -> list[Any]:
    from lightcurver_ops.astrometry import hints
    from lightcurver_ops.astrometry.header_wcs import HeaderWcsSolver
    from lightcurver_ops.astrometry.sequence import Trial

    trials, near = [], _near(request)
    hint, why_not = None, ""
    try:
        hint = hints.header_hint(request, raw_wcs, header)
    except BadFrame as error:
        why_not = str(error)
    for strategy in strategies_of(task.config):
        required = strategy == strategies_of(task.config)[0]
        if strategy == ALREADY:
            own = replace(request, header=raw_wcs if raw_wcs is not None else header)
            trials.append(Trial(ALREADY, hints.HEADER, own, HeaderWcsSolver))
            continue
        if strategy == REFERENCE:
            trials.append(_reference_trial(task, request, required))
            continue
        if hint is not None:
            solver = _solver(strategy, task, hint)
            trials.append(
                Trial(
                    strategy,
                    hints.HEADER,
                    hint.applied_to(request),
                    solver,
                    remark=hint.refused,
                    required=required,
                    near=near,
                )
            )
        elif why_not:
            trials.append(Trial(strategy, hints.HEADER, request, why_not=why_not))
            why_not = ""  # once is enough
        roi = hints.roi_hint(request)
        trials.append(
            Trial(strategy, hints.ROI, request, _solver(strategy, task, roi), required=required, near=near)
        )
    return trials


def _second_round(task: SolveTask, request: Any) -> list[Any]:
    from lightcurver_ops.astrometry import hints
    from lightcurver_ops.astrometry.sequence import Trial
    from lightcurver_ops.storage import frames as frame_files

    strategies = [s for s in strategies_of(task.config) if s in (MATCH, SOLVE_FIELD)]
    if not strategies:
        return []
    why_not = "no frame of this size is solved yet"
    if task.last is not None:
        try:
            wcs = frame_files.wcs_of(frame_files.read_header(task.last))
            hint = hints.wcs_hint(hints.LAST, wcs, request, f"the solution of {task.last.name}")
            return [
                Trial(s, hints.LAST, hint.applied_to(request), _solver(s, task, hint), near=_near(request))
                for s in strategies
            ]
        except BadFrame as error:
            why_not = str(error)
    return [Trial(strategies[0], hints.LAST, request, why_not=why_not)]


def _near(request: Any) -> tuple[float, float, float]:
    return request.hint_ra, request.hint_dec, request.radius_deg


def _reference_trial(task: SolveTask, request: Any, required: bool) -> Any:
    from lightcurver_ops.astrometry.sequence import Trial

    def solver() -> Any:
        from lightcurver_ops.astrometry.reference_wcs import ReferenceWcsSolver
        from lightcurver_ops.storage import frames as frame_files

        assert task.reference is not None
        found = frame_files.read_sources(task.reference.sources)
        header = frame_files.read_header(task.reference.image)
        return ReferenceWcsSolver(header, task.reference.shape, found.x, found.y, found.flux)

    if task.reference is None:
        return Trial(REFERENCE, "reference", request, why_not="it is the reference itself, or there is none")
    return Trial(REFERENCE, "reference", request, solver, required=required)


def _solver(strategy: str, task: SolveTask, hint: Any) -> Callable[[], Any]:
    """Makes the solver of a strategy, when its turn comes."""

    def make() -> Any:
        if strategy == SOLVE_FIELD:
            return _solve_field(task)
        from lightcurver_ops.astrometry.catalog_match import CatalogMatchSolver
        from lightcurver_ops.astrometry.hints import HEADER
        from lightcurver_ops.astrometry.moved_wcs import MovedWcsSolver

        if hint.wcs is not None:
            return MovedWcsSolver(hint.wcs)
        return CatalogMatchSolver(quick=hint.name == HEADER)

    return make


def _solve_field(task: SolveTask) -> Any:
    settings = task.config.plate_solving
    if settings.astrometry_net_api_key_file is not None and shutil.which("solve-field") is None:
        from lightcurver_ops.astrometry.hosted import HostedSolver

        return HostedSolver(_api_key(settings.astrometry_net_api_key_file))
    from lightcurver_ops.astrometry.solve_field import SolveFieldSolver
    from lightcurver_ops.storage import frames as frame_files

    header = frame_files.read_header(task.image)
    index = index_directory(task.config, task.catalogue, (header["NAXIS2"], header["NAXIS1"]))
    return SolveFieldSolver(
        index,
        cpu_limit_s=min(_LONGEST_CPU_S, settings.solve_field_timeout / 2),
        wall_limit_s=settings.solve_field_timeout,
    )


def _request(task: SolveTask) -> tuple[Any, Any, Any]:
    """What is to be solved, with the ROI as hint; the frame's header; the WCS cards of the raw header."""
    from lightcurver_ops.astrometry.base import SolveRequest
    from lightcurver_ops.storage import frames as frame_files

    found = frame_files.read_sources(task.sources)
    header = frame_files.read_header(task.image)
    roi, settings = task.config.roi, task.config.plate_solving
    request = SolveRequest(
        name=task.name,
        x=found.x,
        y=found.y,
        flux=found.flux,
        shape=(header["NAXIS2"], header["NAXIS1"]),
        hint_ra=roi.ra,
        hint_dec=roi.dec,
        radius_deg=settings.search_radius,
        plate_scale_interval=settings.plate_scale_interval,
        catalogue=at_epoch(task.catalogue, task.mjd),
        sip_order=settings.sip_order,
        allow_unverified=settings.allow_unverified,
    )
    return request, header, frame_files.read_raw_wcs(task.image)


def _api_key(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError as error:
        raise ConfigurationError(
            f"plate_solving.astrometry_net_api_key_file = {path}: cannot be read: {error.strerror}"
        ) from error
