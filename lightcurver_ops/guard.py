"""Runs a program that must not outlive whoever holds the other end of standard input: `guard.py PROGRAM ARGUMENT...`.

It leads a process group. Its exit status is the program's; it dies of the signal that the program died of.
"""

import os
import resource
import signal
import subprocess
import sys
import threading


def end_with_input() -> None:
    """Wait for the end of standard input, then end the group: the program, all that it started, and this process."""
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)


def main() -> int:
    """Run the program."""
    threading.Thread(target=end_with_input, daemon=True).start()
    try:
        status = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]}: {error.strerror}\n")
        return 127
    if status < 0:
        # Not 128 and its number, as shells have it: programs may exit with all numbers up to 255.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if -status not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    return status


if __name__ == "__main__":
    sys.exit(main())
