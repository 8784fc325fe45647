"""Stage 10: the calibrated cutouts of the ROI of each filter, in one file; likewise those of each control star."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import QualityGate
from lightcurver_ops.stages.base import Run, Stage, joined
from lightcurver_ops.stages.calculate_absolute_zeropoints import CalculateAbsoluteZeropoints
from lightcurver_ops.stages.calculate_normalization_coefficient import (
    CalculateNormalizationCoefficient,
    filter_part,
    prepared_path,
    safe,
)
from lightcurver_ops.stages.control_stars import controls_of_lens, object_name
from lightcurver_ops.stages.psf_modeling import PsfModeling, field_coordinates, half_frames, read_psf_of
from lightcurver_ops.stages.same_camera import is_odd
from lightcurver_ops.stages.stamp_extraction import ROI
from lightcurver_ops.stages.stamps import StampStack, read_stamps
from lightcurver_ops.stages.usage import usage, used_frames

PSF_REACH = 1.5
"""Side of the PSFs in stamps of the ROI: those of images in its inner half reach its edges."""


@dataclass(frozen=True)
class _Measured:
    """What the stages before say of the frames of a lens, by frame id; stars by their Gaia ids in it.

    Attributes:
        psfs, coefficients: rows of the tables.
        fluxes: of the stars.
        places: (x, y) px where stars are expected.
    """

    psfs: dict[int, sa.Row]
    coefficients: dict[int, sa.Row]
    fluxes: dict[int, list[sa.Row]]
    places: dict[int, dict[str, tuple[float, float]]]


class PrepareCalibratedCutouts(Stage):
    """Divides the ROI's cutouts by the coefficients and puts all that a model needs beside them."""

    name = "prepare_calibrated_cutouts"
    title = "Calibrated cutouts of the ROI"
    depends_on = (
        "psf_modeling",
        "calculate_normalization_coefficient",
        "calculate_absolute_zeropoints",
    )
    version = 2
    config_keys = (
        "roi.name",
        "psf.max_elongation",
        "psf.max_trail",
        "psf.max_doubleness",
        "psf.max_misfit",
        "star_photometry.psf_fit_exclude_strategy",
        "roi_model.constraints_on_frame_columns",
        "roi_model.constraints_on_normalization_coefficient",
        "roi_model.max_scale_difference",
    )

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        coefficients = ledger.done_hashes(connection, self.lens.name, CalculateNormalizationCoefficient.name)
        zeropoints = ledger.done_hashes(connection, self.lens.name, CalculateAbsoluteZeropoints.name)
        modeled = ledger.done_hashes(connection, self.lens.name, PsfModeling.name)
        by_filter = used_frames(usage(connection, self.config))
        selection = stars.current_selection(connection, self.lens.name)

        def controls(filter_name: str) -> list[sa.Row]:
            return (
                controls_of_lens(connection, self.config, selection, filter_name).stars if selection else []
            )

        return {
            filter_name: self.hash_inputs(
                coefficients[filter_name],
                zeropoints[filter_name],
                [(row.image_relpath, modeled[row.image_relpath]) for row in rows],
                *([star.gaia_id, star.name] for star in controls(filter_name)),
                *_renamed(filter_name),
            )
            for filter_name, rows in by_filter.items()
            if filter_name in coefficients and filter_name in zeropoints
        }

    def check(self, connection: sa.Connection, units: Collection[str] | None = None) -> None:
        """At least one frame must be left, once there are frames at all."""
        usages = usage(connection, self.config)
        if usages and not used_frames(usages):
            reasons: dict[str, int] = {}
            for item in usages:
                reasons[item.reason or ""] = reasons.get(item.reason or "", 0) + 1
            counted = [
                f"{count} x {reason}" for reason, count in sorted(reasons.items(), key=lambda pair: -pair[1])
            ]
            raise QualityGate(
                f"{self.lens.name}: none of its {len(usages)} frames can be used: {joined(counted, 5)}",
                n_frames=len(usages),
            )

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.numerics.zeropoints import global_zero_point
        from lightcurver_ops.storage import prepared as prepared_files

        with reading(self.lens.engine) as connection:
            usages = usage(connection, self.config)
            by_filter = used_frames(usages)
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            controls = {
                filter_name: controls_of_lens(connection, self.config, selection, filter_name).stars
                for filter_name in units
            }
            measured = _Measured(
                psfs=photometry.psfs_of(connection, self.lens.name, selection),
                coefficients=photometry.coefficients_of(connection, self.lens.name, selection),
                fluxes=photometry.fluxes_by_frame(connection, self.lens.name, selection),
                places=stars.places_in_frames(connection, self.lens.name, selection),
            )
            zeropoints = photometry.zeropoints_of(connection, self.lens.name, selection)
        for filter_name, inputs_hash in units.items():
            rows = by_filter[filter_name]
            coefficient = np.array([measured.coefficients[row.id].coefficient for row in rows])
            zeropoint = np.array(
                [zeropoints[row.id].zeropoint if row.id in zeropoints else np.nan for row in rows]
            )
            calibrated = global_zero_point(zeropoint, coefficient)
            prepared = self._prepared(ROI, rows, measured, calibrated)
            prepared_files.write_prepared(prepared_path(self.config, filter_name), prepared)
            self._write_controls(filter_name, controls[filter_name], rows, measured, calibrated)
            run.note(f"{filter_name}: {len(rows)} frames")
            odd = [one for one in usages if one.frame.filter == filter_name and is_odd(one.reason)]
            if odd:
                run.note(
                    f"{filter_name}: WARNING: {len(odd)} frames of another camera, binning or parity take no part: "
                    f"{joined((one.frame.image_relpath for one in odd), 3)} (`lcops frames list` has the numbers)"
                )
            if calibrated.normalization_reduced_scatter is False:
                run.note(
                    f"{filter_name}: WARNING: zero points scatter by {calibrated.scatter:.3f} mag normalized, "
                    f"by {calibrated.scatter_before:.3f} mag before: look at diagnostics/normalization_*.png"
                )
            run.done(filter_name, inputs_hash)

    def _write_controls(
        self,
        filter_name: str,
        controls: list[sa.Row],
        rows: list[sa.Row],
        measured: _Measured,
        calibrated: Any,
    ) -> None:
        """The files of the control stars; those of stars that no longer are control stars go."""
        from lightcurver_ops.storage import prepared as prepared_files
        from lightcurver_ops.storage import regions as region_files

        cut = {
            row.id: region_files.objects_in(
                region_files.regions_path(self.lens.workdir, Path(row.image_relpath).stem)
            )
            for row in (rows if controls else [])
        }
        paths = []
        for star in controls:
            having = [row for row in rows if object_name(star.gaia_id) in cut[row.id]]
            if having:
                prepared = self._prepared(object_name(star.gaia_id), having, measured, calibrated)
                paths.append(control_path(self.config, filter_name, star.name))
                prepared_files.write_prepared(paths[-1], prepared)
        every = control_path(self.config, filter_name, "*")
        for path in set(every.parent.glob(every.name)) - set(paths):
            path.unlink()

    def _prepared(self, name: str, rows: list[sa.Row], measured: _Measured, calibrated: Any) -> Any:
        """The calibrated cutouts of the ROI, or of a control star in its place, in the frames that have it."""
        from lightcurver_ops.numerics.noise import inflate_masked
        from lightcurver_ops.storage import prepared as prepared_files
        from lightcurver_ops.storage import regions as region_files

        workdir, size = self.lens.workdir, self.config.cutouts.stamp_size_ROI
        names = [row.image_relpath for row in rows]
        stack = read_stamps(workdir, names, [[name]] * len(rows), size, 1)
        narrow, full, slope = self._psfs(name, rows, stack, measured.psfs)
        offset, offset_error = self._registered(rows, stack, measured)
        coefficient = np.array([measured.coefficients[row.id].coefficient for row in rows])
        error = np.array([measured.coefficients[row.id].standard_error for row in rows])
        scale = coefficient[:, None, None]
        data, noisemap = inflate_masked(stack.data[:, 0] / scale, stack.noise[:, 0] / scale, stack.good[:, 0])
        return prepared_files.PreparedCutouts(
            frame_id=np.array([row.number for row in rows]),
            data=data,
            noisemap=noisemap,
            psf=narrow,
            full_psf=full,
            psf_slope=slope,
            seeing=np.array([row.seeing_arcseconds for row in rows]),
            sky_level_electron_per_second=np.array([row.sky_level_electron_per_second for row in rows]),
            mjd=np.array([row.mjd for row in rows]),
            global_zeropoint=calibrated.zeropoint,
            global_zeropoint_scatter=calibrated.scatter,
            coefficient=coefficient,
            relative_normalization_error=error / coefficient,
            wcs=tuple(
                region_files.read_regions(region_files.regions_path(workdir, Path(unit).stem), [name]).wcs[0]
                for unit in names
            ),
            roi_offset=stack.expected[:, 0] + offset,
            pixel_scale=np.array([row.pixel_scale for row in rows]),
            subsampling_factor=measured.psfs[rows[0].id].subsampling_factor,
            angle_to_north=np.array([row.angle_to_north for row in rows]),
            aperture_radius=self._radii(rows, measured),
            roi_offset_error=offset_error,
        )

    def _registered(
        self, rows: list[sa.Row], stack: StampStack, measured: _Measured
    ) -> tuple[np.ndarray, np.ndarray]:
        """How far the object lies from where the plate solutions say [E, 2], by the frames' stars, and the error [E].

        Where a frame has too few of them: nothing, and what a plate solution may be off.
        """
        from lightcurver_ops.numerics.registration import offset_at
        from lightcurver_ops.numerics.roi.result import RoiOptions

        offset, error = np.zeros((len(rows), 2)), np.full(len(rows), RoiOptions().translation_sigma)
        for e, row in enumerate(rows):
            places = measured.places.get(row.id, {})
            seen = [one for one in measured.fluxes.get(row.id, ()) if one.star_gaia_id in places]
            found = offset_at(
                np.array([(one.x, one.y) for one in seen]).reshape(-1, 2),
                np.array([places[one.star_gaia_id] for one in seen]).reshape(-1, 2),
                np.array([one.flux / one.flux_uncertainty for one in seen]),
                (stack.centre + stack.expected)[e, 0],
                row.seeing_pixels,
            )
            if found is not None:
                offset[e], error[e] = found
        return offset, error

    def _radii(self, rows: list[sa.Row], measured: _Measured) -> np.ndarray | None:
        """The apertures of the reference stars [E], px; None: they were measured by the PSF."""
        if self.config.star_photometry.method != "aperture":
            return None
        return np.array([measured.fluxes[row.id][0].aperture_radius for row in rows], dtype=np.float64)

    def _psfs(
        self, name: str, rows: list[sa.Row], stack: StampStack, psfs: dict[int, sa.Row]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """The narrow and the full PSFs [E, N, N] where the object is: at the ROI, or at a control star.

        And for the ROI, in which images lie side by side, the slope [E, 2, N, N] of the full one per pixel.
        """
        from lightcurver_ops.numerics.psf.wings import extended_with_wings

        stored = [read_psf_of(self.lens.workdir, psfs[row.id]) for row in rows]
        narrow, full = (np.array([getattr(psf, kind) for psf in stored]) for kind in ("narrow", "full"))
        distortion, wing = (
            np.array([getattr(psf, kind) for psf in stored]) for kind in ("distortion", "wing")
        )
        slope = None
        if distortion.any():
            from lightcurver_ops.numerics.psf.distortion import distort, full_psf_slopes, full_psfs_at

            if name == ROI:
                slope = full_psf_slopes(narrow, distortion, half_frames(rows))
            else:
                place = field_coordinates(self.lens, rows, stack)
                full = full_psfs_at(narrow, distortion, place)[:, 0]
                narrow = np.asarray(distort(narrow, distortion, place))[:, 0]
        k = psfs[rows[0].id].subsampling_factor
        side = k * math.ceil(PSF_REACH * self.config.cutouts.stamp_size_ROI)
        side += (side - narrow.shape[-1]) % 2
        if wing.any() and side > narrow.shape[-1]:
            narrow, full = (extended_with_wings(psf, wing, side, k) for psf in (narrow, full))
            if slope is not None:
                margin = (side - slope.shape[-1]) // 2
                slope = np.pad(slope, [(0, 0), (0, 0), (margin, margin), (margin, margin)])
        return narrow, full, slope


def _renamed(filter_name: str) -> list[str]:
    """Part of the inputs of filters whose files had a name that another filter may have: they are made once more."""
    return [] if filter_part(filter_name) == safe(filter_name) else [filter_part(filter_name)]


def control_path(config: LensConfig, filter_name: str, star_name: str) -> Path:
    """The calibrated cutouts of a control star."""
    return prepared_path(config, filter_name, f"_control_{star_name}.h5")
