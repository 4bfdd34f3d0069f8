"""Compare the speed of a training step with the same objective written by hand in torch.

    python experiments/bench/speed.py [--json FILE] [--repeats 7] [--threads 2]

Each table has one preset's size. Its rows are a training step of Pyro with our networks (what
run_svi.py does), and the paper's objective by hand, with packed `nn.LSTM`, with padded `nn.LSTM`
and with our networks (the difference to which is the cost of Pyro). The columns are the median,
least and greatest seconds of interleaved repeats, and the speed relative to packed `nn.LSTM`.
Recordings have lengths like FSDD's. Nothing else should run on the machine meanwhile.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import pyro
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch, Observation
from pvae_pyro.experiments.bench.by_hand import ByHand, PackedLSTM, PaddedLSTM
from pvae_pyro.experiments.support.arguments import number, place
from pvae_pyro.experiments.support.build import PRECISIONS, build
from pvae_pyro.experiments.support.command import entry
from pvae_pyro.experiments.support.config import PRESETS, Config, Options
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.svi import SVI

FSDD_LOG_FRAMES = (3.741, 0.310)  # mean and standard deviation of the log of frames of 10 ms
LONGEST = 80  # frames; one longer recording would set the padding of a whole batch
BY_HAND: dict[str, type[nn.LSTM] | None] = {
    "by hand, packed nn.LSTM": PackedLSTM,
    "by hand, padded nn.LSTM": PaddedLSTM,
    "by hand, our networks": None,
}
PYRO = "pvae_pyro"


@dataclass(frozen=True)
class Times:
    """Median, least and greatest seconds of repeats."""

    median: float
    least: float
    greatest: float


def interleaved(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, Times]:
    """Time each function in turn, so that a slow minute of the machine affects all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: Times(median(t), min(t), max(t)) for name, t in times.items()}


def step_functions(config: Config) -> dict[str, Callable[[Batch], Tensor]]:
    """Name -> a training step, which returns its loss. By hand there is the paper's objective."""
    steps: dict[str, Callable[[Batch], Tensor]] = {PYRO: partial(_update, build(config))}
    for name, lstm in BY_HAND.items() if config.objective == "paper" else ():
        svi = build(config)
        plain = ByHand(svi, config, lstm)
        steps[name] = partial(_update_by_hand, svi, plain, PRECISIONS[config.precision])
    return steps


def _update(svi: SVI, batch: Batch) -> Tensor:
    return -svi.update(batch)["objective"]


def _update_by_hand(svi: SVI, plain: ByHand, autocast: torch.dtype | None, batch: Batch) -> Tensor:
    svi.optim.zero_grad()
    device = next(svi.parameters()).device.type
    with torch.autocast(device, autocast, enabled=autocast is not None):
        loss = plain(batch)
    loss.backward()
    svi.optim.step()
    return loss.detach()


def time_steps(config: Config, batches: Sequence[Batch], repeats: int) -> dict[str, dict[str, Any]]:
    """Row -> median, least and greatest seconds of a step; the last loss; on CUDA, peak MiB."""
    on_cuda = config.device.startswith("cuda")
    found: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], float]] = {}
    with pyro.validation_enabled(False):
        for name, step in step_functions(config).items():
            runs[name] = partial(_take_steps, step, batches)
            if on_cuda:
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            found[name] = {"loss": str(runs[name]())}  # which also warms up
            if on_cuda:
                found[name]["peak_mib"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        for name, times in interleaved(runs, repeats).items():
            found[name] |= {key: value / len(batches) for key, value in asdict(times).items()}
    return found


def _take_steps(step: Callable[[Batch], Tensor], batches: Sequence[Batch]) -> float:
    for batch in batches:  # copied, because a batch's packing is computed once and kept
        loss = step({name: replace(observation) for name, observation in batch.items()})
    return loss.item()  # waits for the device


def noise_batch(lengths: Tensor) -> dict[str, Observation]:
    """Speech and images of random numbers; the speech has these lengths."""
    generator = torch.Generator().manual_seed(1)
    speech = torch.randn((len(lengths), int(lengths.max()), 80), generator=generator)
    return {
        "speech": Observation(speech, lengths),
        "image": Observation(torch.rand(len(lengths), 1, 28, 28, generator=generator)),
    }


def compare_steps(preset: str, sizes: dict[str, int], repeats: int) -> dict[str, Any]:
    """Print the table of a preset's size, and return its figures."""
    loc, scale = FSDD_LOG_FRAMES
    torch.manual_seed(0)
    frames = (loc + scale * torch.randn(sizes["batch_size"])).exp().round().long()
    batch = noise_batch(frames.clamp(1, LONGEST))
    options = {"device": "cpu", "objective": "paper", **sizes}
    config = Options.model_validate(options).resolved("cpu").but(max_frames=LONGEST)
    rows = time_steps(config, [batch], repeats)
    print(f"{preset}: batch {config.batch_size}, {config.num_cells} cells")
    print(f"{'':26}{'seconds':>9}{'least–greatest':>18}{'relative speed':>16}")
    packed = rows["by hand, packed nn.LSTM"]["median"]
    for name, of in rows.items():
        spread = f"{of['least']:.3f}–{of['greatest']:.3f}"
        print(f"{name:26}{of['median']:9.3f}{spread:>18}{packed / of['median']:15.2f}×")
    own = rows[PYRO]["median"]
    return {
        "rows": rows,
        "speedup_over_packed": packed / own,
        "speedup_over_padded": rows["by hand, padded nn.LSTM"]["median"] / own,
        "overhead_of_pyro": own / rows["by hand, our networks"]["median"] - 1,
    }


@entry()
def main(argv: list[str] | None = None) -> int:
    positive = number(int, above=0)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=place, metavar="FILE", help="write the figures there")
    add("--repeats", type=positive, default=7, metavar="N", help="(7)")
    add("--threads", type=positive, default=torch.get_num_threads(), metavar="N", help="(all)")
    add("--cells", type=positive, metavar="N", help="cells of an LSTM (the preset's)")
    add("--batch", type=positive, metavar="N", help="examples of a batch (the preset's)")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    figures: dict[str, Any] = {}
    for preset in ("paper", "quick"):
        sizes = {
            "num_cells": arguments.cells or PRESETS[preset]["num_cells"],
            "batch_size": arguments.batch or PRESETS[preset]["batch_size"],
        }
        figures[preset] = compare_steps(preset, sizes, arguments.repeats)
    if arguments.json:
        write_json(arguments.json, {**figures, **environment(), "threads": arguments.threads})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
