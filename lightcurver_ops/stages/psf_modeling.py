"""Stage 6: the PSF of each frame from the stamps of its stars."""

from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, stars
from lightcurver_ops.bookkeeping.engine import reading
from lightcurver_ops.bookkeeping.tables import PSFs
from lightcurver_ops.errors import BadFrame
from lightcurver_ops.stages.base import Lens, Run, Stage
from lightcurver_ops.stages.compilation import compilation_cache
from lightcurver_ops.stages.reference_stars import frames_with, number_wanted, stars_per_frame
from lightcurver_ops.stages.stamp_extraction import ROI, StampExtraction, index_regions
from lightcurver_ops.stages.stamps import StampStack, read_stamps


class PsfModeling(Stage):
    """Fits the PSFs, a batch of frames at a time."""

    name = "psf_modeling"
    title = "PSF of each frame"
    depends_on = ("stamp_extraction",)
    config_keys = (
        "psf.solver",
        "psf.subsampling_factor",
        "psf.field_distortion",
        "psf.local_sky",
        "psf.measure_wings",
        "psf.n_iter_analytic",
        "psf.n_iter_pixels",
        "psf.min_signal_to_noise",
    )
    version = 4
    frame_wise = True

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        cut = ledger.done_hashes(connection, self.lens.name, StampExtraction.name)
        rows = frames_with(connection, self.lens.name, cut)
        candidates = stars_per_frame(connection, self.config, "psf", rows, self._spare())
        return {
            row.image_relpath: self.hash_inputs(
                cut[row.image_relpath], [star.gaia_id for star in candidates.get(row.id, [])]
            )
            for row in rows
        }

    def _spare(self) -> int:
        """How many more stars are looked at than are wanted: a frame may show some saturated, masked or too faint."""
        return (number_wanted(self.config, "psf") or 0) // 2

    def make(self, units: dict[str, str], run: Run) -> None:
        with reading(self.lens.engine) as connection:
            cut = ledger.done_hashes(connection, self.lens.name, StampExtraction.name)
            rows = [row for row in frames_with(connection, self.lens.name, cut) if row.image_relpath in units]
            candidates = stars_per_frame(connection, self.config, "psf", rows, self._spare())
            selection = stars.current_selection(connection, self.lens.name)
        assert selection is not None
        # Not what these frames have at most: a frame's PSF must not depend on which others are fitted with it.
        n_slots = self._most_stars(selection)
        batch = self.config.compute.psf_batch
        self._unconverged = 0
        try:
            for start in range(0, len(rows), batch):
                self._make_batch(rows[start : start + batch], candidates, n_slots, selection, units, run)
        finally:
            index_regions(self.lens)
        if self._unconverged:
            run.note(f"{self._unconverged} not converged (PSFs.status says why)")

    def _most_stars(self, selection: str) -> int:
        """How many stars a frame can have for its PSF."""
        use = self.config.stars.stars_to_use_psf
        with reading(self.lens.engine) as connection:
            available = len(stars.stars_of(connection, self.lens.name, selection))
        wanted = number_wanted(self.config, "psf")
        return min(available, len(use) if isinstance(use, list) else wanted or available)

    def _make_batch(
        self,
        rows: list[sa.Row],
        candidates: dict[int, list[sa.Row]],
        n_slots: int,
        selection: str,
        units: dict[str, str],
        run: Run,
    ) -> None:
        from lightcurver_ops.numerics.psf.compilation import enable_compilation_cache
        from lightcurver_ops.numerics.psf.fit import fit_psfs

        settings, size = self.config.psf, self.config.cutouts.stamp_size_stars
        ready = []
        for row in rows:
            if candidates[row.id]:
                ready.append(row)
            else:
                error = BadFrame(f"{row.image_relpath}: no star for the PSF lies in this frame")
                run.quarantine(
                    row.image_relpath, units[row.image_relpath], error, self._without_psf(row, selection)
                )
        if not ready:
            return
        enable_compilation_cache(compilation_cache())
        stack, chosen, snr, fwhm = self._best_stamps(ready, candidates, size, n_slots)
        fits = fit_psfs(
            stack.data,
            stack.noise,
            stack.good,
            subsampling=settings.subsampling_factor,
            solver=settings.solver,
            field_distortion=settings.field_distortion,
            local_sky=settings.local_sky,
            stamp_coordinates=field_coordinates(self.lens, ready, stack)
            if settings.field_distortion
            else None,
            wings=[
                self._wings(row, positions, width)
                for row, positions, width in zip(ready, stack.centre + stack.expected, fwhm)
            ]
            if settings.measure_wings
            else None,
            n_iter_analytic=settings.n_iter_analytic,
            n_iter_pixels=settings.n_iter_pixels,
            fwhm_guess=fwhm,
        )
        for f, row in enumerate(ready):
            self._save(f, row, fits, snr[f], stack, chosen[row.id], selection, units[row.image_relpath], run)

    def _wings(self, row: sa.Row, positions: np.ndarray, fwhm: float) -> Any:
        """The wings of a frame's PSF around the stars at positions [S, 2], NaN for an absent one."""
        from lightcurver_ops.numerics.noise import noise_map
        from lightcurver_ops.numerics.psf.wings import measure_wings
        from lightcurver_ops.storage import frames as frame_files

        path = self.lens.workdir / row.image_relpath
        frame = frame_files.read_frame(path)
        noise = noise_map(frame.image, row.background_rms_electron_per_second, row.exptime)
        sources = frame_files.read_sources(self.lens.workdir / row.sources_relpath)
        good = ~(frame.saturated | frame.bad)
        found = np.column_stack([sources.x, sources.y, sources.flux])
        return measure_wings(frame.image, noise, good, positions, found, fwhm)

    def _best_stamps(
        self, rows: list[sa.Row], candidates: dict[int, list[sa.Row]], size: int, n_slots: int
    ) -> tuple[StampStack, dict[int, list[sa.Row]], np.ndarray, np.ndarray]:
        """The stamps that the PSFs are fitted to, by frame id the stars in them, their S/N together and FWHM [F]."""
        from lightcurver_ops.numerics.psf.candidates import (
            best_candidates,
            like_the_others,
            stamp_quality,
            width_of_stars,
        )

        named = [[star.gaia_id for star in candidates[row.id]] for row in rows]
        units = [row.image_relpath for row in rows]
        stack = read_stamps(self.lens.workdir, units, named, size, n_slots + self._spare())
        fwhm = np.array([row.seeing_pixels for row in rows], dtype=np.float64)
        whole, snr = stamp_quality(stack.data, stack.noise, stack.good, stack.expected, fwhm)
        fwhm = width_of_stars(stack.data, stack.good, whole, snr, fwhm)
        whole, snr = stamp_quality(stack.data, stack.noise, stack.good, stack.expected, fwhm)
        positive = np.maximum(snr, 0.0)  # a star below its sky is no signal
        if number_wanted(self.config, "psf") is None:
            return stack, candidates, np.linalg.norm(positive, axis=1), fwhm
        whole &= like_the_others(stack.data, stack.good, stack.expected, fwhm, whole, snr)
        kept = [best_candidates(whole[f, : len(n)], snr[f, : len(n)], n_slots) for f, n in enumerate(named)]
        chosen = {row.id: [candidates[row.id][s] for s in kept[f]] for f, row in enumerate(rows)}
        together = np.array([np.linalg.norm(positive[f, of_frame]) for f, of_frame in enumerate(kept)])
        return stack.picked(kept, n_slots), chosen, together, fwhm

    def _save(
        self,
        f: int,
        row: sa.Row,
        fits: Any,
        snr: float,
        stack: Any,
        chosen: list[sa.Row],
        selection: str,
        inputs_hash: str,
        run: Run,
    ) -> None:
        from lightcurver_ops.numerics.psf.candidates import doubleness_beyond_noise
        from lightcurver_ops.storage import regions as region_files

        unit = row.image_relpath
        if not np.isfinite(fits.chi2[f]):
            error = BadFrame(f"{unit}: the PSF cannot be fitted: {fits.status[f]}")
            run.quarantine(unit, inputs_hash, error, self._without_psf(row, selection))
            return
        least = self.config.psf.min_signal_to_noise
        if least is not None and snr < least:
            error = BadFrame(
                f"{unit}: its stars are too faint for a PSF (clouds?): a signal to noise of {snr:.0f} for "
                f"{len(chosen)} stars together, below {least:g} (psf.min_signal_to_noise)"
            )
            run.quarantine(unit, inputs_hash, error, self._without_psf(row, selection))
            return
        self._unconverged += not fits.converged[f]
        relpath = psf_relpath(unit)
        used = [star.name for star, is_used in zip(chosen, fits.used[f], strict=False) if is_used]
        psf_ref = "psf_" + "_".join(used)
        psf = region_files.FramePsf(fits.narrow_psf[f], fits.full_psf[f], fits.distortion[f], fits.wing[f])
        region_files.write_psf(self.lens.workdir / relpath, psf_ref, psf)
        if self.config.compute.diagnostics:
            from lightcurver_ops.diagnostics.psf import plot_psf

            plot_psf(
                self.lens.workdir / f"diagnostics/psf/{Path(unit).stem}.png",
                title=f"{Path(unit).stem}  chi2 {fits.chi2[f]:.2f}",
                names=[star.name for star in chosen],
                data=stack.data[f, : len(chosen)],
                noise=stack.noise[f, : len(chosen)],
                good=fits.good[f, : len(chosen)],
                residuals=fits.residuals[f, : len(chosen)],
                chi2=fits.chi2_stars[f, : len(chosen)],
                narrow_psf=fits.narrow_psf[f],
                full_psf=fits.full_psf[f],
                loss_history=fits.loss_history[f],
            )
        values = {
            "frame_id": row.id,
            "combined_footprint_hash": selection,
            "psf_ref": psf_ref,
            "chi2": float(fits.chi2[f]),
            "subsampling_factor": self.config.psf.subsampling_factor,
            "relative_loss_differential": float(fits.relative_loss_differential[f]),
            "fwhm_moffat_arcseconds": float(fits.fwhm_moffat_pixels[f] * row.pixel_scale),
            "enclosed_fraction": float(fits.enclosed_fraction[f]),
            "elongation": float(fits.elongation[f]),
            "doubleness": doubleness_beyond_noise(float(fits.doubleness[f]), float(snr)),
            "field_order": fits.variation[f].order,
            "field_evidence": fits.variation[f].evidence,
            "n_stars": len(used),
            "n_iter": int(fits.n_iter[f]),
            "converged": bool(fits.converged[f]),
            "status": fits.status[f],
            "psf_relpath": relpath,
            **ledger.provenance(inputs_hash),
        }
        run.done(unit, inputs_hash, lambda connection: ledger.upsert(connection, PSFs, [values]))

    def _without_psf(self, row: sa.Row, selection: str):
        def write(connection: sa.Connection) -> None:
            connection.execute(
                sa.delete(PSFs).where(PSFs.c.frame_id == row.id, PSFs.c.combined_footprint_hash == selection)
            )

        return write


def field_coordinates(lens: Lens, rows: list[sa.Row], stack: StampStack) -> np.ndarray:
    """[F, S, 2] stars from the ROI, where the PSF is wanted, in units of half the frame's longer side."""
    units, size = [row.image_relpath for row in rows], lens.config.cutouts.stamp_size_ROI
    roi = read_stamps(lens.workdir, units, [[ROI]] * len(rows), size, 1)
    return np.nan_to_num((stack.centre - (roi.centre + roi.expected)) / half_frames(rows)[:, None, None])


def half_frames(rows: list[sa.Row]) -> np.ndarray:
    """Half the longer side of each frame [F], pixels: the unit of the field's coordinates."""
    return np.array([max(row.width, row.height) / 2 for row in rows])


def read_psf_of(workdir: Path, psf: sa.Row) -> Any:
    """The arrays of a row of PSFs: narrow and full."""
    from lightcurver_ops.storage import regions as region_files

    return region_files.read_psf(workdir / psf.psf_relpath, psf.psf_ref)


def psf_relpath(image_relpath: str) -> str:
    """The file with the PSF of a frame, relative to the workdir."""
    return f"psfs/{Path(image_relpath).stem}.h5"
