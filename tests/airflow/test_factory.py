"""Parsing the DAG files: light, one lens at a time when a task runs, and a broken lens file spoils only itself."""

import os
import shutil
from pathlib import Path

import pytest
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import get_parsing_context
from airflow.sdk.definitions._internal.dag_parsing_context import _airflow_parsing_context_manager

from lightcurver_ops.airflow import factory, lens_dags
from lightcurver_ops.airflow.deployment import LENSES_PER_FILE, write_dag_files
from lightcurver_ops.airflow.factory import build_dags, report_broken_lenses, shard_of_file
from lightcurver_ops.errors import ConfigurationError
from lightcurver_ops.operations.observatory import dag_name

REPOSITORY = Path(__file__).parents[2]
HEAVY = {
    "jax", "jaxlib", "starred", "astropy", "sep", "h5py", "matplotlib", "scipy", "shapely", "pandas", "pyarrow",
    "astroquery", "photutils", "astroscrappy", "psycopg",
}  # fmt: skip
OF_OBSERVATORY = {"lcops_arrivals", "lcops_morning_summary", "lens_reprocess"}

PARSE = """
import json, os, sqlite3, sys
seen = []
watched = ("sqlite3.connect", "socket.connect", "socket.bind", "socket.getaddrinfo")
sys.addaudithook(lambda event, arguments: event in watched and seen.append(event))
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(os.environ["AIRFLOW__CORE__DAGS_FOLDER"])
during, loaded = list(seen), sorted({name.split(".")[0] for name in sys.modules})
sqlite3.connect(":memory:")  # what listens does hear
print(json.dumps({"dags": sorted(bag.dags), "errors": bag.import_errors, "during": during, "all": seen,
                  "loaded": loaded}))
"""


@pytest.fixture
def parse(home, observatory, monkeypatch):
    """Parses the DAGs folder as Airflow does."""
    for name, value in home.environment(observatory.path).items():
        if name.startswith(("AIRFLOW__CORE__", "LCOPS_")):
            monkeypatch.setenv(name, value)
    return lambda: DagBag(str(home.directory / "dags"))


@pytest.fixture(autouse=True)
def _no_task_runs():
    """Airflow leaves its parsing context behind: the process of a task has only one."""
    yield
    for name in [name for name in os.environ if name.startswith("_AIRFLOW_PARSING_CONTEXT")]:
        del os.environ[name]


@pytest.fixture
def in_this_process(monkeypatch, observatory):
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(observatory.path))
    return observatory


def both(*names):
    return {f"{dag_name(name)}__{kind}" for name in names for kind in ("nightly", "season")}


def test_the_dags_folder_parses_without_heavy_libraries_databases_or_sockets(home, observatory, python):
    parsed = python(PARSE, home.environment(observatory.path))
    assert parsed["errors"] == {}
    assert set(parsed["dags"]) == both("J0030+15", "late", "plain") | OF_OBSERVATORY
    assert HEAVY & set(parsed["loaded"]) == set()
    assert parsed["during"] == []
    assert parsed["all"] == ["sqlite3.connect"]


def test_a_new_file_is_a_new_lens_and_a_removed_one_is_gone(parse, observatory):
    before = set(parse().dags)
    observatory.add_lens("new")
    assert set(parse().dags) == before | both("new")
    observatory.lens_file("plain").unlink()
    assert set(parse().dags) == (before | both("new")) - both("plain")


def test_a_broken_lens_file_breaks_that_lens_alone_and_is_readable(parse, observatory):
    before = parse().dags
    path = observatory.lens_file("plain")
    path.write_text(path.read_text().replace("ra: 7.5", "ra: east"))
    line = next(number for number, text in enumerate(path.read_text().splitlines(), 1) if "east" in text)
    parsed = parse()
    assert set(parsed.dags) == set(before) - both("plain")
    for dag_id, dag in parsed.dags.items():
        assert dag.task_ids == before[dag_id].task_ids
    ((file, message),) = parsed.import_errors.items()
    assert Path(file).name == "lightcurver_ops_broken_lenses.py"
    assert (
        f"1 of 3 lens files cannot be used; all others run on.\n{path}, line {line}: roi.ra = 'east'"
        in message
    )
    assert "number" in message
    assert len(message.strip().splitlines()) <= 6  # of the traceback the last frame alone


def test_a_name_that_is_taken_breaks_the_second_file(parse, observatory):
    observatory.add_lens("z_copy", name="J0030p15")
    parsed = parse()
    assert both("J0030+15") <= set(parsed.dags)
    ((_, message),) = parsed.import_errors.items()
    assert "z_copy.yaml: the name 'J0030p15' is taken by" in message


@pytest.mark.parametrize("value", [None, "", "/nowhere/observatory.yaml"])
def test_an_observatory_that_is_not_named_or_not_there_is_readable(parse, monkeypatch, value):
    monkeypatch.delenv("LCOPS_OBSERVATORY")
    if value is not None:
        monkeypatch.setenv("LCOPS_OBSERVATORY", value)
    parsed = parse()
    assert parsed.dags == {}
    assert {Path(file).name for file in parsed.import_errors} == {
        "lightcurver_ops_dags.py", "lightcurver_ops_broken_lenses.py",
    }  # fmt: skip
    for message in parsed.import_errors.values():
        assert (value or "LCOPS_OBSERVATORY is not set: give it the path of your observatory.yaml") in message
        assert len(message.strip().splitlines()) <= 6


def test_an_observatory_without_lenses_has_no_form_and_no_error(parse, observatory):
    shutil.rmtree(observatory.directory / "lenses")
    parsed = parse()
    assert parsed.import_errors == {}
    assert set(parsed.dags) == OF_OBSERVATORY - {"lens_reprocess"}


def test_many_lenses_are_shared_among_files(home, observatory, parse):
    names = [f"many{number:03d}" for number in range(117)]
    for name in names:
        observatory.add_lens(name)
    dags = home.directory / "dags"
    write_dag_files(REPOSITORY / "dags", dags, 3 * LENSES_PER_FILE + 1)  # an earlier, larger deployment
    written = write_dag_files(REPOSITORY / "dags", dags, len(observatory.open().lens_files()))
    parsed = parse()
    assert parsed.import_errors == {}  # among them would be DAGs that are in two files
    assert set(parsed.dags) == both("J0030+15", "late", "plain", *names) | OF_OBSERVATORY
    files = {dag_id: Path(dag.fileloc) for dag_id, dag in parsed.dags.items()}
    assert all(files[f"{name}__nightly"] == files[f"{name}__season"] for name in names)
    parts = sorted(path for path in written if "broken" not in path.name)
    assert len(parts) == 3
    lenses = [sum(file == part for file in files.values()) / 2 for part in parts]
    assert min(lenses) > 25  # 40 on average
    assert {files[dag_id] for dag_id in OF_OBSERVATORY} == {parts[0]}


def test_each_lens_is_in_exactly_one_share(in_this_process):
    for number in range(20):
        in_this_process.add_lens(f"many{number:03d}")
    whole = build_dags("lightcurver_ops_dags.py")
    shares = [build_dags(f"/dags/lightcurver_ops_dags_{number:02d}_of_04.py") for number in (1, 2, 3, 4)]
    names = [dag_id for share in shares for dag_id in share]
    assert len(names) == len(set(names))
    assert set(names) == set(whole)
    assert len(whole) == 2 * 23 + 3


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("/x/lightcurver_ops_dags.py", (0, 1)),
        ("/x/lightcurver_ops_dags_01_of_12.py", (0, 12)),
        ("/x/lightcurver_ops_dags_12_of_12.py", (11, 12)),
    ],
)
def test_a_file_says_its_share_by_its_name(file, expected):
    assert shard_of_file(file) == expected


@pytest.mark.parametrize("file", ["a_00_of_03.py", "a_04_of_03.py"])
def test_a_share_that_does_not_exist_is_refused(file):
    with pytest.raises(ConfigurationError, match="parts are counted from 1"):
        shard_of_file(file)


def count_calls(monkeypatch, module, name):
    calls = []
    real = getattr(module, name)

    def counting(*arguments, **keywords):
        calls.append(arguments)
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, counting)
    return calls


@pytest.mark.parametrize("dag_id", ["J0030p15__nightly", "late__season"])
def test_when_a_task_runs_only_its_dag_is_built(in_this_process, monkeypatch, dag_id):
    loads = count_calls(monkeypatch, factory, "load_lenses")
    built = count_calls(monkeypatch, lens_dags, "DAG")  # a call per DAG
    whole = build_dags("lightcurver_ops_dags.py")
    assert len(built) == 6
    built.clear()
    with _airflow_parsing_context_manager(dag_id=dag_id, task_id="any"):  # as the task runner does
        assert get_parsing_context().dag_id == dag_id
        one = build_dags("lightcurver_ops_dags.py")
    assert list(one) == [dag_id]
    assert len(built) == 1
    assert len(loads) == 1  # of all files, by the whole alone
    assert one[dag_id].task_ids == whole[dag_id].task_ids
    assert one[dag_id].doc_md == whole[dag_id].doc_md


def test_when_a_task_runs_every_share_finds_its_lens(in_this_process):
    with _airflow_parsing_context_manager(dag_id="plain__nightly", task_id="any"):
        for number in (1, 2, 3):
            assert list(build_dags(f"lightcurver_ops_dags_{number:02d}_of_03.py")) == ["plain__nightly"]


def test_a_task_of_a_lens_runs_while_another_file_is_broken(in_this_process):
    in_this_process.lens_file("J0030+15").write_text("name: [")
    with _airflow_parsing_context_manager(dag_id="plain__nightly", task_id="any"):
        assert list(build_dags("lightcurver_ops_dags.py")) == ["plain__nightly"]


def test_tasks_of_the_observatory_find_their_dags(in_this_process):
    for dag_id in sorted(OF_OBSERVATORY):
        with _airflow_parsing_context_manager(dag_id=dag_id, task_id="any"):
            assert dag_id in build_dags("lightcurver_ops_dags.py")


def test_a_task_of_a_lens_that_was_removed_says_so(in_this_process):
    with (
        _airflow_parsing_context_manager(dag_id="gone__nightly", task_id="any"),
        pytest.raises(ConfigurationError, match=r"no lens of .* is called 'gone'"),
    ):
        build_dags("lightcurver_ops_dags.py")


def test_good_lens_files_are_not_reported(in_this_process):
    report_broken_lenses()
    in_this_process.lens_file("late").write_text("")
    in_this_process.lens_file("plain").write_text("name: plain\n")
    with pytest.raises(ConfigurationError, match=r"2 of 3 lens files") as caught:
        report_broken_lenses()
    assert "late.yaml" in str(caught.value)
    assert "plain.yaml" in str(caught.value)
    assert "J0030+15.yaml" not in str(caught.value)


def test_the_names_that_others_use_are_the_names_of_the_dags(in_this_process):
    built = set(build_dags("lightcurver_ops_dags.py"))
    assert {factory.ARRIVALS, factory.REPROCESS, factory.SUMMARY} == OF_OBSERVATORY <= built
    assert {factory.nightly_id("J0030+15"), factory.season_id("J0030+15")} == both("J0030+15") <= built
