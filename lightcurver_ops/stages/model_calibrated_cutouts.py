"""Stage 11: the joint model of the ROI's pixels, and the light curves."""

import json
import math
from collections.abc import Collection, Iterable
from functools import partial
from glob import escape
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from lightcurver_ops.bookkeeping import ledger, photometry, stars, withheld
from lightcurver_ops.bookkeeping.engine import reading, writing
from lightcurver_ops.bookkeeping.hashing import hash_of_file
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import NothingToDo, QualityGate
from lightcurver_ops.stages.base import Report, Run, RunOptions, Stage
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.control_light_curves import (
    ControlResult,
    control_line,
    control_record,
    control_residuals,
    measure_controls,
    write_controls,
)
from lightcurver_ops.stages.control_stars import Controls, controls_of_lens
from lightcurver_ops.stages.flux_errors import (
    FluxErrors,
    Record,
    common_record,
    later_covariances,
    quoted_errors,
)
from lightcurver_ops.stages.given_background import starting_background_path
from lightcurver_ops.stages.light_curve_products import (
    Columns,
    write_epochs,
    write_light_curves,
    write_scene,
)
from lightcurver_ops.stages.prepare_calibrated_cutouts import PrepareCalibratedCutouts
from lightcurver_ops.stages.provenance import Origins, without_nan
from lightcurver_ops.stages.publication_gates import missed_by_controls, missed_by_fit
from lightcurver_ops.stages.publication_summary import save_summary
from lightcurver_ops.stages.publishing import newest_snapshot, snapshot_writer
from lightcurver_ops.stages.roi_fit import Scene, fit_prepared, scene_of
from lightcurver_ops.stages.stamp_extraction import ROI

WITHHELD, WITHHELD_FIGURE = "_withheld_per_epoch.csv", "_withheld_residuals.png"


class ModelCalibratedCutouts(Stage):
    """Models the images and the galaxy; publishes a version of the light curve."""

    name = "model_calibrated_cutouts"
    title = "Joint model of the ROI, light curves"
    depends_on = ("prepare_calibrated_cutouts",)
    version = 7
    config_keys = (
        "roi.point_sources",
        "roi.ra",
        "roi.dec",
        "roi_model.do_ROI_model",
        "roi_model.method",
        "roi_model.solver",
        "roi_model.fix_point_source_astrometry",
        "roi_model.starting_background",
        "roi_model.further_optimize_background",
        "roi_model.smooth_galaxy",
        "roi_model.uniform_background_per_epoch",
        "roi_model.regularisation",
        "roi_model.n_iter_translations",
        "roi_model.n_iter_all",
        "roi_model.calibrate_errors",
        "publication",
    )

    def check(self, connection: sa.Connection, units: Collection[str] | None = None) -> None:
        """No light curve is withheld, of the filters that there are."""
        current = self.plan(connection)
        held = [row for row in withheld.withheld_of(connection, self.lens.name) if row.filter in current]
        if held:
            each = "; ".join(f"of filter {row.filter}: {withheld.reasons_of(row)}" for row in held)
            raise QualityGate(
                f"{self.lens.name}: the light curve is withheld {each}. What was published before stays; it is kept in "
                f"{', '.join(row.file for row in held)}",
                filters=", ".join(row.filter for row in held),
                epochs=sum(row.n_epochs for row in held),
            )

    def lacks_a_file(self) -> bool:
        start = starting_background_path(self.config)
        return start is not None and not start.exists()

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
        self._release_what_is_gone()
        if not self.config.roi_model.do_ROI_model:
            raise NothingToDo(f"{self.lens.name}: {self.name}: roi_model.do_ROI_model is false")
        return super().run(options)

    def _release_what_is_gone(self) -> None:
        """Nothing is withheld of filters that the lens no longer has."""
        with reading(self.lens.engine) as connection:
            held = withheld.withheld_of(connection, self.lens.name)
            current = self.plan(connection) if held else {}
        for row in held:
            if row.filter not in current:
                with writing(self.lens.engine) as connection:
                    withheld.release(connection, self.lens.name, row.filter)

    def make(self, units: dict[str, str], run: Run) -> None:
        from lightcurver_ops.storage import prepared as prepared_files

        with reading(self.lens.engine) as connection:
            selection = stars.current_selection(connection, self.lens.name)
            assert selection is not None
            controls_of = {
                filter_name: controls_of_lens(connection, self.config, selection, filter_name)
                for filter_name in units
            }
            before = ledger.products_of(connection, self.lens.name, self.name)
        for filter_name, inputs_hash in units.items():
            path, chosen = prepared_path(self.config, filter_name), controls_of[filter_name]
            prepared = prepared_files.read_prepared(path)
            scene = scene_of(self.config, prepared)
            if filter_name not in before:  # the first time, or to be made again: not from what is known
                self._forget(filter_name, ())
            fit_one = partial(self._fit, filter_name)
            fit = fit_one(self.config, prepared, scene, ROI)
            labels = list(self.config.roi.point_sources)
            modelled = self.config.roi_model.method == "joint"
            missed = missed_by_fit(self.config.publication, labels, fit, modelled=modelled)
            controls = measure_controls(self.config, filter_name, Controls([]) if missed else chosen, fit_one)
            factor = controls.scale if self.config.roi_model.calibrate_errors else None
            errors = quoted_errors(prepared, fit, factor)
            common = common_record(labels, fit.flux, errors.common)
            record = control_record(controls, factor is not None)
            if record is not None:
                missed += missed_by_controls(
                    self.config.publication, record["error_factor"], record["error_factor_uncertainty"]
                )
            state = "converged" if fit.converged else "NOT converged"
            state = f"{state} (an update)" if fit.updated else state
            run.note(f"{filter_name}: {len(prepared.mjd)} epochs, {state}, chi2 {np.median(fit.chi2):.2f}")
            self._note_left_out(filter_name, prepared, fit, run)
            # What is withheld is nothing to go on from.
            self._forget(
                filter_name, () if missed else [ROI, *(f"control_{star.name}" for star in chosen.stars)]
            )
            if missed:
                self._withhold(filter_name, labels, prepared, fit, errors, missed, inputs_hash, run)
                continue
            epochs, nights = write_light_curves(
                self.config, filter_name, labels, prepared, fit, errors, common
            )
            write_scene(self.config, filter_name, labels, prepared, fit, scene.reference)
            write_controls(self.config, filter_name, controls, record)
            if self.config.compute.diagnostics:
                self._plot_residuals(filter_name, "_residuals.png", labels, prepared, fit)
                self._plot_curves(filter_name, labels, epochs, nights, controls)
            self._note_controls(filter_name, chosen, record, run)
            self._publish(
                filter_name, labels, prepared, fit, (errors, common), epochs, record, inputs_hash, run
            )

    def _withhold(
        self,
        filter_name: str,
        labels: list[str],
        prepared: Any,
        fit: Any,
        errors: FluxErrors,
        missed: list[str],
        inputs_hash: str,
        run: Run,
    ) -> None:
        """Keep a light curve that missed a gate beside what was published, which stays as it is."""
        path = prepared_path(self.config, filter_name, WITHHELD)
        write_epochs(path, labels, prepared, fit, errors)
        if self.config.compute.diagnostics:
            self._plot_residuals(filter_name, WITHHELD_FIGURE, labels, prepared, fit)
        row = {
            "lens": self.lens.name,
            "filter": filter_name,
            "n_epochs": len(prepared.mjd),
            "file": path.relative_to(self.lens.workdir).as_posix(),
            **ledger.provenance(inputs_hash),
        }
        run.note(f"{filter_name}: WARNING: the light curve is withheld: {'; '.join(missed)}")
        run.done(filter_name, inputs_hash, lambda connection: withheld.withhold(connection, row, missed))

    def _fit(self, filter_name: str, config: LensConfig, prepared: Any, scene: Scene, name: str) -> Any:
        """Fit the lens, ``ROI``, or a control star, ``control_<name>``."""
        return fit_prepared(config, prepared, scene, self._memory(filter_name, name))

    def _forget(self, filter_name: str, keep: Iterable[str]) -> None:
        """Delete what earlier fits kept, also those of other versions, but for some names."""
        kept = {self._memory(filter_name, name) for name in keep}
        start = prepared_path(self.config, filter_name, "_memory_")
        for path in start.parent.glob(f"{escape(start.name)}*.h5"):
            if path not in kept:
                path.unlink()

    def _memory(self, filter_name: str, name: str) -> Path:
        """What a fit keeps for the next one."""
        return prepared_path(self.config, filter_name, f"_memory_{name}_v{self.version}.h5")

    def _note_left_out(self, filter_name: str, prepared: Any, fit: Any, run: Run) -> None:
        aside = [
            f"frame {int(prepared.frame_id[e])}: {note}"
            for e, note in enumerate(fit.epoch_note)
            if fit.aside[e]
        ]
        partly = sum(bool(note) for note in fit.epoch_note) - len(aside)
        if aside:
            run.note(
                f"{filter_name}: WARNING: {len(aside)} epochs set aside by the joint model: {'; '.join(aside[:3])}"
            )
        if partly:
            run.note(
                f"{filter_name}: of {partly} epochs pixels were left out, or the noise map corrected "
                "(`lcops frames list` has them)"
            )

    def _note_controls(
        self, filter_name: str, chosen: Controls, record: dict[str, Any] | None, run: Run
    ) -> None:
        if record is not None:
            run.note(f"{filter_name}: {control_line(record)}")
        elif chosen.lacking or chosen.stars:
            run.note(
                f"{filter_name}: no control star: {chosen.lacking or 'those chosen lie in no frame of it'}"
            )
        if self.config.roi_model.calibrate_errors and not (record and record["errors_calibrated"]):
            run.note(
                f"{filter_name}: WARNING: roi_model.calibrate_errors: errors are left as they are, no control star "
                "has enough epochs (stars.stars_to_use_control)"
            )

    def _publish(
        self,
        filter_name: str,
        labels: list[str],
        prepared: Any,
        fit: Any,
        known: tuple[FluxErrors, Record],
        epochs: Columns,
        control_stars: dict[str, Any] | None,
        inputs_hash: str,
        run: Run,
    ) -> None:
        errors, common = known
        uncertainty, of_model = errors.uncertainty, errors.of_model
        publication = {
            "configuration": json.dumps(self.config.model_dump(mode="json"), sort_keys=True),
            "loss": float(fit.loss),
            "converged": bool(fit.converged),
            "control_stars": None if control_stars is None else json.dumps(control_stars),
            "common_errors": json.dumps(common, allow_nan=False),
            **ledger.provenance(inputs_hash),
        }
        zeropoint = float(prepared.global_zeropoint)
        points = [
            {
                "frame_number": int(prepared.frame_id[e]),
                "source": label,
                "mjd": float(prepared.mjd[e]),
                "flux": float(fit.flux[e, j]),
                "flux_uncertainty": float(uncertainty[e, j]),
                "flux_uncertainty_model": None if of_model is None else float(of_model[e, j]),
                "flux_covariances": _json_or_none(later_covariances(labels, j, errors.independent[e])),
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

        with reading(self.lens.engine) as connection:
            origins = Origins(connection, self.lens)
        names = {row.number: relpath for relpath, row in origins.frames.items()}
        document = origins.document(filter_name, [names[int(number)] for number in prepared.frame_id])
        document["errors"] = without_nan(control_stars)
        notes = {
            names[int(prepared.frame_id[e])]: {"note": note, "aside": bool(fit.aside[e])}
            for e, note in enumerate(fit.epoch_note)
            if note
        }
        publication["epoch_notes"] = json.dumps(notes, sort_keys=True)
        document["model"] = {
            "converged": bool(fit.converged),
            "update_of_an_earlier_fit": bool(fit.updated),
            "epochs": notes,
        }
        columns = {name: values for name, values in epochs.items() if name != "frame_id"}
        snapshot = snapshot_writer(self.config, filter_name, publication, (labels, columns), document)

        def write(connection: sa.Connection) -> None:
            version, is_new = photometry.publish(
                connection,
                self.lens.name,
                filter_name,
                publication,
                points,
                snapshot,
                taken=lambda: newest_snapshot(self.config, filter_name),
            )
            save_summary(connection, self.lens.name, filter_name)
            withheld.release(connection, self.lens.name, filter_name)
            state = "" if is_new else " (unchanged)"
            run.note(f"{filter_name}: light curve version {version}{state}")

        run.done(filter_name, inputs_hash, write)
        for ending in (WITHHELD, WITHHELD_FIGURE):
            prepared_path(self.config, filter_name, ending).unlink(missing_ok=True)

    def _plot_residuals(
        self, filter_name: str, ending: str, labels: list[str], prepared: Any, fit: Any
    ) -> None:
        from lightcurver_ops.diagnostics import roi

        roi.plot_roi(
            prepared_path(self.config, filter_name, ending),
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

    def _plot_curves(
        self, filter_name: str, labels: list[str], epochs: Any, nights: Any, controls: ControlResult
    ) -> None:
        from lightcurver_ops.diagnostics import light_curves

        light_curves.plot_light_curves(
            prepared_path(self.config, filter_name, "_light_curves.png"),
            title=f"{self.config.roi_name} {filter_name}",
            labels=labels,
            epochs=epochs,
            nights=nights,
            controls=control_residuals(controls),
        )
        light_curves.write_interactive(
            prepared_path(self.config, filter_name, "_photometry_per_night.html"),
            title=f"{self.config.roi_name} {filter_name}",
            labels=labels,
            epochs=epochs,
            nights=nights,
        )


def _json_or_none(content: Any) -> str | None:
    return None if content is None else json.dumps(content, sort_keys=True)
