"""The benchmark runs and prints what it promises; its figures are for an idle machine."""

import subprocess
import sys

from experiments import bench_data
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


def test_bench_data_prints_its_table(capsys):
    assert bench_data.main(["--files", "5", "--repeats", "1"]) == 0
    text = capsys.readouterr().out
    for row in (" 8000 Hz   8000 Hz", "20000 Hz  20000 Hz", "48000 Hz  16000 Hz", "from the cache"):
        assert row in text
