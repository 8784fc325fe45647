"""Which frames take part in the light curve, and for each that does not, the one reason why."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import sqlalchemy as sa

from lightcurver_ops.bookkeeping import frames, ledger, photometry, stars
from lightcurver_ops.config import LensConfig
from lightcurver_ops.config.sections import Exclusion
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.psf_modeling import PsfModeling
from lightcurver_ops.stages.same_camera import odd_frames
from lightcurver_ops.stages.stamp_extraction import StampExtraction
from lightcurver_ops.stages.star_photometry import StarPhotometry

Reason = str | None


@dataclass(frozen=True)
class FrameUsage:
    """A frame and why it is not used; None: it is.

    Attributes:
        frame: its row.
        reason: why not.
        note: what the joint model of the newest light curve left out of a frame that is used, and why.
        aside: the joint model found what is common to all frames without this one.
    """

    frame: sa.Row
    reason: Reason
    note: Reason = None
    aside: bool = False

    @property
    def used(self) -> str:
        """yes, no, or set aside."""
        return "no" if self.reason else "set aside" if self.aside else "yes"


def usage_up_to_photometry(connection: sa.Connection, config: LensConfig) -> list[FrameUsage]:
    """For each frame, whether its star fluxes may enter the normalization; errors as `usage`."""
    rules = _rules_of_photometry(connection, config)
    return _of_one_camera(
        connection,
        config,
        [FrameUsage(row, _first(rules, row)) for row in frames.all_frames(connection, config.name)],
    )


def usage(connection: sa.Connection, config: LensConfig) -> list[FrameUsage]:
    """For each frame, whether it enters the light curve.

    Raises:
        ConfigurationError: a constraint on a column that the frames table lacks.
    """
    rules = [_coefficient_reason(connection, config), _column_reason(config)]
    usages = [
        item if item.reason else replace(item, reason=_first(rules, item.frame))
        for item in usage_up_to_photometry(connection, config)
    ]
    notes = photometry.epoch_notes_of(connection, config.name)
    return [
        item if item.reason else replace(item, **notes.get(item.frame.image_relpath, {})) for item in usages
    ]


def _first(rules: list[Callable[[sa.Row], Reason]], row: sa.Row) -> Reason:
    return next((reason for rule in rules if (reason := rule(row))), None)


def _of_one_camera(
    connection: sa.Connection, config: LensConfig, usages: list[FrameUsage]
) -> list[FrameUsage]:
    usable = [item.frame for item in usages if not item.reason]
    chosen = _column_reason(config)  # which camera, where the user says it
    odd = odd_frames(connection, config, usable, [row for row in usable if not chosen(row)])
    return [item if item.reason else replace(item, reason=odd.get(item.frame.id)) for item in usages]


def _frame_reason(row: sa.Row) -> Reason:
    if row.eliminated:
        return f"eliminated by {row.eliminated_by}: {row.comment or 'no comment'}"
    if not row.plate_solved:
        tried = "not plate solved: `lcops astrometry show` says why"
        return row.comment or (tried if row.attempted_plate_solve else "not plate solved yet")
    if not row.roi_in_footprint:
        return "the ROI lies outside the frame"
    return None


def _rules_of_photometry(connection: sa.Connection, config: LensConfig) -> list[Callable[[sa.Row], Reason]]:
    def made_by(stage: str, what: str) -> Callable[[sa.Row], Reason]:
        known = ledger.products_of(connection, config.name, stage)

        def reason(row: sa.Row) -> Reason:
            product = known.get(row.image_relpath)
            if product is None:
                return f"{what} not made yet"
            return None if product.status == ledger.DONE else f"{stage}: {product.reason}"

        return reason

    return [
        _frame_reason,
        made_by(StampExtraction.name, "cutouts"),
        made_by(PsfModeling.name, "PSF"),
        _psf_shape_reason(connection, config),
        _psf_chi2_reason(connection, config),
        made_by(StarPhotometry.name, "star fluxes"),
        _misfit_reason(connection, config),
    ]


def _psf_shape_reason(connection: sa.Connection, config: LensConfig) -> Callable[[sa.Row], Reason]:
    from lightcurver_ops.numerics.psf.shape import trail_length

    longest, most_double = config.psf.max_elongation, config.psf.max_doubleness
    most_trailed, side = config.psf.max_trail, config.cutouts.stamp_size_stars
    selection = stars.current_selection(connection, config.name)
    psfs = photometry.psfs_of(connection, config.name, selection) if selection else {}

    def reason(row: sa.Row) -> Reason:
        psf = psfs.get(row.id)
        if psf is None:
            return None
        if most_double is not None and psf.doubleness is not None and psf.doubleness > most_double:
            return (
                f"the PSF is double: its second peak rises by {psf.doubleness:.2f} of the first, above "
                f"{most_double:g} (psf.max_doubleness)"
            )
        if psf.elongation is None:
            return None
        if most_trailed is not None and psf.fwhm_moffat_arcseconds and row.pixel_scale:
            fwhm = psf.fwhm_moffat_arcseconds / row.pixel_scale
            trail = float(trail_length(fwhm, psf.elongation)) / side
            if trail > most_trailed:
                return f"the PSF is trailed: by {trail:.2f} of a star's stamp, above {most_trailed:g} (psf.max_trail)"
        if longest is not None and psf.elongation > longest:
            return f"the PSF is elongated: a/b = {psf.elongation:.2f} above {longest:g} (psf.max_elongation)"
        return None

    return reason


def _psf_chi2_reason(connection: sa.Connection, config: LensConfig) -> Callable[[sa.Row], Reason]:
    rule = config.star_photometry.psf_fit_exclude_strategy
    selection = stars.current_selection(connection, config.name)
    if rule is None or selection is None:
        return lambda _row: None
    usable = {row.id for row in frames.usable_frames(connection, config.name)}
    chi2 = {
        frame_id: psf.chi2
        for frame_id, psf in photometry.psfs_of(connection, config.name, selection).items()
        if frame_id in usable
    }
    low, high = chi2_interval(list(chi2.values()), rule)

    def reason(row: sa.Row) -> Reason:
        value = chi2.get(row.id)
        if value is None or low <= value <= high:
            return None
        return (
            f"the PSF fits badly: reduced chi2 {value:.2f} outside {low:.2f} to {high:.2f} "
            "(star_photometry.psf_fit_exclude_strategy)"
        )

    return reason


def _misfit_reason(connection: sa.Connection, config: LensConfig) -> Callable[[sa.Row], Reason]:
    most = config.psf.max_misfit
    selection = stars.current_selection(connection, config.name)
    if most is None or selection is None:
        return lambda _row: None
    usable = {row.id: row.filter for row in frames.usable_frames(connection, config.name)}
    misfits = {
        frame_id: misfit
        for frame_id, misfit in _misfits(photometry.fluxes_of(connection, config.name, selection)).items()
        if frame_id in usable
    }
    limits = {
        filter_name: max(
            most, 3 * median(misfits[frame] for frame in misfits if usable[frame] == filter_name)
        )
        for filter_name in {usable[frame] for frame in misfits}
    }

    def reason(row: sa.Row) -> Reason:
        if row.id not in misfits or misfits[row.id] <= limits[row.filter]:
            return None
        return (
            f"the PSF does not explain its stars: {100 * misfits[row.id]:.1f} % of their light is left, above "
            f"{100 * limits[row.filter]:.1f} % (psf.max_misfit)"
        )

    return reason


def _misfits(fluxes: list[sa.Row]) -> dict[int, float]:
    """frame id: `numerics.quality.frame_misfit`."""
    import numpy as np

    from lightcurver_ops.numerics.quality import frame_misfit

    by_frame: dict[int, list[tuple[float, float, float]]] = {}
    for row in fluxes:
        numbers = (row.chi2, row.n_pixels, row.flux / row.flux_uncertainty)
        by_frame.setdefault(row.frame_id, []).append(numbers)
    return {frame_id: frame_misfit(*np.array(measured).T) for frame_id, measured in by_frame.items()}


def chi2_interval(chi2: list[float], rule: Exclusion | None) -> tuple[float, float]:
    """The range of chi2 that a rule of the configuration accepts."""
    import numpy as np

    from lightcurver_ops.numerics.quality import chi2_bounds

    return chi2_bounds(np.array(chi2), rule.model_dump(exclude_none=True) if rule else None)


def _coefficient_reason(connection: sa.Connection, config: LensConfig) -> Callable[[sa.Row], Reason]:
    selection = stars.current_selection(connection, config.name)
    known = photometry.coefficients_of(connection, config.name, selection) if selection else {}
    bounds = config.roi_model.constraints_on_normalization_coefficient

    def reason(row: sa.Row) -> Reason:
        coefficient = known.get(row.id)
        if coefficient is None:
            return (
                "no normalization coefficient: no star of the normalization was measured well in this frame"
            )
        if bounds and not bounds[0] <= coefficient.coefficient <= bounds[1]:
            return (
                f"normalization coefficient {coefficient.coefficient:.3f} outside {bounds[0]:g} to {bounds[1]:g} "
                "(roi_model.constraints_on_normalization_coefficient)"
            )
        return None

    return reason


def _column_reason(config: LensConfig) -> Callable[[sa.Row], Reason]:
    from lightcurver_ops.bookkeeping.tables import frames as table

    constraints = config.roi_model.constraints_on_frame_columns
    for column in constraints:
        if column not in table.columns:
            raise ConfigurationError(
                f"roi_model.constraints_on_frame_columns: the frames table has no column '{column}'; it has "
                f"{', '.join(table.columns.keys())}"
            )

    def reason(row: sa.Row) -> Reason:
        for column, (low, high) in constraints.items():
            value = getattr(row, column)
            if value is None:
                return f"{column} is unknown, and roi_model.constraints_on_frame_columns wants {low:g} to {high:g}"
            if not low <= value <= high:
                return f"{column} = {value:.4g} outside {low:g} to {high:g} (roi_model.constraints_on_frame_columns)"
        return None

    return reason


def used_frames(usages: list[FrameUsage]) -> dict[str, list[sa.Row]]:
    """filter: the frames that are used, by time."""
    result: dict[str, list[sa.Row]] = {}
    for item in usages:
        if item.reason is None:
            result.setdefault(item.frame.filter, []).append(item.frame)
    return dict(sorted(result.items()))
