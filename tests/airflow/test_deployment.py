"""What a deployment is given: pools that Airflow takes, DAG files, settings that Airflow knows."""

import json
import re
from pathlib import Path

import pytest

from lightcurver_ops.airflow.deployment import LENSES_PER_FILE, pools, settings, write_dag_files, write_pools
from lightcurver_ops.airflow.factory import shard_of_file
from lightcurver_ops.config.observatory import ObservatoryConfig, Pools

DAGS = Path(__file__).parents[2] / "dags"
IMPORT_POOLS = """
import json, sys
from airflow.cli.commands.pool_command import pool_import_helper
pools, failed = pool_import_helper(sys.argv[1])
from airflow.models.pool import Pool
print(json.dumps([failed, {pool.pool: [pool.slots, pool.description] for pool in Pool.get_pools()}]))
"""


def test_every_pool_of_the_configuration_is_described():
    config = ObservatoryConfig(pools=Pools(gpu=3, joint=7))
    made = pools(config)
    assert set(made) == set(Pools.model_fields)
    assert (made["gpu"]["slots"], made["joint"]["slots"]) == (3, 7)
    assert all(pool["description"] for pool in made.values())


def test_airflow_imports_the_pools(observatory, migrated_home, python):
    observatory.configure(pools={"gpu": 2, "backfill": 5})
    path = write_pools(observatory.open().config, migrated_home.directory / "pools.json")
    failed, known = python(IMPORT_POOLS, migrated_home.environment(observatory.path), str(path))
    assert failed == []
    known.pop("default_pool")
    assert known == {
        name: [pool["slots"], pool["description"]] for name, pool in json.loads(path.read_text()).items()
    }
    assert known["gpu"][0] == 2
    assert known["backfill"][0] == 5


@pytest.mark.parametrize("n_lenses", [0, 1, LENSES_PER_FILE])
def test_few_lenses_take_the_files_as_they_are(tmp_path, n_lenses):
    written = write_dag_files(DAGS, tmp_path / "dags", n_lenses)
    assert sorted(path.name for path in written) == sorted(path.name for path in DAGS.glob("*.py"))
    assert all(path.read_bytes() == (DAGS / path.name).read_bytes() for path in written)


@pytest.mark.parametrize(("n_lenses", "parts"), [(LENSES_PER_FILE + 1, 2), (120, 3), (1000, 20)])
def test_many_lenses_take_parts(tmp_path, n_lenses, parts):
    written = write_dag_files(DAGS, tmp_path, n_lenses)
    shares = [shard_of_file(str(path)) for path in written if "broken" not in path.name]
    assert sorted(shares) == [(number, parts) for number in range(parts)]
    assert sum("broken" in path.name for path in written) == 1


def test_parts_of_an_earlier_call_are_removed_and_files_of_others_stay(tmp_path):
    other = tmp_path / "mine.py"
    other.write_text("x = 1\n")
    write_dag_files(DAGS, tmp_path, 1000)
    for n_lenses in (120, 3):
        written = write_dag_files(DAGS, tmp_path, n_lenses)
        assert set(tmp_path.iterdir()) == {*written, other}


def made(directory, **more):
    paths = {name: directory / name for name in ("home", "dags", "plugins", "observatory")}
    return settings(**paths, **{"port": 8123, **more})


def test_airflow_knows_every_setting(tmp_path):
    """A setting with a slip in its name would do nothing, silently."""
    from airflow.configuration import conf

    environment = made(tmp_path, cores=3)
    for name in environment:
        match = re.fullmatch(r"AIRFLOW__(.+?)__(.+)", name)
        if match:
            section = conf.configuration_description.get(match[1].lower(), {"options": {}})
            assert match[2].lower() in section["options"], name
    assert environment["AIRFLOW__CORE__PARALLELISM"] == "4"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:8123/execution/"
    ports = [value for name, value in environment.items() if name.endswith("_PORT")]
    assert len(set(ports)) == len(ports) >= 1
    assert all(isinstance(value, str) for value in environment.values())  # what an environment takes
    assert not set(environment) & {"PATH", "HOME"}


def test_another_database_for_the_metadata(tmp_path):
    url = "postgresql+psycopg2://x@y/z"
    assert made(tmp_path, database=url)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"] == url
    assert (
        made(tmp_path)["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
        == f"sqlite:///{tmp_path / 'home' / 'airflow.db'}?timeout=60"
    )
