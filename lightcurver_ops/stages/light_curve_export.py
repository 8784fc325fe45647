"""A published light curve as a table with units and metadata, for the formats of `storage.exports`."""

import json
from typing import Any

from lightcurver_ops.bookkeeping import ledger
from lightcurver_ops.stages.flux_errors import pairs
from lightcurver_ops.stages.light_curve_products import Columns
from lightcurver_ops.stages.provenance import configuration_part

_FLUX, _FLUX_SQUARED, _MAG, _DAY = "electron / s", "electron2 / s2", "mag", "d"

# Name: unit, description, UCD.
_COMMON: dict[str, tuple[str | None, str, str | None]] = {
    "frame_id": (None, "number of the frame in the bookkeeping", "meta.id"),
    "mjd": (_DAY, "MJD UTC, middle of the exposure; of a night, the mean", "time.epoch"),
    "scatter_mjd": (_DAY, "standard deviation of the times in the night", "stat.stdev;time.epoch"),
    "zeropoint": (_MAG, "magnitude of 1 electron / s", "phot.mag;arith.zp"),
    "reduced_chi2": (None, "of the model in the epoch", "stat.fit.chi2"),
    "seeing": ("arcsec", "FWHM of the stars", "instr.obsty.seeing"),
    "sky_level_electron_per_second": (_FLUX, "sky per pixel", "instr.skyLevel"),
}
_PER_IMAGE: dict[str, tuple[str | None, str, str | None]] = {
    "flux": (_FLUX, "flux at normalization coefficient 1", "phot.flux"),
    "d_flux": (_FLUX, "its error, without common_errors", "stat.error;phot.flux"),
    "d_flux_model": (_FLUX, "its error before it was calibrated on control stars", "stat.error;phot.flux"),
    "scatter_flux": (_FLUX, "scatter of the fluxes in the night", "stat.stdev;phot.flux"),
    "count_flux": (None, "exposures in the mean", "meta.number;obs.exposure"),
    "mag": (_MAG, "magnitude", "phot.mag"),
    "d_mag": (_MAG, "its error, without common_errors", "stat.error;phot.mag"),
    "d_mag_down": (_MAG, "its error towards brighter", "stat.error;phot.mag"),
    "d_mag_up": (_MAG, "its error towards fainter", "stat.error;phot.mag"),
    "scatter_mag": (_MAG, "scatter of the magnitudes in the night", "stat.stdev;phot.mag"),
}


def export_of(
    lens_name: str,
    publication: dict[str, Any],
    labels: list[str],
    columns: Columns,
    per: str,
    covariance: bool = False,
) -> Any:
    """A `storage.exports.Export` of the columns per epoch or per night of a publication, its row by name.

    ``covariance``: also the columns of the covariances of images, where they are known.
    """
    from lightcurver_ops.astrometry.ephemerides import heliocentric_mjd
    from lightcurver_ops.storage.exports import Export, ExportColumn

    configuration = json.loads(publication["configuration"])
    exported = [ExportColumn(name, columns[name], *_COMMON[name]) for name in _COMMON if name in columns]
    for label in labels:
        for kind, (unit, description, ucd) in _PER_IMAGE.items():
            if (name := f"{label}_{kind}") in columns:
                exported.append(ExportColumn(name, columns[name], unit, f"image {label}: {description}", ucd))
    for name, (j, k) in pairs(labels).items() if covariance else ():
        if name in columns:
            about = (
                f"independent covariance of the fluxes of {labels[j]} and {labels[k]}, without common_errors"
            )
            exported.append(
                ExportColumn(name, columns[name], _FLUX_SQUARED, about, "stat.covariance;phot.flux")
            )
    roi, telescope = configuration["roi"], configuration.get("telescope")
    site = tuple(telescope[key] for key in ("latitude", "longitude", "elevation")) if telescope else None
    return Export(
        columns=exported,
        meta=metadata_of(lens_name, publication, labels, configuration) | {"per": per},
        labels=labels,
        mhjd=heliocentric_mjd(roi["ra"], roi["dec"], columns["mjd"], site),
        magnitudes={label: (columns[f"{label}_mag"], columns[f"{label}_d_mag"]) for label in labels},
    )


def metadata_of(
    lens_name: str, publication: Any, labels: list[str], configuration: dict[str, Any]
) -> dict[str, Any]:
    """What a file says of itself, as plain data.

    Args:
        lens_name: whose light curve.
        publication: columns of its row, by name.
        labels: of its images.
        configuration: that made it.
    """
    roi, filter_name = configuration["roi"], publication["filter"]
    band = configuration["zero_points"]["photometric_band"]
    controls = json.loads(publication["control_stars"] or "null")
    places = {label: roi["point_sources"].get(label) for label in labels}
    return {
        "lens": lens_name,
        "filter": filter_name,
        "version": publication["version"],
        "published": ledger.as_utc(publication["made_at"]).isoformat(timespec="seconds"),
        "software": f"lightcurver-ops {publication['code_version']}",
        "configuration_hash": configuration_part(configuration)["configuration_hash"],
        "time": "MJD, UTC, middle of the exposure at the telescope",
        "photometric_band": (band if isinstance(band, str) else band.get(filter_name)) or "unknown",
        "roi_deg": [roi["ra"], roi["dec"]],
        "images_deg": {label: list(place) for label, place in places.items() if place},
        "errors_calibrated": bool(controls and controls["errors_calibrated"]),
        "common_errors": _common_errors(publication),
    }


def _common_errors(publication: Any) -> dict[str, dict[str, Any]] | None:
    """By image what its points share; None: published before it was told apart, and within the errors of the points."""
    record = json.loads(publication["common_errors"] or "null")
    if record is None:
        return None
    return {
        label: {
            "flux_uncertainty": one["flux_uncertainty"],
            "mag_uncertainty": None if one["mmag"] is None else one["mmag"] / 1000,
            "flux_covariances": one["flux_covariances"],
        }
        for label, one in record.items()
    }
