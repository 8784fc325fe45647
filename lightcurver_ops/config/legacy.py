"""Configurations of the original system: flat keys, mapped to our groups with a notice of what became what.

Only the names of the keys are the original's (its tutorial's example configuration); see the README for what
behaves differently.
"""

from typing import Any

_MAP: dict[str, str] = {
    "workdir": "workdir",
    "raw_dirs": "raw.raw_dirs",
    "files_match_pattern": "raw.files_match_pattern",
    "hdu_data_index": "raw.hdu_data",
    "hdu_header_index": "raw.hdus_header",
    "trim_vertical": "raw.trim_vertical",
    "trim_horizontal": "raw.trim_horizontal",
    "multiprocessing_cpu_count": "compute.processes",
    "ROI_size": "roi.ROI_size",
    "point_sources": "roi.point_sources",
    "do_background_subtraction": "background.do_background_subtraction",
    "mask_sources_before_background": "background.mask_sources_before_background",
    "background_estimation_n_boxes": "background.n_boxes",
    "n_boxes": "background.n_boxes",
    "source_extraction_threshold": "detection.threshold",
    "source_extraction_min_area": "detection.min_area",
    "source_extraction_do_plots": "detection.do_plots",
    "plate_solve_frames": "plate_solving.frames",
    "already_plate_solved": "plate_solving.already_plate_solved",
    "plate_solving_strategy": "plate_solving.strategy",
    "reference_frame_for_wcs": "plate_solving.reference_frame",
    "plate_scale_interval": "plate_solving.plate_scale_interval",
    "alternate_plate_solve_gaia_radius": "plate_solving.alternate_plate_solve_gaia_radius",
    "max_pixel_anisotropy": "plate_solving.max_pixel_anisotropy",
    "plate_solving_min_success_fraction": "plate_solving.min_success_fraction",
    "star_selection_strategy": "stars.strategy",
    "ROI_disk_radius_arcseconds": "stars.ROI_disk_radius_arcseconds",
    "star_min_gmag": "stars.min_gmag",
    "star_max_gmag": "stars.max_gmag",
    "star_max_astrometric_excess_noise": "stars.max_astrometric_excess_noise",
    "star_max_astrometric_excess_noise_significance": "stars.max_astrometric_excess_noise_significance",
    "min_phot_g_mean_flux_over_error": "stars.min_phot_g_mean_flux_over_error",
    "min_number_stars": "stars.min_number_stars",
    "gaia_provider": "stars.gaia_provider",
    "gaia_catalog_file": "stars.gaia_catalog_file",
    "stars_to_use_psf": "stars.stars_to_use_psf",
    "stars_to_exclude_psf": "stars.stars_to_exclude_psf",
    "stars_to_use_norm": "stars.stars_to_use_norm",
    "stars_to_exclude_norm": "stars.stars_to_exclude_norm",
    "stamp_size_stars": "cutouts.stamp_size_stars",
    "stamp_size_ROI": "cutouts.stamp_size_ROI",
    "mask_bad_rows_and_columns": "cutouts.mask_bad_rows_and_columns",
    "clean_cosmics": "cutouts.clean_cosmics",
    "cosmics_masking_params": "cutouts.cosmics_masking_params",
    "subsampling_factor": "psf.subsampling_factor",
    "field_distortion": "psf.field_distortion",
    "psf_n_iter_analytic": "psf.n_iter_analytic",
    "psf_n_iter_pixels": "psf.n_iter_pixels",
    "psf_fit_exclude_strategy": "star_photometry.psf_fit_exclude_strategy",
    "star_photometry_uniform_background_per_epoch": "star_photometry.uniform_background_per_epoch",
    "star_photometry_starlet_global_background": "star_photometry.starlet_global_background",
    "fluxes_fit_exclude_strategy": "normalization.fluxes_fit_exclude_strategy",
    "photometric_band": "zero_points.photometric_band",
    "constraints_on_frame_columns_for_roi": "roi_model.constraints_on_frame_columns",
    "do_ROI_model": "roi_model.do_ROI_model",
    "fix_point_source_astrometry": "roi_model.fix_point_source_astrometry",
    "starting_background": "roi_model.starting_background",
    "further_optimize_background": "roi_model.further_optimize_background",
    "roi_deconv_translations_iters": "roi_model.n_iter_translations",
    "roi_deconv_all_iters": "roi_model.n_iter_all",
}

_NOT_NEEDED: dict[str, str] = {
    "redo": "what is out of date is found by itself; `lcops run --redo STAGE` forces a stage",
    "redo_psf": "`lcops run --redo psf_modeling` forces it",
    "redo_star_photometry": "`lcops run --redo star_photometry` forces it",
    "redo_stamp_extraction": "`lcops run --redo stamp_extraction` forces it",
    "gaia_query_redo": "a changed cut, region or catalogue makes a new selection by itself",
    "star_deconv_n_iter": "star photometry runs to convergence",
    "astrometry_net_api_key": "put the key into a file and name it in plate_solving.astrometry_net_api_key_file",
    "prepared_roi_cutouts_path": "always <workdir>/prepared_roi_cutouts",
}

_MARKERS = {"ROI", *(key for key, new in _MAP.items() if key != new)}


def is_legacy(content: dict[str, Any]) -> bool:
    """True where the file has keys that only the original's flat layout has."""
    return "roi" not in content and "raw" not in content and any(key in _MARKERS for key in content)


def translate(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The same configuration in our layout, and a notice per key that was moved, dropped or changed.

    Keys that neither system knows are kept, so that validation reports them.
    """
    translated: dict[str, Any] = {}
    notices: list[str] = []
    for key, value in content.items():
        if key in _MAP:
            new_value = _converted(key, value)
            _put(translated, _MAP[key], new_value)
            if key != _MAP[key]:
                changed = (
                    "" if new_value == value and type(new_value) is type(value) else f" (as {new_value!r})"
                )
                notices.append(f"{key} is now {_MAP[key]}{changed}")
        elif key in _NOT_NEEDED:
            notices.append(f"{key} is not used: {_NOT_NEEDED[key]}")
        elif key == "ROI":
            notices += _roi(translated, value)
        elif key == "telescope":
            notices += _telescope(translated, value)
        elif key == "constraints_on_normalization_coeff":
            interval = value.get("coefficient") if isinstance(value, dict) else value
            _put(translated, "roi_model.constraints_on_normalization_coefficient", interval)
            notices.append(f"{key}.coefficient is now roi_model.constraints_on_normalization_coefficient")
        else:
            translated[key] = value
    if "workdir" in content and "header_parser" not in translated.get("raw", {}):
        _put(translated, "raw.header_parser", f"{content['workdir']}/header_parser/parse_header.py")
        notices.append("raw.header_parser is <workdir>/header_parser/parse_header.py, as before")
    return translated, notices


def _put(target: dict[str, Any], dotted: str, value: Any) -> None:
    *groups, last = dotted.split(".")
    for group in groups:
        target = target.setdefault(group, {})
        if not isinstance(target, dict):
            return  # a group that is none: validation reports it
    target[last] = value


def _converted(key: str, value: Any) -> Any:
    if key == "hdu_header_index" and isinstance(value, int):
        return [value]
    if key.endswith("_exclude_strategy") and isinstance(value, dict) and "threshold" in value:
        return {"interval": value["threshold"]}
    if key.startswith(("stars_to_use", "stars_to_exclude")) and isinstance(value, str):
        return list(value)
    if key.startswith("stars_to_exclude") and value is None:
        return []
    if value in (0, 1) and not isinstance(value, bool) and key in _BOOLEANS:
        return bool(value)
    if key == "reference_frame_for_wcs" and value is not None:
        return str(value)
    return value


_BOOLEANS = {
    "already_plate_solved", "source_extraction_do_plots", "mask_sources_before_background", "clean_cosmics",
    "mask_bad_rows_and_columns", "field_distortion", "do_ROI_model", "further_optimize_background",
    "do_background_subtraction",
}  # fmt: skip


def _roi(target: dict[str, Any], value: Any) -> list[str]:
    if not (isinstance(value, dict) and len(value) == 1):
        target["ROI"] = value
        return []
    ((name, roi),) = value.items()
    coordinates = roi.get("coordinates") if isinstance(roi, dict) else None
    if not (isinstance(coordinates, list) and coordinates):
        coordinates = [coordinates, coordinates]
    _put(target, "roi.name", name)
    _put(target, "roi.ra", coordinates[0])
    _put(target, "roi.dec", coordinates[-1])
    target.setdefault("name", name)
    return [f"ROI.{name}.coordinates is now roi.ra and roi.dec; name and roi.name are {name}"]


def _telescope(target: dict[str, Any], value: Any) -> list[str]:
    if not isinstance(value, dict) or "imager_name" not in value:
        target["telescope"] = value
        return []
    target["telescope"] = {("imager" if key == "imager_name" else key): item for key, item in value.items()}
    return ["telescope.imager_name is now telescope.imager"]
