"""The operations handbook against the source: neither says what the other does not."""

import textwrap

import pytest

from docs.tools import handbook, messages

# Messages that only hand on what another one said: that one is in the handbook. A new line here needs a look at what
# it hands on: texts of other functions belong into `messages.TEXTS`.
HANDED_ON = {
    "airflow/child.py: _why_it_died(status)",
    "airflow/child.py: error['message']",
    "airflow/connection.py: str(error)",
    "airflow/observatory_dags.py: '%s: %s'",
    "airflow/observatory_dags.py: str(error)",
    "airflow/operators.py: str(error)",
    "airflow/pages/lenses.py: '%s'",
    "airflow/pages/observatory.py: '%s'",
    "airflow/pages/pictures.py: '%s: %s'",
    "airflow/pages/reprocess.py: str(error)",
    "airflow/triggers.py: '%s: %s'",
    "astrometry/acceptance.py: f'{request.name}: {_chance(method, check)}'",
    "astrometry/acceptance.py: f'{request.name}: {wrong}'",
    "astrometry/header_wcs.py: str(error)",
    "astrometry/wcs_cards.py: _in_our_words(error, header)",
    "astrometry/wcs_cards.py: why",
    "catalogs/base.py: f'{expected}: {error}.'",
    "cli/catalog.py: line",
    "cli/lightcurve.py: f'{chosen_format}: {output}'",
    "cli/run.py: f'  {kind}: {reason}'",
    "config/loading.py: '%s'",
    "config/loading.py: explain(error, model, source)",
    "config/loading.py: f'{path}: {error}'",
    "guard.py: f'{sys.argv[1]}: {error.strerror}\\n'",
    "operations/worker.py: '%s'",
    "operations/worker.py: '%s: %s'",
    "stages/base.py: text",
    "stages/calculate_normalization_coefficient.py: note",
    "stages/calculate_common_and_total_footprint.py: combined.message",
    "stages/model_calibrated_cutouts.py: f'{filter_name}: {control_line(record)}'",
    "stages/parallel.py: '%s'",
    "stages/parallel.py: f'{type(error).__name__}: {error}'",
    "stages/query_gaia_for_stars.py: chosen.account()",
    "stages/read_convert_skysub_character_catalog.py: note",
    "stages/read_convert_skysub_character_catalog.py: task.raw.problem",
    "stages/read_convert_skysub_character_catalog.py: f'{name}: {error}'",
}


def test_every_message_is_in_the_handbook_and_nothing_else():
    assert len(messages.all_messages()) > 400
    assert handbook.report() == ""


def test_what_is_handed_on_is_known():
    assert messages.passed_on() == HANDED_ON


def test_every_entry_says_what_it_means_and_what_to_do():
    entries = handbook.entries()  # raises where an entry lacks a part
    titles = [(entry.page, entry.title) for entry in entries]
    assert len(set(titles)) == len(titles)
    templates = [template for entry in entries for template in entry.templates]
    assert len(set(templates)) == len(templates), "a message is explained twice"


def test_a_page_says_what_follows_from_the_class_of_an_error():
    page = (handbook.HANDBOOK / "raw-frames.md").read_text()
    shown = handbook.with_consequences(page)
    entry = shown.split("## Damaged or incomplete files")[1].split("\n## ")[0]
    assert "**What happens:** the frame or file is quarantined" in entry
    entry = shown.split("## The bucket is not there")[1].split("\n## ")[0]
    assert "exit code 2" in entry


@pytest.fixture
def package(tmp_path):
    (tmp_path / "stages").mkdir()
    (tmp_path / "config").mkdir()

    def write(name: str, source: str) -> list[tuple[str, str]]:
        path = tmp_path / name
        path.write_text(textwrap.dedent(source))
        module = messages._Module(tmp_path, path)
        return [(one.kind, one.template) for one in module.messages()]

    return write


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('raise BadFrame(f"{path}: has {n} of {m} pixels")', [("BadFrame", "{…}: has {…} of {…} pixels")]),
        ('raise errors.QualityGate("too few", n=3)', [("QualityGate", "too few")]),
        ('return TemporaryFailure("try " f"{a}{b}" " again") if x else None', [("TemporaryFailure", "try {…} again")]),
        ('raise ConfigurationError("one" if x else "other")',
         [("ConfigurationError", "one"), ("ConfigurationError", "other")]),
        ('text = f"said of {x}"\n    raise BadFrame(text)', [("BadFrame", "said of {…}")]),
        ('raise BadFrame("begins " + rest)', [("BadFrame", "begins {…}")]),
        ('raise BadFrame("; ".join(all) or "there is none")', [("BadFrame", "there is none")]),
        ('log.warning("%s: %d of %.1f px were lost", a, b, c)', [("warning", "{…}: {…} of {…} px were lost")]),
        ('log.info("%s is done", a)', []),
        ('run.note(f"{n} stars")', [("note", "{…} stars")]),
        ('publication.note("not of a run")', []),
        ('raise ValueError("for programmers")', []),
        ('raise BadFrame(str(error))', []),
    ],
)  # fmt: skip
def test_the_walker_finds_messages(package, source, found):
    assert sorted(package("stages/one.py", f"def f():\n    {source}\n")) == sorted(found)


def test_the_walker_finds_what_models_refuse(package):
    assert package("config/one.py", 'def f():\n    raise ValueError("give one")\n') == [
        ("ConfigurationError", "give one")
    ]


def test_a_text_that_is_gone_from_the_source_is_reported(tmp_path):
    (tmp_path / "stages").mkdir()
    path = tmp_path / "stages" / "plate_solving.py"
    path.write_text("SOMETHING = 'else'\n")
    with pytest.raises(
        LookupError, match=r"stages/plate_solving.py has no PlateSolving._unsolved: correct TEXTS"
    ):
        list(messages._Module(tmp_path, path).messages())


def test_every_text_belongs_to_a_file_that_is_there():
    assert {file for file, _ in messages.TEXTS if not (messages.PACKAGE / file).exists()} == set()


def test_the_report_names_what_is_missing_and_what_is_gone(monkeypatch):
    known = messages.all_messages()
    new = messages.Message("{…}: quite new", "BadFrame", "stages/new.py", 7)
    monkeypatch.setattr(handbook, "all_messages", lambda: [*known[1:], new])
    report = handbook.report()
    assert "not in the handbook: stages/new.py:7 (BadFrame)\n    {…}: quite new" in report
    if known[0].template not in {one.template for one in known[1:]}:
        assert "no longer said, take it out of handbook/airflow.md" in report
