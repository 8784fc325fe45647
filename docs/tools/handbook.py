"""The operations handbook: its entries, compared with the messages of the source.

An entry is a heading, a ``text`` block with the templates of its messages, one a line, and what they mean and what
to do. ``python -m docs.tools.handbook`` prints what the handbook lacks and what the source no longer says.
"""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from docs.tools.messages import Message, all_messages

HANDBOOK = Path(__file__).parents[1] / "handbook"

_ENTRY = re.compile(
    r"^## (?P<title>.+)\n\n```text\n(?P<templates>(?:.+\n)+)```\n\n"
    r"(?P<means>\*\*It means:\*\* (?:.+\n)+)\n(?P<do>\*\*Do:\*\* (?:.+\n)+)",
    re.MULTILINE,
)

_CONSEQUENCES = {
    "NothingToDo": "nothing is wrong: exit code 0, a task is skipped",
    "BadFrame": "the frame or file is quarantined, the others go on; it is tried again when its inputs change",
    "FrameUnavailable": "the frame is set aside, the others go on; the next run tries it again",
    "QualityGate": "exit code 3; a task fails without retry, with an alert",
    "ConfigurationError": "exit code 2; a task fails without retry, with an alert",
    "TemporaryFailure": "exit code 4; a task is tried again with growing pauses",
    "failed unit": "the frame counts as failed, exit code 5; the next run tries it again",
    "reason": "the frame takes no part, or is marked; the others go on",
    "warning": "a warning in the log; the work goes on",
    "note": "a remark; the work goes on",
    "alert": "an alert to the channels of the observatory",
    "page": "an answer of the web pages; nothing was changed",
    "problem": "printed by `lcops check`",
    "part": "",  # said within another message
}


@dataclass(frozen=True)
class Entry:
    """One entry: on which page, its heading, its templates."""

    page: str
    title: str
    templates: tuple[str, ...]


def entries(directory: Path = HANDBOOK) -> list[Entry]:
    """All entries, page by page.

    Raises:
        ValueError: a heading of the second level that has not the form of an entry.
    """
    found = []
    for path in sorted(directory.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        matches = list(_ENTRY.finditer(text))
        headings = re.findall(r"^## (.+)$", text, re.MULTILINE)
        if path.name != "index.md" and headings != [one["title"] for one in matches]:
            raise ValueError(
                f"{path.name}: not an entry: {set(headings) - {one['title'] for one in matches}}"
            )
        found += [Entry(path.stem, one["title"], tuple(one["templates"].splitlines())) for one in matches]
    return found


def differences() -> tuple[list[Message], list[tuple[Entry, str]]]:
    """Messages that no entry explains, and templates of entries that no source says."""
    explained = [(entry, template) for entry in entries() for template in entry.templates]
    known = {template for _, template in explained}
    messages = all_messages()
    said = {message.template for message in messages}
    missing = {message.template: message for message in messages if message.template not in known}
    return list(missing.values()), [one for one in explained if one[1] not in said]


def with_consequences(markdown: str) -> str:
    """A page of the handbook, each entry with what follows from the classes of its messages."""
    kinds: dict[str, list[str]] = {}
    for message in all_messages():
        kinds.setdefault(message.template, []).append(message.kind)

    def insert(match: re.Match[str]) -> str:
        of_entry = {kind for template in match["templates"].splitlines() for kind in kinds.get(template, [])}
        said = "; or ".join(text for kind, text in _CONSEQUENCES.items() if kind in of_entry and text)
        whole = match[0]
        return (
            whole.replace("```\n\n**It means:**", f"```\n\n**What happens:** {said}.\n\n**It means:**")
            if said
            else whole
        )

    return _ENTRY.sub(insert, markdown)


def report() -> str:
    """What must be changed in the handbook; empty where it is complete."""
    missing, gone = differences()
    lines = [f"not in the handbook: {one.where} ({one.kind})\n    {one.template}" for one in missing]
    lines += [
        f"no longer said, take it out of handbook/{entry.page}.md, '{entry.title}':\n    {template}"
        for entry, template in gone
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    found = report()
    print(found or "the handbook is complete")
    sys.exit(bool(found))
