"""What a deployment needs of an observatory: its pools, its DAG files, and Airflow's settings."""

import json
import shutil
from pathlib import Path

from lightcurver_ops.config import ObservatoryConfig
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.stages.pipeline import STAGE_NAMES

POOL_DESCRIPTIONS = {
    "gpu": "PSFs, star photometry, models: one slot per device",
    "frames": "import and cutouts",
    "plate_solving": "plate solutions",
    "catalogues": "queries of star catalogues",
    "joint": "what works on all frames of a lens at once",
    "backfill": "what backfills and reprocessing take of the cores",
}

IMPORT, SOLVE, FOOTPRINT, STARS, STAMPS, PSF, PHOTOMETRY = STAGE_NAMES[1:8]
JOINT = STAGE_NAMES[8:]
FIRST_OF_SEASON = FOOTPRINT
NIGHT_STAGES = (IMPORT, SOLVE, STARS, STAMPS, PSF, PHOTOMETRY)
"""Of a lens whose stars are those in a disk."""
SEASON_STAGES = STAGE_NAMES[3:]

POOL_OF = {
    IMPORT: "frames",
    SOLVE: "plate_solving",
    FOOTPRINT: "joint",
    STARS: "catalogues",
    STAMPS: "frames",
    PSF: "gpu",
    PHOTOMETRY: "gpu",
    **dict.fromkeys(JOINT, "joint"),
    JOINT[-1]: "gpu",
}
LENSES_PER_FILE = 50
# A writer that finds another one at work waits for it, s.
SQLITE_TIMEOUT_S = 60
_DAG_FILE = "lightcurver_ops_dags"


def pools(observatory: ObservatoryConfig) -> dict[str, dict[str, object]]:
    """What `airflow pools import` reads."""
    slots = observatory.pools.model_dump()
    return {
        name: {"slots": slots[name], "description": text, "include_deferred": False}
        for name, text in POOL_DESCRIPTIONS.items()
    }


def write_pools(observatory: ObservatoryConfig, path: Path) -> Path:
    """Write the file for `airflow pools import`."""
    path.write_text(json.dumps(pools(observatory), indent=2) + "\n")
    return path


def write_dag_files(source: Path, target: Path, n_lenses: int) -> list[Path]:
    """Copy the DAG files into a DAGs folder: as they are, or, for many lenses, in parts of about 50 lenses each.

    One file with a thousand lenses is near the time that Airflow allows for a file; one file per lens keeps its
    processor busy all the time. Files are replaced whole; parts of an earlier call go last.

    Raises:
        ConfigurationError: both folders are the same.
    """
    target.mkdir(parents=True, exist_ok=True)
    if target.samefile(source):
        raise ConfigurationError(
            f"{target} is the folder of the DAG files themselves: name Airflow's DAGs folder"
        )
    written = []
    parts = max(1, -(-n_lenses // LENSES_PER_FILE))
    for file in sorted(source.glob("lightcurver_ops_*.py")):
        names = [file.name]
        if file.stem == _DAG_FILE and parts > 1:
            names = [f"{_DAG_FILE}_{number:02d}_of_{parts:02d}.py" for number in range(1, parts + 1)]
        for name in names:
            temporary = target / f".{name}.part"
            shutil.copyfile(file, temporary)
            written.append(temporary.replace(target / name))
    for old in set(target.glob("lightcurver_ops_*.py")) - set(written):
        old.unlink()
    return written


def settings(
    home: Path,
    dags: Path,
    plugins: Path,
    observatory: Path,
    *,
    port: int,
    database: str | None = None,
    cores: int = 2,
) -> dict[str, str]:
    """Environment of every component of an Airflow on one machine.

    Args:
        home: AIRFLOW_HOME.
        dags: the DAGs folder.
        plugins: the plugins folder.
        observatory: path of the observatory's file.
        port: of the API server on loopback.
        database: URL of the metadata; None: SQLite in the home.
        cores: tasks at a time.
    """
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(home),
        "LCOPS_OBSERVATORY": str(observatory),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(plugins),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(max(2, cores + 1)),
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
        "AIRFLOW__CORE__DAGBAG_IMPORT_ERROR_TRACEBACK_DEPTH": "0",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database
        or f"sqlite:///{home / 'airflow.db'}?timeout={SQLITE_TIMEOUT_S}",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "15",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "30",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        # Airflow 3.3 notices the end of a task only then, where the process is a moment slower to go than its sockets:
        # 17 of 278 tasks took 5 s longer than they do. What it puts up with stays 15 s.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS": "15",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        # What a task did, in its log, without the chatter of the components.
        "AIRFLOW__LOGGING__NAMESPACE_LEVELS": "lightcurver_ops=INFO airflow.task=INFO task=INFO",
    }
