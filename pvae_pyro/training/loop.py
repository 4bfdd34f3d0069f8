"""The training loop."""

import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pyro
import torch
from torch import Tensor
from tqdm import tqdm

from pvae_pyro import distributed
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.io.checked_json import NUMBER, misfit, parse_object
from pvae_pyro.io.files import append_line, read_regular, whole_lines, write_whole
from pvae_pyro.svi import SVI
from pvae_pyro.training.best import Best
from pvae_pyro.training.checked_steps import BAD_BATCHES, Watch
from pvae_pyro.training.checkpoint import CheckpointError, load_checkpoint, recover, save_checkpoint

if TYPE_CHECKING:  # not needed to train
    from torch.utils.tensorboard import SummaryWriter

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"
METRICS = "metrics.jsonl"
SHOWN = ("objective", "elbo", "coherence", "contrastive")
# Steps between those at which values are read, which waits for the device, and at which several
# processes agree whether to save or stop.
LOOK_EVERY = 10


@dataclass
class Progress:
    """Where a run stands.

    epoch, batch: the next batch to train on. step: gradient steps taken. seconds: spent
    training, over all sittings. num_seen: examples of this epoch so far. sums: each term summed
    over them, in nats. interrupted: the run was asked to stop. skipped:
    batches that were not finite, and left out.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    seconds: float = 0.0
    num_seen: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
    skipped: int = 0


def fit(
    svi: SVI,
    loader: PairedLoader,
    *,
    num_epochs: int,
    folder: Path,
    resume: bool = False,
    extra: Mapping[str, Tensor] | None = None,
    checkpoint_seconds: float = 60.0,
    skip_bad_batches: bool = False,
    best_of: int = 0,
    show_progress: bool = True,
    on_start: Callable[[], None] = lambda: None,
) -> Progress:
    """Train until `num_epochs`, or until Ctrl-C or SIGTERM, which end the step, save and return.

    Writes into `folder`: ``metrics.jsonl`` (a line an epoch: each term's mean in nats per
    example), TensorBoard events of the same where tensorboard is installed, and
    ``checkpoint.safetensors`` at the end and every `checkpoint_seconds`, the one before beside it.
    On CPU a resumed run takes the steps the uninterrupted one would have, wherever it was stopped
    or killed; where the checkpoint is damaged it goes on from the one before, and logs that.

    Of several processes all call it alike (`pvae_pyro.distributed`); the first one writes.
    A run may be resumed by another number of them.

    Args:
        resume: go on from the folder's checkpoint instead of starting.
        extra: tensors to keep in the checkpoint.
        skip_bad_batches: leave batches out whose terms or gradients are not finite (`Watch`), and
            count them, instead of ending.
        best_of: keep the best of so many last epochs besides (`Best`); 0 keeps none.
        on_start: called by the first process once all that it goes on from is read and found good,
            before any of the folder's records or a weight changes.

    Raises FloatingPointError, naming terms, modalities and examples, when a number is not finite,
    in the step in which it is made (on CUDA up to `LOOK_EVERY` later); that step is not taken,
    and the checkpoint stays the last one before it. The same when an epoch had no other steps.
    CheckpointError when no whole checkpoint is there, or one of a training with other batches,
    OSError when a file cannot be written.
    """
    checkpoint = Path(folder) / CHECKPOINT
    first_process, alone = distributed.rank() == 0, distributed.world_size() == 1
    progress = Progress()
    if resume:
        with distributed.first_alone():
            if first_process and (told := recover(checkpoint)):
                log.warning(told)
        progress = _progress(checkpoint, load_checkpoint(checkpoint, svi))
        _check_place(checkpoint, progress, len(loader), num_epochs)
        progress.interrupted = False
    elif not first_process:  # other noise than the first one's
        torch.manual_seed(torch.initial_seed() + distributed.rank())
    records = _kept_records(Path(folder), progress) if first_process else {}
    best = Best(Path(folder), range(num_epochs - best_of, num_epochs), progress.epoch)
    if first_process:
        on_start()
        for path, lines in records.items():
            _rewrite(path, lines)
    watch = Watch(svi, loader, Path(folder), skip_bad_batches)
    total = num_epochs * len(loader)
    started, saved = time.monotonic() - progress.seconds, time.monotonic()
    device = next(svi.parameters()).device
    # Of this process; what a checkpoint holds, of all, is the first one's to go on from.
    kept = {n: v if first_process else 0.0 for n, v in progress.sums.items()}
    sums = {name: torch.tensor(value, device=device) for name, value in kept.items()}
    first_step = True
    with (
        _writer(Path(folder), progress.step + 1, first_process) as writer,
        tqdm(
            total=total,
            initial=progress.epoch * len(loader) + progress.batch,
            unit="step",
            disable=not (show_progress and first_process),
            # A log file wants a line now and then, not ten a second.
            mininterval=0.5 if sys.stderr.isatty() else 30.0,
        ) as bar,
        _stop_requests() as stop_requested,
    ):
        stop = False
        while progress.epoch < num_epochs and not stop:
            for batch in loader.epoch(progress.epoch, start=progress.batch):
                size = len(next(iter(batch.values())).value)
                # Pyro's checks find mistakes of shape and support, which the first step shows.
                with pyro.validation_enabled(first_step):
                    means = watch.step(batch, progress.epoch, progress.batch, progress.step + 1)
                first_step = False
                progress.batch += 1
                bar.update()
                if means is None:
                    progress.skipped += 1
                else:
                    sums = {n: sums.get(n, 0.0) + size * mean for n, mean in means.items()}
                    progress.step += 1
                    progress.num_seen += size * distributed.world_size()
                look = (progress.step + progress.skipped) % LOOK_EVERY == 0
                if look:
                    watch.look()
                if look and means is not None and first_process and show_progress:
                    shown = {name: f"{means[name].item():.1f}" for name in SHOWN if name in means}
                    bar.set_postfix(shown, refresh=False)
                if alone or look:
                    save = time.monotonic() - saved > checkpoint_seconds
                    stop, save = distributed.any_of([bool(stop_requested), save], device)
                    if save or stop:
                        watch.look()
                    if save and not stop:  # at a stop, below
                        progress.seconds = time.monotonic() - started
                        _save(checkpoint, svi, progress, sums, extra)
                        saved = time.monotonic()
                if stop:
                    break
            if progress.batch == len(loader):
                watch.look()
                if not progress.num_seen:
                    raise FloatingPointError(
                        f"no batch of epoch {progress.epoch + 1} was finite: all were skipped; a "
                        "smaller learning rate may help"
                    )
                progress.seconds = time.monotonic() - started
                totals = distributed.sum_of(sums)
                epoch_means = {n: value / progress.num_seen for n, value in totals.items()}
                _check_finite(epoch_means)
                if first_process:
                    _log(Path(folder) / METRICS, writer, progress, epoch_means)
                progress.epoch, progress.batch, progress.num_seen = progress.epoch + 1, 0, 0
                sums, progress.sums = {}, {}
                if best.wants(progress.epoch - 1, epoch_means["objective"]):
                    _check_weights(svi)
                    best.keep(svi, asdict(progress), epoch_means["objective"], extra)
        progress.seconds = time.monotonic() - started
        _save(checkpoint, svi, progress, sums, extra)
        # Asked in its last step, or while that was saved, a run stops before it is evaluated.
        asked = stop or (alone and bool(stop_requested))
        progress.interrupted = progress.epoch < num_epochs or asked
        distributed.wait_for_all()
    return progress


@contextmanager
def _writer(folder: Path, purge_step: int, wanted: bool) -> "Iterator[SummaryWriter | None]":
    try:
        if wanted:
            from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        log.warning(f"no events for TensorBoard: tensorboard is not installed; see {METRICS}")
        wanted = False
    if not wanted:
        yield None
        return
    with SummaryWriter(str(folder), purge_step=purge_step) as writer:
        yield writer


def _save(
    path: Path,
    svi: SVI,
    progress: Progress,
    sums: Mapping[str, Tensor],
    extra: Mapping[str, Tensor] | None,
) -> None:
    progress.sums = distributed.sum_of(sums)
    _check_finite(progress.sums)
    _check_weights(svi)
    save_checkpoint(path, svi, asdict(progress), extra)


def _check_weights(svi: SVI) -> None:
    # Terms and gradients are those before the last step, which may have spoilt the weights since.
    if not torch.stack([p.isfinite().all() for p in svi.parameters()]).all():
        raise FloatingPointError("weights are no longer finite; a smaller learning rate may help")


def _check_finite(terms: Mapping[str, float]) -> None:
    bad = [name for name, value in terms.items() if value - value != 0.0]
    if bad:
        raise FloatingPointError(
            f"no longer finite: {', '.join(bad)}; a smaller learning rate may help"
        )


def _log(
    path: Path, writer: "SummaryWriter | None", progress: Progress, means: Mapping[str, float]
) -> None:
    record = {
        "epoch": progress.epoch + 1,
        "step": progress.step,
        "seconds": round(progress.seconds, 2),
        **means,
    }
    append_line(path, json.dumps(record))
    if writer is not None:
        for name, mean in means.items():
            writer.add_scalar(name, mean, progress.step)


def _progress(path: Path, saved: Mapping[str, Any]) -> Progress:
    """What a checkpoint says of the position. Raises CheckpointError where that cannot be."""
    shapes = {int: int, bool: bool, float: NUMBER, dict: {str: NUMBER}}
    saved = {name: value for name, value in saved.items() if name != "objective"}  # of a best
    now = vars(Progress())
    wrong = misfit(saved, {f"{name}?": shapes[type(value)] for name, value in now.items()})
    wrong = wrong or misfit(now, dict.fromkeys(saved, object))
    below = [name for name in saved if name != "sums" and not wrong and saved[name] < 0]
    if wrong or below:
        raise CheckpointError(f"{path} holds another position: {wrong or f'{below[0]} < 0'}")
    return Progress(**saved)


def _check_place(path: Path, progress: Progress, num_batches: int, num_epochs: int) -> None:
    """Raises CheckpointError where a training of so many batches and epochs cannot be there."""
    wrong = None
    if progress.epoch > num_epochs:
        wrong = f"{progress.epoch} epochs are done, of {num_epochs}"
    elif progress.batch > num_batches:
        wrong = f"{progress.batch} batches of an epoch are done, of {num_batches}"
    elif progress.batch and progress.num_seen + progress.skipped == 0:
        wrong = f"{progress.batch} batches are done, of no examples"
    elif progress.num_seen and "objective" not in progress.sums:
        wrong = "there is no sum of the objective"
    if wrong:
        raise CheckpointError(
            f"{path} is of a training with other data, or in other batches: {wrong}"
        )


def _kept_records(folder: Path, progress: Progress) -> dict[Path, list[str]]:
    """The lines that stay. Those after the checkpoint do not: the run makes them again."""
    lines = whole_lines(folder / METRICS)
    if len(lines) < progress.epoch:
        log.warning(
            f"{folder / METRICS} has {len(lines)} epochs, the checkpoint {progress.epoch}: "
            "records are lost"
        )
    where = (progress.epoch + 1, progress.batch + 1)  # as records count, the next batch
    bad = whole_lines(folder / BAD_BATCHES)
    try:
        records = [(line, parse_object(line)) for line in bad]
        if wrong := misfit([record for _, record in records], [{"epoch": int, "batch": int}]):
            raise ValueError(wrong)
    except ValueError as error:
        raise CheckpointError(f"{folder / BAD_BATCHES} is damaged: {error}") from error
    earlier = [line for line, record in records if (record["epoch"], record["batch"]) < where]
    return {folder / METRICS: lines[: progress.epoch], folder / BAD_BATCHES: earlier}


def _rewrite(path: Path, lines: list[str]) -> None:
    content = "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")
    if path.exists() and read_regular(path) != content:
        write_whole(path, content)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM arrives; the same one again acts at once.

    The other one does not: on Ctrl-C `torchrun` sends its processes SIGTERM besides.
    """
    requests: list[int] = []

    def remember(number: int, frame: FrameType | None) -> None:
        if number in requests:
            raise KeyboardInterrupt
        requests.append(number)

    try:
        before = {
            number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread: signals are somebody else's
        yield requests
        return
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
