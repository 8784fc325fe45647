"""The documents of the repository as the tests read them: their code blocks, command lines, inline code and links."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).parents[1]

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_ASSIGNMENT = re.compile(r"^[A-Za-z_]\w*=")
_ENDS = {"&&", "||", ";", "|", "&"}


@dataclass(frozen=True)
class Piece:
    """A block of code, or an inline one, and where it stands."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


def documents() -> list[Path]:
    """README.md and what is under docs/, but what is generated."""
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path != ROOT / "docs" / "configuration.md"]
    return [ROOT / "README.md", *sorted(pages)]


def blocks(language: str | None = None) -> list[Piece]:
    """Fenced blocks of a language, or all of them."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        for match in _FENCE.finditer(text):
            piece = Piece(_name(path), _line(text, match.start()), match["language"].strip(), match["text"])
            if language is None or piece.language == language:
                found.append(piece)
    return found


def inline_code() -> list[Piece]:
    """`code` within sentences."""
    return [replace(one, text=" ".join(one.text.split())) for one in _in_prose(r"`([^`]+)`", "")]


def links() -> list[Piece]:
    """Targets of links and pictures; the language is `link`."""
    return _in_prose(r"\]\(([^)]*)\)", "link")


def _in_prose(pattern: str, language: str) -> list[Piece]:
    """What the group of a pattern finds outside fenced blocks."""
    found = []
    for path in documents():
        text = path.read_text(encoding="utf-8")
        prose = _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)
        for match in re.finditer(pattern, prose):
            found.append(Piece(_name(path), _line(prose, match.start()), language, match[1]))
    return found


def commands(piece: Piece) -> Iterator[list[str]]:
    """The words of each command of a shell block, without comments, assignments and what joins commands."""
    text = piece.text.replace("\\\n", " ")
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="&|;")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word in _ENDS:
                if words:
                    yield words
                words = []
            elif words or not _ASSIGNMENT.match(word):
                words.append(word)


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _line(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1
