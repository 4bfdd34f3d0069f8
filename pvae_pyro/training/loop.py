"""The training loop."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pvae_pyro import distributed
from pvae_pyro.batch import batch_size
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.svi import SVI
from pvae_pyro.training.checked_steps import CHECK_EVERY, CheckedSteps
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from pvae_pyro.training.progress import EpochSums, Progress
from pvae_pyro.training.records import Records
from pvae_pyro.training.stop_requests import stop_requests

log = logging.getLogger(__name__)

_SHOWN = ("objective", "elbo", "coherence", "contrastive")  # beside the progress bar


def fit(
    svi: SVI,
    loader: PairedLoader,
    *,
    num_epochs: int,
    folder: Path,
    resume: bool = False,
    extra: Mapping[str, Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
    warm_up_steps: int = 0,
    checkpoint_seconds: float = 60.0,
    skip_bad_batches: bool = False,
    show_progress: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> Progress:
    """Train until `num_epochs`, or until Ctrl-C or SIGTERM, which end the step, save and return.

    Writes into `folder`: ``metrics.jsonl`` (a line an epoch: each term's mean in nats per example),
    TensorBoard events of the same if tensorboard is installed, and ``checkpoint.safetensors`` at
    the end and every `checkpoint_seconds`. On CPU a run that was stopped or killed resumes bit for
    bit.

    If there are several processes, all of them call it alike (`pvae_pyro.distributed`), and the
    first one writes. Another number of processes may resume the run.

    Args:
        resume: continue from the folder's checkpoint instead of starting.
        extra: tensors to keep in the checkpoint.
        config: JSON to keep in the checkpoint.
        warm_up_steps: in step n = 1, 2, …, the optimiser's learning rates are multiplied by
            min(1, n / warm_up_steps).
        skip_bad_batches: leave out and count batches whose terms or gradients are not finite
            (`CheckedSteps`), instead of raising an error.
        on_start: called by the first process when everything that a resumed run needs has been
            read, before a record or a weight changes.

    Raises FloatingPointError, naming terms, modalities and examples, when a number is not finite
    (on CUDA up to `CHECK_EVERY` steps later): the step is not taken, and the last checkpoint before
    it stays. It is also raised if every batch of an epoch was skipped. Raises CheckpointError if
    there is no valid checkpoint or it belongs to a training with other batches, and OSError if a
    file cannot be written.
    """
    checkpoint = Path(folder) / CHECKPOINT
    is_first, is_alone = distributed.rank() == 0, distributed.world_size() == 1
    progress = _resume(checkpoint, svi, loader, num_epochs) if resume else _start()
    records = Records(Path(folder), progress) if is_first else None
    if is_first:
        on_start()
    device = next(svi.parameters()).device
    sums, steps = EpochSums(progress, device), CheckedSteps(svi, loader, skip_bad_batches)

    def save() -> float:
        steps.check()  # a checkpoint must not come after a bad step that nobody has noticed
        _check_weights(svi)
        progress.sums = sums.total()
        save_checkpoint(checkpoint, svi, progress.model_dump(), extra, config)
        return time.monotonic()

    started, saved, stop = time.monotonic() - progress.seconds, time.monotonic(), False
    with (
        records or nullcontext(),
        _bar(progress, loader, num_epochs, show_progress and is_first) as bar,
        stop_requests() as requests,
    ):
        while progress.epoch < num_epochs and not stop:
            for batch in loader.epoch(progress.epoch, start=progress.batch):
                _warm_up(svi, progress.step + 1, warm_up_steps)
                means = steps.take(batch, progress)
                _count(progress, sums, batch_size(batch), means)
                progress.seconds = time.monotonic() - started
                _show(bar, progress, means)
                # Several processes agree from time to time whether to stop and whether to save.
                if is_alone or progress.num_batches % CHECK_EVERY == 0:
                    is_due = time.monotonic() - saved > checkpoint_seconds
                    stop, is_due = distributed.any_of([bool(requests), is_due], device)
                    if stop:
                        break
                    saved = save() if is_due else saved
            if progress.batch == len(loader):
                steps.check()
                epoch_means = _means(progress, sums)
                if records is not None:
                    records.write(progress, epoch_means)
                sums.clear()
                progress.epoch, progress.batch, progress.num_seen = progress.epoch + 1, 0, 0
        save()
        # A signal during the last step or the last save also stops what follows the training.
        stop = stop or (is_alone and bool(requests))
        progress.interrupted = progress.epoch < num_epochs or stop
        distributed.wait_for_all()
    return progress


def _start() -> Progress:
    if distributed.rank() > 0:  # each process draws its own noise
        torch.manual_seed(torch.initial_seed() + distributed.rank())
    return Progress()


def _resume(checkpoint: Path, svi: SVI, loader: PairedLoader, num_epochs: int) -> Progress:
    progress = load_checkpoint(checkpoint, svi)
    if problem := progress.problem(len(loader), num_epochs):
        raise CheckpointError(f"{checkpoint} belongs to a training with other batches: {problem}")
    progress.interrupted = False
    return progress


def _warm_up(svi: SVI, step: int, warm_up_steps: int) -> None:
    for group in svi.optim.param_groups:
        full = group.setdefault("initial_lr", group["lr"])  # the name that torch's schedules use
        group["lr"] = full * min(1.0, step / max(1, warm_up_steps))


def _count(
    progress: Progress, sums: EpochSums, size: int, means: Mapping[str, Tensor] | None
) -> None:
    progress.batch += 1
    if means is None:
        progress.skipped += 1
    else:
        sums.add(means, size)
        progress.step += 1
        progress.num_seen += size * distributed.world_size()


def _means(progress: Progress, sums: EpochSums) -> dict[str, float]:
    if not progress.num_seen:
        raise FloatingPointError(
            f"no batch of epoch {progress.epoch + 1} was finite: all of them were skipped; a "
            "smaller learning rate may help"
        )
    return {name: value / progress.num_seen for name, value in sums.total().items()}


def _check_weights(svi: SVI) -> None:
    # The terms and gradients that were checked are those before the last step.
    if not torch.stack([p.isfinite().all() for p in svi.parameters()]).all():
        raise FloatingPointError("weights are no longer finite; a smaller learning rate may help")


def _bar(progress: Progress, loader: PairedLoader, num_epochs: int, is_shown: bool) -> "tqdm[Any]":
    return tqdm(
        total=num_epochs * len(loader),
        initial=progress.epoch * len(loader) + progress.batch,
        unit="step",
        disable=not is_shown,
        mininterval=0.5 if sys.stderr.isatty() else 30.0,  # a log file needs few lines
    )


def _show(bar: "tqdm[Any]", progress: Progress, means: Mapping[str, Tensor] | None) -> None:
    bar.update()
    if means is not None and not bar.disable and progress.num_batches % CHECK_EVERY == 0:
        shown = {name: f"{means[name].item():.1f}" for name in _SHOWN if name in means}
        bar.set_postfix(shown, refresh=False)
