"""The files of stage 11: light curves per epoch and per night, astrometry, high-resolution images."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from lightcurver_ops.bookkeeping import photometry
from lightcurver_ops.config import LensConfig
from lightcurver_ops.constants import POGSON
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.flux_errors import FluxErrors, Record, pairs

Columns = dict[str, NDArray]


def epoch_columns(
    labels: list[str],
    flux: NDArray[np.float64],
    uncertainty: NDArray[np.float64],
    zeropoint: float,
    common: Columns,
    model_uncertainty: NDArray[np.float64] | None = None,
    covariance: NDArray[np.float64] | None = None,
) -> Columns:
    """The columns of the table per epoch: the common ones, then flux and magnitude of each image.

    ``model_uncertainty``: what the uncertainties were before they were calibrated on control stars, if they were.
    ``covariance``: [E, J, J] of the fluxes of an epoch, for columns of the pairs of images.
    """
    from lightcurver_ops.numerics.nights import magnitudes

    columns = dict(common)
    mags = magnitudes(flux, uncertainty, zeropoint)
    for j, label in enumerate(labels):
        columns |= {
            f"{label}_flux": flux[:, j],
            f"{label}_d_flux": uncertainty[:, j],
            f"{label}_mag": mags.mag[:, j],
            f"{label}_d_mag": mags.d_mag[:, j],
            f"{label}_d_mag_down": mags.d_mag_down[:, j],
            f"{label}_d_mag_up": mags.d_mag_up[:, j],
        }
        if model_uncertainty is not None:
            columns[f"{label}_d_flux_model"] = model_uncertainty[:, j]
    return columns | _of_pairs(labels, covariance)


def _of_pairs(labels: list[str], covariance: NDArray[np.float64] | None) -> Columns:
    if covariance is None:
        return {}
    return {name: covariance[:, j, k] for name, (j, k) in pairs(labels).items()}


def night_columns(
    labels: list[str],
    flux: NDArray[np.float64],
    uncertainty: NDArray[np.float64],
    zeropoint: float,
    common: Columns,
    covariance: NDArray[np.float64] | None = None,
) -> Columns:
    """The columns of the table per night; ``common`` are epoch columns to be averaged, mjd among them.

    ``covariance``: as `epoch_columns`.
    """
    from lightcurver_ops.numerics.nights import combine_nights, magnitudes

    nights = combine_nights(flux, uncertainty, common["mjd"])
    columns: Columns = {"mjd": nights.mjd, "scatter_mjd": nights.scatter_mjd}
    columns |= {
        name: nights.mean_of(values) for name, values in common.items() if name not in ("mjd", "frame_id")
    }
    mags = magnitudes(nights.flux, nights.d_flux, zeropoint)
    for j, label in enumerate(labels):
        with np.errstate(invalid="ignore", divide="ignore"):
            scatter_mag = POGSON * nights.scatter_flux[:, j] / nights.flux[:, j]
        columns |= {
            f"{label}_flux": nights.flux[:, j],
            f"{label}_d_flux": nights.d_flux[:, j],
            f"{label}_scatter_flux": nights.scatter_flux[:, j],
            f"{label}_count_flux": nights.count[:, j],
            f"{label}_mag": mags.mag[:, j],
            f"{label}_d_mag": mags.d_mag[:, j],
            f"{label}_d_mag_down": mags.d_mag_down[:, j],
            f"{label}_d_mag_up": mags.d_mag_up[:, j],
            f"{label}_scatter_mag": np.where(np.isfinite(mags.mag[:, j]), scatter_mag, np.nan),
        }
    return columns | _of_pairs(labels, None if covariance is None else nights.covariance_of(covariance))


def published_columns(connection: sa.Connection, publication_id: int) -> tuple[list[str], Columns, Columns]:
    """The labels of the images of a publication, and its tables per epoch and per night."""
    points = photometry.points_of(connection, publication_id)
    labels = list(dict.fromkeys(point.source for point in points))
    first = {point.frame_number: point for point in points}
    order = {number: e for e, number in enumerate(first)}
    flux = np.full((len(order), len(labels)), np.nan)
    uncertainty, of_model = flux.copy(), flux.copy()
    covariances = np.full((len(order), len(labels), len(labels)), np.nan)
    for point in points:
        epoch, image = place = order[point.frame_number], labels.index(point.source)
        flux[place], uncertainty[place] = point.flux, point.flux_uncertainty
        if point.flux_uncertainty_model is not None:
            of_model[place] = point.flux_uncertainty_model
        for label, value in json.loads(point.flux_covariances or "{}").items():
            other = labels.index(label)
            covariances[epoch, image, other] = covariances[epoch, other, image] = value
    known = [point.zeropoint for point in points if point.zeropoint is not None]
    zeropoint = known[0] if known else float("nan")
    common = {
        "frame_id": np.array(list(order)),
        "mjd": np.array([point.mjd for point in first.values()]),
        "zeropoint": np.full(len(order), zeropoint),
        "reduced_chi2": np.array([point.reduced_chi2 for point in first.values()]),
    }
    model_uncertainty = of_model if np.isfinite(of_model).any() else None
    covariance = covariances if np.isfinite(covariances).any() else None
    epochs = epoch_columns(labels, flux, uncertainty, zeropoint, common, model_uncertainty, covariance)
    nights = night_columns(labels, flux, uncertainty, zeropoint, common, covariance)
    return labels, epochs, nights


def write_light_curves(
    config: LensConfig,
    filter_name: str,
    labels: list[str],
    prepared: Any,
    fit: Any,
    errors: FluxErrors,
    common_errors: Record,
) -> tuple[Columns, Columns]:
    """Write both tables, and beside them the common errors; returns their columns and those of covariances."""
    from lightcurver_ops.storage.tables import write_json, write_table

    epochs, nights = _measured_columns(labels, prepared, fit, errors)
    for columns, kind in ((epochs, "epoch"), (nights, "night")):
        path = prepared_path(config, filter_name, f"_photometry_per_{kind}.csv")
        write_table(path, _without_pairs(labels, columns))
    write_json(prepared_path(config, filter_name, "_common_errors.json"), common_errors)
    return epochs, nights


def write_epochs(path: Path, labels: list[str], prepared: Any, fit: Any, errors: FluxErrors) -> None:
    """Write the table per epoch alone."""
    from lightcurver_ops.storage.tables import write_table

    epochs, _ = _measured_columns(labels, prepared, fit, errors)
    write_table(path, _without_pairs(labels, epochs))


def _without_pairs(labels: list[str], columns: Columns) -> Columns:
    return {name: values for name, values in columns.items() if name not in pairs(labels)}


def _measured_columns(
    labels: list[str], prepared: Any, fit: Any, errors: FluxErrors
) -> tuple[Columns, Columns]:
    count = len(prepared.mjd)
    common = {
        "frame_id": prepared.frame_id,
        "mjd": prepared.mjd,
        "zeropoint": np.full(count, float(prepared.global_zeropoint)),
        "reduced_chi2": fit.chi2,
        "seeing": prepared.seeing,
        "sky_level_electron_per_second": prepared.sky_level_electron_per_second,
    }
    zeropoint = float(prepared.global_zeropoint)
    measured = labels, fit.flux, errors.uncertainty, zeropoint, common
    epochs = epoch_columns(*measured, errors.of_model, errors.independent)
    return epochs, night_columns(*measured, errors.independent)


def write_scene(
    config: LensConfig, filter_name: str, labels: list[str], prepared: Any, fit: Any, reference: Any
) -> None:
    """Write astrometry, the high-resolution model and the background."""
    from lightcurver_ops.numerics.roi.render import high_resolution_sources
    from lightcurver_ops.storage import images
    from lightcurver_ops.storage.frames import centred_wcs, wcs_of
    from lightcurver_ops.storage.tables import write_json

    wcs = wcs_of(reference)
    size = prepared.data.shape[1]
    x0, y0 = wcs.world_to_pixel_values(config.roi.ra, config.roi.dec)
    ra, dec = wcs.pixel_to_world_values(x0 + fit.positions[:, 0], y0 + fit.positions[:, 1])
    arcsec = float(np.median(prepared.pixel_scale))
    astrometry = {
        label: {
            "ra": float(ra[j]),
            "dec": float(dec[j]),
            "x_pixels": float(fit.positions[j, 0]),
            "y_pixels": float(fit.positions[j, 1]),
            "uncertainty_arcsec": [float(value * arcsec) for value in fit.positions_uncertainty[j]],
        }
        for j, label in enumerate(labels)
    }
    write_json(prepared_path(config, filter_name, "_astrometry.json"), astrometry)
    header = centred_wcs(reference, config.roi.ra, config.roi.dec, size)
    mean = np.nanmean(fit.flux, axis=0) if len(labels) else np.zeros(0)
    sources = high_resolution_sources(fit.positions, mean, size, prepared.subsampling_factor)
    zeropoint = float(prepared.global_zeropoint)
    for ending, image in (
        (images.BACKGROUND, fit.background),
        (images.HIGH_RES_MODEL, fit.background + sources),
    ):
        images.write_model_image(
            prepared_path(config, filter_name, ending), image, header, prepared.subsampling_factor, zeropoint
        )
