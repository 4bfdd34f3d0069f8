"""What the benchmarks count and time: useful operations, lengths as of corpora, repeats."""

import ctypes
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pvae_pyro.data.alignment.ctm import read_ctm
from pvae_pyro.nn.lstm.recurrent import RaggedLSTM

K = TypeVar("K")
# Mean and standard deviation of the log of frames, of all recordings of each corpus.
LOG_FRAMES = {"fsdd": (3.741, 0.310), "tidigits": (3.581, 0.321)}


def draw_lengths(corpus: str, root: Path, batch: int) -> Tensor:
    """Frames ``[batch]`` of recordings: the corpus's where it is found, or log-normal ones.

    corpus: "fsdd" (recordings) or "tidigits" (words of alignments). Frames are of 10 ms; beyond
    80 they are cut, as one long recording would set a batch's padding.
    """
    generator = torch.Generator().manual_seed(0)
    frames = []
    if corpus == "fsdd":
        import soundfile  # not for what is only timed

        names = sorted((root / "fsdd").glob("recordings/*.wav"))
        frames = [1 + soundfile.info(name).frames // 80 for name in names]
    elif (aligned := root / "tidigits_ctm" / "train_word_align.ctm").exists():
        utterances, _ = read_ctm([aligned])
        words = [word for spans in utterances.values() for word in spans]
        frames = [round(100 * (word.end - word.start)) for word in words]
    if frames:
        chosen = torch.randperm(len(frames), generator=generator)[:batch]
        lengths = torch.tensor(frames)[chosen]
    else:
        loc, scale = LOG_FRAMES[corpus]
        lengths = (loc + scale * torch.randn(batch, generator=generator)).exp().round().long()
    return lengths.clamp(1, 80)


@dataclass(frozen=True)
class Times:
    """Seconds: the median of repeats, the least and the most."""

    middle: float
    least: float
    most: float


def interleaved(
    runs: Mapping[K, Callable[[], object]], repeats: int, warm_up: int = 2
) -> dict[K, Times]:
    """Each in turn, `repeats` times, so that a slow minute of the machine is everybody's."""
    times: dict[K, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + warm_up):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat >= warm_up:
                times[name].append(time.perf_counter() - start)
    return {name: Times(median(t), min(t), max(t)) for name, t in times.items()}


def keep_freed_memory() -> bool:
    """Have glibc keep what is freed instead of faulting every page in again; False elsewhere."""
    m_mmap_max, m_trim_threshold = -4, -1  # malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(m_mmap_max, 0) and mallopt(m_trim_threshold, 2**31 - 1))


@contextmanager
def counted_operations(module: nn.Module) -> Iterator[list[int]]:
    """Useful operations (2 a multiplication and addition) of the calls made within, in a list.

    Of matrix products and convolutions alone, forward and backward: each costs as much again
    for the gradient of its weights, and of its input where that has one. Frames that do not
    exist count nothing, and a constant input is projected once.
    """
    counts: list[int] = []

    def count(layer: nn.Module, inputs: Any, output: Any) -> None:
        x = inputs[0]
        passes = 3 if x.requires_grad else 2
        if isinstance(layer, nn.Linear):
            counts.append(2 * output.numel() * layer.in_features * passes)
        elif isinstance(layer, nn.Conv2d):
            counts.append(2 * output.numel() * layer.weight[0].numel() * passes)
        elif isinstance(layer, nn.ConvTranspose2d):
            counts.append(2 * x.numel() * layer.weight[0].numel() * passes)

    def count_lstm(lstm: RaggedLSTM, method: str) -> Callable[..., Any]:
        plain = getattr(lstm, method)

        def call(x: Tensor, packing: Any) -> Any:
            frames, rows = len(packing.frame), len(packing.order)
            counts.append(lstm_operations(lstm, frames, rows, x.dim() == 2, x.requires_grad))
            return plain(x, packing)

        return call

    handles = []
    lstms = [layer for layer in module.modules() if isinstance(layer, RaggedLSTM)]
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            handles.append(layer.register_forward_hook(count))
    for lstm in lstms:
        for method in ("last_state", "unroll"):
            lstm.__dict__[method] = count_lstm(lstm, method)
    try:
        yield counts
    finally:
        for handle in handles:
            handle.remove()
        for lstm in lstms:
            for method in ("last_state", "unroll"):
                del lstm.__dict__[method]


def lstm_operations(
    lstm: RaggedLSTM, frames: int, rows: int, constant: bool, input_gradient: bool
) -> int:
    """Of one forward and backward pass; the first step has no state to multiply."""
    gates = 4 * lstm.hidden_size
    recurrent = 3 * 2 * gates * lstm.hidden_size * (frames - rows)
    projected = rows if constant else frames
    return recurrent + (3 if input_gradient else 2) * 2 * gates * lstm.input_size * projected
