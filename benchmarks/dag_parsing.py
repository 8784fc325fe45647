"""How long Airflow needs for the DAG files of an observatory of N lenses, against its limit for a file.

    python benchmarks/dag_parsing.py [N ...]

For each number of lenses: DAG files (parts of about 50 lenses), seconds for the slowest of them (imports, YAML,
validation, building, serialisation: what the DAG processor does, in a process of its own), its share of
`dagbag_import_timeout`, seconds for the file that reports broken lenses, and for the DAG of one task as it starts; each
also as a ratio to the file of an observatory with one lens, in the same run.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from lightcurver_ops.airflow.deployment import write_dag_files

DAGS = Path(__file__).parents[1] / "dags"
LIMIT_S = 30.0  # Airflow's default of core.dagbag_import_timeout
_PARSE = """
import json, os, sys, time
started = time.perf_counter()
from airflow.dag_processing.dagbag import DagBag
ready = time.perf_counter()
if sys.argv[2]:
    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = sys.argv[2]
bag = DagBag(sys.argv[1], collect_dags=False, bundle_path=None)
bag.process_file(sys.argv[1], only_if_updated=False, safe_mode=False)
built = time.perf_counter()
if not sys.argv[2]:
    from airflow.serialization.serialized_objects import DagSerialization
    for dag in bag.dags.values():
        DagSerialization.to_dict(dag)
print(json.dumps({"dags": len(bag.dags), "errors": len(bag.import_errors), "airflow": ready - started,
                  "build": built - ready, "all": time.perf_counter() - ready}))
"""


def write_lenses(directory: Path, number: int) -> Path:
    """An observatory of so many lenses, as files."""
    lenses = directory / "lenses"
    lenses.mkdir(parents=True)
    for index in range(number):
        content = {
            "observatory": "../observatory.yaml",
            "name": f"J{index:04d}-{index % 90:02d}15",
            "workdir": f"../work/{index:04d}",
            "raw": {"raw_dirs": [f"/data/raw/{index:04d}"]},
            "roi": {
                "ra": 0.3 * index % 360,
                "dec": -30.0,
                "point_sources": {"A": [10.0, -30.0], "B": [10.001, -30.0]},
            },
            "plate_solving": {"plate_scale_interval": [0.2, 0.3]},
        }
        (lenses / f"J{index:04d}.yaml").write_text(yaml.safe_dump(content))
    settings = {
        "name": "benchmark",
        "watch": {"raw_roots": ["/data/raw"]},
        "defaults": {"telescope": {"name": "T", "latitude": -29.3, "longitude": -70.7, "elevation": 2400,
                                   "timezone": "America/Santiago"}},
    }  # fmt: skip
    (directory / "observatory.yaml").write_text(yaml.safe_dump(settings))
    return directory / "observatory.yaml"


def parse(file: Path, observatory: Path, home: Path, dag_id: str = "") -> dict[str, float]:
    """Times of one DAG file in a process of its own; with a name: as when a task of this DAG starts."""
    environment = {
        **os.environ, "AIRFLOW_HOME": str(home), "LCOPS_OBSERVATORY": str(observatory),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'airflow.db'}",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", _PARSE, str(file), dag_id],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(number: int) -> dict[str, float]:
    """All times of an observatory."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        observatory = write_lenses(directory, number)
        home = directory / "airflow"
        home.mkdir()
        files = write_dag_files(DAGS, directory / "dags", number)
        parts = [file for file in files if "broken" not in file.name]
        times = [parse(file, observatory, home) for file in parts]
        assert sum(one["dags"] for one in times) == 2 * number + 3
        assert not any(one["errors"] for one in times)
        broken = parse(directory / "dags" / "lightcurver_ops_broken_lenses.py", observatory, home)
        task = parse(parts[0], observatory, home, f"J{number - 1:04d}-{(number - 1) % 90:02d}15__nightly")
        assert task["dags"] == 1
        return {
            "lenses": number,
            "files": len(parts),
            "slowest_file_s": max(one["all"] for one in times),
            "all_files_s": sum(one["all"] for one in times),
            "report_s": broken["all"],
            "task_s": task["build"],
        }


def main(numbers: list[int]) -> None:
    """Measure and print a table."""
    reference = measure(1)
    header = ("lenses", "DAG files", "slowest file [s]", "of the limit", "all files [s]", "report of broken lenses [s]",
              "DAG at task start [s]", "slowest / one lens")  # fmt: skip
    print(f"| {' | '.join(header)} |")
    print("|---|---|---|---|---|---|---|---|")
    for number in numbers:
        row = reference if number == 1 else measure(number)
        print(
            f"| {number} | {row['files']} | {row['slowest_file_s']:.2f} | {row['slowest_file_s'] / LIMIT_S:.0%} | "
            f"{row['all_files_s']:.1f} | {row['report_s']:.2f} | {row['task_s']:.2f} | "
            f"{row['slowest_file_s'] / reference['slowest_file_s']:.1f} |"
        )


if __name__ == "__main__":
    main([int(text) for text in sys.argv[1:]] or [1, 50, 200, 1000])
