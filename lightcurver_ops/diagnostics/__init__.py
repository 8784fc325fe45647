"""Figures that people look at every morning: arrays in, a file out, whole or absent.

No pyplot anywhere: its figures live in global state, which leaks memory in a long-running worker.
"""
