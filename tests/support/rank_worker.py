"""What the processes of tests/training/test_distributed.py do: `work` is each one's target.

gradients FILE | fit FOLDER EPOCHS [SIGNAL_AT_STEP] | bad FOLDER skip|end [first] | commands FILE
"""

import json
import os
import signal
from contextlib import nullcontext
from functools import partial
from pathlib import Path

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


def say(line: str) -> None:
    """In one piece, to the file of `work`."""
    with open(os.environ["SAID"], "ab", buffering=0) as file:
        file.write(f"{line}\n".encode())


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


def train(folder: Path, num_epochs: int, signal_at: int | None) -> None:
    """23 examples in batches of 2, without the contrast, which is within parts: metrics are then
    those of any number of ranks but for the last batch, of one example."""
    same_noise()
    svi = tiny_svi()
    svi.loss.beta = 0.0
    update = svi.update

    def and_signal(batch):
        if svi.count == signal_at and distributed.rank() == distributed.world_size() - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        svi.count += 1
        return update(batch)

    svi.update, svi.count = and_signal, 0
    resume = (folder / CHECKPOINT).exists()
    progress = fit(svi, tiny_loader(2), num_epochs=num_epochs, folder=folder, resume=resume)
    noise = torch.rand(1).item()
    say(f"rank {distributed.rank()} {progress.step} {progress.interrupted} {noise}")


def bad(folder: Path, skip: bool, first: bool) -> None:
    """An example that is not finite, of which only one rank has a part: in the first batch, or
    number 7."""
    examples = tiny_examples()
    speech = examples["speech"]
    held = PairedLoader(examples, 6, part=(0, 1)).held(0, 0)
    which = held["speech"][0] if first else 7
    speech.values[speech.offsets[which]] = float("nan")
    loader = PairedLoader(examples, 6)
    svi = tiny_svi()
    try:
        options = {"skip_bad_batches": skip, "show_progress": False}
        told = f"skipped {fit(svi, loader, num_epochs=2, folder=folder, **options).skipped}"
    except (FloatingPointError, ValueError) as error:
        told = f"{type(error).__name__} {error}"
    weights = sum(p.detach().double().sum() for p in svi.parameters()).item()
    say(f"rank {distributed.rank()} {weights} {told}")


def commands(file: Path) -> None:
    """Runs of the command, one after the other: a JSON list of lists of options."""
    from pvae_pyro.experiments import run_svi  # not for the other jobs

    distributed.started = nullcontext  # the processes have joined, and do so once
    for options in json.loads(file.read_text("utf-8")):
        code = run_svi.main(options)
        say(f"rank {distributed.rank()} {code} {options[-1]}")


def work(arguments: list[str], environment: dict[str, str]) -> None:
    """environment: what torchrun sets of each process, and where to `say` things."""
    os.environ.update(environment)
    torch.set_num_threads(1)
    pyro.enable_validation(False)
    job, path = arguments[0], Path(arguments[1])
    with distributed.started():
        if job == "gradients":
            gradients(path)
        elif job == "commands":
            commands(path)
        elif job == "bad":
            bad(path, arguments[2] == "skip", arguments[3:] == ["first"])
        else:
            train(path, int(arguments[2]), *[int(n) for n in arguments[3:]] or [None])
