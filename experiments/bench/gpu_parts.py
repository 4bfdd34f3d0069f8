"""The parts of `gpu_check.py`: functions that take a `Check` and return figures for JSON."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pvae_pyro.data.examples import Examples
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.clustering import evaluate_latents
from pvae_pyro.experiments.bench.gpu_pack import read_data
from pvae_pyro.experiments.bench.speed import time_steps
from pvae_pyro.experiments.support.build import PRECISIONS, build
from pvae_pyro.experiments.support.config import OBJECTIVES, Config, config_of_json
from pvae_pyro.training.loop import fit

ROOT = Path(__file__).resolve().parents[2]
RESUME_EPOCHS = 3  # of the training that is resumed
TINY = {"num_cells": 8, "batch_size": 7, "epochs": 1}


@dataclass
class Check:
    """packed: folder of gpu_pack.py. tiny: few examples. seconds: for each whole training."""

    packed: Path
    device: str
    tiny: bool
    seconds: float

    @cached_property
    def data(self) -> tuple[dict[str, dict[str, Examples]], dict[str, Any]]:
        """split -> modality -> examples, and the content of pack.json."""
        partitions, about = read_data(self.packed)
        for of_split in partitions.values() if self.tiny else ():
            for name, some in of_split.items():
                few = [np.flatnonzero(some.labels == n)[:2] for n in np.unique(some.labels)]
                of_split[name] = some.take(np.concatenate(few))
        return partitions, about

    def config(self, objective: str, precision: str = "float32") -> Config:
        packed = config_of_json(json.dumps(self.data[1]["configs"][objective]).encode())
        own = {"device": self.device, "precision": precision}
        return packed.but(**own, **(TINY if self.tiny else {}))

    def loader(self, config: Config) -> PairedLoader:
        train, size = self.data[0]["train"], config.batch_size
        return PairedLoader(train, size, seed=config.seed, device=self.device)


def tests(check: Check) -> dict[str, Any]:
    return run_tests(files_with_cuda_tests())


def files_with_cuda_tests() -> list[Path]:
    """Other test files may import packages that the machine lacks."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [f for f in files if "\n@pytest.mark.cuda\n" in f.read_text("utf-8")]


def run_tests(files: list[Path]) -> dict[str, Any]:
    """Run the tests marked `cuda`: how many passed, failed and were skipped, and the output."""
    options = ["-o", "addopts=", "-m", "cuda", "-W", "default", "-p", "no:cacheprovider", "-q"]
    options += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    options += ["--continue-on-collection-errors"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *map(str, files)],
        cwd=ROOT,
        env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},  # plugins of the machine
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode > 1:  # pytest itself failed
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}")
    last = done.stdout.splitlines()[-1]
    counted = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    counts = {kind: counted.get(kind, 0) for kind in ("passed", "failed", "skipped")}
    counts["failed"] += counted.get("error", 0)
    return counts | {"output": done.stdout[-4000:]}


def steps(check: Check) -> dict[str, Any]:
    """A step of the paper's preset with either objective, in either precision (speed.py)."""
    found: dict[str, Any] = {
        "tf32_of_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_of_cudnn": torch.backends.cudnn.allow_tf32,
    }
    each, repeats = (1, 1) if check.tiny else (6, 7)
    for objective in OBJECTIVES:
        for precision in PRECISIONS:
            config = check.config(objective, precision)
            batches = list(islice(check.loader(config).epoch(0), each))
            found[f"{objective}, {precision}"] = time_steps(config, batches, repeats)
    return found


def resume(check: Check) -> dict[str, Any]:
    """Compare the weights of a resumed training with those of one that was left alone.

    `again` compares two that were left alone, since CUDA sums in varying orders.
    """
    whole, again = (train(check, [RESUME_EPOCHS]) for _ in range(2))
    found: dict[str, Any] = {}
    for name, weights in {"resumed": train(check, [1, RESUME_EPOCHS]), "again": again}.items():
        pairs = list(zip(whole, weights, strict=True))
        found[name] = {
            "bit_equal": all(torch.equal(a, b) for a, b in pairs),
            "largest_difference": max((a - b).abs().max().item() for a, b in pairs),
        }
    return found


def train(check: Check, epochs: list[int]) -> list[Tensor]:
    """Train until each of `epochs` in turn, resuming anew in between; returns the parameters."""
    config = check.config("paper")
    with tempfile.TemporaryDirectory() as folder:
        for n, until in enumerate(epochs):
            svi = build(config)
            options: Any = {"folder": Path(folder), "resume": n > 0, "show_progress": False}
            fit(svi, check.loader(config), num_epochs=until, **options)
    return [parameter.detach().cpu() for parameter in svi.parameters()]


def paper(check: Check) -> dict[str, Any]:
    return whole_run(check, "paper")


def ours(check: Check) -> dict[str, Any]:
    return whole_run(check, "ours")


def whole_run(check: Check, objective: str) -> dict[str, Any]:
    """Train for at most `check.seconds`, and score the latents."""
    config = check.config(objective)
    assert config.epochs is not None  # the preset has them
    svi = build(config)
    stop = Timer(check.seconds, os.kill, (os.getpid(), signal.SIGINT))
    stop.daemon = True
    stop.start()
    with tempfile.TemporaryDirectory() as folder:
        options: Any = {"folder": Path(folder), "show_progress": False}
        progress = fit(svi, check.loader(config), num_epochs=config.epochs, **options)
    stop.cancel()
    partitions, about = check.data
    guide: Any = svi.guide  # its attributes are unknown to the type nn.Module
    scores = evaluate_latents(
        guide.unimodal, partitions["test"], len(about["classes"]), check.device
    )
    return {
        "epochs": progress.epoch,
        "of_epochs": config.epochs,
        "steps": progress.step,
        "seconds_training": progress.seconds,
        **{
            score: scores[score]
            for score in (
                "purity",
                "purity_chance",
                "hungarian",
                "hungarian_chance",
                "active_units",
            )
        },
    }
