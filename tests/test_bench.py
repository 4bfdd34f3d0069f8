"""The benchmark runs and prints what it promises; its figures are for an idle machine."""

import subprocess
import sys

from tests.conftest import REPOSITORY


def test_bench_prints_both_tables():
    done = subprocess.run(
        [
            sys.executable,
            "experiments/bench.py",
            "--repeats",
            "1",
            "--cells",
            "8",
            "--threads",
            "1",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lstm, step = done.stdout.split("whole training step")
    for row in ("packed nn.LSTM", "padded nn.LSTM", "ours, last_state", "large matrix product"):
        assert row in lstm
    assert "ours" in step
    assert "faster than packed" in lstm
