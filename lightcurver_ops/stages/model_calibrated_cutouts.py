"""Stage 11: the joint model of the ROI's pixels, and the light curves."""

import json
import math
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry
from lightcurver_ops.bookkeeping.hashing import hash_of_file
from lightcurver_ops.errors import NothingToDo
from lightcurver_ops.stages.base import Report, Run, RunOptions, Stage
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.light_curve_products import write_light_curves, write_scene
from lightcurver_ops.stages.prepare_calibrated_cutouts import PrepareCalibratedCutouts
from lightcurver_ops.stages.roi_fit import fit_prepared, scene_of, starting_background_path


class ModelCalibratedCutouts(Stage):
    """Models the images and the galaxy; publishes a version of the light curve."""

    name = "model_calibrated_cutouts"
    title = "Joint model of the ROI, light curves"
    depends_on = ("prepare_calibrated_cutouts",)
    config_keys = (
        "roi.point_sources",
        "roi.ra",
        "roi.dec",
        "roi_model.do_ROI_model",
        "roi_model.solver",
        "roi_model.fix_point_source_astrometry",
        "roi_model.starting_background",
        "roi_model.further_optimize_background",
        "roi_model.smooth_galaxy",
        "roi_model.regularisation",
        "roi_model.n_iter_translations",
        "roi_model.n_iter_all",
    )

    def plan(self, connection: sa.Connection) -> dict[str, str]:
        if not self.config.roi_model.do_ROI_model:
            return {}
        prepared = ledger.done_hashes(connection, self.lens.name, PrepareCalibratedCutouts.name)
        current = PrepareCalibratedCutouts(self.lens).plan(connection)
        start = starting_background_path(self.config)
        start_hash = hash_of_file(start) if start else None
        return {
            filter_name: self.hash_inputs(prepared[filter_name], start_hash)
            for filter_name in current
            if filter_name in prepared
        }

    def run(self, options: RunOptions | None = None) -> Report:
        """As every stage; with do_ROI_model: false the pipeline ends at the calibrated cutouts."""
        if not self.config.roi_model.do_ROI_model:
            raise NothingToDo(f"{self.lens.name}: {self.name}: roi_model.do_ROI_model is false")
        return super().run(options)

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.storage import prepared as prepared_files

        for filter_name, inputs_hash in units.items():
            path = prepared_path(self.config, filter_name)
            prepared = prepared_files.read_prepared(path)
            scene = scene_of(self.config, prepared)
            fit = fit_prepared(self.config, prepared, scene)
            labels = list(self.config.roi.point_sources)
            relative = prepared.relative_normalization_error[:, None]
            uncertainty = np.hypot(fit.flux_uncertainty, np.abs(fit.flux) * relative)
            epochs, nights = write_light_curves(self.config, filter_name, labels, prepared, fit, uncertainty)
            write_scene(self.config, filter_name, labels, prepared, fit, scene.reference)
            if self.config.compute.diagnostics:
                self._plot(filter_name, labels, prepared, fit, epochs, nights)
            state = "converged" if fit.converged else "NOT converged"
            run.note(f"{filter_name}: {len(prepared.mjd)} epochs, {state}, chi2 {np.median(fit.chi2):.2f}")
            self._publish(filter_name, labels, prepared, fit, uncertainty, inputs_hash, run)

    def _publish(
        self,
        filter_name: str,
        labels: list[str],
        prepared: Any,
        fit: Any,
        uncertainty: np.ndarray,
        inputs_hash: str,
        run: Run,
    ) -> None:
        publication = {
            # Without the URL of the bookkeeping: it may hold a password.
            "configuration": json.dumps(
                self.config.model_dump(mode="json", exclude={"database"}), sort_keys=True
            ),
            "loss": float(fit.loss),
            "converged": bool(fit.converged),
            **ledger.provenance(inputs_hash),
        }
        zeropoint = float(prepared.global_zeropoint)
        points = [
            {
                "frame_id": int(prepared.frame_id[e]),
                "source": label,
                "mjd": float(prepared.mjd[e]),
                "flux": float(fit.flux[e, j]),
                "flux_uncertainty": float(uncertainty[e, j]),
                "coefficient": float(prepared.coefficient[e]),
                "coefficient_uncertainty": float(
                    prepared.relative_normalization_error[e] * prepared.coefficient[e]
                ),
                "zeropoint": zeropoint if math.isfinite(zeropoint) else None,
                "reduced_chi2": float(fit.chi2[e]),
            }
            for e in range(len(prepared.mjd))
            for j, label in enumerate(labels)
            if np.isfinite(fit.flux[e, j])
        ]

        def write(connection: sa.Connection) -> None:
            version = photometry.publish(connection, self.lens.name, filter_name, publication, points)
            run.note(f"{filter_name}: light curve version {version}")

        run.done(filter_name, inputs_hash, write)

    def _plot(
        self, filter_name: str, labels: list[str], prepared: Any, fit: Any, epochs: Any, nights: Any
    ) -> None:
        from lightcurver_ops.diagnostics import light_curves, roi

        roi.plot_roi(
            prepared_path(self.config, filter_name, "_residuals.png"),
            title=f"{self.config.roi_name} {filter_name}",
            labels=labels,
            data=prepared.data,
            noise=prepared.noisemap,
            good=prepared.good,
            model=fit.model,
            residuals=fit.residuals,
            background=fit.background,
            positions=fit.positions,
            mjd=prepared.mjd,
            chi2=fit.chi2,
            loss_history=fit.loss_history,
        )
        light_curves.plot_light_curves(
            prepared_path(self.config, filter_name, "_light_curves.png"),
            title=f"{self.config.roi_name} {filter_name}",
            labels=labels,
            epochs=epochs,
            nights=nights,
        )
        light_curves.write_interactive(
            prepared_path(self.config, filter_name, "_photometry_per_night.html"),
            title=f"{self.config.roi_name} {filter_name}",
            labels=labels,
            epochs=epochs,
            nights=nights,
        )
