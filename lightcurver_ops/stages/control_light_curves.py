"""The light curves of the control stars, and what they say of the errors of the lens's."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from lightcurver_ops.config import LensConfig
from lightcurver_ops.constants import POGSON
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.control_stars import Controls
from lightcurver_ops.stages.flux_errors import quoted_errors
from lightcurver_ops.stages.light_curve_products import Columns
from lightcurver_ops.stages.prepare_calibrated_cutouts import control_path
from lightcurver_ops.stages.roi_fit import Scene

Fit = Callable[[LensConfig, Any, Scene, str], Any]
"""Configuration, prepared cutouts, scene, name of what is fitted -> `numerics.roi.result.RoiFit`."""


@dataclass(frozen=True)
class ControlCurve:
    """A control star, measured as the lens is: flux, independent uncertainty [E] e-/s at coefficient 1;
    scatter: a `numerics.controls.ControlScatter`, None with fewer than 5 epochs."""

    star: sa.Row
    prepared: Any
    flux: NDArray[np.float64]
    uncertainty: NDArray[np.float64]
    scatter: Any


@dataclass(frozen=True)
class ControlResult:
    """All control stars of a filter, and their factor: a `numerics.controls.ErrorFactor`, None where none says it."""

    controls: Controls
    curves: list[ControlCurve]
    factor: Any

    @property
    def scale(self) -> float | None:
        """What errors are to be multiplied by; None: nothing is known."""
        return None if self.factor is None else self.factor.value


def measure_controls(config: LensConfig, filter_name: str, controls: Controls, fit: Fit) -> ControlResult:
    """Fit the prepared cutouts of each control star as those of the lens, and compare scatter with errors."""
    from lightcurver_ops.numerics.controls import control_scatter, error_factor
    from lightcurver_ops.storage import prepared as prepared_files

    curves = []
    for star in controls.stars:
        path = control_path(config, filter_name, star.name)
        if not path.exists():  # the star lies in no frame of this filter
            continue
        # What is farther away tells nothing of a single star, and costs most of the time.
        prepared = prepared_files.central(prepared_files.read_prepared(path), config.cutouts.stamp_size_stars)
        ra, dec = _place(star, prepared.mjd[0])
        scene = Scene(prepared, ra, dec, {star.name: (ra, dec)})
        result = fit(_of_a_star(config), prepared, scene, f"control_{star.name}")
        flux, uncertainty = result.flux[:, 0], quoted_errors(prepared, result).uncertainty[:, 0]
        scatter = control_scatter(flux, uncertainty, prepared.mjd, prepared.seeing)
        curves.append(ControlCurve(star, prepared, flux, uncertainty, scatter))
    known = [curve.scatter for curve in curves if curve.scatter is not None]
    return ControlResult(controls, curves, error_factor(known))


def control_record(result: ControlResult, applied: bool) -> dict[str, Any] | None:
    """What `publications.control_stars` and the JSON file hold; None where no star was measured at all.

    Args:
        result: of a filter.
        applied: whether the errors of the light curve were multiplied by the factor.
    """
    if not result.curves:
        return None
    agrees = iter(result.factor.agrees if result.factor is not None else ())
    return {
        "error_factor": result.scale,
        "error_factor_uncertainty": None if result.factor is None else result.factor.uncertainty,
        "errors_calibrated": applied,
        "stars": [
            {
                "name": curve.star.name,
                "gaia_id": curve.star.gaia_id,
                "gmag": curve.star.gmag,
                "epochs": int(np.isfinite(curve.flux).sum()),
                **(_numbers(curve.scatter, next(agrees)) if curve.scatter is not None else {}),
            }
            for curve in result.curves
        ],
    }


def control_line(record: dict[str, Any]) -> str:
    """A `control_record` in one line."""
    names = ", ".join(star["name"] for star in record["stars"])
    called = f"control star{'s' if len(record['stars']) > 1 else ''} {names}"
    if record["error_factor"] is None:
        return f"{called}: too few epochs to judge the errors"
    line = (
        f"{called}: scatter / quoted error {record['error_factor']:.2f} +- "
        f"{record['error_factor_uncertainty']:.2f}"
    )
    clipped, epochs = (sum(star.get(key, 0) for star in record["stars"]) for key in ("clipped", "epochs"))
    if clipped:
        line += f", {clipped} of {epochs} epochs left out as outliers"
    others = [
        f"{star['name']}: {star['ratio']:.2f}" for star in record["stars"] if not star.get("agrees", True)
    ]
    if others:
        line += f" (without {', '.join(others)}: variable or disturbed)"
    return line + (", errors multiplied by it" if record["errors_calibrated"] else "")


def control_columns(curves: list[ControlCurve]) -> Columns:
    """The table per epoch of the control stars; NaN where a star is not in a frame."""
    from lightcurver_ops.numerics.nights import magnitudes

    rows = sorted(
        {
            (float(curve.prepared.mjd[e]), int(frame), float(curve.prepared.seeing[e]))
            for curve in curves
            for e, frame in enumerate(curve.prepared.frame_id)
        }
    )
    line = {frame: e for e, (_, frame, _) in enumerate(rows)}
    columns: Columns = {
        "frame_id": np.array([frame for _, frame, _ in rows]),
        "mjd": np.array([mjd for mjd, _, _ in rows]),
        "seeing": np.array([seeing for _, _, seeing in rows]),
    }
    for curve in curves:
        flux, uncertainty = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
        here = [line[int(frame)] for frame in curve.prepared.frame_id]
        flux[here], uncertainty[here] = curve.flux, curve.uncertainty
        mags = magnitudes(flux, uncertainty, float(curve.prepared.global_zeropoint))
        columns |= {
            f"{curve.star.name}_flux": flux,
            f"{curve.star.name}_d_flux": uncertainty,
            f"{curve.star.name}_mag": mags.mag,
            f"{curve.star.name}_d_mag": mags.d_mag,
        }
    return columns


def write_controls(
    config: LensConfig, filter_name: str, result: ControlResult, record: dict[str, Any] | None
) -> None:
    """Write the light curves of the control stars and what follows from them; without any, no file stays."""
    from lightcurver_ops.storage.tables import write_json, write_table

    table, summary = (
        prepared_path(config, filter_name, f"_control_stars.{kind}") for kind in ("csv", "json")
    )
    if record is None:
        table.unlink(missing_ok=True)
        summary.unlink(missing_ok=True)
        return
    write_table(table, control_columns(result.curves))
    write_json(summary, record)


def control_residuals(result: ControlResult) -> dict[str, tuple[NDArray, NDArray, NDArray]]:
    """For the figure: by name mjd, residual and quoted error [E], mmag."""

    return {
        curve.star.name: (
            curve.prepared.mjd,
            -1000 * POGSON * (curve.flux / curve.scatter.flux - 1),
            1000 * POGSON * curve.uncertainty / curve.scatter.flux,
        )
        for curve in result.curves
        if curve.scatter is not None
    }


def _place(star: sa.Row, mjd: float) -> tuple[float, float]:
    """Right ascension and declination at a date, degrees."""
    from lightcurver_ops.catalogs.motion import positions_at
    from lightcurver_ops.stages.star_columns import star_column

    ra, dec, pmra, pmdec, ref_epoch = (
        star_column([star], name) for name in ("ra", "dec", "pmra", "pmdec", "ref_epoch")
    )
    ra, dec = positions_at(ra, dec, pmra, pmdec, ref_epoch, mjd)
    return float(ra[0]), float(dec[0])


def _of_a_star(config: LensConfig) -> LensConfig:
    """The configuration by which a control star is fitted: with neither the lens's background nor its galaxy."""
    changed = {"starting_background": None, "smooth_galaxy": False}
    return config.model_copy(update={"roi_model": config.roi_model.model_copy(update=changed)})


def _numbers(scatter: Any, agrees: bool) -> dict[str, Any]:
    """The statistics of a star as plain numbers; None where there is none."""
    plain = {
        name: getattr(scatter, name)
        for name in (
            "clipped",
            "scatter_mmag",
            "quoted_mmag",
            "ratio",
            "ratio_uncertainty",
            "robust_ratio",
            "chi2",
        )
    }
    trends = {"mmag_per_100_days": scatter.with_time, "mmag_per_arcsec_of_seeing": scatter.with_seeing}
    for name, trend in trends.items():
        known = math.isfinite(trend.slope)
        plain[name] = trend.slope if known else None
        plain[f"{name}_uncertainty"] = trend.uncertainty if known else None
    return {**plain, "agrees": agrees}
