"""Every message that a user of the package can meet, read from its source: what the handbook must explain.

A message is the text of one of the package's errors, of a finding about a configuration, of a note or warning, of
an alert, or the reason why a frame is left out. Each is found as a template, in which ``{…}`` stands for what is
filled in. Nothing is imported or run.
"""

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "lightcurver_ops"
HOLE = "{…}"

ERRORS = (
    "NothingToDo",
    "BadFrame",
    "FrameUnavailable",
    "QualityGate",
    "ConfigurationError",
    "TemporaryFailure",
)

# Other calls whose argument is a message: which argument, and what it is then. A method counts by its last two names.
_CALLS: dict[str, tuple[int, str]] = {
    "HTTPException": (1, "page"),
    "AirflowSkipException": (0, "NothingToDo"),
    "StageRefused": (0, "ConfigurationError"),
    "StageFailed": (0, "TemporaryFailure"),
    "PydanticCustomError": (1, "ConfigurationError"),
    "RuntimeError": (0, "failed unit"),
    "_Differs": (0, "part"),
    "run.note": (0, "note"),
    "notes.append": (0, "note"),
    "log.warning": (0, "warning"),
    "log.error": (0, "warning"),
    "log.exception": (0, "warning"),
    "stderr.write": (0, "warning"),
}
# Functions of one module that make an error of a text.
_HELPERS = {
    ("astrometry/header_wcs.py", "_broken"): (1, "BadFrame"),
    ("astrometry/wcs_cards.py", "_broken"): (0, "BadFrame"),
}
_FINDINGS = ("config/",)  # elsewhere a ValueError tells a programmer, not a user

# Functions and constants whose texts become messages, or parts of them, somewhere else.
TEXTS: dict[tuple[str, str], str] = {
    ("airflow/alerts.py", "_ENDED"): "alert",
    ("airflow/alerts.py", "LensAlerts.no_frames"): "alert",
    ("airflow/alerts.py", "LensAlerts.season_overdue"): "alert",
    ("airflow/alerts.py", "ObservatoryAlerts.run_failed"): "alert",
    ("airflow/channels.py", "_without_secrets"): "part",
    ("airflow/child.py", "_why_it_died"): "TemporaryFailure",
    ("airflow/pages/deciding.py", "_note"): "page",
    ("airflow/pages/deciding.py", "_start_runs"): "page",
    ("airflow/pages/deciding.py", "ask_again"): "page",
    ("astrometry/acceptance.py", "_doubts"): "part",
    ("astrometry/acceptance.py", "_chance"): "part",
    ("astrometry/footprints.py", "combine_footprints"): "note",
    ("astrometry/sequence.py", "Attempt.describe"): "part",
    ("astrometry/wcs_cards.py", "_in_our_words"): "part",
    ("bookkeeping/ledger.py", "_mark_interrupted"): "note",
    ("catalogs/cache.py", "Cached._not_kept"): "part",
    ("catalogs/local_file.py", "LocalFile"): "part",
    ("catalogs/selection.py", "ReferenceStars.account"): "note",
    ("catalogs/store.py", "_head"): "part",
    ("catalogs/web.py", "_body"): "part",
    ("cli/configure.py", "_catalogue"): "problem",
    ("cli/configure.py", "_raw"): "problem",
    ("cli/configure.py", "_workdir"): "problem",
    ("cli/configure.py", "_plate_solving"): "problem",
    ("config/messages.py", "_explain_one"): "ConfigurationError",
    ("config/messages.py", "_nearest"): "part",
    ("config/messages.py", "explain"): "ConfigurationError",
    ("numerics/psf/batch.py", "_status"): "reason",
    ("numerics/gain.py", "remark"): "warning",
    ("numerics/gain.py", "remark_on_read_noise"): "warning",
    ("operations/events.py", "_TITLES"): "alert",
    ("operations/observatory.py", "load_lenses"): "ConfigurationError",
    ("stages/calculate_common_and_total_footprint.py", "BAD_POINTING"): "reason",
    ("stages/calculate_normalization_coefficient.py", "_variation"): "part",
    ("stages/control_light_curves.py", "control_line"): "note",
    ("numerics/control_choice.py", "fault"): "part",
    ("stages/control_choice.py", "choose_controls"): "note",
    ("stages/control_stars.py", "choose_candidates"): "part",
    ("stages/control_stars.py", "_all_faulty"): "part",
    ("stages/explanation.py", "_raw_state"): "note",
    ("stages/flux_errors.py", "common_line"): "note",
    ("stages/frame_solving.py", "_reference_trial"): "part",
    ("stages/frame_solving.py", "_second_round"): "part",
    ("stages/gain_check.py", "contradicted_gains"): "warning",
    ("stages/gain_check.py", "contradicted_read_noises"): "warning",
    ("stages/plate_solving.py", "PlateSolving._unsolved"): "reason",
    ("stages/plate_solving.py", "SUSPICIOUS"): "reason",
    ("stages/publication_gates.py", "missed_by_fit"): "part",
    ("stages/publication_gates.py", "missed_by_controls"): "part",
    ("stages/publishing.py", "described"): "note",
    (
        "stages/read_convert_skysub_character_catalog.py",
        "ReadConvertSkysubCharacterCatalog._without_frame",
    ): "reason",
    ("stages/read_convert_skysub_character_catalog.py", "_ephemerides"): "warning",
    ("numerics/roi/judge.py", "notes"): "part",
    ("stages/raw_listing.py", "_listed"): "BadFrame",
    ("stages/same_camera.py", "_MIRRORED"): "reason",
    ("stages/same_camera.py", "odd_frames"): "reason",
    ("stages/usage.py", ""): "reason",
    ("storage/header.py", "_contradictions"): "warning",
    ("storage/header.py", "_what_is_wrong"): "part",
    ("storage/header.py", "read_noise_of"): "warning",
    ("storage/prepared.py", "validate_prepared"): "part",
}

_FORMAT = re.compile(r"%[-+0#]*\d*(?:\.\d+)?[sdfegr]")


@dataclass(frozen=True)
class Message:
    """A template, what it is (class of the error, or note, warning, reason, alert, page, part), and its place."""

    template: str
    kind: str
    file: str
    line: int

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


def normalized(text: str) -> str:
    """One line, single blanks; holes next to each other are one."""
    text = " ".join(text.split())
    return re.sub(r"(?:\{…\})+", HOLE, text)


def has_words(template: str) -> bool:
    """Whether it says anything of its own."""
    return re.search(r"[^\W\d_]{2,}", template.replace(HOLE, "")) is not None


@functools.cache
def all_messages(package: Path = PACKAGE) -> list[Message]:
    """Every message of the package, by file and line; the same template may be there several times."""
    found: set[Message] = set()
    for path in sorted(package.rglob("*.py")):
        found.update(_Module(package, path).messages())
    return sorted(found, key=lambda one: (one.file, one.line, one.template))


class _Module:
    """One source file: its messages, and the texts that its names stand for."""

    def __init__(self, package: Path, path: Path):
        self.file = path.relative_to(package).as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = [node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef)]

    def messages(self) -> Iterator[Message]:
        for scope, argument, kind, line in self._said():
            for text in self._texts_of(argument, scope):
                if has_words(text):
                    yield Message(normalized(text), kind, self.file, line)
        for (file, name), kind in TEXTS.items():
            if file == self.file:
                yield from self._all_texts(name, kind)

    def without_words(self) -> Iterator[str]:
        """Where a call passes on what was said elsewhere: the source of its argument."""
        for scope, argument, _, _ in self._said():
            if argument is not None and not any(map(has_words, self._texts_of(argument, scope))):
                yield f"{self.file}: {ast.unparse(argument)}"

    def definition(self, name: str) -> ast.AST | None:
        """A function, class or constant of the module by its (dotted) name; the module itself for an empty one."""
        node: ast.AST | None = self.tree
        for part in name.split(".") if name else ():
            node = next((one for one in ast.walk(node) if _is_called(one, part)), None)
            if node is None:
                break
        return node

    def _said(self) -> Iterator[tuple[ast.AST, ast.expr | None, str, int]]:
        """Of each call that takes a message: the innermost function around it, the argument, its kind, the line."""
        inside = {id(node): function for function in self.functions for node in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and (found := self._place_and_kind(node)) is not None:
                place, kind = found
                argument = node.args[place] if len(node.args) > place else None
                yield inside.get(id(node), self.tree), argument, kind, node.lineno

    def _place_and_kind(self, call: ast.Call) -> tuple[int, str] | None:
        name = ast.unparse(call.func)
        last = name.rsplit(".", 1)[-1]
        if last in ERRORS:
            return 0, last
        if (self.file, last) in _HELPERS:
            return _HELPERS[self.file, last]
        if last == "ValueError" and self.file.startswith(_FINDINGS):
            return 0, "ConfigurationError"
        if name == "typer.echo" and call.args:
            aside = any(keyword.arg == "err" for keyword in call.keywords)
            return (0, "note") if aside or "note: " in ast.unparse(call.args[0])[:8] else None
        return _CALLS.get(last) or _CALLS.get(".".join(name.split(".")[-2:]))

    def _texts_of(self, node: ast.AST | None, scope: ast.AST) -> set[str]:
        """Templates of an expression: both sides of a condition, what a name was given, parts joined."""
        if isinstance(node, ast.IfExp):
            return self._texts_of(node.body, scope) | self._texts_of(node.orelse, scope)
        if isinstance(node, ast.BoolOp):
            return {text for value in node.values for text in self._texts_of(value, scope)}
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            lefts, rights = (self._texts_of(side, scope) or {HOLE} for side in (node.left, node.right))
            return {left + right for left in lefts for right in rights}
        if isinstance(node, ast.Name):
            for place in (scope, self.tree):
                values = [value for name, value in _assignments(place) if name == node.id]
                texts = {text for value in values for text in self._texts_of(value, scope)}
                if texts:
                    return texts
            return set()
        text = _raw_template(node)
        return {text} if text is not None else set()

    def _all_texts(self, name: str, kind: str) -> Iterator[Message]:
        root = self.definition(name)
        if root is None:
            raise LookupError(f"{self.file} has no {name}: correct TEXTS")
        skipped = {id(inner) for node in ast.walk(root) for inner in _not_texts(node)}
        for node in ast.walk(root):
            if id(node) in skipped:
                continue
            text = template_of(node)
            if text is None or not has_words(text):
                continue
            # What is neither long nor filled in is a key or a column, unless it is named by itself.
            if isinstance(root, ast.Assign) or text.count(" ") >= (1 if HOLE in text else 2):
                yield Message(text, kind, self.file, node.lineno)


def _is_called(node: ast.AST, name: str) -> bool:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name == name
    return isinstance(node, ast.Assign) and name in map(ast.unparse, node.targets)


def _assignments(place: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what they are given, anywhere within."""
    for node in ast.walk(place):
        if isinstance(node, ast.Assign):
            yield from ((ast.unparse(target), node.value) for target in node.targets)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield ast.unparse(node.target), node.value


def _not_texts(node: ast.AST) -> Iterator[ast.AST]:
    """Docstrings, what stands within an f-string or a sum, and arguments of calls that are found otherwise."""
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            yield first.value
    if isinstance(node, ast.JoinedStr):
        yield from (inner for inner in ast.walk(node) if inner is not node)


def template_of(node: ast.AST | None) -> str | None:
    """The template of a string constant or f-string; None for anything else."""
    text = _raw_template(node)
    return None if text is None else normalized(text)


def _raw_template(node: ast.AST | None) -> str | None:
    """As `template_of`, with the blanks at its ends, which matter where texts are joined."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _FORMAT.sub(HOLE, node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(str(one.value) if isinstance(one, ast.Constant) else HOLE for one in node.values)
    return None


def passed_on(package: Path = PACKAGE) -> set[str]:
    """Calls whose message comes from elsewhere, as ``file: argument``."""
    return {
        place for path in sorted(package.rglob("*.py")) for place in _Module(package, path).without_words()
    }
