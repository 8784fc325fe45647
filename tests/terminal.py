"""The program as a user calls it, but in this process: fast, with its real exit codes."""

import contextlib
import io
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from lightcurver_ops.cli import main


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """Takes what would be drawn on a screen."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def lcops(monkeypatch) -> Callable[..., Result]:
    """Runs ``lcops ARGUMENTS``; output goes to what is no terminal, as under cron, unless told otherwise."""

    def call(*arguments: object, errors_to_terminal: bool = False) -> Result:
        out, err = io.StringIO(), Terminal() if errors_to_terminal else io.StringIO()
        monkeypatch.setattr(sys, "argv", ["lcops", *map(str, arguments)])
        ours = logging.getLogger("lightcurver_ops")
        handlers, level = list(ours.handlers), ours.level
        code: object = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                main()
        except SystemExit as ending:
            code = ending.code
        finally:
            ours.handlers[:] = handlers
            ours.setLevel(level)
        assert isinstance(code, int)
        return Result(code, out.getvalue(), err.getvalue())

    return call
