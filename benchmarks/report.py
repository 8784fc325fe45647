"""The results of a part: the same tables as JSON and as Markdown."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Table:
    """Rows of values by column.

    Attributes:
        title: what is compared, or what grows.
        columns: key in a row: heading, with the unit.
        notes: what a reader must know, and what missed.
    """

    title: str
    columns: dict[str, str]
    rows: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, **row: Any) -> None:
        """Add a row; keys as in the columns."""
        unknown = row.keys() ^ self.columns.keys()
        if unknown:
            raise KeyError(f"{self.title}: {sorted(unknown)} in the row or in the columns, not in both")
        self.rows.append({key: _plain(row[key]) for key in self.columns})

    def markdown(self) -> str:
        """The table and its notes."""
        lines = [f"## {self.title}", "", _line(self.columns.values()), _line("---" for _ in self.columns)]
        lines += [_line(map(cell, row.values())) for row in self.rows]
        return "\n".join(lines + [""] + [f"* {note}" for note in self.notes] + [""] * bool(self.notes))


@dataclass
class Report:
    """The tables of a part, where they were measured, and how."""

    part: str
    purpose: str
    command: str
    environment: dict[str, str]
    directory: Path
    tables: list[Table] = field(default_factory=list)

    def table(self, title: str, columns: dict[str, str]) -> Table:
        """A new table; it is written with the next `save`."""
        self.tables.append(Table(title, columns))
        return self.tables[-1]

    def save(self) -> None:
        """Write what there is so far: a long benchmark that is stopped leaves its first tables."""
        self.directory.mkdir(parents=True, exist_ok=True)
        content = {
            "part": self.part,
            "purpose": self.purpose,
            "command": self.command,
            "environment": self.environment,
            "tables": [vars(table) for table in self.tables],
        }
        (self.directory / f"{self.part}.json").write_text(
            json.dumps(content, indent=1, allow_nan=False) + "\n"
        )
        (self.directory / f"{self.part}.md").write_text(self.markdown())

    def markdown(self) -> str:
        """The whole report."""
        lines = [f"# {self.part}", "", self.purpose, "", f"`{self.command}`", ""]
        lines += [f"* {name}: {value}" for name, value in self.environment.items()]
        return "\n".join(lines + [""] + [table.markdown() for table in self.tables])


def cell(value: Any) -> str:
    """A value as text: four significant digits."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(value: Any) -> Any:
    """Of numpy's scalars Python's; a number that is not finite has no place in JSON."""
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
