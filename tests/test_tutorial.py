"""The tutorial runs, at a size at which nothing is learnt."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY


def test_the_tutorial_runs(cache, tmp_path):
    pytest.importorskip("espeakng_loader")
    small = {"EPOCHS": "1", "LIMIT": "3", "OUT": str(tmp_path), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "docs/tutorial.py"],
        cwd=REPOSITORY,
        env={**os.environ, **cache, **small},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert {path.name for path in tmp_path.iterdir()} > {
        "spoken.png",
        "restyled.png",
        "spoken-0.wav",
        "metrics.jsonl",
    }
