"""Fuzzing of everything that reads a file: `python -m tests.robustness.fuzz --files 10000`."""
