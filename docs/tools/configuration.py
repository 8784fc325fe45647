"""The configuration reference, written from the models: every key, its type, unit, default, range and meaning, and
which stages are made again when it changes.
"""

import types
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from lightcurver_ops.config import LensConfig, ObservatoryConfig
from lightcurver_ops.stages.pipeline import STAGES

# Of every number: what it counts or in what it is measured. "" is a pure number.
UNITS: dict[str, str] = {
    "raw.hdu_data": "HDU, counted from 0",
    "raw.hdus_header": "HDU, counted from 0",
    "raw.header.gain.constant": "electron / ADU",
    "raw.header.exptime.constant": "s",
    "raw.header.filter.constant": "",
    "raw.read_noise.constant": "electron",
    "raw.max_pixels": "px",
    "raw.trim_vertical": "px",
    "raw.trim_horizontal": "px",
    "roi.ra": "deg, ICRS",
    "roi.dec": "deg, ICRS",
    "roi.ROI_size": "arcsec",
    "roi.point_sources": "deg, ICRS",
    "telescope.latitude": "deg, north positive",
    "telescope.longitude": "deg, east positive",
    "telescope.elevation": "m",
    "background.n_boxes": "boxes per side",
    "detection.threshold": "sigma per px",
    "detection.min_area": "px",
    "plate_solving.plate_scale_interval": "arcsec / px",
    "plate_solving.search_radius": "deg",
    "plate_solving.alternate_plate_solve_gaia_radius": "arcsec",
    "plate_solving.sip_order": "",
    "plate_solving.solve_field_timeout": "s",
    "plate_solving.max_pixel_anisotropy": "",
    "plate_solving.min_success_fraction": "",
    "stars.ROI_disk_radius_arcseconds": "arcsec",
    "stars.min_gmag": "mag, Gaia G",
    "stars.max_gmag": "mag, Gaia G",
    "stars.max_astrometric_excess_noise": "mas",
    "stars.max_astrometric_excess_noise_significance": "",
    "stars.min_phot_g_mean_flux_over_error": "",
    "stars.min_number_stars": "stars",
    "stars.stars_to_use_psf": "stars",
    "stars.stars_to_use_norm": "stars",
    "stars.stars_to_use_control": "stars",
    "catalogs.timeout_seconds": "s",
    "catalogs.job_timeout_seconds": "s",
    "catalogs.retries": "",
    "catalogs.retry_delay_seconds": "s",
    "catalogs.rows_per_answer": "stars",
    "catalogs.max_rows": "stars",
    "cutouts.stamp_size_stars": "px",
    "cutouts.stamp_size_ROI": "px",
    "cutouts.cosmics_masking_params.sigclip": "sigma",
    "cutouts.cosmics_masking_params.sigfrac": "",
    "cutouts.cosmics_masking_params.objlim": "",
    "cutouts.saturation_level": "ADU",
    "psf.subsampling_factor": "small px / px",
    "psf.n_iter_analytic": "iterations",
    "psf.n_iter_pixels": "iterations",
    "psf.min_signal_to_noise": "",
    "psf.max_elongation": "a / b",
    "psf.max_trail": "of a star's stamp",
    "psf.max_doubleness": "of the first peak",
    "psf.max_misfit": "of the light",
    "star_photometry.aperture_fwhm": "FWHM",
    "star_photometry.psf_fit_exclude_strategy.sigma_clip": "sigma",
    "star_photometry.psf_fit_exclude_strategy.interval": "reduced chi2",
    "normalization.fluxes_fit_exclude_strategy.sigma_clip": "sigma",
    "normalization.fluxes_fit_exclude_strategy.interval": "reduced chi2",
    "roi_model.constraints_on_frame_columns": "of the column",
    "publication.max_last_move": "sigma",
    "publication.max_fraction_aside": "of the epochs",
    "publication.max_chi2": "",
    "publication.min_fraction_measured": "of the epochs",
    "publication.max_error_factor": "",
    "roi_model.max_scale_difference": "of the scale",
    "roi_model.constraints_on_normalization_coefficient": "",
    "roi_model.fix_point_source_astrometry": "px",
    "roi_model.regularisation.scales": "noise sigma",
    "roi_model.regularisation.high_frequency": "noise sigma",
    "roi_model.regularisation.positivity": "noise sigma",
    "roi_model.n_iter_translations": "iterations",
    "roi_model.n_iter_all": "iterations",
    "compute.processes": "processes",
    "compute.psf_batch": "frames",
    "operations.frames_per_task": "frames",
    "operations.wait_for_frames_hours": "h",
    "operations.alert_after_nights_without_frames": "nights",
    "operations.season_overdue_hours": "h",
    "watch.poll_seconds": "s",
    "watch.settle_seconds": "s",
    "watch.gather_seconds": "s",
    "summary.sigma": "sigma",
    "pools.gpu": "slots",
    "pools.frames": "slots",
    "pools.plate_solving": "slots",
    "pools.catalogues": "slots",
    "pools.joint": "slots",
    "pools.backfill": "slots",
    "airflow.max_active_runs": "runs",
    "airflow.processes_per_task": "processes",
    "airflow.retries": "",
    "airflow.retry_delay_seconds": "s",
    "airflow.stage_timeout_hours": "h",
    "airflow.season_poll_seconds": "s",
}

# Keys of no stage that act all the same, through what they choose.
THROUGH: dict[str, str] = {
    "raw.raw_dirs": "the frames that come or go with it, and what follows from them",
    "raw.files_match_pattern": "the frames that come or go with it, and what follows from them",
    "raw.header_parser": "`read_convert_skysub_character_catalog`, whenever the content of the file changes",
    "raw.read_noise": "nothing; `read_convert_skysub_character_catalog` reads the headers again",
    "stars.gaia_catalog_file": "`query_gaia_for_stars`, whenever the content of the file changes",
    "stars.stars_to_use_psf": "`psf_modeling` of the frames whose PSF stars change",
    "stars.stars_to_exclude_psf": "`psf_modeling` of the frames whose PSF stars change",
    "stars.stars_to_use_control": "`psf_modeling` of the frames whose PSF stars change, normalization and model",
    "catalogs.gaia_table": "`query_gaia_for_stars`, with the stars of the other release",
    "catalogs.panstarrs": "`calculate_absolute_zeropoints`, with the magnitudes of the other release",
}


@dataclass(frozen=True)
class Key:
    """A key of a configuration file."""

    name: str
    """Dotted."""
    field: FieldInfo
    section: type[BaseModel] | None
    """The model of a group of keys; None: a single value."""


def keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Every key of a model, groups before what is in them."""
    for name, field in model.model_fields.items():
        section = _section_of(field.annotation)
        yield Key(prefix + name, field, section)
        if section is not None:
            yield from keys_of(section, f"{prefix}{name}.")


def made_again(key: str) -> list[str]:
    """Names of the stages whose products a change of this key makes out of date."""
    return [
        stage.name
        for stage in STAGES
        if any(
            key == one or key.startswith(f"{one}.") or one.startswith(f"{key}.") for one in stage.config_keys
        )
    ]


def is_number(key: Key) -> bool:
    """Whether the key takes a number, alone or in a list or interval."""
    return bool({int, float} & set(_plain_types(key.field.annotation)))


def reference() -> str:
    """The page, Markdown."""
    return "\n".join(
        [
            _HEAD,
            *_part("A lens", LensConfig, _LENS),
            *_part("An observatory", ObservatoryConfig, _OBSERVATORY),
        ]
    )


_HEAD = """\
# Configuration reference

Written from the models of `lightcurver_ops/config` when this site is built: what is here is what the program takes.
`lcops init` writes the same as a commented file. An unknown key is an error. Relative paths are relative to the file
that holds them.

**Made again** names the stages whose products are out of date when the key changes; what follows from these products is
made again, too, and nothing else. `lcops status` shows it before anything runs.
"""
_LENS = "One YAML file per lens. `observatory: ../observatory.yaml` in it takes the `defaults:` of that file."
_OBSERVATORY = (
    "The file that `LCOPS_OBSERVATORY` names. No key of it changes a result, but those under `defaults:`, "
    "which are keys of the lenses."
)


def _part(title: str, model: type[BaseModel], text: str) -> Iterator[str]:
    yield f"## {title}\n\n{text}\n"
    keys = list(keys_of(model))
    groups = {key.name for key in keys if key.section is not None and "." not in key.name}
    yield "### Not in a group\n"
    yield from (_described(key, model) for key in keys if key.name.split(".")[0] not in groups)
    for key in keys:
        if key.name in groups and key.section is not None:
            yield f"### {key.name}:\n\n{(key.section.__doc__ or '').strip()}\n"
            yield from (_described(one, model) for one in keys if one.name.startswith(f"{key.name}."))


def _described(key: Key, model: type[BaseModel]) -> str:
    facts = [f"*type:* {_type_of(key)}"]
    if unit := UNITS.get(key.name):
        facts.append(f"*unit:* {unit}")
    facts.append("**required**" if key.field.is_required() else f"*default:* `{_default(key.field)}`")
    lines = [f"#### `{key.name}`", " ".join((key.field.description or "").split()), " · ".join(facts)]
    if model is LensConfig:
        stages = ", ".join(f"`{name}`" for name in made_again(key.name))
        lines.append(f"*made again:* {stages or THROUGH.get(key.name, 'nothing')}")
    return "\n\n".join(lines) + "\n"


def _type_of(key: Key) -> str:
    if key.section is not None:
        optional = type(None) in typing.get_args(key.field.annotation)
        return f"group `{key.section.__name__}`" + (", or null" if optional else "")
    return _type(key.field.annotation, tuple(key.field.metadata))


def _type(annotation: Any, limits: tuple[Any, ...] = ()) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _type(arguments[0], (*_flat(arguments[1:]), *limits))
    if origin is typing.Literal:
        return " or ".join(f"`{one}`" for one in arguments)
    if origin in (typing.Union, types.UnionType):
        parts = [_type(one) for one in arguments if one is not type(None)]
        null = ["`null`"] if type(None) in arguments else []
        return ", or ".join([*parts, *null]) + _said(limits)
    if origin is list:
        return f"list of {_type(arguments[0])}" + _said(limits)
    if origin is dict:
        return f"mapping of {_type(arguments[0])} to {_type(arguments[1])}" + _said(limits)
    if origin is tuple:
        return f"[{', '.join(_type(one) for one in arguments)}]" + _said(limits)
    return _NAMES.get(annotation, getattr(annotation, "__name__", str(annotation))) + _said(limits)


_NAMES = {int: "integer", float: "number", str: "text", bool: "true or false", Path: "path", Any: "anything"}


def _flat(metadata: tuple[Any, ...]) -> Iterator[Any]:
    for one in metadata:
        yield from one.metadata if isinstance(one, FieldInfo) else (one,)


def _said(limits: tuple[Any, ...]) -> str:
    counted = "characters" if any(getattr(one, "pattern", None) for one in limits) else "of them"
    said = []
    for one in limits:
        for name, words in _LIMITS.items():
            if (value := getattr(one, name, None)) is not None:
                said.append(words.format(value, counted=counted))
        if getattr(one, "func", None) is not None and one.func.__name__ in _CHECKS:
            said.append(_CHECKS[one.func.__name__])
    return f" ({', '.join(said)})" if said else ""


# By the attribute that holds it in what pydantic and annotated_types keep.
_LIMITS = {
    "ge": "at least {:g}",
    "gt": "above {:g}",
    "le": "at most {:g}",
    "lt": "below {:g}",
    "multiple_of": "a multiple of {:g}",
    "min_length": "at least {} {counted}",
    "max_length": "at most {} {counted}",
    "pattern": "matching `{}`",
}
_CHECKS = {
    "_ordered": "the smaller first",
    "_known_timezone": "an IANA name",
    "_without_credentials": "without a password",
}


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    plain = default.model_dump(mode="json", exclude_none=True) if isinstance(default, BaseModel) else default
    plain = list(plain) if isinstance(plain, tuple) else plain
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, allow_unicode=True, width=10_000)
    return text.removesuffix("\n").removesuffix("...").rstrip()


def _section_of(annotation: Any) -> type[BaseModel] | None:
    candidates = [annotation, *typing.get_args(annotation)]
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)


def _plain_types(annotation: Any) -> Iterator[Any]:
    if arguments := typing.get_args(annotation):
        if typing.get_origin(annotation) is not typing.Literal:
            for one in arguments:
                yield from _plain_types(one)
    else:
        yield annotation
