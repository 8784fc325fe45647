"""What the program says about itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lightcurver_ops

OPTIONS = {
    "": ["--verbose", "--version"],
    "init": ["--name", "--ra", "--dec", "--raw-dir", "--workdir", "--force"],
    "check": [],
    "run": ["--from", "--to", "--frames", "--redo", "--timings", "--quiet"],
    "status": ["--reasons"],
    "astrometry": [],
    "astrometry index": ["--dry-run"],
    "astrometry show": ["--unsolved"],
    "frames": [],
    "frames list": ["--unused", "--csv"],
    "frames why": [],
    "frames eliminate": ["--comment"],
    "frames restore": [],
    "stars": [],
    "stars list": [],
    "stars exclude": ["--comment"],
    "stars include": [],
    "inject": [
        "--filter",
        "--kind",
        "--amplitude",
        "--period",
        "--images",
        "--empty",
        "--repeats",
        "--seed",
    ],
    "catalog": [],
    "catalog fetch": ["--radius", "--refresh"],
    "catalog import": ["--lens", "--cache", "--catalog", "--ra", "--dec", "--radius", "--max-gmag"],
    "catalog list": ["--cache"],
    "db": [],
    "db upgrade": [],
    "db status": [],
    "db copy": ["--from", "--to", "--replace"],
    "db roles": ["--writer", "--reader", "--ask-passwords"],
    "lightcurve": [
        "--per",
        "--filter",
        "--version",
        "--format",
        "--output",
        "--plot",
        "--versions",
        "--diff",
        "--covariance",
    ],
    "explain": ["--mjd", "--frame", "--per", "--filter", "--version", "--json"],
    "simulate": [
        "--name",
        "--nights",
        "--exposures",
        "--seed",
        "--seeing",
        "--size",
        "--with-wcs",
        "--lens",
        "--arcs",
        "--galaxy",
        "--psf-varies",
        "--optics",
    ],
}


@pytest.mark.parametrize("command", OPTIONS)
def test_help_names_every_option_in_plain_text(lcops, command):
    result = lcops(*command.split(), "--help")
    assert (result.code, result.err) == (0, "")
    listed = re.findall(r"^  (?:-\w, )?(--[\w-]+)", result.out, re.MULTILINE)
    assert sorted(listed) == sorted([*OPTIONS[command], "--help"])
    assert not re.search(r"\x1b|[╭│╰]|\[/?(bold|cyan|green|red)", result.out)
    assert result.out.startswith(f"Usage: lcops {command}".rstrip())


@pytest.mark.parametrize(
    ("command", "usage"),
    [(name, "COMMAND") for name in ("", "astrometry", "catalog", "db", "frames", "stars")],
)
def test_every_command_has_a_line_in_the_overview(lcops, command, usage):
    result = lcops(*command.split(), "--help")
    listed = re.findall(r"^  (\w+)  +\S", result.out.split("Commands:")[1], re.MULTILINE)
    expected = {
        name.removeprefix(command).split()[0] for name in OPTIONS if name.startswith(f"{command} ")
    } or {name.split()[0] for name in OPTIONS if name}
    assert set(listed) == expected
    assert "...\n" not in result.out.split("Commands:")[1]  # nothing is cut off
    assert usage in result.out


def test_the_exit_codes_are_documented(lcops):
    text = " ".join(lcops("--help").out.split())
    for code in ("0 done", "2 something", "3 the data", "4 a failure", "5 finished", "130 interrupted"):
        assert code in text


def test_version(lcops):
    result = lcops("--version")
    assert (result.code, result.out) == (0, f"lcops {lightcurver_ops.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["check"], "Missing argument 'CONFIG'"),
        (["lightcurve", "lens.yaml", "--per", "week"], "'week' is not one of 'night', 'epoch'"),
        (["frames", "eliminate", "lens.yaml", "1"], "Missing option '--comment'"),
        (["status", "lens.yaml", "--reasons", "-1"], "--reasons"),
        (["run", "nosuch.yaml"], "`lcops init "),
    ],
)
def test_wrong_usage_is_2_and_says_how_it_goes_on(lcops, arguments, message):
    result = lcops(*arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "Traceback" not in result.err


def test_the_installed_program():
    program = Path(sys.executable).parent / "lcops"
    done = subprocess.run(
        [program, "check", "/nonexistent.yaml"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("lcops: /nonexistent.yaml: there is no such configuration file")
