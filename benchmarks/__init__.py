"""Benchmarks: `make bench`, or `python -m benchmarks --help`. Nothing here is installed with the package."""
