"""`python -m lightcurver_ops.airflow.deploy SOURCE TARGET`: DAG files and pools for a deployment's DAGs folder."""

import os
import sys
from pathlib import Path

from lightcurver_ops.airflow.deployment import write_dag_files, write_pools
from lightcurver_ops.errors import ConfigurationError, LightcurverError
from lightcurver_ops.operations.observatory import load_lenses, open_observatory


def deploy(source: Path, target: Path) -> None:
    """Copy the DAG files, in as many parts as the observatory has use for, and write `pools.json` beside them.

    Raises:
        ConfigurationError: $LCOPS_OBSERVATORY is not set, or a folder is not as it must be.
    """
    variable = os.environ.get("LCOPS_OBSERVATORY")
    if not variable:
        raise ConfigurationError("set LCOPS_OBSERVATORY to the path of your observatory.yaml")
    observatory = open_observatory(variable)
    if not list(source.glob("lightcurver_ops_*.py")):
        raise ConfigurationError(
            f"{source} has no lightcurver_ops_*.py: name the folder dags/ of this repository"
        )
    files = observatory.lens_files()
    written = write_dag_files(source, target, len(files))
    pools = write_pools(observatory.config, target / "pools.json")
    sys.stdout.write(f"{len(written)} DAG files in {target}, for {len(files)} lenses; pools: {pools}\n")
    for message in load_lenses(files).broken.values():
        sys.stdout.write(f"this lens will be left out: {message}\n")


if __name__ == "__main__":
    try:
        deploy(Path(sys.argv[1]), Path(sys.argv[2]))
    except IndexError:
        sys.exit("give the folder of the DAG files and the DAGs folder of Airflow")
    except LightcurverError as problem:
        sys.exit(f"deploy: {problem}")
