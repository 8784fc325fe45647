"""The lens configuration that fits a simulated season: an example of one, and ready to run."""

import math
from pathlib import Path

from lightcurver_ops.config.template import lens_template
from lightcurver_ops.simulation.truth import Truth


def write_lens_file(truth: Truth, path: Path | None = None) -> Path:
    """Write the YAML file of a season, beside its raw frames unless told otherwise; returns its path.

    The working directory is ``work`` beside the file.
    """
    options = truth.options
    path = path or truth.directory / f"{options.name}.yaml"
    ra, dec = options.lens.center
    scale = options.plate_scale
    bands = {one.name: _band(one.name) for one in options.filters}
    half_side = 0.5 * min(options.shape) * scale
    # The images, and the light of the galaxy 3.2 arcsec around them.
    extent = 2 * max((max(abs(one) for one in place) for place in options.lens.offsets_arcsec), default=1.0)
    stamp = 2 * math.ceil(0.5 * (extent + 6.4) / scale)
    values = {
        "name": options.name,
        "workdir": "./work",
        "raw": {"raw_dirs": [str(truth.directory.absolute() / "raw")]},
        "roi": {
            "ra": ra,
            "dec": dec,
            "ROI_size": round(max(5.0, extent + 2.0), 1),
            "point_sources": truth.image_positions(),
        },
        "telescope": {
            "name": "simulated telescope",
            "latitude": options.latitude,
            "longitude": options.longitude,
            "elevation": 2400.0,
        },
        "plate_solving": {
            "already_plate_solved": options.with_wcs,
            "plate_scale_interval": [round(0.9 * scale, 4), round(1.1 * scale, 4)],
            "search_radius": 0.1,
        },
        "stars": {
            "ROI_disk_radius_arcseconds": round(1.3 * half_side, 1),
            "min_gmag": 16.5,
            "max_gmag": 19.5,
            "max_astrometric_excess_noise": 3.0,
            "gaia_provider": "file",
            "gaia_catalog_file": str(truth.directory.absolute() / "catalogue.ecsv"),
        },
        "cutouts": {"stamp_size_ROI": stamp, "saturation_level": options.detector.saturation_adu},
        "zero_points": {"photometric_band": bands if len(bands) > 1 else next(iter(bands.values()))},
    }
    path.write_text(lens_template(values), encoding="utf-8")
    return path


def _band(filter_name: str) -> str:
    return {"g": "g_sdss", "r": "r_sdss", "i": "i_sdss"}.get(filter_name, "r_sdss")
