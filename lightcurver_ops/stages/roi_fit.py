"""The joint model of prepared cutouts, as a lens's configuration asks for it."""

import logging
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import TemporaryFailure
from lightcurver_ops.stages.compilation import keep_compiled_code
from lightcurver_ops.stages.given_background import given_background

log = logging.getLogger(__name__)

SKY_SIGMA = 0.3  # of a pixel's noise: what the sky subtraction of a frame may have left
COEFFICIENT_SLACK = 0.1  # of its uncertainty, that a coefficient may move before its epoch counts as changed


class Scene:
    """The sky around the ROI in the pixels of the first epoch, and how the other epochs are turned against it."""

    # A frame turned by less than this moves no pixel of the stamp visibly: its angle is measurement noise. Angles are
    # rounded by no more: what is turned alike is rendered together.
    NEGLIGIBLE_PX = 0.02

    def __init__(self, prepared: Any, ra: float, dec: float, point_sources: dict[str, tuple[float, float]]):
        from lightcurver_ops.storage.frames import wcs_of

        self.reference = prepared.wcs[0]
        wcs = wcs_of(self.reference)
        x0, y0 = wcs.world_to_pixel_values(ra, dec)
        sky = np.array(list(point_sources.values()), dtype=float).reshape(-1, 2)
        x, y = wcs.world_to_pixel_values(sky[:, 0], sky[:, 1])
        self.positions = np.column_stack([x - x0, y - y0])
        half = prepared.data.shape[1] / 2
        angle = np.radians(prepared.angle_to_north - prepared.angle_to_north[0])
        angle = (angle + np.pi) % (2 * np.pi) - np.pi
        step = 2 * self.NEGLIGIBLE_PX / half
        self.rotation = step * np.round(angle / step)


def scene_of(config: LensConfig, prepared: Any) -> Scene:
    """The scene of a lens."""
    return Scene(prepared, config.roi.ra, config.roi.dec, config.roi.point_sources)


def fit_prepared(config: LensConfig, prepared: Any, scene: Scene, memory: Path | None = None) -> Any:
    """Fit the joint model to prepared cutouts; returns a `numerics.roi.result.RoiFit`.

    Args:
        config: of the lens.
        prepared, scene: the cutouts, and what is in them.
        memory: file of what an earlier fit knew, which makes this one an update where it serves, and of what this one
            knows; None: a fit from scratch that leaves nothing.

    Raises:
        ConfigurationError: the starting background cannot be used.
    """
    from lightcurver_ops.numerics.roi.fit import fit_roi
    from lightcurver_ops.numerics.roi.result import RoiOptions

    settings = config.roi_model
    if settings.method == "aperture":
        from lightcurver_ops.numerics.roi.aperture import fit_in_aperture

        return fit_in_aperture(
            prepared.data,
            np.where(prepared.good, prepared.noisemap, 1.0),
            prepared.good,
            prepared.full_psf,
            prepared.aperture_radius,
            subsampling=prepared.subsampling_factor,
            expected=prepared.roi_offset,
            rotation=scene.rotation,
            uniform_background=settings.uniform_background_per_epoch,
        )
    strengths = settings.regularisation
    keep_compiled_code()
    background, scaled = given_background(config, prepared)
    good = prepared.good
    arguments: dict[str, Any] = {}
    data, noise = prepared.data, np.where(good, prepared.noisemap, 1.0)
    if memory is not None and settings.solver == "lcops" and settings.further_optimize_background:
        from lightcurver_ops.storage.roi_memory import read_roi_memory

        known = read_roi_memory(memory)
        arguments = {
            "keys": epoch_keys(prepared, scene, () if known is None else known.keys),
            "memory": known,
            "remember": partial(_remember, memory),
        }
    return fit_roi(
        data,
        noise,
        good,
        prepared.full_psf,
        narrow_psf=prepared.psf,
        psf_slope=prepared.psf_slope,
        subsampling=prepared.subsampling_factor,
        positions=scene.positions,
        translations=prepared.roi_offset,
        translation_errors=prepared.roi_offset_error,
        rotation=scene.rotation,
        fix_astrometry=settings.fix_point_source_astrometry,
        background=background,
        background_scaled=scaled,
        optimise_background=settings.further_optimize_background,
        options=RoiOptions(
            strength=strengths.scales,
            strength_finest=strengths.high_frequency,
            positive=strengths.positivity > 0,
            galaxy=settings.smooth_galaxy,
            sky_sigma=SKY_SIGMA if settings.uniform_background_per_epoch else 0.0,
            max_first_iterations=settings.n_iter_translations,
            max_iterations=settings.n_iter_all,
        ),
        solver=settings.solver,
        **arguments,
    )


def _remember(path: Path, kept: Any) -> None:
    """Write what the next fit may start from; without it that fit starts from scratch, and nothing is lost."""
    from lightcurver_ops.storage.roi_memory import write_roi_memory

    try:
        write_roi_memory(path, kept)
    except TemporaryFailure as error:
        path.unlink(missing_ok=True)
        log.warning("%s: the next fit will start from scratch: %s", path.name, error)


def epoch_keys(prepared: Any, scene: Scene, known: Sequence[str]) -> list[str]:
    """For each epoch what it was made from: its pixels before normalization, PSF, mask and angle; and its coefficient.

    With each night all coefficients move a little. As long as one stays within a tenth of its uncertainty of what it
    was in the key that is known, that key stands.
    """
    before = {}
    for key in known:
        content, _, coefficient = key.partition(" ")
        before[content] = float(coefficient)
    keys = []
    for e, coefficient in enumerate(prepared.coefficient):
        raw = np.where(
            prepared.good[e], np.stack([prepared.data[e], prepared.noisemap[e]]) * coefficient, 0.0
        )
        parts = [raw, prepared.full_psf[e], prepared.roi_offset[e], scene.rotation[e]]
        for optional in (prepared.psf_slope, prepared.roi_offset_error):
            if optional is not None:
                parts.append(optional[e])
        digest = sha256(prepared.good[e].tobytes())
        for part in parts:
            digest.update(np.asarray(part, dtype=np.float32).tobytes())
        content = f"{prepared.frame_id[e]}:{digest.hexdigest()[:32]}"
        stood = before.get(content, np.nan)
        slack = COEFFICIENT_SLACK * prepared.relative_normalization_error[e] * coefficient
        standing = float(stood if abs(stood - coefficient) <= slack else coefficient)
        keys.append(f"{content} {standing!r}")
    return keys
