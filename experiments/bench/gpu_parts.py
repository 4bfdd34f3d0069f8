"""The parts of `gpu_check.py`: functions that take a `Check` and return figures for JSON."""

import gc
import json
import math
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from torch import Tensor

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.clustering import evaluate_latents
from pvae_pyro.experiments.bench.gpu_pack import read_data
from pvae_pyro.experiments.bench.speed import interleaved, step_functions, take_steps
from pvae_pyro.experiments.support.build import PRECISIONS, build
from pvae_pyro.experiments.support.config import OBJECTIVES, Config, config_of_json
from pvae_pyro.training.checkpoint import CHECKPOINT, read_progress
from pvae_pyro.training.loop import fit

ROOT = Path(__file__).resolve().parents[2]
LEAST_SECONDS = {"tests": 45, "steps": 30, "resume": 60, "paper": 40, "ours": 40}
EVALUATION_SECONDS = 20
RESUME_EPOCHS = 3  # of the training that is killed and resumed
TINY = {"num_cells": 8, "batch_size": 7, "epochs": 1}


@dataclass
class Check:
    """What is checked, on which device, until when.

    deadline: in seconds of `time.monotonic`. left_out: what there was no time for.
    """

    packed: Path
    device: str
    tiny: bool
    deadline: float
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def data(self) -> tuple[dict[str, dict[str, Examples]], dict[str, Any]]:
        """split -> modality -> examples, and the content of pack.json."""
        partitions, about = read_data(self.packed)
        for of_split in partitions.values() if self.tiny else ():
            for name, some in of_split.items():
                few = [np.flatnonzero(some.labels == n)[:2] for n in np.unique(some.labels)]
                of_split[name] = some.take(np.concatenate(few))
        return partitions, about

    @property
    def on_cuda(self) -> bool:
        return self.device.startswith("cuda")

    def config(self, objective: str, precision: str = "float32") -> Config:
        packed = config_of_json(json.dumps(self.data[1]["configs"][objective]).encode())
        own = {"device": self.device, "precision": precision}
        return packed.but(**own, **(TINY if self.tiny else {}))

    def loader(self, config: Config) -> PairedLoader:
        train, size = self.data[0]["train"], config.batch_size
        return PairedLoader(train, size, seed=config.seed, device=self.device)

    def seconds_left(self) -> float:
        return self.deadline - time.monotonic()

    def has_time(self, part: str, what: str) -> bool:
        """Whether there is time for it; if not, it is noted in `left_out`."""
        if self.seconds_left() < LEAST_SECONDS[part]:
            self.left_out.append(f"{what}: {self.seconds_left():.0f} s were left")
            return False
        return True


def tests(check: Check) -> dict[str, Any]:
    return run_tests(files_with_cuda_tests(), check.seconds_left())


def files_with_cuda_tests() -> list[Path]:
    """Other test files may import packages that the machine lacks."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [f for f in files if "\n@pytest.mark.cuda\n" in f.read_text("utf-8")]


def run_tests(files: list[Path], seconds: float) -> dict[str, Any]:
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
        timeout=max(seconds, 1.0),
    )
    if done.returncode > 1:  # pytest itself failed
        raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}")
    last = done.stdout.splitlines()[-1]
    counted = {kind: int(n) for n, kind in re.findall(r"(\d+) (passed|failed|skipped|error)", last)}
    counts = {kind: counted.get(kind, 0) for kind in ("passed", "failed", "skipped")}
    counts["failed"] += counted.get("error", 0)
    return counts | {"output": done.stdout[-4000:]}


def steps(check: Check) -> dict[str, Any]:
    """A step of the paper's preset with either objective, in either precision."""
    found: dict[str, Any] = {
        "tf32_of_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_of_cudnn": torch.backends.cudnn.allow_tf32,
    }
    square = torch.ones(8, 8, device=check.device)
    square @ square  # cuBLAS allocates memory once, which is counted for no row
    for objective in OBJECTIVES:
        for precision in PRECISIONS:
            name = f"{objective}, {precision}"
            if check.has_time("steps", f"steps: {name}"):
                found[name] = compare_steps(check, check.config(objective, precision))
    return found


def compare_steps(check: Check, config: Config) -> dict[str, dict[str, Any]]:
    """Row of `speed.py` -> seconds a step, peak memory in MiB, and the last loss."""
    each, repeats = (1, 1) if check.tiny else (6, 7)
    batches = list(islice(check.loader(config).epoch(0), each))
    found: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], float]] = {}
    with pyro.validation_enabled(False):
        for name, step in step_functions(config).items():
            before = _reset_peak_memory() if check.on_cuda else 0
            runs[name] = partial(take_steps, step, batches)
            loss = runs[name]()
            peak = (torch.cuda.max_memory_allocated() - before) / 2**20 if check.on_cuda else None
            found[name] = {"loss": loss if math.isfinite(loss) else str(loss), "peak_mib": peak}
        for name, times in interleaved(runs, repeats).items():
            found[name] |= {key: value / each for key, value in asdict(times).items()}
    return found


def _reset_peak_memory() -> int:
    """Bytes of the GPU that are in use."""
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def resume(check: Check) -> dict[str, Any]:
    """Kill a training and resume it: compare its weights with those of one that was left alone.

    `again` compares two that were left alone, since CUDA sums in varying orders.
    """
    kill_at = RESUME_EPOCHS * len(check.loader(check.config("paper"))) // 2
    script = str(Path(__file__).with_name("gpu_check.py"))
    command = [sys.executable, script, "--packed", str(check.packed), "--device", check.device]
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name) / kind for kind in ("whole", "again", "resumed")}
        for folder in folders.values():
            folder.mkdir()
        child = [*command, *["--tiny"] * check.tiny, "--child", str(folders["resumed"])]
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number, _ in enumerate(process.stdout, 1):  # a line a batch
                if number == kill_at:
                    process.kill()
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the child ended with {process.returncode} before it was killed")
        step = read_progress(folders["resumed"] / CHECKPOINT).step
        weights = {
            kind: train(check, folder, resumed=kind == "resumed")
            for kind, folder in folders.items()
        }
    found: dict[str, Any] = {"killed_at_batch": kill_at, "resumed_from_step": step}
    for kind in ("resumed", "again"):
        pairs = list(zip(weights["whole"], weights[kind], strict=True))
        found[kind] = {
            "bit_equal": all(torch.equal(a, b) for a, b in pairs),
            "largest_difference": max((a - b).abs().max().item() for a, b in pairs),
        }
    return found


def train(
    check: Check, folder: Path, *, resumed: bool = False, is_child: bool = False
) -> list[Tensor]:
    """Train `RESUME_EPOCHS`; returns the parameters.

    is_child: print a line for each batch, and save a checkpoint after each.
    """
    config = check.config("paper")
    svi, loader = build(config), check.loader(config)
    if is_child:
        loader.epoch = partial(_printing, loader.epoch)  # type: ignore[method-assign]
    fit(
        svi,
        loader,
        num_epochs=RESUME_EPOCHS,
        folder=folder,
        resume=resumed,
        checkpoint_seconds=-1.0 if is_child else math.inf,
        show_progress=False,
    )
    return [parameter.detach().cpu() for parameter in svi.parameters()]


def _printing(epoch: Callable[..., Iterator[Batch]], *args: Any, **options: Any) -> Iterator[Batch]:
    for batch in epoch(*args, **options):
        print("batch", flush=True)
        yield batch


def paper(check: Check) -> dict[str, Any]:
    return whole_run(check, "paper", 0.5)


def ours(check: Check) -> dict[str, Any]:
    return whole_run(check, "ours", 1.0)


def whole_run(check: Check, objective: str, share: float) -> dict[str, Any]:
    """Train within that share of the time that is left, and score the latents."""
    config = check.config(objective)
    svi, loader, each = build(config), check.loader(config), 0.0
    with pyro.validation_enabled(False):
        for epoch in range(2):  # the first one warms up
            begun = time.monotonic()
            for batch in loader.epoch(epoch):
                svi.update(batch)["objective"].item()
            each = time.monotonic() - begun
    left = check.seconds_left() - EVALUATION_SECONDS * (not check.tiny)
    assert config.epochs is not None  # the preset has them
    epochs = min(config.epochs, int(share * left / (1.1 * each)))
    if epochs < 1:
        check.left_out.append(f"{objective}: an epoch takes {each:.1f} s, {left:.0f} s were left")
        return {}
    svi = build(config)
    with tempfile.TemporaryDirectory() as folder:
        options: Any = {"checkpoint_seconds": math.inf, "show_progress": False}
        progress = fit(svi, loader, num_epochs=epochs, folder=Path(folder), **options)
    partitions, about = check.data
    guide: Any = svi.guide  # its attributes are unknown to the type nn.Module
    scores = evaluate_latents(
        guide.unimodal, partitions["test"], len(about["classes"]), check.device
    )
    return {
        "epochs": progress.epoch,
        "of_epochs": config.epochs,
        "interrupted": progress.interrupted,
        "steps": progress.step,
        "seconds_training": progress.seconds,
        **{score: scores[score] for score in ("purity", "hungarian", "active_units")},
    }
