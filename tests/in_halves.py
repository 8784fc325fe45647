"""Many damaged files, tried by a module in two processes whose memory and time are bounded."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).parents[1]


def said_of_halves(module: str, number: int) -> list[str]:
    """What `python -m module FIRST COUNT` says of the first half and of the second; each must end well."""
    command, half = [sys.executable, "-m", module], number // 2
    processes = [
        subprocess.Popen([*command, str(first), str(half)], cwd=_ROOT, stdout=subprocess.PIPE, text=True)
        for first in (0, half)
    ]
    said = []
    for process in processes:
        said.append(process.communicate(timeout=900)[0])
        assert process.returncode == 0, said[-1]
    return said
