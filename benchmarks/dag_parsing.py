"""How long Airflow needs for the DAG files of an observatory, each in a process of its own, as in operation.

The seconds of a file are those of imports, YAML, validation, building and serialisation; the limit is
`dagbag_import_timeout`.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.bookkeeping import IMAGES

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
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(json.dumps({"peak_mib": int(peak.split()[1]) / 1024,
                  "dags": len(bag.dags), "errors": len(bag.import_errors), "airflow": ready - started,
                  "build": built - ready, "all": time.perf_counter() - ready}))
"""


def write_lenses(directory: Path, names: list[str], database: str | None = None) -> Path:
    """An observatory of these lenses, as files; their raw directories are there, and empty.

    Returns:
        The observatory's file.
    """
    lenses = directory / "lenses"
    lenses.mkdir(parents=True)
    for index, name in enumerate(names):
        raw = directory / "raw" / name
        raw.mkdir(parents=True)
        content = {
            "observatory": "../observatory.yaml",
            "name": name,
            "workdir": f"../work/{name}",
            "raw": {"raw_dirs": [str(raw)]},
            "roi": {"ra": 0.3 * index % 360, "dec": -30.0,
                    "point_sources": {label: [0.3 * index % 360, -30.0 + 1e-4 * n] for n, label in enumerate(IMAGES)}},
            "plate_solving": {"plate_scale_interval": [0.2, 0.3]},
        }  # fmt: skip
        (lenses / f"{name}.yaml").write_text(yaml.safe_dump(content))
    telescope = {
        "name": "T",
        "latitude": -29.3,
        "longitude": -70.7,
        "elevation": 2400,
        "timezone": "America/Santiago",
    }
    defaults: dict[str, Any] = {"telescope": telescope} | ({"database": database} if database else {})
    settings = {"name": "benchmark", "watch": {"raw_roots": [str(directory / "raw")]}, "defaults": defaults}
    path = directory / "observatory.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def parse(file: Path, observatory: Path, home: Path, dag_id: str = "") -> dict[str, float]:
    """Times (s) and peak memory (MiB) of one DAG file; with a name: as when a task of this DAG starts."""
    environment = {
        **os.environ, "AIRFLOW_HOME": str(home), "LCOPS_OBSERVATORY": str(observatory),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False", "AIRFLOW__CORE__DAGBAG_IMPORT_TIMEOUT": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home / 'parsing.db'}",
    }  # fmt: skip
    result = subprocess.run(
        [sys.executable, "-c", _PARSE, str(file), dag_id],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


def measure(dags: Path, observatory: Path, home: Path, names: list[str]) -> dict[str, Any]:
    """All times of the DAG files of an observatory, as `write_dag_files` wrote them."""
    files = sorted(dags.glob("lightcurver_ops_*.py"))
    parts = [file for file in files if "broken" not in file.name]
    times = [parse(file, observatory, home) for file in parts]
    assert sum(one["dags"] for one in times) == 2 * len(names) + 3
    assert not any(one["errors"] for one in times)
    broken = parse(dags / "lightcurver_ops_broken_lenses.py", observatory, home)
    task = parse(parts[0], observatory, home, f"{names[-1]}__nightly")
    assert task["dags"] == 1
    slowest = max(one["all"] for one in times)
    return {
        "files": len(parts),
        "slowest_file_s": slowest,
        "of_limit": slowest / LIMIT_S,
        "all_files_s": sum(one["all"] for one in times),
        "peak_mib": max(one["peak_mib"] for one in times),
        "report_s": broken["all"],
        "task_s": task["build"],
    }
