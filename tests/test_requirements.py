"""What we tell people to install works with the oldest pip that we promise, on an index that has newer versions of all.

Pips before 23.3 or so refuse a lock file where one package asks for an extra of another (`celery[redis]`) that is not
the newest one of the index, unless they need not look at what packages ask for.
"""

import hashlib
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
COMMAND = re.compile(r"pip (install [^&\n]*-r requirements\.txt)")
WHEEL = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
OLDEST_PIP = re.compile(r"# pip (\S+) or newer")


def pinned() -> list[Requirement]:
    """What requirements.txt pins for this Python on this machine."""
    text = (REPOSITORY / "requirements.txt").read_text()
    found = [Requirement(line) for line in re.findall(r"^([\w.-]+==[^\\\n]+?) *\\?$", text, re.MULTILINE)]
    return [each for each in found if each.marker is None or each.marker.evaluate()]


def with_extras() -> list[Requirement]:
    """Of these, the ones that ask for an extra of another, and the others: what old pips stumble on.

    Their time grows with the square of the number of packages.
    """
    kept = set()
    for each in pinned():
        for line in importlib.metadata.requires(each.name) or ():
            asked = Requirement(line)
            if asked.extras and (asked.marker is None or asked.marker.evaluate({"extra": ""})):
                kept |= {canonicalize_name(each.name), canonicalize_name(asked.name)}
    return [each for each in pinned() if canonicalize_name(each.name) in kept]


def empty_wheel(name: str, version: str, directory: Path) -> tuple[str, str]:
    """A wheel that has of an installed package the metadata alone, with another version; its name and its hash."""
    metadata = importlib.metadata.distribution(name).read_text("METADATA") or ""
    metadata, count = re.subn(r"^Version: .*$", f"Version: {version}", metadata, count=1, flags=re.MULTILINE)
    assert count, name
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    path = directory / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{stem}.dist-info/METADATA", metadata)
        wheel.writestr(f"{stem}.dist-info/WHEEL", WHEEL)
        wheel.writestr(f"{stem}.dist-info/RECORD", "")
    return path.name, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """Packages of all pinned versions and of newer ones, with pages, and a requirements.txt that pins their hashes."""
    directory = tmp_path_factory.mktemp("index")
    lines = {}
    for each in pinned():
        (specifier,) = each.specifier
        name, digest = empty_wheel(each.name, specifier.version, directory)
        newer, _ = empty_wheel(each.name, "9999", directory)
        lines[each.name] = f"{each.name}{specifier} --hash=sha256:{digest}\n"
        page = directory / "simple" / canonicalize_name(each.name) / "index.html"
        page.parent.mkdir(parents=True)
        links = "".join(f'<a href="../../{file}">{file}</a>\n' for file in (name, newer))
        page.write_text(f"<!DOCTYPE html>\n<html><body>\n{links}</body></html>\n")
    (directory / "requirements.txt").write_text("".join(lines.values()))
    part = directory / "part" / "requirements.txt"
    part.parent.mkdir()
    part.write_text("".join(lines[each.name] for each in with_extras()))
    return directory


def environment() -> dict[str, str]:
    """Without this machine's settings of pip."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PIP_", "UV_"))}


def test_the_oldest_pip_takes_the_lines_that_we_give(index, tmp_path):
    (oldest,) = OLDEST_PIP.findall((REPOSITORY / "README.md").read_text())
    fetch = [
        "uv",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--target",
        str(tmp_path / "pip"),
        f"pip=={oldest}",
    ]
    fetched = subprocess.run(
        [sys.executable, "-m", *fetch], capture_output=True, text=True, check=False, timeout=120
    )
    if fetched.returncode:
        pytest.skip(
            f"pip {oldest} cannot be had here, what requirements.txt asks of it is not tested: {fetched.stderr}"
        )
    pip = [sys.executable, tmp_path / "pip" / "pip"]
    said = subprocess.run([*pip, "--version"], capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"pip {oldest} ")
    files = ("README.md", "docker/Dockerfile")
    commands = {
        name: command for name in files for command in COMMAND.findall((REPOSITORY / name).read_text())
    }
    assert set(commands) == set(files)
    for command in set(commands.values()):
        here = ["--isolated", "--dry-run", "--ignore-installed", f"--index-url={(index / 'simple').as_uri()}"]
        result = subprocess.run(
            [*pip, *command.split(), *here],
            cwd=index / "part", env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 0, f"{command}\n{result.stderr}"
        assert len(result.stdout.rsplit("Would install", 1)[1].split()) == len(with_extras())


def test_nothing_is_missing_that_a_package_asks_for(index):
    """Those lines install what the file names and no more."""
    here = [
        "--dry-run",
        "--reinstall",
        "--no-index",
        "--no-config",
        "--find-links",
        str(index),
        "--require-hashes",
    ]
    command = [sys.executable, "-m", "uv", "pip", "install", *here, "-r", "requirements.txt"]
    result = subprocess.run(
        command, cwd=index, env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
