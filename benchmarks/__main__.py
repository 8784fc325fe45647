"""Run benchmarks: `python -m benchmarks [PART ...] [--quick]`; results as JSON and Markdown.

psf, photometry and roi compare with STARRED in the same run and show how ours grows; pipeline has the seconds of every
stage, accuracy the light curves of simulated seasons against the truth, aperture the light curve of a transit against
plain apertures, disturbances what bad epochs do to the others, scale an observatory of many lenses. What jax finds is
used: with a GPU the same commands measure that, STARRED's included, as frames per second, too; `JAX_PLATFORMS=cpu`
before them, or for ours alone `--device numpy`, measures the CPU of the same machine.
"""

import argparse
import os
import shlex
import sys
import time
from pathlib import Path

from benchmarks import accuracy, aperture, disturbances, photometry, pipeline, psf, roi, scale
from benchmarks.measure import environment
from benchmarks.report import Report
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.numerics.device import CHOICE

PARTS = {"psf": psf, "photometry": photometry, "roi": roi, "pipeline": pipeline, "accuracy": accuracy,
         "aperture": aperture, "disturbances": disturbances, "scale": scale}  # fmt: skip
RESULTS = Path(__file__).parent / "results"


def main(words: list[str]) -> None:
    """Run the parts that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default all")
    parser.add_argument("--quick", action="store_true", help="reduced sizes: minutes instead of hours")
    parser.add_argument("--results", type=Path, default=RESULTS, help="directory of the results")
    parser.add_argument(
        "--device",
        choices=("auto", "numpy", "jax"),
        help="of stages 7 and 11: auto (the default: jax if it finds a GPU), or what is to be measured",
    )
    parser.add_argument("--processes", type=int, default=2, help="pipeline, accuracy: of frame-wise stages")
    parser.add_argument("--limit", type=float, help="roi: seconds after which STARRED is stopped")
    parser.add_argument("--learning-rate", type=float, help="roi: of STARRED")
    parser.add_argument("--lens", nargs="+", help="accuracy: of `lcops simulate`, one season each")
    parser.add_argument("--seeds", type=int, nargs="+", help="accuracy: one season of each lens each")
    parser.add_argument("--psf-varies", type=float, nargs="+", help="accuracy: e.g. 0 0.03")
    parser.add_argument(
        "--truth",
        nargs="+",
        default=[],
        help=f"accuracy: also fit with the truth instead of {', '.join(accuracy.INGREDIENTS)}, or of some: psf+galaxy",
    )
    parser.add_argument(
        "--keep", type=Path, help="accuracy: directory where the seasons stay, and are found again"
    )
    parser.add_argument(
        "--transit",
        type=Path,
        help="aperture: directory with raw/ and catalogue.ecsv of HAT-P-32; else LCOPS_HATP32",
    )
    parser.add_argument("--lenses", type=int, nargs="+", help="scale: numbers of lenses")
    parser.add_argument(
        "--postgres", help="scale: URL of a server on which databases may be made, to measure it as well"
    )
    arguments = parser.parse_args(words)
    unknown = [name for name in arguments.parts if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    try:
        chosen = {name: PARTS[name].sizes(arguments) for name in arguments.parts or PARTS}
    except ConfigurationError as error:
        parser.error(str(error))
    if arguments.device is not None:
        os.environ[CHOICE] = arguments.device  # for the processes of the measurements
    command = shlex.join(["python", "-m", "benchmarks", *words])
    for name, sizes in chosen.items():
        started = time.monotonic()
        print(f"{name} ...", flush=True)
        part = PARTS[name]
        report = Report(name, part.PURPOSE, command, environment(), arguments.results)
        part.run(report, sizes)
        print(f"\n{report.markdown()}\n{name}: {time.monotonic() - started:.0f} s\n", flush=True)
    print(f"Results: {arguments.results}")


if __name__ == "__main__":
    main(sys.argv[1:])
