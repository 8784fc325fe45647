"""All DAGs of an observatory from its file: called by the short files in the DAGs folder."""

import os
import re
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

from lightcurver_ops.airflow.lens_dags import LensDags, nightly_id, season_id
from lightcurver_ops.airflow.observatory_dags import (
    ARRIVALS,
    REPROCESS,
    SUMMARY,
    arrivals_dag,
    reprocess_dag,
    summary_dag,
)
from lightcurver_ops.config import LensConfig
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.observatory import (
    Observatory,
    find_lens,
    load_lenses,
    open_observatory,
    shard_of,
)

OBSERVATORY_VARIABLE = "LCOPS_OBSERVATORY"
_SHARD = re.compile(r"_(\d+)_of_(\d+)$")


def observatory_from_environment() -> Observatory:
    """The observatory that $LCOPS_OBSERVATORY names.

    Raises:
        ConfigurationError: the variable is not set, or its file is not as it must be.
    """
    path = os.environ.get(OBSERVATORY_VARIABLE)
    if not path:
        raise ConfigurationError(
            f"the environment variable {OBSERVATORY_VARIABLE} is not set: give it the path of your observatory.yaml, "
            "for all components of Airflow"
        )
    return open_observatory(path)


def build_dags(dag_file: str) -> dict[str, DAG]:
    """name: DAG, of all lenses, or of the share of a file called `..._<n>_of_<N>.py` (n from 1).

    Lens files that are broken are left out; `report_broken_lenses` tells of them. When a task runs, only its own DAG
    is built.
    """
    observatory = observatory_from_environment()
    wanted = get_parsing_context().dag_id
    if wanted is not None and wanted.endswith(("__nightly", "__season")):
        return _dags_of_one(observatory, wanted)
    if wanted in (ARRIVALS, SUMMARY, REPROCESS):
        lenses = [one.lens for one in load_lenses(observatory.lens_files()).lenses]
        return {dag.dag_id: dag for dag in _dags_of_all(observatory, lenses) if dag.dag_id == wanted}
    shard, shards = shard_of_file(dag_file)
    files = observatory.lens_files()
    own = {path for path in files if shard_of(path, shards) == shard}
    # The first file has the DAGs of the observatory, which want to know all lenses.
    loaded = load_lenses(files if shard == 0 else sorted(own)).lenses
    dags = [dag for one in loaded if one.path in own for dag in LensDags(one, observatory).build()]
    if shard == 0:
        dags += _dags_of_all(observatory, [one.lens for one in loaded])
    return {dag.dag_id: dag for dag in dags}


def _dags_of_one(observatory: Observatory, dag_id: str) -> dict[str, DAG]:
    name = dag_id.rsplit("__", 1)[0]
    dags = LensDags(find_lens(observatory, name), observatory)
    return {dag_id: dags.nightly() if dag_id.endswith("__nightly") else dags.season()}


def _dags_of_all(observatory: Observatory, lenses: list[LensConfig]) -> list[DAG]:
    dags = [arrivals_dag(observatory, lenses), summary_dag(observatory)]
    if lenses:
        dags.append(reprocess_dag(observatory))
    return dags


def shard_of_file(dag_file: str) -> tuple[int, int]:
    """Which share of the lenses a DAG file has, by its name: number from 0, and of how many."""
    match = _SHARD.search(Path(dag_file).stem)
    if match is None:
        return 0, 1
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise ConfigurationError(
            f"{dag_file}: its name says part {number} of {count}; parts are counted from 1"
        )
    return number - 1, count


def report_broken_lenses() -> None:
    """Raise what is wrong with lens files, for a DAG file that holds nothing else: no DAG goes down with it.

    Raises:
        ConfigurationError: with the messages of all broken lens files.
    """
    observatory = observatory_from_environment()
    files = observatory.lens_files()
    broken = load_lenses(files).broken
    if broken:
        raise ConfigurationError(
            f"{len(broken)} of {len(files)} lens files cannot be used; all others run on.\n"
            + "\n".join(broken.values())
        )


__all__ = [
    "ARRIVALS",
    "REPROCESS",
    "SUMMARY",
    "build_dags",
    "nightly_id",
    "report_broken_lenses",
    "season_id",
]
