"""Several processes train as one does, on gloo."""

import json
import multiprocessing
import socket
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from pvae_pyro import distributed
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.saved_run import CONFIG, load_run
from pvae_pyro.training.checkpoint import CHECKPOINT, save_checkpoint
from tests.support import rank_worker
from tests.support.tiny import tiny_examples, tiny_loader
from tests.support.training import metrics

if not torch.distributed.is_available() or not torch.distributed.is_gloo_available():
    pytest.skip("torch without gloo", allow_module_level=True)


# Processes are forked from one that has imported everything; torchrun's would import it anew.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.support.rank_worker"])


def work(ranks: int, job, *arguments: object, **environment: str) -> dict[int, Any]:
    """rank -> what the function `job` returns in that many processes, started as by torchrun."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    results, processes = CONTEXT.SimpleQueue(), []
    for rank in range(ranks):
        of_rank = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(ranks),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "test",
        }
        variables = {**environment, **(of_rank if ranks > 1 else {})}
        given = (job, arguments, variables, results)
        processes.append(CONTEXT.Process(target=rank_worker.work, args=given))
        processes[-1].start()
    for process in processes:
        process.join(600)
    assert [process.exitcode for process in processes] == [0] * ranks
    return dict(results.get() for _ in range(ranks))


def test_two_ranks_take_the_steps_of_one_process(tmp_path) -> None:
    work(1, rank_worker.gradients, tmp_path / "one")
    work(2, rank_worker.gradients, tmp_path / "two")
    one = load_file(tmp_path / "one.0")
    assert any(tensor.abs().max() > 0 for name, tensor in one.items() if name.endswith(".grad"))
    for rank in (0, 1):
        two = load_file(tmp_path / f"two.{rank}")
        assert two.keys() == one.keys()
        for name, expected in one.items():
            tolerance = 1e-5 * float(expected.abs().max()) + 1e-7
            torch.testing.assert_close(two[name], expected, rtol=1e-5, atol=tolerance, msg=name)


def test_fit_resumes_under_another_number_of_ranks(tmp_path) -> None:
    """Twelve batches an epoch; the run is stopped in the first epoch and in the second."""
    folder, alone = tmp_path / "several", tmp_path / "alone"
    folder.mkdir()
    alone.mkdir()
    # One of two ranks gets a signal: all agree to stop at the next check, at step 10.
    first = work(2, rank_worker.train, folder, 3, 7)
    assert [result[:2] for result in first.values()] == [(10, True)] * 2
    assert first[0][2] != first[1][2]  # each rank has its own noise
    # One process resumes, and stops at its own signal at once.
    assert work(1, rank_worker.train, folder, 3, 5)[0][:2] == (16, True)
    again = work(2, rank_worker.train, folder, 3)
    assert [result[:2] for result in again.values()] == [(36, False)] * 2
    assert again[0][2] != again[1][2]
    assert len(list(folder.glob("events.*"))) == 3  # of the first rank alone

    work(1, rank_worker.train, alone, 3)
    for found, expected in zip(metrics(folder), metrics(alone), strict=True):
        assert (found["epoch"], found["step"]) == (expected["epoch"], expected["step"])
        for name, value in expected.items():
            if name not in ("epoch", "step") and "contrastive" not in name:
                # The last of 23 examples counts twice, of 24.
                assert found[name] == pytest.approx(value, rel=0.15, abs=0.1), name


@pytest.mark.slow
def test_a_batch_that_is_not_finite_in_one_rank_is_skipped_by_all(tmp_path) -> None:
    results = work(2, rank_worker.train_on_nan, tmp_path, True)
    assert results[0] == results[1]  # finite weights, the same in both ranks
    weights, skipped = results[0]
    assert np.isfinite(weights)
    assert skipped == 2
    assert [record["step"] for record in metrics(tmp_path)] == [3, 6]


@pytest.mark.slow
@pytest.mark.parametrize("first", [False, True])
def test_a_value_that_is_not_finite_in_one_rank_stops_all(tmp_path, first) -> None:
    """Also in the first step, where Pyro's checks would stop one of the ranks alone."""
    results = work(2, rank_worker.train_on_nan, tmp_path, False, first)
    assert results[0] == results[1]
    _, message = results[0]
    assert message.startswith("FloatingPointError step ")
    assert "log_prob/speech" in message
    assert ("speech7" in message) == (not first)


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
        assert len(rows) == -(-len(wanted) // number) * number


def test_a_part_is_in_random_order() -> None:
    """What looks at the first rows of a batch must not see the short ones alone."""
    batches = PairedLoader(tiny_examples(), 20, part=(0, 2))
    lengths = [next(batches.epoch(n))["speech"].lengths.double() for n in range(200)]
    halves = torch.stack([torch.stack([x[:5].mean(), x[5:].mean()]) for x in lengths]).mean(0)
    assert abs(halves[0] - halves[1]) < 0.3


def test_a_model_is_loaded_by_one_process_alone(tmp_path, monkeypatch) -> None:
    """Of several processes the others are not at the same: nothing may wait for them."""
    config = Options(num_cells=8).resolved("cpu").but(max_frames=9)
    save_checkpoint(tmp_path / CHECKPOINT, build(config), {})
    (tmp_path / CONFIG).write_text(config.model_dump_json())
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(ValueError, match="process group"):  # what trains is of all
        build(config)
    model, guide = load_run(tmp_path)
    assert not model.training
    assert list(guide.unimodal) == ["speech", "image"]


OPTIONS = [
    [],
    ["--model", "jmvae"],
    ["--model", "vae-image"],
    ["--objective", "paper", "--beta", "0"],
    ["--alpha", "0", "--beta", "0", "--gamma", "0", "--delta", "0", "--epsilon", "0"],
    ["--missing", "0.5"],
    ["--paired", "0.3"],
    ["--model", "jmvae", "--missing", "0.5"],
    ["--prior", "vamp", "--num-components", "4"],
    ["--image-likelihood", "bernoulli"],
    ["--learn-scale"],
    ["--precision", "bfloat16"],
    ["--speech-encoder", "transformer"],
    ["--skip-bad-batches", "--checkpoint-seconds", "0"],
    ["--duration-scale", "0", "--num-clusters", "2"],
]


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "batch_size"), [(2, 5), (3, 2)])  # 2: less than an example each
def test_every_option_in_several_processes(small, cache, tmp_path, ranks, batch_size) -> None:
    same = [*small, "--epochs", "2", "--batch-size", str(batch_size)]
    runs = [[*same, *more, "--out", str(tmp_path / str(n))] for n, more in enumerate(OPTIONS)]
    runs += [[*run[:-2], "--epochs", "3", "--resume", run[-1]] for run in runs]
    codes = work(ranks, rank_worker.run_commands, runs, **cache)
    assert codes == {rank: [0] * len(runs) for rank in range(ranks)}
    for n, more in enumerate(OPTIONS):
        results = json.loads((tmp_path / str(n) / "results.json").read_text())
        assert (results["processes"], results["epochs"]) == (ranks, 3), more
        assert len(metrics(tmp_path / str(n))) == 3, more
