"""What the processes of tests/training/test_distributed.py do; `work` is the target of each."""

import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pyro
import torch
from safetensors.torch import save_file
from torch.distributions import Normal

import pvae_pyro.elbo
from pvae_pyro import distributed
from pvae_pyro.batch import Observation
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import CHECKPOINT
from pvae_pyro.training.loop import fit
from tests.support.tiny import tiny_batch, tiny_examples, tiny_loader, tiny_pair, tiny_svi

SIZE, PARTS = 8, 2


def part_of(batch, start, stop):
    return {
        name: Observation(x.value[start:stop], None if x.lengths is None else x.lengths[start:stop])
        for name, x in batch.items()
    }


def within_parts(size, device=None):
    """Negatives of a whole batch as its parts draw them: the next one of the same part."""
    each = SIZE // PARTS
    rows = torch.arange(size, device=device)
    return rows // each * each + (rows + 1) % each


def gradients(path: Path) -> None:
    """Two steps; the parameters and the last gradients go to a file of each rank."""
    same_noise()
    pvae_pyro.elbo.derangement = within_parts
    torch.manual_seed(distributed.rank())  # the first one's parameters are everybody's
    model, guide = tiny_pair()
    svi = SVI(model, guide, partial(torch.optim.SGD, lr=1e-3), PartitionedELBO())
    each = SIZE // distributed.world_size()
    start = distributed.rank() * each
    for padding in (0, 3):
        svi.update(part_of(tiny_batch(SIZE, padding), start, start + each))
    both = [*model.named_parameters(), *guide.named_parameters("guide")]
    tensors = {f"{name}.grad": parameter.grad for name, parameter in both}
    tensors |= {name: parameter.detach() for name, parameter in both}
    save_file(tensors, path.with_name(f"{path.name}.{distributed.rank()}"))


def same_noise() -> None:
    """The same for everyone: which example it falls on must not matter."""
    Normal.rsample = lambda self, shape=(): self.loc + 0.37 * self.scale


def train(folder: Path, num_epochs: int, signal_at: int | None = None) -> tuple[int, bool, float]:
    """Steps, whether they were interrupted, and a random number.

    23 examples in batches of 2, without the contrast, which is within parts: but for the last
    batch, of one example, metrics do not depend on the number of ranks. signal_at: the step before
    which the last rank gets a signal.
    """
    same_noise()
    svi = tiny_svi()
    svi.loss.beta = 0.0
    update, steps = svi.update, count()

    def update_after_signal(batch):
        if next(steps) == signal_at and distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return update(batch)

    svi.update = update_after_signal
    resume = (folder / CHECKPOINT).exists()
    progress = fit(svi, tiny_loader(2), num_epochs=num_epochs, folder=folder, resume=resume)
    return progress.step, progress.interrupted, torch.rand(1).item()


def train_on_nan(folder: Path, skip: bool, first: bool = False) -> tuple[float, int | str]:
    """The sum of the weights, and the number of skipped batches or the error.

    One example is NaN, of which only one rank has a part: in the first batch, or number 7.
    """
    examples = tiny_examples()
    speech = examples["speech"]
    held = PairedLoader(examples, 6, part=(0, 1)).held(0, 0)
    speech.values[speech.offsets[held["speech"][0] if first else 7]] = float("nan")
    loader = PairedLoader(examples, 6)
    svi = tiny_svi()
    result: int | str
    try:
        options = {"skip_bad_batches": skip, "show_progress": False}
        result = fit(svi, loader, num_epochs=2, folder=folder, **options).skipped
    except (FloatingPointError, ValueError) as error:
        result = f"{type(error).__name__} {error}"
    return sum(p.detach().double().sum() for p in svi.parameters()).item(), result


def run_commands(runs: list[list[str]]) -> list[int]:
    """The exit codes of `run_svi.py` with these options, one run after the other."""
    from pvae_pyro.experiments import run_svi  # the other jobs do not need it

    distributed.started = nullcontext  # the processes have joined already
    return [run_svi.main(options) for options in runs]


def work(job: Callable, arguments: tuple, environment: dict[str, str], results: Any) -> None:
    """environment: what torchrun sets for each process. results: a queue of rank and result."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    with distributed.started():
        results.put((distributed.rank(), job(*arguments)))
