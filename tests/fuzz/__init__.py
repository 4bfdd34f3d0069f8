"""Fuzzing of everything that reads a file: `python -m tests.fuzz --files 10000`."""
