"""The tutorial runs, at a size at which nothing is learnt."""

import runpy

import matplotlib
import pytest

from tests.support.tiny_run import REPOSITORY


def test_the_tutorial_runs(cache, tmp_path, monkeypatch):
    pytest.importorskip("espeakng_loader")
    for name, value in {**cache, "EPOCHS": "1", "LIMIT": "3", "OUT": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    matplotlib.use("agg")
    runpy.run_path(str(REPOSITORY / "docs" / "tutorial.py"), run_name="__main__")
    assert {path.name for path in tmp_path.iterdir()} > {
        "spoken.png",
        "restyled.png",
        "spoken-0.wav",
        "metrics.jsonl",
    }
