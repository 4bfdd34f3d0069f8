"""Time the LSTM, and a whole training step, against what nn.LSTM takes, in one process.

    python experiments/bench.py [--repeats 7] [--threads 2] [--cells 512 256] [--reuse-memory]

Prints seconds (medians of interleaved repeats), how much faster than packed nn.LSTM that is and,
for the LSTM alone, useful GFLOP/s (matrix products of frames that exist, gradient of the input
left out) beside the rate of one large matrix product. With --reuse-memory, glibc keeps freed
buffers instead of faulting every page in again, which speeds up packed nn.LSTM most.

The machine should have nothing else to do: two threads wait for each other at every operation.
"""

import argparse
import ctypes
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import pyro
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

import pvae_pyro.nn.speech
from experiments.options import make_parser, resolve
from experiments.runs import build
from pvae_pyro.data.cache import data_root
from pvae_pyro.modality import Observation
from pvae_pyro.nn.recurrent import RaggedLSTM

BATCH, FEATURES, LATENT = 256, 80, 64


def draw_lengths(fsdd: Path) -> Tensor:
    """Frames ``[B]`` of 256 recordings: FSDD's (10 ms at 8 kHz), or a log-normal much like them."""
    generator = torch.Generator().manual_seed(0)
    names = sorted(fsdd.glob("recordings/*.wav"))
    if names:
        import soundfile

        chosen = torch.randperm(len(names), generator=generator)[:BATCH].tolist()
        lengths = torch.tensor([1 + soundfile.info(names[k]).frames // 80 for k in chosen])
    else:
        lengths = (3.7 + 0.33 * torch.randn(BATCH, generator=generator)).exp().long()
    return lengths.clamp(1, 80)


def keep_freed_memory() -> None:
    m_mmap_max, m_trim_threshold = -4, -1  # glibc's malloc.h
    libc = ctypes.CDLL(None)
    if not (libc.mallopt(m_mmap_max, 0) and libc.mallopt(m_trim_threshold, 2**31 - 1)):
        raise OSError("mallopt refused")


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def train_step(module: nn.Module, forward: Callable[[], Tensor]) -> Callable[[], None]:
    gradient = torch.randn(forward().shape)

    def run() -> None:
        module.zero_grad()
        forward().backward(gradient)

    return run


def interleaved(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 1):
        for name, run in runs.items():
            elapsed = seconds(run)
            if repeat > 0:
                times[name].append(elapsed)
    return {name: median(values) for name, values in times.items()}


class PackedLSTM(nn.LSTM):
    """What most people write: `pack_padded_sequence`, `nn.LSTM`, `pad_packed_sequence`."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size, hidden_size, batch_first=True)

    def last_state(self, x: Tensor, lengths: Tensor) -> Tensor:
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return self(packed)[1][0][0]

    def unroll(self, x: Tensor, lengths: Tensor, num_frames: int) -> Tensor:
        steps = x.unsqueeze(1).expand(-1, num_frames, -1)
        packed = pack_padded_sequence(steps, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(self(packed)[0], batch_first=True, total_length=num_frames)[0]


def compare_steps(cells: int, lengths: Tensor, repeats: int) -> None:
    """A step of training, Pyro and optimiser included, with our LSTM and with the packed one."""
    longest = int(lengths.max())
    batch = {
        "speech": Observation(torch.randn(BATCH, longest, FEATURES), lengths),
        "image": Observation(torch.rand(BATCH, 1, 28, 28)),
    }
    config = resolve(make_parser("").parse_args(["--device", "cpu", "--num-cells", str(cells)]))
    runs = {}
    ours = pvae_pyro.nn.speech.RaggedLSTM
    for name, lstm in (("packed nn.LSTM", PackedLSTM), ("ours", ours)):
        pvae_pyro.nn.speech.RaggedLSTM = lstm
        svi = build({**config, "max_frames": longest})
        runs[name] = partial(svi.update, batch)
    pvae_pyro.nn.speech.RaggedLSTM = ours
    with pyro.validation_enabled(False):
        middle = interleaved(runs, repeats)
    print(f"whole training step, batch {BATCH}, {cells} cells")
    print(f"{'':22}{'seconds':>9}{'faster than packed':>29}")
    for name, value in middle.items():
        print(f"{name:22}{value:9.3f}{middle['packed nn.LSTM'] / value:29.2f}")
    print()


def compare_lstm(hidden: int, lengths: Tensor, repeats: int) -> None:
    frames = int(lengths.sum())
    x, z = torch.randn(BATCH, int(lengths.max()), FEATURES), torch.randn(BATCH, LATENT)
    ours = RaggedLSTM(FEATURES, hidden)
    decoder = RaggedLSTM(LATENT, hidden)
    theirs = nn.LSTM(FEATURES, hidden, batch_first=True)
    theirs.load_state_dict(ours.state_dict())

    def packed() -> Tensor:
        ragged = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return theirs(ragged)[1][0]

    def padded() -> Tensor:
        outputs = theirs(x)[0]
        return outputs[torch.arange(BATCH), lengths - 1]

    a, b = torch.randn(3072, 3072), torch.randn(3072, 3072)
    runs = {
        "packed nn.LSTM": train_step(theirs, packed),
        "padded nn.LSTM": train_step(theirs, padded),
        "ours, last_state": train_step(ours, lambda: ours.last_state(x, lengths)),
        "ours, unroll": train_step(decoder, lambda: decoder.unroll(z, lengths, x.shape[1])),
        "large matrix product": lambda: torch.mm(a, b),
    }
    recurrent = 3 * 2 * 4 * hidden * hidden * (frames - BATCH)
    projection = 2 * 2 * 4 * hidden * FEATURES * frames
    work = dict.fromkeys(runs, recurrent + projection)
    work["ours, unroll"] = recurrent + 2 * 2 * 4 * hidden * LATENT * BATCH
    work["large matrix product"] = 2 * 3072**3

    middle = interleaved(runs, repeats)
    rate = {name: work[name] / middle[name] / 1e9 for name in runs}

    print(f"batch {BATCH}, {hidden} cells, {frames} frames, longest {x.shape[1]}")
    print(f"{'':22}{'seconds':>9}{'GFLOP/s':>9}{'faster than packed':>20}{'of large product':>18}")
    for name in runs:
        against = middle["packed nn.LSTM"] / middle[name]
        share = rate[name] / rate["large matrix product"]
        print(f"{name:22}{middle[name]:9.3f}{rate[name]:9.0f}{against:20.2f}{share:18.2f}")
    print()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--cells", type=int, nargs="+", default=[512, 256])
    parser.add_argument("--reuse-memory", action="store_true")
    options = parser.parse_args()
    if options.reuse_memory:
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    lengths = draw_lengths(data_root() / "fsdd")
    for cells in options.cells:
        compare_lstm(cells, lengths, options.repeats)
        compare_steps(cells, lengths, options.repeats)


if __name__ == "__main__":
    main()
