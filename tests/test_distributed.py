"""Several processes train as one does, on gloo."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.train import METRICS
from tests.conftest import REPOSITORY
from tests.tiny import tiny_examples, tiny_loader

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch without gloo", allow_module_level=True)


def work(ranks: int, *arguments: object) -> str:
    """Output of tests/rank_worker.py in that many processes."""
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    script = ["-m", "tests.rank_worker", *map(str, arguments)]
    command = [sys.executable, *(start if ranks > 1 else []), *script]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def told(output: str) -> dict[int, list[str]]:
    """rank -> what it printed."""
    lines = [line.split() for line in output.splitlines() if line.startswith("rank")]
    return {int(rank): rest for _, rank, *rest in lines}


def test_two_ranks_take_the_steps_of_one_process(tmp_path) -> None:
    work(1, "gradients", tmp_path / "one")
    work(2, "gradients", tmp_path / "two")
    one = load_file(tmp_path / "one.0")
    assert any(tensor.abs().max() > 0 for name, tensor in one.items() if name.endswith(".grad"))
    for rank in (0, 1):
        two = load_file(tmp_path / f"two.{rank}")
        assert two.keys() == one.keys()
        for name, expected in one.items():
            tolerance = 1e-5 * float(expected.abs().max()) + 1e-7
            torch.testing.assert_close(two[name], expected, rtol=1e-5, atol=tolerance, msg=name)


def test_fit_resumes_under_another_number_of_ranks(tmp_path) -> None:
    """Five batches an epoch. Interrupted amid the first by a signal that one rank gets."""
    output = told(work(2, "fit", tmp_path, 3, 7))
    # All agree to stop at the next look, at step 10: the end of the second epoch.
    assert {rank: rest[:2] for rank, rest in output.items()} == {
        0: ["10", "True"],
        1: ["10", "True"],
    }
    assert output[0][2] != output[1][2]  # each its own noise
    assert told(work(1, "fit", tmp_path, 3))[0][:2] == ["15", "False"]
    again = told(work(2, "fit", tmp_path, 4))
    assert {rank: rest[:2] for rank, rest in again.items()} == {
        0: ["20", "False"],
        1: ["20", "False"],
    }
    assert again[0][2] != again[1][2]
    records = [json.loads(line) for line in (tmp_path / METRICS).read_text().splitlines()]
    assert [(record["epoch"], record["step"]) for record in records] == [
        (1, 5), (2, 10), (3, 15), (4, 20)
    ]  # fmt: skip
    assert records[3]["elbo"] > records[0]["elbo"]
    assert len(list(tmp_path.glob("events.*"))) == 3  # the first rank's alone


@pytest.mark.parametrize("number", [2, 3, 7])
def test_parts_make_the_batches_of_one_process(number: int) -> None:
    examples = tiny_examples()
    whole = list(tiny_loader(seed=4).epoch(1))
    parts = [
        list(PairedLoader(examples, 5, seed=4, part=(which, number)).epoch(1))
        for which in range(number)
    ]
    for n, batch in enumerate(whole):
        sizes = {len(part[n]["image"].value) for part in parts}
        assert len(sizes) == 1  # equal, so the mean of their means is the mean
        rows = torch.cat([part[n]["image"].value for part in parts]).flatten(1).numpy()
        wanted = batch["image"].value.flatten(1).numpy()
        assert np.array_equal(np.unique(rows, axis=0), np.unique(wanted, axis=0))
        assert len(rows) - len(wanted) < max(number, len(wanted))


def test_parts_have_about_as_many_frames() -> None:
    parts = [
        next(PairedLoader(tiny_examples(), 20, part=(which, 2)).epoch(0))["speech"].lengths
        for which in range(2)
    ]
    assert abs(int(parts[0].sum() - parts[1].sum())) <= 9  # the longest


@pytest.mark.slow
def test_run_svi_by_torchrun(small, cache, tmp_path) -> None:
    import os

    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    script = ["experiments/run_svi.py", *small, "--epochs", "2", "--out", str(tmp_path / "run")]
    command = [sys.executable, *start, *script]
    done = subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, timeout=300,
        env={**os.environ, **cache},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("results in") == 1
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert results["processes"] == 2
