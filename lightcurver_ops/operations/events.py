"""Events that people should hear of: what happened, where, what to do, and where to look."""

from dataclasses import asdict, dataclass
from typing import Any

STAGE_FAILED = "stage_failed"
QUALITY_GATE = "quality_gate"
CONFIGURATION = "configuration"
NO_FRAMES = "no_frames"
SEASON_OVERDUE = "season_overdue"
MORNING_SUMMARY = "morning_summary"

_TITLES = {
    STAGE_FAILED: "failed",
    QUALITY_GATE: "quality gate missed",
    CONFIGURATION: "configuration must change",
    NO_FRAMES: "no frames",
    SEASON_OVERDUE: "light curve overdue",
}

_TODO = {
    STAGE_FAILED: "Look at the log. If the cause has passed, clear the failed task: what was made is kept, and the run "
    "goes on from there. If it is a fault of the program, please report it.",
    QUALITY_GATE: "Look at the frames that the message names; eliminate hopeless ones, or move the limit in the lens's "
    "file. Then clear the failed task.",
    CONFIGURATION: "Change what the message names, check it with `lcops check`, then clear the failed task.",
    NO_FRAMES: "Ask whether the telescope observed, and whether the transfer of raw frames works. Frames that come "
    "later start the run of their night by themselves. No other alert follows until a frame has come.",
    SEASON_OVERDUE: "Look which task of the run is at work or waits for a slot of its pool. If the run waits for "
    "nights, these are not finished.",
}


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Args:
        kind: one of the constants of this module.
        observatory: its name.
        what: what happened, in words.
        key: identifier; an event raises one message, whoever notices it.
        lens, night, stage, link: where, as far as known.
        todo: what to do; default: what the kind suggests.
    """

    kind: str
    observatory: str
    what: str
    key: str
    lens: str | None = None
    night: str | None = None
    stage: str | None = None
    link: str | None = None
    todo: str | None = None

    @property
    def subject(self) -> str:
        """One line."""
        if self.kind == MORNING_SUMMARY:
            return f"[{self.observatory}] {self.what.splitlines()[0]}"
        where = ", ".join(filter(None, (self.stage, f"night {self.night}" if self.night else None)))
        return f"[{self.observatory}] {self.lens}: {_TITLES[self.kind]}" + (f" ({where})" if where else "")

    def text(self) -> str:
        """The message for people."""
        if self.kind == MORNING_SUMMARY:
            return self.what
        facts = [("Lens", self.lens), ("Night", self.night), ("Stage", self.stage)]
        lines = [f"{name}: {value}" for name, value in facts if value]
        lines += ["", "What happened:", self.what, "", "What to do:", self.todo or _TODO[self.kind]]
        if self.link:
            lines += ["", f"Log: {self.link}"]
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """The message for programs."""
        return {
            **asdict(self),
            "todo": self.todo or _TODO.get(self.kind),
            "subject": self.subject,
            "text": self.text(),
        }
