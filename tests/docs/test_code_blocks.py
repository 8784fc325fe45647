"""Whoever copies a block from the documents must get something that works."""

import ast
import importlib
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import typer
import yaml

from lightcurver_ops.cli.app import app
from lightcurver_ops.config import LensConfig, ObservatoryConfig, load_lens, load_observatory
from tests.documents import ROOT, blocks, commands, inline_code, links

LANGUAGES = {
    "sh",
    "yaml",
    "python",
    "text",
    "",
    "{toctree}",
    "{eval-rst}",
    "dockerfile",
    "nginx",
    "ini",
    "toml",
    "sql",
}

MINIMAL_LENS = {
    "name": "mylens",
    "workdir": "work",
    "raw": {"raw_dirs": ["raw"]},
    "roi": {"ra": 70.5, "dec": -21.0, "point_sources": {"A": [70.5, -21.0]}},
}
# Files of other programs: they have a test of their own, or none of our models.
_FOREIGN = {"services", "apiVersion"}

_PARSE_AIRFLOW = """
import json, sys
from airflow.cli.cli_parser import get_parser
refused = []
for words in json.load(sys.stdin):
    try:
        get_parser().parse_args(words)
    except SystemExit as ending:
        if ending.code:
            refused.append(words)
print("REFUSED" + json.dumps(refused))
"""


def shell_commands():
    return [(piece, words) for piece in blocks("sh") for words in commands(piece)]


def commands_of(program):
    return [pytest.param(words[1:], id=f"{piece}-{' '.join(words)[:60]}")
            for piece, words in shell_commands() if words[0] == program]  # fmt: skip


def test_every_block_says_what_it_is():
    unknown = [str(piece) for piece in blocks() if piece.language not in LANGUAGES]
    assert not unknown, f"blocks of a language that no test looks at: {unknown}"


def merged(target: dict, more: dict) -> dict:
    both = dict(target)
    for key, value in more.items():
        both[key] = (
            merged(both[key], value) if isinstance(value, dict) and isinstance(both.get(key), dict) else value
        )
    return both


@pytest.mark.parametrize("piece", blocks("yaml"), ids=str)
def test_yaml_blocks_are_configurations(piece, tmp_path):
    content = yaml.safe_load(piece.text)
    if _FOREIGN & content.keys():
        return
    (tmp_path / "lenses").mkdir()
    observatory, lens = tmp_path / "observatory.yaml", tmp_path / "lenses" / "mylens.yaml"
    of_observatory = content.keys() <= ObservatoryConfig.model_fields.keys() and content.keys() != {"name"}
    if of_observatory:
        observatory.write_text(piece.text)
        load_observatory(observatory)
        lens.write_text(yaml.safe_dump({**MINIMAL_LENS, "observatory": "../observatory.yaml"}))
    else:
        observatory.write_text("name: o\n")
        lens.write_text(yaml.safe_dump(merged(MINIMAL_LENS, content)))
    assert load_lens(lens).name == content.get("name", "mylens") or of_observatory


def test_a_block_with_a_wrong_key_would_be_found(tmp_path):
    from lightcurver_ops.errors import ConfigurationError

    path = tmp_path / "lens.yaml"
    path.write_text(yaml.safe_dump(merged(MINIMAL_LENS, {"psf": {"solvr": "lcops"}})))
    with pytest.raises(ConfigurationError, match="solvr"):
        load_lens(path)


def parse_lcops(words: list[str]) -> None:
    """Let the real parser read a command line; nothing is run."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("lcops", list(words))
    while hasattr(command, "commands"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)


@pytest.mark.parametrize("words", commands_of("lcops"))
def test_lcops_command_lines_are_understood(words):
    if words != ["--help"]:
        parse_lcops(words)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["frames", "lst", "x.yaml"], "No such command"),
        (["run", "x.yaml", "--frm", "3"], "No such option"),
        (["explain"], "Missing parameter: config"),
    ],
)
def test_wrong_lcops_command_lines_are_not(words, problem):
    with pytest.raises(Exception, match=problem) as refused:
        parse_lcops(words)
    assert isinstance(refused.value, typer.BadParameter.__mro__[2])  # one of the parser, not of ours


def subcommand(words: list[str]) -> tuple[Any, list[str]]:
    """The command that the first words name, and the words after them."""
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        assert rest[0] in command.commands, f"there is no command {rest[0]}"
        command = command.commands[rest.pop(0)]
    return command, rest


def test_commands_within_sentences_exist():
    """Not whole command lines, often: commands and options must be there, the rest may stand for anything."""
    wrong = []
    for piece in inline_code():
        if not re.match(r"lcops (-\w+ )?[a-z]", piece.text):
            continue
        words = [word for word in shlex.split(piece.text)[1:] if not re.fullmatch("-v|-q", word)]
        try:
            command, rest = subcommand(words)
        except AssertionError as error:
            wrong.append(f"{piece}: {piece.text}: {error}")
            continue
        options = {
            name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)
        }
        wrong += [
            f"{piece}: {piece.text}: no option {word}"
            for word in rest
            if word.startswith("--") and word.split("=")[0] not in {*options, "--help"}
        ]
    assert not wrong, "\n".join(wrong)


MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, re.MULTILINE))
VARIABLES = set(re.findall(r"^([A-Z_]+) \?=", MAKEFILE, re.MULTILINE)) | set(
    re.findall(r"\$\(([A-Z_]+)\)", MAKEFILE)
)


def check_make(words: list[str]) -> None:
    for word in words:
        name, is_assignment, _ = word.partition("=")
        assert name in (VARIABLES if is_assignment else TARGETS), (
            f"make {shlex.join(words)}: {name} is not there"
        )


@pytest.mark.parametrize("words", commands_of("make"))
def test_make_targets_and_variables_exist(words):
    check_make(words)


def test_make_within_sentences_exists():
    for piece in inline_code():
        if re.match(r"make [a-z]", piece.text):
            check_make([word for word in shlex.split(piece.text)[1:] if "…" not in word and word != "..."])


@pytest.mark.parametrize("words", [["lunch"], ["up", "PRT=8090"]])
def test_wrong_make_targets_are_found(words):
    with pytest.raises(AssertionError, match="is not there"):
        check_make(words)


def airflow_commands() -> list[list[str]]:
    found = [words[1:] for _, words in shell_commands() if words[0] == "airflow"]
    for _, words in shell_commands():  # make airflow ARGS="dags list"
        if words[:2] == ["make", "airflow"]:
            found += [shlex.split(word.removeprefix("ARGS=")) for word in words if word.startswith("ARGS=")]
    return [[re.sub(r"^\$\w+|^\$\{\w+\}", "/srv/airflow", word) for word in words] for words in found]


def test_airflow_command_lines_are_understood(tmp_path):
    wrong = ["backfill", "create", "--dag", "x"]
    given = [*airflow_commands(), wrong]
    assert len(given) > 3
    done = subprocess.run(
        [sys.executable, "-c", _PARSE_AIRFLOW],
        input=json.dumps(given),
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
    )
    refused = json.loads(done.stdout.rsplit("REFUSED", 1)[1])
    assert refused == [wrong], done.stderr


def test_python_programs_that_are_started_exist():
    started = [(piece, words[1:]) for piece, words in shell_commands() if re.fullmatch(r"python3?", words[0])]
    assert started
    for piece, words in started:
        if words[0] == "-m":
            assert importlib.util.find_spec(words[1]) is not None, f"{piece}: there is no module {words[1]}"
        elif words[0] != "-c":
            assert (ROOT / words[0]).exists(), f"{piece}: there is no {words[0]}"


@pytest.mark.parametrize("piece", blocks("python"), ids=str)
def test_python_blocks_compile_and_find_what_they_import(piece):
    tree = ast.parse(piece.text)
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{piece}: {node.module} has no {alias.name}"
        elif isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)


def test_the_first_commands_of_a_newcomer_run(lcops, tmp_path, monkeypatch):
    """The simulated season of 'Getting started' and the first step of the tutorial, word by word."""
    monkeypatch.chdir(tmp_path)
    of_start = [w for p, w in shell_commands() if p.document == "docs/getting-started.md" and w[0] == "lcops"]
    done = {words[1]: lcops(*words[1:]) for words in of_start if words[1] in ("simulate", "check")}
    assert done["simulate"].code == done["check"].code == 0, done["check"].err
    assert "Nothing stands in the way of `lcops run`" in done["check"].out
    init = next(
        w
        for p, w in shell_commands()
        if p.document == "docs/monitor-your-lens.md" and w[:2] == ["lcops", "init"]
    )
    assert lcops(*init[1:]).code == 0
    assert (tmp_path / "mylens.yaml").exists()


def is_there(piece, target: str) -> bool:
    return (ROOT / Path(piece.document).parent / target).exists() or Path(target).name == "configuration.md"


def test_links_are_links():
    """Those within the site are for its build; README's must lead somewhere, addresses must be addresses."""
    wrong = []
    for piece in links():
        target = piece.text.split("#")[0]
        if re.match(r"[a-z]+:", piece.text):
            parts = urlsplit(piece.text)
            if (
                parts.scheme not in ("http", "https", "mailto")
                or " " in piece.text
                or not (parts.netloc or parts.path)
            ):
                wrong.append(f"{piece}: {piece.text}")
        elif target and not is_there(piece, target):
            wrong.append(f"{piece}: {piece.text} is not there")
    assert not wrong, "\n".join(wrong)


def test_the_models_of_the_documents_are_those_of_the_program():
    assert set(MINIMAL_LENS) <= set(LensConfig.model_fields)
