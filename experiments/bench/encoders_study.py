"""What the encoders of speech cost: forward and backward, side by side.

    python experiments/bench/encoders_study.py [--json FILE] [--repeats 7] [--threads 2]

In one process, in interleaved repeats (median, least and most seconds), of batches with the lengths
of FSDD's recordings where they are found ($PVAE_DATA), else log-normal ones much like them; of the
presets' sizes, `quick` and `paper`. The machine should have nothing else to do.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.cache import data_root
from pvae_pyro.experiments.bench.work import draw_lengths, interleaved
from pvae_pyro.experiments.support.arguments import number, place
from pvae_pyro.experiments.support.config import PRESETS
from pvae_pyro.experiments.support.errors import entry
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.models.modalities import SPEECH_ENCODERS

MELS = 80


def compare(lengths: Tensor, cells: int, repeats: int) -> dict[str, Any]:
    """Print the table of a batch; returns its figures."""
    size = len(lengths), int(lengths.max()), MELS
    speech = Observation(torch.randn(size), lengths)
    frames = int(lengths.sum())
    print(f"batch {size[0]}, {cells} cells, {frames} frames, longest {size[1]}")
    encoders = {name: make(MELS, cells) for name, make in SPEECH_ENCODERS.items()}
    runs = {name: _train(encoder, speech) for name, encoder in encoders.items()}
    figures: dict[str, Any] = {}
    times = interleaved(runs, repeats)
    for name, time in times.items():
        parameters = sum(p.numel() for p in encoders[name].parameters())
        figures[name] = {
            "seconds": time.middle,
            "least": time.least,
            "most": time.most,
            "parameters": parameters,
        }
        print(f"{name:12}{time.middle:9.4f}{f'{time.least:.4f}–{time.most:.4f}':>18}", end="")
        print(f"{times['lstm'].middle / time.middle:8.2f}×{parameters:12,} parameters")
    print()
    return {"batch": size[0], "cells": cells, "frames": frames, "encoders": figures}


def _train(encoder: nn.Module, speech: Observation) -> Callable[[], None]:
    gradient = torch.randn(encoder(speech).shape)

    def run() -> None:
        encoder.zero_grad()
        encoder(speech).backward(gradient)

    return run


@entry()
def main(argv: list[str] | None = None) -> int:
    natural = number(int, above=0)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json", type=place, metavar="FILE", help="write the figures there")
    add("--repeats", type=natural, default=7, help="(7)")
    add("--threads", type=natural, default=torch.get_num_threads(), help="(all)")
    add("--only", nargs="+", choices=tuple(PRESETS), default=tuple(PRESETS), help="sizes (all)")
    arguments = parser.parse_args(argv)
    made_by = {"threads": arguments.threads, **environment()}  # of now, not of minutes later
    before = torch.get_num_threads()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    print("seconds (least–most), times as fast as the LSTM\n")
    try:
        sizes = {name: PRESETS[name] for name in arguments.only}
        figures = {
            name: compare(
                draw_lengths("fsdd", data_root(), size["batch_size"]),
                size["num_cells"],
                arguments.repeats,
            )
            for name, size in sizes.items()
        }
    finally:
        torch.set_num_threads(before)
    if arguments.json:
        write_json(arguments.json, {**figures, **made_by})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
