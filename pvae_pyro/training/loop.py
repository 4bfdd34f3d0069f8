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
from pvae_pyro.batch import Batch, batch_size
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.svi import SVI
from pvae_pyro.training.checked_steps import LOOK_EVERY, CheckedSteps
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_checkpoint,
    recover,
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
    checkpoint_seconds: float = 60.0,
    skip_bad_batches: bool = False,
    show_progress: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> Progress:
    """Train until `num_epochs`, or until Ctrl-C or SIGTERM, which end the step, save and return.

    Writes into `folder`: ``metrics.jsonl`` (a line an epoch: each term's mean in nats per example),
    TensorBoard events of the same where tensorboard is installed, and ``checkpoint.safetensors`` at
    the end and every `checkpoint_seconds`, with the checkpoint before it beside it. On CPU a
    resumed run takes the steps that the uninterrupted one would have taken, wherever it was stopped
    or killed. If the checkpoint is damaged, the one before it is used, and that is logged.

    If there are several processes, all of them call it alike (`pvae_pyro.distributed`), and the
    first one writes. Another number of processes may resume the run.

    Args:
        resume: continue from the folder's checkpoint instead of starting.
        extra: tensors to keep in the checkpoint.
        config: JSON to keep in the checkpoint.
        skip_bad_batches: leave out and count batches whose terms or gradients are not finite
            (`CheckedSteps`), instead of ending.
        on_start: called by the first process once everything that a resumed run needs has been
            read and found good, before a record or a weight changes.

    Raises FloatingPointError, naming terms, modalities and examples, when a number is not finite,
    in that step (on CUDA up to `LOOK_EVERY` later). The step is not taken, and the checkpoint stays
    the last one before it. The same when every batch of an epoch was skipped. Raises
    CheckpointError if there is no whole checkpoint, or it belongs to a training with other batches,
    and OSError if a file cannot be written.
    """
    checkpoint = Path(folder) / CHECKPOINT
    is_first, is_alone = distributed.rank() == 0, distributed.world_size() == 1
    progress = _resumed(checkpoint, svi, loader, num_epochs) if resume else _begun()
    records = Records(Path(folder), progress) if is_first else None
    if is_first:
        on_start()
    device = next(svi.parameters()).device
    sums, steps = EpochSums(progress, device), CheckedSteps(svi, loader, skip_bad_batches)

    def save() -> float:
        steps.check()  # no checkpoint is later than a bad step that nobody has seen
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
                means = steps.take(batch, progress)
                _count(progress, sums, batch, means)
                progress.seconds = time.monotonic() - started
                _show(bar, progress, means)
                # Several processes agree now and then on what each of them would do at once.
                if is_alone or _num_batches(progress) % LOOK_EVERY == 0:
                    is_due = time.monotonic() - saved > checkpoint_seconds
                    stop, is_due = distributed.any_of([bool(requests), is_due], device)
                    if stop:
                        break
                    saved = save() if is_due else saved
            if progress.batch == len(loader):
                steps.check()
                means_of_epoch = _end_epoch(progress, sums)
                if records is not None:
                    records.write(progress, means_of_epoch)
                progress.epoch, progress.batch, progress.num_seen = progress.epoch + 1, 0, 0
        save()
        # A run that is asked in its last step, or while it was saved, stops before its evaluation.
        asked = stop or (is_alone and bool(requests))
        progress.interrupted = progress.epoch < num_epochs or asked
        distributed.wait_for_all()
    return progress


def _begun() -> Progress:
    if distributed.rank() > 0:  # each process has its own noise
        torch.manual_seed(torch.initial_seed() + distributed.rank())
    return Progress()


def _resumed(checkpoint: Path, svi: SVI, loader: PairedLoader, num_epochs: int) -> Progress:
    with distributed.first_alone():
        if distributed.rank() == 0 and (told := recover(checkpoint)):
            log.warning(told)
    progress = load_checkpoint(checkpoint, svi)
    if problem := progress.problem(len(loader), num_epochs):
        raise CheckpointError(f"{checkpoint} belongs to a training with other batches: {problem}")
    progress.interrupted = False
    return progress


def _count(
    progress: Progress, sums: EpochSums, batch: Batch, means: Mapping[str, Tensor] | None
) -> None:
    progress.batch += 1
    if means is None:
        progress.skipped += 1
        return
    size = batch_size(batch)
    sums.add(means, size)
    progress.step += 1
    progress.num_seen += size * distributed.world_size()


def _end_epoch(progress: Progress, sums: EpochSums) -> dict[str, float]:
    """Each term's mean over the epoch, whose sums begin anew."""
    if not progress.num_seen:
        raise FloatingPointError(
            f"no batch of epoch {progress.epoch + 1} was finite: all of them were skipped; a "
            "smaller learning rate may help"
        )
    means = {name: value / progress.num_seen for name, value in sums.total().items()}
    sums.clear()
    return means


def _num_batches(progress: Progress) -> int:
    return progress.step + progress.skipped


def _check_weights(svi: SVI) -> None:
    # Terms and gradients are those before the last step, which may have spoilt the weights since.
    if not torch.stack([p.isfinite().all() for p in svi.parameters()]).all():
        raise FloatingPointError("weights are no longer finite; a smaller learning rate may help")


def _bar(progress: Progress, loader: PairedLoader, num_epochs: int, is_shown: bool) -> "tqdm[Any]":
    return tqdm(
        total=num_epochs * len(loader),
        initial=progress.epoch * len(loader) + progress.batch,
        unit="step",
        disable=not is_shown,
        # A log file wants a line now and then, not ten a second.
        mininterval=0.5 if sys.stderr.isatty() else 30.0,
    )


def _show(bar: "tqdm[Any]", progress: Progress, means: Mapping[str, Tensor] | None) -> None:
    bar.update()
    if means is not None and not bar.disable and _num_batches(progress) % LOOK_EVERY == 0:
        shown = {name: f"{means[name].item():.1f}" for name in _SHOWN if name in means}
        bar.set_postfix(shown, refresh=False)
