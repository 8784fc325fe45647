"""Light curves of whole simulated seasons against the truth, and what limits them."""

import itertools
import json
import tempfile
from argparse import Namespace
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import in_fresh_process
from benchmarks.pipeline import configured
from benchmarks.report import Report, Table
from lightcurver_ops.constants import POGSON
from lightcurver_ops.errors import ConfigurationError, QualityGate
from lightcurver_ops.simulation.options import SeasonOptions
from lightcurver_ops.simulation.presets import lens_preset

if TYPE_CHECKING:
    from lightcurver_ops.config import LensConfig
    from lightcurver_ops.simulation.comparison import Comparison
    from lightcurver_ops.simulation.truth import Truth
    from lightcurver_ops.storage.prepared import PreparedCutouts

PURPOSE = (
    "Simulated seasons of lenses with arcs through the real pipeline, with its defaults, exposure by exposure against "
    "the truth. `--truth` puts the truth in the place of one ingredient of the joint model, to show what limits the "
    "light curves."
)
INGREDIENTS = ("psf", "galaxy", "coefficients", "positions")
MARGIN = 2  # pixels by which a solved frame may place its cutout off the true one


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes:
        season: what is simulated, its lens, seed and variation of the PSF apart.
        lenses: presets of `lcops simulate --lens`, a season each; None: the season's own.
        seeds: of the seasons.
        psf_varies: relative variation of the PSF over the field.
        truths: ingredients to be replaced by the truth, each entry in a fit of its own; "psf+galaxy" replaces both.
        processes: of the frame-wise stages.
        settings: sections of the lens's configuration.
        keep: directory where the seasons stay, and are found again; None: they are deleted.
    """

    season: SeasonOptions = field(
        default_factory=lambda: SeasonOptions(name="accuracy", n_nights=15, exposures_per_night=4)
    )
    lenses: tuple[str | None, ...] = ("cross", "fold", "double", "faint")
    seeds: tuple[int, ...] = (1,)
    psf_varies: tuple[float, ...] = (0.0, 0.03)
    truths: tuple[str, ...] = ()
    processes: int = 2
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    keep: Path | None = None


def sizes(arguments: Namespace) -> Sizes:
    """The sizes that the command line asks for.

    Raises:
        ConfigurationError: an ingredient that there is not.
    """
    for name in arguments.truth:
        for one in name.split("+"):
            if one not in INGREDIENTS:
                raise ConfigurationError(
                    f"--truth {name}: there is no '{one}'; there are {', '.join(INGREDIENTS)}, joined by '+'"
                )
    chosen = Sizes(truths=tuple(arguments.truth), processes=arguments.processes, keep=arguments.keep)
    if arguments.quick:
        chosen = replace(
            chosen,
            season=replace(chosen.season, n_nights=6),
            lenses=chosen.lenses[:1],
            psf_varies=chosen.psf_varies[:1],
        )
    if arguments.lens:
        for one in arguments.lens:
            lens_preset(one)  # refuses what there is not
        chosen = replace(chosen, lenses=tuple(arguments.lens))
    if arguments.seeds:
        chosen = replace(chosen, seeds=tuple(arguments.seeds))
    if arguments.psf_varies:
        chosen = replace(chosen, psf_varies=tuple(arguments.psf_varies))
    return chosen


def run(report: Report, size: Sizes) -> None:
    """Measure everything."""
    count = len(size.lenses) * len(size.seeds)
    summary = report.table(
        f"All seasons: {count} with each PSF, {size.season.n_nights} nights of {size.season.exposures_per_night}",
        {
            "psf_varies": "PSF varies by",
            "truth": "the truth instead of",
            "label": "image",
            "magnitude": "true mag, mean",
            "bias": "bias, RMS of the seasons [mmag]",
            "bias_relative": "without the zero point's error",
            "bias_ratio": "that over the common error, RMS",
            "rms": "RMS [mmag]",
            "scatter_ratio": "scatter / photon limit, median of the seasons",
            "pull": "residual / error, RMS of the seasons",
            "slope_ratio": "slope with seeing over its error, RMS",
        },
    )
    summary.notes.append(
        "Differences are measured minus true magnitudes of single exposures; scatter is 1.48 MAD; the photon limit is "
        "the Cramér-Rao bound of the simulated pixels; residual / error is about the mean, by the independent errors. "
        "Wanted: bias over common error of 1, scatter within 1.25 of the photon limit, residual / error of 1.00."
    )
    images = report.table(
        "Images",
        {
            "lens": "lens",
            "seed": "seed",
            "psf_varies": "PSF varies by",
            "truth": "the truth instead of",
            "label": "image",
            "magnitude": "true mag",
            "n_epochs": "epochs",
            "bias": "bias [mmag]",
            "bias_relative": "without the zero point's error",
            "common_error": "common error [mmag]",
            "bias_ratio": "bias over it",
            "rms": "RMS [mmag]",
            "scatter": "scatter [mmag]",
            "photon_limit": "photon limit [mmag]",
            "scatter_ratio": "scatter / photon limit",
            "pull": "residual / error",
            "seeing_slope": "slope with seeing [mmag/arcsec]",
            "slope_ratio": "over its error",
        },
    )
    images.notes.append(
        "Fits with the truth instead of an ingredient quote the error of the fit and of the coefficients."
    )
    seasons = report.table(
        "Seasons",
        {
            "lens": "lens",
            "seed": "seed",
            "psf_varies": "PSF varies by",
            "frames": "frames",
            "used": "used",
            "lost": "lost",
            "coefficient_rms": "coefficients: relative RMS after a common factor [mmag]",
            "coefficient_error": "their quoted error, median [mmag]",
            "zeropoint_error": "zero point error [mmag]",
            "astrometry": "relative astrometry, RMS per axis [mas]",
            "converged": "joint model converged",
        },
    )
    for varies in size.psf_varies:
        for name, seed in itertools.product(size.lenses, size.seeds):
            season = replace(size.season, seed=seed, psf_varies=varies)
            if name is not None:
                season = replace(season, lens=lens_preset(name))
            _add_season(images, seasons, name or "its own", season, size)
            report.save()
    _summarise(summary, images.rows)
    report.save()


def _add_season(images: Table, seasons: Table, lens: str, season: SeasonOptions, size: Sizes) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        if size.keep is not None:
            directory = size.keep / f"{lens.replace(' ', '_')}_seed{season.seed}_varies{season.psf_varies:g}"
        try:
            result = in_fresh_process(measure_season, directory, season, size)
        except QualityGate as error:
            # No light curve is a result, too; the other seasons are measured all the same.
            seasons.notes.append(
                f"{lens}, seed {season.seed}, PSF varies by {season.psf_varies:g}: no light curve: {error}"
            )
            return
    about = {"lens": lens, "seed": season.seed, "psf_varies": season.psf_varies}
    seasons.add(**about, **result["season"])
    for truth, rows in result["images"].items():
        for row in rows:
            images.add(**about, truth=truth, **row)


def _summarise(summary: Table, rows: list[dict[str, Any]]) -> None:
    def rms(group: list[dict[str, Any]], key: str) -> float:
        return float(np.sqrt(np.mean([row[key] ** 2 for row in group])))

    for psf_varies, truth, label in dict.fromkeys(
        (row["psf_varies"], row["truth"], row["label"]) for row in rows
    ):
        group = [
            row
            for row in rows
            if (row["psf_varies"], row["truth"], row["label"]) == (psf_varies, truth, label)
        ]
        summary.add(
            psf_varies=psf_varies,
            truth=truth,
            label=label,
            magnitude=float(np.mean([row["magnitude"] for row in group])),
            scatter_ratio=float(np.median([row["scatter_ratio"] for row in group])),
            **{
                key: rms(group, key)
                for key in ("bias", "bias_relative", "bias_ratio", "rms", "pull", "slope_ratio")
            },
        )


def measure_season(directory: Path, options: SeasonOptions, size: Sizes) -> dict[str, Any]:
    """Simulate a season, reduce it, and compare it with the truth; what is there already is used again.

    Raises:
        ConfigurationError: the directory holds another season.
    """
    from astropy.table import Table as AstropyTable

    from lightcurver_ops.config import load_lens
    from lightcurver_ops.simulation import load_truth, simulate_season
    from lightcurver_ops.simulation.comparison import compare
    from lightcurver_ops.simulation.lens_file import write_lens_file
    from lightcurver_ops.stages.base import Lens
    from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
    from lightcurver_ops.stages.pipeline import run_pipeline
    from lightcurver_ops.storage.prepared import read_prepared

    there = (directory / "truth.json").exists()
    truth = load_truth(directory) if there else simulate_season(options, directory)
    if truth.options != options:
        raise ConfigurationError(
            f"{directory} holds a season with other options: give --keep another directory"
        )
    path = write_lens_file(truth)
    configured(path, compute={"processes": size.processes, "diagnostics": False})
    configured(path, **size.settings)
    config = load_lens(path)
    lens = Lens(config)
    run_pipeline(lens)
    lens.close()
    (band,) = (one.name for one in options.filters)
    prepared = read_prepared(prepared_path(config, band))
    frames = matched(truth, band, prepared.mjd)
    ratio = prepared.coefficient / np.asarray(frames["transparency"])
    common = float(np.median(ratio))
    # Calibrated fluxes are the true ones divided by the common factor: this is what the zero point has to say.
    true_zeropoint = options.filter(band).zeropoint - 2.5 * np.log10(common)
    offset = 1e3 * (prepared.global_zeropoint - true_zeropoint)
    published = AstropyTable.read(prepared_path(config, band, "_photometry_per_epoch.csv"))
    recorded = json.loads(prepared_path(config, band, "_common_errors.json").read_text())
    images = {"nothing": _rows(compare(truth, band, published), offset, _in_mmag(recorded))}
    for name in size.truths:
        epochs, common_errors = _fit_with_truth(name, config, prepared, truth, list(frames["file"]), common)
        images[name] = _rows(compare(truth, band, epochs), offset, common_errors)
    return {
        "images": images,
        "season": {
            "frames": len(truth.frames),
            "used": len(prepared.mjd),
            "lost": len(truth.frames) - len(prepared.mjd),
            "coefficient_rms": 1e3 * POGSON * float(np.sqrt(np.mean((ratio / common - 1) ** 2))),
            "coefficient_error": 1e3 * POGSON * float(np.median(prepared.relative_normalization_error)),
            "zeropoint_error": float(offset),
            "astrometry": _relative_astrometry(prepared_path(config, band, "_astrometry.json"), truth),
            "converged": _converged(config),
        },
    }


def matched(truth: "Truth", band: str, mjd: np.ndarray) -> Any:
    """The rows of the truth of these epochs."""
    rows = truth.frames[truth.frames["filter"] == band]
    return rows[np.abs(np.asarray(rows["mjd"])[None, :] - mjd[:, None]).argmin(axis=1)]


def _in_mmag(recorded: dict[str, dict[str, Any]]) -> dict[str, float]:
    """The common errors of the images in a `flux_errors.Record`."""
    return {label: one["mmag"] for label, one in recorded.items()}


def _rows(
    comparisons: "list[Comparison]", offset: float, common_errors: dict[str, float]
) -> list[dict[str, Any]]:
    rows = []
    for one in comparisons:
        row = vars(one).copy()
        slope_error = row.pop("seeing_slope_error")
        row["bias_relative"] = one.bias - offset
        row["common_error"] = common_errors[one.label]
        # What is held fixed has no error.
        row["bias_ratio"] = row["bias_relative"] / row["common_error"] if row["common_error"] else 0.0
        row["scatter_ratio"] = one.scatter / one.photon_limit
        row["slope_ratio"] = one.seeing_slope / slope_error
        rows.append(row)
    return rows


def _relative_astrometry(path: Path, truth: "Truth") -> float:
    """RMS per axis of the positions of the images against each other, mas."""
    measured = json.loads(path.read_text())
    true = truth.image_positions()
    places = np.array([[measured[label]["ra"], measured[label]["dec"]] for label in true])
    off = (places - np.array(list(true.values()))) * [np.cos(np.radians(truth.options.lens.center[1])), 1.0]
    return float(3.6e6 * np.sqrt(np.mean((off - off.mean(axis=0)) ** 2)))


def _converged(config: "LensConfig") -> bool:
    import sqlalchemy as sa

    from lightcurver_ops.bookkeeping.engine import open_engine, reading

    engine = open_engine(config.database_url)
    with reading(engine) as connection:
        converged = connection.execute(
            sa.text("select converged from publications order by id desc limit 1")
        ).scalar_one()
    engine.dispose()
    return bool(converged)


def _fit_with_truth(
    name: str,
    config: "LensConfig",
    prepared: "PreparedCutouts",
    truth: "Truth",
    files: list[str],
    common: float,
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Columns per epoch, and common errors in mmag, of a fit with the truth in the place of some ingredients."""
    from lightcurver_ops.stages.flux_errors import common_record
    from lightcurver_ops.stages.light_curve_products import epoch_columns
    from lightcurver_ops.stages.roi_fit import fit_prepared, scene_of

    for one in name.split("+"):
        config, prepared = _replaced(one, config, prepared, truth, files, common)
    fit = fit_prepared(config, prepared, scene_of(config, prepared))
    relative = prepared.relative_normalization_error[:, None]
    uncertainty = np.hypot(fit.flux_uncertainty, np.abs(fit.flux) * relative)
    zeropoint = float(prepared.global_zeropoint)
    labels = list(config.roi.point_sources)
    recorded = common_record(labels, fit.flux, fit.common_flux_covariance)
    columns = epoch_columns(labels, fit.flux, uncertainty, zeropoint, {"mjd": prepared.mjd})
    return columns, _in_mmag(recorded)


def _replaced(
    ingredient: str,
    config: "LensConfig",
    prepared: "PreparedCutouts",
    truth: "Truth",
    files: list[str],
    common: float,
) -> "tuple[LensConfig, PreparedCutouts]":
    """Configuration and cutouts with the truth in the place of one ingredient."""
    exposures = [truth.exposure(file) for file in files]
    wanted = common * np.array([exposure.transparency for exposure in exposures])
    k = prepared.subsampling_factor
    if ingredient == "psf":
        true = truth.roi(prepared.full_psf.shape[1] // k, k, files)
        return config, replace(prepared, psf=true.narrow_psf, full_psf=true.psf, psf_slope=true.psf_slope)
    if ingredient == "coefficients":
        factor = (prepared.coefficient / wanted)[:, None, None]
        return config, replace(
            prepared,
            data=prepared.data * factor,
            noisemap=prepared.noisemap * factor,
            coefficient=wanted,
            relative_normalization_error=np.zeros(len(wanted)),
        )
    if ingredient == "positions":
        # The configuration of a simulated lens has the true ones.
        return _with_model(config, fix_point_source_astrometry=True), prepared
    size = prepared.data.shape[1]
    true = truth.roi(size + 2 * MARGIN, k, files)
    # A cutout is centred on the pixel nearest to where the solved frame has the lens, which may be the next one.
    moved = np.rint(true.translations - prepared.roi_offset).astype(int) + MARGIN
    galaxy = np.array(
        [image[y : y + size, x : x + size] for image, (x, y) in zip(true.galaxy, moved, strict=True)]
    )
    # The truth is at transparency 1.
    scale = (wanted / common / prepared.coefficient)[:, None, None]
    return (
        _with_model(config, smooth_galaxy=False, further_optimize_background=False),
        replace(prepared, data=prepared.data - galaxy * scale),
    )


def _with_model(config: "LensConfig", **keys: Any) -> "LensConfig":
    return config.model_copy(update={"roi_model": config.roi_model.model_copy(update=keys)})
