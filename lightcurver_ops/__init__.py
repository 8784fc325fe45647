"""lightcurver-ops: from raw frames of gravitationally lensed quasars to their light curves, every night."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("lightcurver-ops")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
