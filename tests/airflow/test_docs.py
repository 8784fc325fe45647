"""What the web pages say of each DAG and task."""

import re

import pytest
from pydantic import BaseModel

from lightcurver_ops.airflow.docs import STAGE_DOCS, TASK_DOCS
from lightcurver_ops.airflow.factory import build_dags
from lightcurver_ops.config.models import LensConfig
from lightcurver_ops.stages.pipeline import STAGE_NAMES


@pytest.fixture
def dags(observatory, monkeypatch):
    monkeypatch.setenv("LCOPS_OBSERVATORY", str(observatory.path))
    return build_dags("lightcurver_ops_dags.py")


def test_every_stage_has_its_page():
    assert set(STAGE_DOCS) == set(STAGE_NAMES[1:])
    assert len({doc.title for doc in STAGE_DOCS.values()}) == len(STAGE_DOCS)
    for doc in STAGE_DOCS.values():
        assert all(text.strip().endswith(".") for text in (doc.does, doc.reads, doc.writes, doc.if_it_fails))


def test_every_task_says_what_it_does_reads_writes_and_what_to_do_if_it_fails(dags):
    for dag in dags.values():
        for task in dag.tasks:
            name = f"{dag.dag_id}.{task.task_id}"
            assert task.doc_md, name
            assert re.match(r"\*\*\S.*\.\*\* \S", task.doc_md), name
            for word in ("Reads", "Writes", "If it fails"):
                assert re.search(rf"\* \*\*{word}:\*\* \S", task.doc_md), f"{name}: {word}"
            assert task.doc_md == {**STAGE_DOCS, **TASK_DOCS}[task.task_id].markdown()
    assert {task.task_id for dag in dags.values() for task in dag.tasks} == {*STAGE_DOCS, *TASK_DOCS}


def test_every_task_has_a_name_for_people(dags):
    for dag in dags.values():
        names = [task.task_display_name for task in dag.tasks]
        assert len(set(names)) == len(names)
        assert all(re.match(r"[A-Z][a-zA-Z ,]+$", name) for name in names), names


def test_every_dag_says_what_it_is_for_and_nothing_is_left_to_fill_in(dags):
    for dag in dags.values():
        assert len(dag.doc_md) > 200, dag.dag_id
        assert dag.description
        assert not re.search(r"(?<!`)\{[a-z_:]*\}(?!`)", dag.doc_md), dag.dag_id
    assert '`{"night": "YYYY-MM-DD"}`' in dags["plain__nightly"].doc_md


def test_lens_dags_name_their_files_and_each_other(dags, observatory):
    for name in ("J0030p15", "late", "plain"):
        lens = "J0030+15" if name == "J0030p15" else name
        for kind, other in (("nightly", "season"), ("season", "nightly")):
            doc = dags[f"{name}__{kind}"].doc_md
            assert str(observatory.lens_file(lens)) in doc
            assert str(observatory.directory / "work" / lens) in doc
            assert f"/dags/{name}__{other}" in doc
            assert f"`lcops lightcurve {observatory.lens_file(lens)}`" in doc
    assert "America/Santiago" in dags["J0030p15__nightly"].doc_md


def test_links_lead_to_dags_that_there_are(dags):
    for dag in dags.values():
        for linked in re.findall(r"\(/dags/([^)]+)\)", dag.doc_md):
            assert linked in dags


def test_keys_that_a_page_names_are_keys_of_the_configuration(dags):
    def has(model, parts):
        field = model.model_fields.get(parts[0])
        return field is not None and (len(parts) == 1 or has(type(field.default), parts[1:]))

    groups = {name for name, field in LensConfig.model_fields.items() if isinstance(field.default, BaseModel)}
    docs = [task.doc_md for dag in dags.values() for task in dag.tasks]
    found = {key for doc in docs for key in re.findall(r"`([a-z_]+\.[a-zA-Z_.]+)`", doc)}
    named = {key for key in found if key.split(".")[0] in groups}
    assert {"plate_solving.min_success_fraction", "compute.psf_batch"} <= named
    assert all(has(LensConfig, key.split(".")) for key in named), named
