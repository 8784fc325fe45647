"""Artificial variations in the calibrated cutouts of a lens: how far its light curve is to be trusted.

No stage of the pipeline: it reads what stage 10 wrote, and writes nothing but its own report. Products, bookkeeping and
published light curves stay as they are.
"""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightcurver_ops.bookkeeping import frames, ledger
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.constants import POGSON
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.base import Lens
from lightcurver_ops.stages.calculate_normalization_coefficient import filter_part, prepared_path, safe
from lightcurver_ops.stages.prepare_calibrated_cutouts import PrepareCalibratedCutouts
from lightcurver_ops.stages.roi_fit import Scene, fit_prepared, scene_of

Array = NDArray[np.float64]
Fitted = Callable[[], None]

TWIN = "*"  # of the label of a new source at an empty place


@dataclass(frozen=True)
class InjectionOptions:
    """What is injected."""

    kind: Literal["noise", "sine", "step"] = "noise"
    amplitude: float = 0.1
    """mag: standard deviation of noise, half the range of a sine, height of a step."""
    period: float = 30.0
    """Days, of a sine."""
    images: tuple[str, ...] | None = None
    """Labels of the images that vary; None: all."""
    empty: bool = True
    """Also new sources at empty places."""
    repeats: int = 3
    """Realisations."""
    seed: int = 1


@dataclass(frozen=True)
class InjectionReport:
    """What came out: a table of one row per source, remarks, and where everything was written."""

    filter_name: str
    table: dict[str, list[Any]]
    notes: list[str]
    paths: tuple[Path, ...]


@dataclass(frozen=True)
class _Experiment:
    """Sources whose variation is known, in R realisations: arrays [R, E, J] in mag."""

    labels: list[str]
    injected: Array
    residual: Array
    error: Array
    differences: bool
    """Whether errors are those of differences of fits: of changes between epochs only."""
    leakage: list[tuple[float, float, str]]
    """Of each source: largest slope of another one, its error, and which one."""


@dataclass(frozen=True)
class _Cutouts:
    """What does not change from one realisation to the next."""

    lens: Lens
    prepared: Any
    scene: Scene
    electrons: Array
    options: InjectionOptions

    def fit(self, data: Array, noise: Array, scene: Scene) -> Any:
        changed = dataclasses.replace(self.prepared, data=data, noisemap=noise)
        return fit_prepared(self.lens.config, changed, scene)

    def images(self, positions: Array, translations: Array) -> tuple[Array, Array]:
        from lightcurver_ops.numerics.injection import images_of_sources
        from lightcurver_ops.numerics.roi.render import narrow_psfs

        size, subsampling = self.prepared.data.shape[1], self.prepared.subsampling_factor
        rotation = self.scene.rotation
        narrow = narrow_psfs(self.prepared.full_psf, self.prepared.psf_slope, positions, rotation)
        return images_of_sources(narrow, positions, translations, rotation, size, subsampling)

    def random(self, *which: int) -> np.random.Generator:
        return np.random.default_rng((self.options.seed, *which))


def inject_variations(
    lens: Lens,
    options: InjectionOptions,
    filter_name: str | None = None,
    progress: Callable[[str, int, int], None] = lambda _label, _done, _total: None,
) -> InjectionReport:
    """Inject variations, fit, compare, and write `<workdir>/injection/<lens>_<filter>_<seed>.csv`, `.json`, `.png`.

    Raises:
        ConfigurationError: an option that makes no sense, no point source, an unknown image or filter, no calibrated
            cutouts yet, or those of frames that are not in the bookkeeping.
        BadFrame: the file of the calibrated cutouts is damaged.
    """
    labels = list(lens.config.roi.point_sources)
    chosen = _chosen(lens, labels, options)
    filter_name = _filter(lens, filter_name)
    cutouts = _read(lens, filter_name, options)
    total = 1 + options.repeats * (2 if options.empty else 1)
    done = 0

    def fitted() -> None:
        nonlocal done
        done += 1
        progress(f"injection {filter_name}: fits", done, total)

    progress(f"injection {filter_name}: fits", 0, total)
    plain = cutouts.fit(cutouts.prepared.data, cutouts.prepared.noisemap, cutouts.scene)
    fitted()
    notes = [] if plain.converged else [f"the fit without injection has not converged: {plain.status}"]
    experiments = [_varied_images(cutouts, labels, chosen, plain, fitted)]
    places: list[dict[str, Any]] = []
    if options.empty:
        twins, places = _new_sources(cutouts, labels, chosen, plain, fitted, notes)
        experiments += [twins] if twins else []
    table = _table(experiments)
    paths = _write(cutouts, filter_name, experiments, table, places, notes)
    return InjectionReport(filter_name, table, notes, paths)


def _chosen(lens: Lens, labels: list[str], options: InjectionOptions) -> NDArray[np.int64]:
    """Which images vary."""
    for name, value in (("amplitude", options.amplitude), ("period", options.period)):
        if not (math.isfinite(value) and value > 0):
            raise ConfigurationError(f"{name} = {value:g}: expected a number above 0")
    if options.repeats < 1:
        raise ConfigurationError(f"repeats = {options.repeats}: expected 1 or more")
    if options.seed < 0:
        raise ConfigurationError(f"seed = {options.seed}: expected 0 or more")
    if not labels:
        raise ConfigurationError(
            f"{lens.name} has no point source, so there is nothing to vary: name its images under roi.point_sources"
        )
    wanted = labels if options.images is None else list(options.images)
    unknown = [label for label in wanted if label not in labels]
    if unknown or not wanted:
        raise ConfigurationError(
            f"{lens.name} has no image called {', '.join(unknown) or '(nothing)'}; roi.point_sources has: "
            f"{', '.join(labels)}"
        )
    return np.array([j for j, label in enumerate(labels) if label in wanted])


def _filter(lens: Lens, filter_name: str | None) -> str:
    """The filter asked for, or the only one."""
    with reading(lens.engine) as connection:
        done = ledger.done_hashes(connection, lens.name, PrepareCalibratedCutouts.name)
    known = sorted(name for name in done if prepared_path(lens.config, name).is_file())
    if not known:
        raise ConfigurationError(
            f"{lens.name} has no calibrated cutouts yet: `lcops run` makes them "
            f"(`--to {PrepareCalibratedCutouts.name}` suffices)"
        )
    if filter_name is None and len(known) > 1:
        raise ConfigurationError(
            f"{lens.name} has calibrated cutouts in {', '.join(known)}: choose one with --filter"
        )
    if filter_name is not None and filter_name not in known:
        raise ConfigurationError(
            f"{lens.name} has no calibrated cutouts in filter {filter_name}; there are: {', '.join(known)}"
        )
    return filter_name or known[0]


def _read(lens: Lens, filter_name: str, options: InjectionOptions) -> _Cutouts:
    from lightcurver_ops.storage.prepared import read_prepared

    path = prepared_path(lens.config, filter_name)
    prepared = read_prepared(path)
    with reading(lens.engine) as connection:
        exptime = {row.number: row.exptime for row in frames.all_frames(connection, lens.name)}
    lost = [int(frame) for frame in prepared.frame_id if int(frame) not in exptime]
    if lost:
        raise ConfigurationError(
            f"{path}: {len(lost)} of its frames, the first with number {lost[0]}, are not in the bookkeeping any more: "
            "`lcops run` makes it again"
        )
    seconds = np.array([exptime[int(frame)] for frame in prepared.frame_id])
    return _Cutouts(
        lens=lens,
        prepared=prepared,
        scene=scene_of(lens.config, prepared),
        electrons=seconds * prepared.coefficient,
        options=options,
    )


def _varied_images(
    cutouts: _Cutouts, labels: list[str], chosen: NDArray[np.int64], plain: Any, fitted: Fitted
) -> _Experiment:
    """Vary the images themselves: differences of fits with and without."""
    from lightcurver_ops.numerics import injection

    prepared = cutouts.prepared
    seen = plain.flux > injection.SEEN * plain.flux_uncertainty
    flux = np.where(seen, plain.flux, 0.0)
    images, _ = cutouts.images(plain.positions, plain.translations)
    injected, residual, error = [], [], []
    for repeat in range(cutouts.options.repeats):
        variation = np.zeros_like(flux)
        variation[:, chosen] = _variations(cutouts, len(chosen), repeat, 0)
        truth = flux * injection.factors(variation)
        data, noise = injection.inject(
            prepared.data,
            prepared.noisemap,
            images,
            truth - flux,
            cutouts.electrons,
            cutouts.random(repeat, 1),
        )
        fit = cutouts.fit(data, noise, cutouts.scene)
        fitted()
        injected.append(variation)
        residual.append(injection.residual_mag(fit.flux, truth))
        error.append(_in_mag(_error_of_difference(cutouts, plain, fit, noise), truth))
    x, r, s = (np.stack(values) for values in (injected, residual, error))
    slopes = injection.responses(x, x + r, s)
    own = np.arange(len(labels))
    return _Experiment(labels, x, r, s, True, _leakages(*slopes, own, labels))


def _new_sources(
    cutouts: _Cutouts,
    labels: list[str],
    chosen: NDArray[np.int64],
    plain: Any,
    fitted: Fitted,
    notes: list[str],
) -> tuple[_Experiment | None, list[dict[str, Any]]]:
    """Put new sources at empty places and fit them with the images."""
    from lightcurver_ops.numerics import injection

    prepared, count = cutouts.prepared, len(labels)
    fwhm = float(np.median(prepared.seeing / prepared.pixel_scale))
    typical = np.array(
        [np.median(flux[np.isfinite(flux)]) if np.isfinite(flux).any() else 0.0 for flux in plain.flux.T]
    )
    notes += [f"{labels[j]}: its flux is not positive, so it has no twin" for j in chosen if typical[j] <= 0]
    chosen = chosen[typical[chosen] > 0]
    places = injection.empty_places(plain.positions, chosen, fwhm, prepared.data.shape[1])
    free = np.isfinite(places.radius)
    described = _described(labels, chosen, places, notes)
    if not free.any():
        return None, described
    originals, positions = chosen[free], places.positions[free]
    twins = [labels[j] + TWIN for j in originals]
    scene = copy.copy(cutouts.scene)
    scene.positions = np.concatenate([cutouts.scene.positions, positions])
    images, _ = cutouts.images(positions, plain.translations)
    brightness = typical[originals]
    injected, residual, error, images_residual, images_error = [], [], [], [], []
    for repeat in range(cutouts.options.repeats):
        variation = _variations(cutouts, len(originals), repeat, 2)
        truth = brightness * injection.factors(variation)
        data, noise = injection.inject(
            prepared.data, prepared.noisemap, images, truth, cutouts.electrons, cutouts.random(repeat, 3)
        )
        fit = cutouts.fit(data, noise, scene)
        fitted()
        injected.append(variation)
        residual.append(injection.residual_mag(fit.flux[:, count:], truth))
        # Against the truth, what all epochs share counts as well.
        total = np.hypot(fit.flux_uncertainty, fit.common_flux_uncertainty)
        error.append(_in_mag(total[:, count:], truth))
        seen = np.where(plain.flux > injection.SEEN * plain.flux_uncertainty, plain.flux, np.nan)
        images_residual.append(injection.residual_mag(fit.flux[:, :count], seen))
        images_error.append(_in_mag(_error_of_difference(cutouts, plain, fit, noise), seen))
    x, r, s = (np.stack(values) for values in (injected, residual, error))
    measured = np.concatenate([np.stack(images_residual), x + r], axis=-1)
    errors = np.concatenate([np.stack(images_error), s], axis=-1)
    slopes = injection.responses(x, measured, errors)
    own = count + np.arange(len(twins))
    return _Experiment(twins, x, r, s, False, _leakages(*slopes, own, labels + twins)), described


def _variations(cutouts: _Cutouts, count: int, *which: int) -> Array:
    from lightcurver_ops.numerics.injection import draw_variations

    options = cutouts.options
    return draw_variations(
        cutouts.random(*which), cutouts.prepared.mjd, count, options.kind, options.amplitude, options.period
    )


def _in_mag(error: Array, flux: Array) -> Array:

    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(flux > 0, POGSON * error / flux, np.nan)


def _error_of_difference(cutouts: _Cutouts, plain: Any, fit: Any, noise: Array) -> Array:
    """Of the fluxes of the images, [E, J]: added photons and changed weights, and that fits end a little early."""
    from lightcurver_ops.numerics.injection import columns_of, difference_error
    from lightcurver_ops.numerics.roi.result import RoiOptions

    prepared = cutouts.prepared
    columns = [
        columns_of(*cutouts.images(one.positions, one.translations), one.flux, one.background_model)
        for one in (plain, fit)
    ]
    error = difference_error(
        (columns[0], prepared.noisemap), (columns[1], noise), prepared.good, plain.translation_sigma
    )
    return np.hypot(error, RoiOptions().flux_tolerance * plain.flux_uncertainty)


def _leakages(
    slope: Array, slope_error: Array, own: NDArray[np.int64], names: list[str]
) -> list[tuple[float, float, str]]:
    from lightcurver_ops.numerics.injection import largest_leakage

    value, into = largest_leakage(slope, own)
    return [
        (float(value[j]), float(slope_error[k, j]), names[k]) if k >= 0 else (math.nan, math.nan, "")
        for j, k in enumerate(into)
    ]


def _described(
    labels: list[str], chosen: NDArray[np.int64], places: Any, notes: list[str]
) -> list[dict[str, Any]]:
    """Where the new sources stand; what is not at the mirror position is said."""
    described = []
    for place, radius, turn, j in zip(places.positions, places.radius, places.turn, chosen, strict=True):
        label = labels[j]
        if not np.isfinite(radius):
            notes.append(f"{label}{TWIN}: no place in the stamp is free for it")
            continue
        if (radius, turn) != (1.0, 180.0):
            notes.append(
                f"{label}{TWIN}: the place opposite to {label} is not free; it stands at {radius:g} times the distance "
                f"of {label} from the centre of the ROI, turned by {turn:g} degrees"
            )
        described.append({"label": label + TWIN, "x_pixels": place[0], "y_pixels": place[1]})
    return described


def _table(experiments: list[_Experiment]) -> dict[str, list[Any]]:
    """One row per source."""
    from lightcurver_ops.numerics.injection import recovery

    table: dict[str, list[Any]] = {}
    for experiment in experiments:
        found = recovery(
            experiment.injected, experiment.residual, experiment.error, constant_free=experiment.differences
        )
        columns = {
            "source": experiment.labels,
            "injected_mag": found.injected.tolist(),
            "slope": found.slope.tolist(),
            "slope_error": found.slope_error.tolist(),
            "bias_mmag": (1e3 * found.bias).tolist(),
            "scatter_mmag": (1e3 * found.scatter).tolist(),
            "error_mmag": (1e3 * found.error).tolist(),
            "residual_over_error": found.residual_over_error.tolist(),
            "leakage": [value for value, _, _ in experiment.leakage],
            "leakage_error": [error for _, error, _ in experiment.leakage],
            "leakage_into": [name for _, _, name in experiment.leakage],
            "measurements": found.count.tolist(),
        }
        for name, values in columns.items():
            table.setdefault(name, []).extend(values)
    return table


def _write(
    cutouts: _Cutouts,
    filter_name: str,
    experiments: list[_Experiment],
    table: dict[str, list[Any]],
    places: list[dict[str, Any]],
    notes: list[str],
) -> tuple[Path, ...]:
    from lightcurver_ops.diagnostics.injection import plot_injection
    from lightcurver_ops.storage.tables import write_json, write_table

    lens, prepared, options = cutouts.lens, cutouts.prepared, cutouts.options
    stem = f"{safe(lens.config.roi_name)}_{filter_part(filter_name)}_{options.seed}"
    csv, json, png = (lens.workdir / "injection" / f"{stem}{suffix}" for suffix in (".csv", ".json", ".png"))
    write_table(csv, _points(experiments, prepared))
    rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
    write_json(
        json,
        {
            "lens": lens.name,
            "filter": filter_name,
            "settings": dataclasses.asdict(options),
            "frames": len(prepared.mjd),
            "sources": [{name: _known(value) for name, value in row.items()} for row in rows],
            "empty_places": places,
            "notes": notes,
            "configuration": lens.config.model_dump(mode="json", include={"roi", "roi_model"}),
        },
    )
    plot_injection(
        png,
        title=f"{lens.config.roi_name} {filter_name}: {options.kind} of {options.amplitude:g} mag, seed {options.seed}",
        labels=[label for one in experiments for label in one.labels],
        injected=[one.injected[..., j].ravel() for one in experiments for j in range(len(one.labels))],
        residual=[one.residual[..., j].ravel() for one in experiments for j in range(len(one.labels))],
        error=[one.error[..., j].ravel() for one in experiments for j in range(len(one.labels))],
        ratio=[_ratio(one)[..., j].ravel() for one in experiments for j in range(len(one.labels))],
    )
    return csv, json, png


def _ratio(experiment: _Experiment) -> Array:
    """Residual over error, of changes between epochs where the error is that of these."""
    from lightcurver_ops.numerics.injection import around_constants

    residual, error = experiment.residual, experiment.error
    with np.errstate(invalid="ignore", divide="ignore"):
        return (around_constants(residual, error) if experiment.differences else residual) / error


def _known(value: Any) -> Any:
    """JSON has no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _points(experiments: list[_Experiment], prepared: Any) -> dict[str, NDArray]:
    """One row per realisation, source and frame."""
    columns: dict[str, list[NDArray]] = {}
    for experiment in experiments:
        repeats, epochs, _ = experiment.injected.shape
        for j, label in enumerate(experiment.labels):
            rows = {
                "source": np.full(repeats * epochs, label, dtype=object),
                "repeat": np.repeat(np.arange(1, repeats + 1), epochs),
                "frame_id": np.tile(prepared.frame_id, repeats),
                "mjd": np.tile(prepared.mjd, repeats),
                "injected_mag": experiment.injected[..., j].ravel(),
                "recovered_mag": (experiment.injected + experiment.residual)[..., j].ravel(),
                "error_mag": experiment.error[..., j].ravel(),
            }
            for name, values in rows.items():
                columns.setdefault(name, []).append(values)
    return {name: np.concatenate(parts) for name, parts in columns.items()}
