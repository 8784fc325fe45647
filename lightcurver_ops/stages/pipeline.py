"""The stages in order, and running a part of them."""

import difflib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.frames import all_frames
from lightcurver_ops.errors import ConfigurationError, NothingToDo
from lightcurver_ops.stages.base import Lens, Report, RunOptions, Stage, State
from lightcurver_ops.stages.calculate_absolute_zeropoints import CalculateAbsoluteZeropoints
from lightcurver_ops.stages.calculate_common_and_total_footprint import CalculateCommonAndTotalFootprint
from lightcurver_ops.stages.calculate_normalization_coefficient import CalculateNormalizationCoefficient
from lightcurver_ops.stages.initialize_database import InitializeDatabase, ensure_initialized
from lightcurver_ops.stages.model_calibrated_cutouts import ModelCalibratedCutouts
from lightcurver_ops.stages.plate_solving import PlateSolving
from lightcurver_ops.stages.prepare_calibrated_cutouts import PrepareCalibratedCutouts
from lightcurver_ops.stages.psf_modeling import PsfModeling
from lightcurver_ops.stages.query_gaia_for_stars import QueryGaiaForStars
from lightcurver_ops.stages.read_convert_skysub_character_catalog import ReadConvertSkysubCharacterCatalog
from lightcurver_ops.stages.stamp_extraction import StampExtraction
from lightcurver_ops.stages.star_photometry import StarPhotometry

log = logging.getLogger(__name__)

STAGES: tuple[type[Stage], ...] = (
    InitializeDatabase,
    ReadConvertSkysubCharacterCatalog,
    PlateSolving,
    CalculateCommonAndTotalFootprint,
    QueryGaiaForStars,
    StampExtraction,
    PsfModeling,
    StarPhotometry,
    CalculateNormalizationCoefficient,
    CalculateAbsoluteZeropoints,
    PrepareCalibratedCutouts,
    ModelCalibratedCutouts,
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)


def stage_number(text: str) -> int:
    """The number of a stage, given by number, name, or the unambiguous beginning of a name.

    Raises:
        ConfigurationError: there is no such stage; names the nearest.
    """
    if text.isdecimal() and int(text) < len(STAGES):
        return int(text)
    matches = [number for number, name in enumerate(STAGE_NAMES) if name.startswith(text)]
    if text in STAGE_NAMES:
        return STAGE_NAMES.index(text)
    if len(matches) == 1:
        return matches[0]
    near = difflib.get_close_matches(text, STAGE_NAMES, n=1, cutoff=0.4)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    listed = ", ".join(f"{number} {name}" for number, name in enumerate(STAGE_NAMES))
    raise ConfigurationError(f"there is no stage '{text}'{hint} The stages are: {listed}")


@dataclass(frozen=True)
class StageResult:
    """What became of a stage in a run: its report, or that nothing was to do."""

    name: str
    report: Report | None


def run_pipeline(
    lens: Lens,
    *,
    first: int = 0,
    last: int = len(STAGES) - 1,
    redo: int | None = None,
    options: RunOptions | None = None,
    announce: Callable[[StageResult], None] = lambda _result: None,
) -> list[StageResult]:
    """Run the stages from ``first`` to ``last``, each making what is missing or out of date.

    Args:
        lens: whose frames.
        first, last: numbers of stages, both included.
        redo: this stage and all after it are made again, whatever the bookkeeping says.
        options: which frames, and how progress is shown.
        announce: called after each stage.

    Raises:
        LightcurverError: of the first stage that cannot go on.
    """
    from lightcurver_ops.storage.atomic import sweep_temporaries

    options = options or RunOptions()
    ensure_initialized(lens)
    sweep_temporaries(lens.workdir)  # what killed processes left half-written
    if lens.config.raw.cache_dir is not None:
        sweep_temporaries(lens.config.raw.cache_dir)
    if redo is not None:
        _forget(lens, redo, options)
    results = []
    for stage in STAGES[first : last + 1]:
        try:
            report = stage(lens).run(options)
            log.info("%s: %s: %s", lens.name, stage.name, report.summary())
        except NothingToDo as nothing:
            log.debug("%s", nothing)
            report = None
        results.append(StageResult(stage.name, report))
        announce(results[-1])
    return results


def _forget(lens: Lens, redo: int, options: RunOptions) -> None:
    """Make the products of a stage and of all after it missing; with ``--frames`` only those of these frames."""
    with writing(lens.engine) as connection:
        for stage in STAGES[max(redo, 1) :]:
            units = None
            if options.frames is not None and stage.frame_wise:
                units = {
                    unit
                    for unit in ledger.products_of(connection, lens.name, stage.name)
                    if options.wants(unit)
                }
            ledger.forget(connection, lens.name, [stage.name], units)


def pipeline_state(lens: Lens, *, as_known: bool = False) -> list[State]:
    """The state of every stage, in order.

    Args:
        lens: which.
        as_known: to the bookkeeping; raw directories and object stores are not looked into.
    """
    states: list[State] = []
    outdated: dict[str, set[str]] = {}
    with reading(lens.engine) as connection:
        relpath = {row.original_image_path: row.image_relpath for row in all_frames(connection, lens.name)}
        for stage in STAGES:
            state = stage(lens).state(connection, outdated, as_known=as_known)
            outdated[state.stage] = {relpath.get(unit, unit) for unit in state.outdated()}
            states.append(state)
    return states
