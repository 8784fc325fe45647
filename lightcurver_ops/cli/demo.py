"""`make demo`: a simulated season, the whole pipeline, and how far the light curves are from the truth."""

import sys
import time
from pathlib import Path

from lightcurver_ops.cli.common import shown_progress
from lightcurver_ops.config import load_lens
from lightcurver_ops.stages.base import Lens, RunOptions
from lightcurver_ops.stages.calculate_normalization_coefficient import prepared_path
from lightcurver_ops.stages.pipeline import StageResult, run_pipeline


def demo(directory: Path) -> None:
    """Simulate, run, compare; a directory that holds an earlier demo is completed, not made again."""
    from lightcurver_ops.simulation import SeasonOptions, simulate_season
    from lightcurver_ops.simulation.comparison import as_text, compare
    from lightcurver_ops.simulation.lens_file import write_lens_file
    from lightcurver_ops.storage.tables import read_table

    options = SeasonOptions()
    started = time.monotonic()
    print(
        f"Simulating {options.n_nights} nights of {options.exposures_per_night} exposures in {directory} ..."
    )
    truth = simulate_season(options, directory)
    path = write_lens_file(truth)

    def announce(result: StageResult) -> None:
        print(f"  {result.name}: {result.report.summary() if result.report else 'up to date'}", flush=True)

    lens = Lens(load_lens(path))
    with shown_progress() as progress:
        run_pipeline(lens, options=RunOptions(progress=progress), announce=announce)
    lens.close()
    for one in options.filters:
        table = prepared_path(lens.config, one.name, "_photometry_per_epoch.csv")
        print(f"\nMeasured minus true magnitudes, filter {one.name}:\n")
        print(as_text(compare(truth, one.name, read_table(table))))
    products = prepared_path(lens.config, options.filters[0].name, "").parent
    print(
        f"\nLight curves, figures and models: {products}\n"
        f"Figures of PSFs, stars and frames:  {lens.workdir / 'diagnostics'}\n"
        f"Look further:  lcops status {path};  lcops frames list {path};  lcops lightcurve {path}\n"
        f"{time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    demo(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
