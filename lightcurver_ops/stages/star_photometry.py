"""Stage 7: fluxes of the reference stars in every frame, by its PSF or in an aperture."""

from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class _Inputs:
    """By frame id its stars and its PSF, and by star and frame id what lies around the star."""

    present: dict[int, list[str]]
    psfs: dict[int, sa.Row]
    backgrounds: dict[tuple[str, int], np.ndarray]


class StarPhotometry(Stage):
    """Measures all stars of each frame with the frame's PSF."""

    name = "star_photometry"
    title = "Photometry of the reference stars"
    depends_on = ("psf_modeling",)
    config_keys = (
        "star_photometry.method",
        "star_photometry.aperture_fwhm",
        "star_photometry.uniform_background_per_epoch",
        "star_photometry.starlet_global_background",
    )
    frame_wise = True

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        modeled = ledger.done_hashes(connection, self.lens.name, PsfModeling.name)
        rows = frames_with(connection, self.lens.name, modeled)
        # A background common to all epochs ties every flux to every frame, and so does the choice of an aperture.
        settings = self.config.star_photometry
        tied = settings.starlet_global_background or self._chooses_aperture
        common = sorted(modeled.items()) if tied else None
        return {row.image_relpath: self.hash_inputs(modeled[row.image_relpath], common) for row in rows}

    @property
    def _chooses_aperture(self) -> bool:
        settings = self.config.star_photometry
        return settings.method == "aperture" and settings.aperture_fwhm is None

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
        inputs = _Inputs(present, psfs, backgrounds)
        aperture = self.config.star_photometry.aperture_fwhm
        if self._chooses_aperture:
            aperture = self._best_aperture(all_rows, inputs)
            run.note(f"aperture of {aperture:g} FWHM")
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            stack, fluxes = self._fitted(batch, inputs)
            radius = None
            if self.config.star_photometry.method == "aperture" and aperture is not None:
                radius = aperture * self._fwhm(batch, inputs)
                fluxes = self._in_aperture(batch, inputs, stack, fluxes, radius)
            for f, row in enumerate(batch):
                inputs_hash = units[row.image_relpath]
                of_frame = None if radius is None else float(radius[f])
                self._save(f, row, present[row.id], fluxes, stack, of_frame, selection, inputs_hash, run)

    def _fitted(self, rows: list[sa.Row], inputs: _Inputs) -> tuple[StampStack, Any]:
        """The stamps of some frames, and their fluxes by the PSF: a `numerics.photometry.StarFluxes`."""
        from lightcurver_ops.numerics.photometry import fit_star_fluxes

        present = inputs.present
        n_slots = max(len(present[row.id]) for row in rows)
        stack = read_stamps(
            self.lens.workdir,
            [row.image_relpath for row in rows],
            [present[row.id] for row in rows],
            self.config.cutouts.stamp_size_stars,
            n_slots,
        )
        for f, row in enumerate(rows):
            for s, star in enumerate(present[row.id]):
                if (star, row.id) in inputs.backgrounds:
                    stack.data[f, s] -= inputs.backgrounds[star, row.id]
        fluxes = fit_star_fluxes(
            stack.data,
            stack.noise,
            stack.good,
            self._psfs(rows, stack, inputs.psfs),
            subsampling=inputs.psfs[rows[0].id].subsampling_factor,
            uniform_background=self.config.star_photometry.uniform_background_per_epoch,
        )
        return stack, fluxes

    def _in_aperture(
        self, rows: list[sa.Row], inputs: _Inputs, stack: StampStack, fluxes: Any, radius: np.ndarray
    ) -> Any:
        """The fluxes in apertures [F] px at the places, and above the skies, that the PSF found."""
        from lightcurver_ops.numerics.aperture import aperture_fluxes, star_images

        psf = self._psfs(rows, stack, inputs.psfs)
        images = star_images(psf, fluxes.x, fluxes.y, inputs.psfs[rows[0].id].subsampling_factor)
        light = stack.data - np.nan_to_num(fluxes.background)[..., None, None]
        found = aperture_fluxes(light, stack.noise, stack.good, images, fluxes.x, fluxes.y, radius)
        return replace(fluxes, flux=found.flux, flux_uncertainty=found.flux_uncertainty)

    def _best_aperture(self, rows: list[sa.Row], inputs: _Inputs) -> float:
        """The multiple of the FWHM with which the stars of the normalization scatter least, median of the filters."""
        from lightcurver_ops.numerics.aperture import MULTIPLES, scatter_of_stars

        order = sorted({star for names in inputs.present.values() for star in names})
        line = {star: s for s, star in enumerate(order)}
        tables = np.full((len(MULTIPLES), 2, len(order), len(rows)), np.nan)
        for start in range(0, len(rows), _BATCH):
            batch = rows[start : start + _BATCH]
            stack, fluxes = self._fitted(batch, inputs)
            fwhm = self._fwhm(batch, inputs)
            for m, multiple in enumerate(MULTIPLES):
                found = self._in_aperture(batch, inputs, stack, fluxes, multiple * fwhm)
                for f, row in enumerate(batch):
                    names = inputs.present[row.id]
                    here = [line[star] for star in names]
                    tables[m, 0, here, start + f] = found.flux[f, : len(names)]
                    tables[m, 1, here, start + f] = found.flux_uncertainty[f, : len(names)]
        filters = [row.filter for row in rows]
        scatter = [
            np.median(
                [
                    scatter_of_stars(*(part[:, np.array(filters) == name] for part in table))
                    for name in sorted(set(filters))
                ]
            )
            for table in tables
        ]
        return MULTIPLES[int(np.argmin(scatter))]

    def _fwhm(self, rows: list[sa.Row], inputs: _Inputs) -> np.ndarray:
        """Of the PSFs of some frames, pixels."""
        return np.array([inputs.psfs[row.id].fwhm_moffat_arcseconds / row.pixel_scale for row in rows])

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
        aperture_radius: float | None,
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
                "aperture_radius": aperture_radius,
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
