"""Trains a few steps of the paper's objective on noise; prints their time and memory as JSON.

    python experiments/bench/noise.py '{"examples": 3000, "cells": 64, "batch": 32}'

`measure` runs this file in a new process, so that the memory is the training's alone, or in several
processes by torchrun.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import json
import os
import resource
import subprocess
import time
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
import pyro
import torch

from pvae_pyro import distributed
from pvae_pyro.data.examples import Examples, Normalisation
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.experiments.support.build import build
from pvae_pyro.experiments.support.config import Options

NUM_MELS, NUM_IMAGES, CLASSES = 80, 60_000, 10
STEPS = 7  # of which the first one warms up


@dataclass(frozen=True)
class Case:
    """What is trained: examples of speech, their mean number of frames, LSTM cells, batch size.

    The defaults are the size of TIDIGITS and of the paper's networks.
    """

    examples: int = 28_329
    frames: int = 38
    cells: int = 512
    batch: int = 256


def synthetic(case: Case) -> dict[str, Examples]:
    """Noise: `case.examples` spoken words of log-normal length, and as many images as MNIST has."""
    rng = np.random.default_rng(0)
    spread = 0.32  # of the log of frames, as of TIDIGITS' words
    frames = np.exp(np.log(case.frames) - spread**2 / 2 + spread * rng.normal(size=case.examples))
    offsets = np.concatenate([[0], np.clip(np.round(frames), 1, 4 * case.frames).cumsum()])
    values = rng.standard_normal((int(offsets[-1]), NUM_MELS), dtype=np.float32)
    as_it_is = Normalisation(np.zeros(NUM_MELS, np.float32), np.ones(NUM_MELS, np.float32))
    labels = rng.integers(CLASSES, size=case.examples)
    pixels = rng.integers(256, size=(NUM_IMAGES, 1, 28, 28), dtype=np.uint8)
    by_255 = Normalisation(np.array(0, np.float32), np.array(255, np.float32))
    return {
        "speech": Examples(values, labels, as_it_is, offsets.astype(np.int64)),
        "image": Examples(pixels, rng.integers(CLASSES, size=NUM_IMAGES), by_255),
    }


def train(case: Case) -> dict[str, Any]:
    """The case, the median seconds of a step (loading included), and the most MiB held."""
    examples = synthetic(case)
    loader = PairedLoader(examples, case.batch)
    lengths = examples["speech"].lengths
    assert lengths is not None
    options = Options(
        device="cpu", objective="paper", num_cells=case.cells, batch_size=case.batch, epochs=1
    )
    svi = build(options.resolved("cpu").but(max_frames=int(lengths.max())))
    batches, times = loader.epoch(0), []
    for _ in range(min(STEPS, len(loader))):
        start = time.perf_counter()
        with pyro.validation_enabled(False):
            svi.update(next(batches))
        times.append(time.perf_counter() - start)
    step = median(times[1:] or times)
    return {**asdict(case), "step_seconds": step, "peak_memory_mib": peak_memory()}


def peak_memory() -> float:
    """The most MiB that this process has held.

    On Linux it is read from /proc: getrusage there also counts what the parent process held.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20


def measure(case: Case, ranks: int = 1, threads: int | None = None) -> dict[str, Any]:
    """What `train` returns, from a process of its own or from the first of several.

    `case.batch` is divided among several processes; `threads` are each one's.
    """
    command = [sys.executable]
    if ranks > 1:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command += [str(Path(__file__)), json.dumps(asdict(case))]
    environ = {**os.environ, "OMP_NUM_THREADS": str(threads or torch.get_num_threads())}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ)
    return json.loads(done.stdout)


if __name__ == "__main__":
    with distributed.started():
        figures = train(Case(**json.loads(sys.argv[1])))
        if distributed.rank() == 0:
            print(json.dumps(figures))
