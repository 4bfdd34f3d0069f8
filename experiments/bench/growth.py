"""How a step's time, an epoch's and the memory grow with the data and the networks.

    python experiments/bench/growth.py [--json FILE] [--figure FILE.png]

Each case trains some steps of the paper's objective on noise in a process of its own: one of
examples, frames, cells and modalities is varied, the others are about TIDIGITS' and the paper's.
Steps include the loader's work. Memory is the most that the process held, torch itself included.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import os
import resource
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import pyro
import torch

from pvae_pyro import distributed
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.experiments.support.arguments import place
from pvae_pyro.experiments.support.errors import entry
from pvae_pyro.guides import PartitionedGuide
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.modality import Modality
from pvae_pyro.models import PVAE, digit_modalities
from pvae_pyro.svi import SVI

NUM_MELS, NUM_IMAGES, CLASSES = 80, 60_000, 10


@dataclass(frozen=True)
class Case:
    """What is trained: examples of speech, their mean number of frames, and the networks."""

    examples: int = 28_329
    frames: int = 38
    cells: int = 512
    modalities: int = 2
    batch: int = 256


VARIED: dict[str, tuple[int, ...]] = {
    "examples": (3_000, 28_329, 112_000, 225_000),
    "frames": (19, 38, 76, 152, 304),
    "cells": (128, 256, 512, 1024),
    "modalities": (1, 2, 3, 4, 6),
}


def cases() -> list[tuple[str, Case]]:
    """What is varied, and the case."""
    return [
        (name, replace(Case(), **{name: value}))
        for name, values in VARIED.items()
        for value in values
    ]


def modalities(case: Case, longest: int) -> list[Modality]:
    """speech, image, speech2, image2, …"""
    both = digit_modalities(num_cells=case.cells, max_frames=longest)
    return [
        replace(both[n % 2], name=f"{both[n % 2].name}{n // 2 + 1 if n > 1 else ''}")
        for n in range(case.modalities)
    ]


def synthetic(case: Case) -> dict[str, Examples]:
    """Noise of `case.examples` spoken words of log-normal length, and of MNIST's images."""
    rng = np.random.default_rng(0)
    spread = 0.32  # of the log of frames, as of TIDIGITS' words
    frames = np.exp(np.log(case.frames) - spread**2 / 2 + spread * rng.normal(size=case.examples))
    offsets = np.concatenate([[0], np.clip(np.round(frames), 1, 4 * case.frames).cumsum()])
    values = rng.standard_normal((int(offsets[-1]), NUM_MELS), dtype=np.float32)
    plain = Normalisation(np.zeros(NUM_MELS, np.float32), np.ones(NUM_MELS, np.float32))
    labels = rng.integers(CLASSES, size=case.examples)
    speech = Examples(values, labels, plain, offsets.astype(np.int64))
    pixels = rng.integers(256, size=(NUM_IMAGES, 1, 28, 28), dtype=np.uint8)
    scale = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    image = Examples(pixels, rng.integers(CLASSES, size=NUM_IMAGES), scale)
    return {m.name: speech if m.name.startswith("speech") else image for m in modalities(case, 1)}


def train(case: Case, steps: int = 7) -> dict[str, Any]:
    """Figures of a case, in this process."""
    examples = synthetic(case)
    loader = PairedLoader(examples, case.batch)
    lengths = examples["speech"].lengths
    assert lengths is not None
    of = modalities(case, int(lengths.max()))
    adam = partial(torch.optim.Adam, lr=1e-3, fused=True)
    # With one modality nothing contrasts.
    elbo = PartitionedELBO(beta=100.0 if case.modalities > 1 else 0.0)
    svi = SVI(PVAE(of), PartitionedGuide(of), adam, elbo)
    batches, times = loader.epoch(0), []
    for _ in range(min(steps, len(loader))):
        start = time.perf_counter()
        with pyro.validation_enabled(False):
            svi.update(next(batches))
        times.append(time.perf_counter() - start)
    step = median(times[1:] or times)
    seconds = {"step_seconds": step, "epoch_seconds": step * len(loader)}
    return {**asdict(case), **seconds, "peak_memory_mib": peak_memory()}


def peak_memory() -> float:
    """Most MiB that this process held. On Linux of this program alone: what getrusage tells is
    also what the process that started it held."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(case: Case, ranks: int = 1, threads: int | None = None) -> dict[str, Any]:
    """Figures of a case, in a process of its own, whose memory it is, or in several.

    Of several processes `case.batch` is what all have together; threads are each one's.
    """
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += [str(Path(__file__)), "--case", json.dumps(asdict(case))]
    number = str(threads or torch.get_num_threads())
    command += ["--threads", number]
    environ = {**os.environ, "OMP_NUM_THREADS": number}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ)
    return json.loads(done.stdout)


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """A column for what is varied, a row for what is measured, to a PNG or PDF."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    measured = {
        "step_seconds": "step, s",
        "epoch_seconds": "epoch, s",
        "peak_memory_mib": "memory, MiB",
    }
    figure, axes = pyplot.subplots(
        len(measured), len(VARIED), figsize=(12, 6.5), sharex="col", layout="constrained"
    )
    for column, varied in enumerate(VARIED):
        chosen = [row for row in rows if row["varied"] == varied]
        for axis, (name, label) in zip(axes[:, column], measured.items(), strict=True):
            axis.plot([row[varied] for row in chosen], [row[name] for row in chosen], "o-")
            axis.set_ylim(0, 1.1 * max(row[name] for row in chosen))
            axis.xaxis.set_major_locator(pyplot.MaxNLocator(4))
            axis.grid(alpha=0.3)
            if column == 0:
                axis.set_ylabel(label)
        axes[-1, column].set_xlabel("mean frames" if varied == "frames" else varied)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


@entry()
def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=place, metavar="FILE", help="write the figures there")
    parser.add_argument("--figure", type=place, metavar="FILE", help="draw them there, PNG or PDF")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="(all)")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.case is not None:
        with distributed.started():
            figures = train(Case(**arguments.case))
            if distributed.rank() == 0:
                print(json.dumps(figures))
        return 0
    made_by = {"threads": arguments.threads, **environment()}  # of now, not of minutes later
    rows = []
    print(f"{'varied':12}{'value':>9}{'step, s':>10}{'epoch, s':>10}{'memory, MiB':>13}")
    for varied, case in cases():
        row = {"varied": varied, **measure(case)}
        rows.append(row)
        print(f"{varied:12}{row[varied]:9}{row['step_seconds']:10.3f}", end="")
        print(f"{row['epoch_seconds']:10.1f}{row['peak_memory_mib']:13.0f}", flush=True)
    if arguments.json:
        write_json(arguments.json, {"cases": rows, **made_by})
    if arguments.figure:
        draw(rows, arguments.figure)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
