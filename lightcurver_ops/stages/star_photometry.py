"""Stage 7: PSF photometry of the reference stars in every frame."""

from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import star_flux_in_frame
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import Run, Stage
from lightcurver_ops.stages.compilation import keep_compiled_code
from lightcurver_ops.stages.psf_modeling import PsfModeling, field_coordinates, read_psf_of
from lightcurver_ops.stages.reference_stars import frames_with
from lightcurver_ops.stages.stamps import StampStack, read_stamps

_BATCH = 64  # frames in memory at a time


class StarPhotometry(Stage):
    """Measures all stars of each frame with the frame's PSF."""

    name = "star_photometry"
    title = "PSF photometry of the reference stars"
    depends_on = ("psf_modeling",)
    config_keys = (
        "star_photometry.uniform_background_per_epoch",
        "star_photometry.starlet_global_background",
    )
    frame_wise = True

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        modeled = ledger.done_hashes(connection, self.lens.name, PsfModeling.name)
        rows = frames_with(connection, self.lens.name, modeled)
        # A background common to all epochs ties every flux to every frame.
        common = sorted(modeled.items()) if self.config.star_photometry.starlet_global_background else None
        return {row.image_relpath: self.hash_inputs(modeled[row.image_relpath], common) for row in rows}

    def make(self, units: dict[str, str], run: Run) -> None:
        with reading(self.lens.engine) as connection:
            modeled = ledger.done_hashes(connection, self.lens.name, PsfModeling.name)
            all_rows = frames_with(connection, self.lens.name, modeled)
            rows = [row for row in all_rows if row.image_relpath in units]
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            present = {row.id: list(stars.stars_in_frame(connection, row.id, selection)) for row in all_rows}
            psfs = photometry.psfs_of(connection, self.lens.name, selection)
        keep_compiled_code()
        backgrounds = {}
        if self.config.star_photometry.starlet_global_background:
            backgrounds = self._common_backgrounds(all_rows, present, psfs)
        for start in range(0, len(rows), _BATCH):
            self._make_batch(rows[start : start + _BATCH], present, psfs, selection, units, backgrounds, run)

    def _make_batch(
        self,
        rows: list[sa.Row],
        present: dict[int, list[str]],
        psfs: dict[int, sa.Row],
        selection: str,
        units: dict[str, str],
        backgrounds: dict[tuple[str, int], np.ndarray],
        run: Run,
    ) -> None:
        from lightcurver_ops.numerics.photometry import fit_star_fluxes

        n_slots = max(len(present[row.id]) for row in rows)
        names = [row.image_relpath for row in rows]
        stack = read_stamps(
            self.lens.workdir,
            names,
            [present[row.id] for row in rows],
            self.config.cutouts.stamp_size_stars,
            n_slots,
        )
        for f, row in enumerate(rows):
            for s, star in enumerate(present[row.id]):
                if (star, row.id) in backgrounds:
                    stack.data[f, s] -= backgrounds[star, row.id]
        psf = self._psfs(rows, stack, psfs)
        fluxes = fit_star_fluxes(
            stack.data,
            stack.noise,
            stack.good,
            psf,
            subsampling=psfs[rows[0].id].subsampling_factor,
            uniform_background=self.config.star_photometry.uniform_background_per_epoch,
        )
        for f, row in enumerate(rows):
            self._save(f, row, present[row.id], fluxes, stack, selection, units[row.image_relpath], run)

    def _psfs(self, rows: list[sa.Row], stack: StampStack, psfs: dict[int, sa.Row]) -> np.ndarray:
        """[F, N, N], or [F, S, N, N] where the PSF of a frame varies over the field."""
        stored = [read_psf_of(self.lens.workdir, psfs[row.id]) for row in rows]
        distortion = np.array([psf.distortion for psf in stored])
        full = np.array([psf.full for psf in stored])
        if not distortion.any():
            return full
        from lightcurver_ops.numerics.psf.distortion import full_psfs_at

        varying = np.flatnonzero(distortion.any(axis=1))
        result = np.repeat(full[:, None], stack.data.shape[1], axis=1)
        narrow = np.array([stored[f].narrow for f in varying])
        result[varying] = full_psfs_at(
            narrow, distortion[varying], field_coordinates(self.lens, rows, stack)[varying]
        )
        return result

    def _save(
        self,
        f: int,
        row: sa.Row,
        names: list[str],
        fluxes: Any,
        stack: Any,
        selection: str,
        inputs_hash: str,
        run: Run,
    ) -> None:
        rows = [
            {
                "frame_id": row.id,
                "combined_footprint_hash": selection,
                "star_gaia_id": star,
                "flux": float(fluxes.flux[f, s]),
                "flux_uncertainty": float(fluxes.flux_uncertainty[f, s]),
                "chi2": float(fluxes.chi2[f, s]),
                "x": float(stack.centre[f, s, 0] + fluxes.x[f, s]),
                "y": float(stack.centre[f, s, 1] + fluxes.y[f, s]),
                "n_pixels": int(fluxes.n_good[f, s]),
                "converged": bool(fluxes.converged[f, s]),
                **ledger.provenance(inputs_hash),
            }
            for s, star in enumerate(names)
            if np.isfinite(fluxes.flux[f, s]) and fluxes.flux_uncertainty[f, s] > 0
        ]

        def write(connection: sa.Connection) -> None:
            photometry.replace_rows(connection, star_flux_in_frame, rows, [row.id], selection)

        if rows:
            run.done(row.image_relpath, inputs_hash, write)
        else:
            error = BadFrame(f"{row.image_relpath}: not one of its {len(names)} stars could be measured")
            run.quarantine(row.image_relpath, inputs_hash, error, write)

    def _common_backgrounds(
        self, rows: list[sa.Row], present: dict[int, list[str]], psfs: dict[int, sa.Row]
    ) -> dict[tuple[str, int], np.ndarray]:
        """(star, frame id): [n, n] what lies around each star, from a joint model of all its stamps."""
        from lightcurver_ops.numerics.roi.fit import fit_roi
        from lightcurver_ops.numerics.roi.result import RoiOptions

        size = self.config.cutouts.stamp_size_stars
        result: dict[tuple[str, int], np.ndarray] = {}
        for star in sorted({star for names in present.values() for star in names}):
            having = [row for row in rows if star in present[row.id]]
            units = [row.image_relpath for row in having]
            stack = read_stamps(self.lens.workdir, units, [[star]] * len(units), size, 1)
            stored = [read_psf_of(self.lens.workdir, psfs[row.id]) for row in having]
            fit = fit_roi(
                stack.data[:, 0],
                stack.noise[:, 0],
                stack.good[:, 0],
                np.array([psf.full for psf in stored]),
                narrow_psf=np.array([psf.narrow for psf in stored]),
                subsampling=self.config.psf.subsampling_factor,
                positions=np.zeros((1, 2)),
                translations=stack.expected[:, 0],
                # No galaxy: its smooth profile would take light from the star.
                options=RoiOptions(galaxy=False),
            )
            for e, row in enumerate(having):
                result[star, row.id] = fit.background_model[e]
        return result
