"""The command line `lcops`."""

from lightcurver_ops.cli.app import main

__all__ = ["main"]
