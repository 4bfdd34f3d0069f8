"""The parts of `gpu_check.py`: each takes a `Check` and returns figures, to be kept as JSON."""

import gc
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyro
import torch
from torch import Tensor

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.run import evaluate_latents
from pvae_pyro.experiments.bench.gpu_pack import read_data
from pvae_pyro.experiments.bench.plain import PackedLSTM, PaddedLSTM, PlainPVAE
from pvae_pyro.experiments.bench.work import interleaved
from pvae_pyro.experiments.support.build import PRECISIONS, build
from pvae_pyro.experiments.support.config import OBJECTIVES, Config, config_of_json
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import CHECKPOINT, read_progress
from pvae_pyro.training.loop import fit

ROOT = Path(__file__).resolve().parents[2]
NEEDED = {"tests": 45, "steps": 30, "resume": 60, "paper": 40, "ours": 40}  # seconds, at least
EVALUATION = 20  # seconds kept for it
SITTING = 3  # epochs of a training that is killed and resumed
TINY = {"num_cells": 8, "batch_size": 7, "epochs": 1}
BY_HAND = {"padded nn.LSTM": PaddedLSTM, "packed nn.LSTM": PackedLSTM, "our networks": None}


@dataclass
class Check:
    """Where and on what. deadline: in `time.monotonic`'s seconds. left_out: for lack of time."""

    packed: Path
    device: str
    tiny: bool
    deadline: float
    left_out: list[str] = field(default_factory=list)

    @cached_property
    def data(self) -> tuple[dict[str, dict[str, Examples]], dict[str, Any]]:
        """split -> modality -> examples, and what is told of them."""
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

    def left(self) -> float:
        return self.deadline - time.monotonic()

    def enough(self, part: str, what: str) -> bool:
        """Whether there is time for it; else it is left out."""
        if self.left() < NEEDED[part]:
            self.left_out.append(f"{what}: {self.left():.0f} s were left")
            return False
        return True

    def wait(self) -> None:
        if self.on_cuda:
            torch.cuda.synchronize()


def tests(check: Check) -> dict[str, Any]:
    return run_tests(files_of_tests(), check.left())


def files_of_tests() -> list[Path]:
    """Those with a test marked `cuda`: others may need packages that are not there."""
    files = sorted((ROOT / "tests").rglob("test_*.py"))
    return [f for f in files if "\n@pytest.mark.cuda\n" in f.read_text("utf-8")]


def run_tests(files: list[Path], seconds: float) -> dict[str, Any]:
    """Tests marked `cuda`, by pytest: how many passed, failed, were skipped; what failed."""
    options = ["-o", "addopts=", "-m", "cuda", "-W", "default", "-p", "no:cacheprovider", "-q"]
    options += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    options += ["--continue-on-collection-errors"]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, f"--junitxml={report}", *map(str, files)],
            cwd=ROOT,
            # The machine's own plugins are not what is tested.
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=max(seconds, 1.0),
        )
        if done.returncode > 1:  # not of a test that failed
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-4000:]}")
        cases = [
            (f"{case.get('classname')}::{case.get('name')}", {child.tag for child in case})
            for case in ElementTree.parse(report).iter("testcase")
        ]
    failures = [name for name, tags in cases if tags & {"failure", "error"}]
    skipped = sum("skipped" in tags for _, tags in cases)
    passed = len(cases) - len(failures) - skipped
    found = {"passed": passed, "failed": len(failures), "skipped": skipped, "failures": failures}
    return found | ({"output": done.stdout[-4000:]} if failures else {})


def steps(check: Check) -> dict[str, Any]:
    """Of the paper's preset, of both objectives, in both precisions."""
    found: dict[str, Any] = {
        "tf32_of_matmul": torch.backends.cuda.matmul.allow_tf32,
        "tf32_of_cudnn": torch.backends.cudnn.allow_tf32,
    }
    square = torch.ones(8, 8, device=check.device)
    square @ square  # cuBLAS's own memory is nobody's
    for objective in OBJECTIVES:
        for precision in PRECISIONS:
            name = f"{objective}, {precision}"
            if check.enough("steps", f"steps: {name}"):
                found[name] = side_by_side(check, objective, precision)
    return found


def side_by_side(check: Check, objective: str, precision: str) -> dict[str, dict[str, Any]]:
    """ms a step of Pyro and of plain torch, in turns; the most memory of each; its last loss."""
    config = check.config(objective, precision)
    each, rounds, warm_up = (1, 1, 0) if check.tiny else (6, 7, 1)
    batches = list(islice(check.loader(config).epoch(0), each))
    found: dict[str, dict[str, Any]] = {}
    runs: dict[str, Callable[[], object]] = {}
    with pyro.validation_enabled(False):
        for name in ("pvae_pyro", *BY_HAND):
            before = memory_in_use() if check.on_cuda else 0
            svi, found[name] = build(config), {}
            step = partial(_update, svi)
            if name in BY_HAND:
                plain = PlainPVAE(svi, config, BY_HAND[name])
                step = partial(_by_hand, svi, plain, PRECISIONS[precision])
            runs[name] = partial(_some_steps, check, step, batches, found[name])
            runs[name]()
            most = (torch.cuda.max_memory_allocated() - before) / 2**20 if check.on_cuda else None
            found[name]["peak_mib"] = most
        for name, of in interleaved(runs, rounds, warm_up).items():
            times = {"ms": of.middle, "least": of.least, "most": of.most}
            found[name] |= {key: 1000 * value / each for key, value in times.items()}
    return found


def memory_in_use() -> int:
    """Bytes of the GPU, from which its peak is counted anew."""
    gc.collect()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _some_steps(
    check: Check, step: Callable[[Batch], Tensor], batches: list[Batch], found: dict[str, Any]
) -> None:
    for batch in batches:  # anew, as in training: what is made of its lengths is made once
        loss = step({name: replace(observation) for name, observation in batch.items()})
    check.wait()
    found["loss"] = value if math.isfinite(value := loss.item()) else str(value)


def _update(svi: SVI, batch: Batch) -> Tensor:
    return -svi.update(batch)["objective"]


def _by_hand(svi: SVI, plain: PlainPVAE, autocast: torch.dtype | None, batch: Batch) -> Tensor:
    svi.optim.zero_grad()
    device = next(svi.parameters()).device.type
    with torch.autocast(device, autocast, enabled=autocast is not None):
        loss = plain(batch)
    loss.backward()
    svi.optim.step()
    return loss.detach()


def resume(check: Check) -> dict[str, Any]:
    """A training that is killed and resumed; where bits differ, with deterministic algorithms."""
    found = {"as it is": killed_and_resumed(check, False)}
    alike = all(found["as it is"][kind]["bit_equal"] for kind in ("resumed", "again"))
    if not alike and check.enough("resume", "resume: with deterministic algorithms"):
        found["deterministic algorithms"] = killed_and_resumed(check, True)
    return found


def killed_and_resumed(check: Check, deterministic: bool) -> dict[str, Any]:
    """A few epochs, against the same again and the same killed amid it and resumed."""
    kill_at = SITTING * len(check.loader(check.config("paper"))) // 2
    script = str(Path(__file__).with_name("gpu_check.py"))
    command = [sys.executable, script, "--packed", str(check.packed), "--device", check.device]
    command += ["--tiny"] * check.tiny + ["--deterministic"] * deterministic
    with tempfile.TemporaryDirectory() as name:
        folders = {kind: Path(name) / kind for kind in ("whole", "again", "resumed")}
        for folder in folders.values():
            folder.mkdir()
        child = [*command, "--child", str(folders["resumed"])]
        with subprocess.Popen(child, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for number, _ in enumerate(process.stdout, 1):  # a line a batch
                if number == kill_at:
                    process.kill()
        if process.returncode != -signal.SIGKILL:
            raise RuntimeError(f"the child ended with {process.returncode}, and was to be killed")
        step = read_progress(folders["resumed"] / CHECKPOINT).step
        ends = {
            kind: train(check, folder, deterministic, resumed=kind == "resumed")
            for kind, folder in folders.items()
        }
    found: dict[str, Any] = {"killed_at_batch": kill_at, "went_on_from_step": step}
    for kind in ("resumed", "again"):
        pairs = list(zip(ends["whole"], ends[kind], strict=True))
        found[kind] = {
            "bit_equal": all(torch.equal(a, b) for a, b in pairs),
            "largest_difference": max((a - b).abs().max().item() for a, b in pairs),
        }
    return found


def train(
    check: Check, folder: Path, deterministic: bool, *, resumed: bool = False, told: bool = False
) -> list[Tensor]:
    """`SITTING` epochs; returns the parameters. told: of each batch a line, and a checkpoint."""
    config = check.config("paper")
    svi, loader = build(config), check.loader(config)
    if told:
        loader.epoch = partial(_telling, loader.epoch)  # type: ignore[method-assign]
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    try:
        fit(
            svi,
            loader,
            num_epochs=SITTING,
            folder=folder,
            resume=resumed,
            checkpoint_seconds=-1.0 if told else math.inf,
            show_progress=False,
        )
    finally:
        torch.use_deterministic_algorithms(False)
    return [parameter.detach().cpu() for parameter in svi.parameters()]


def _telling(epoch: Callable[..., Iterator[Batch]], *which: Any, **options: Any) -> Iterator[Batch]:
    for batch in epoch(*which, **options):
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
                svi.update(batch)
            check.wait()
            each = time.monotonic() - begun
    left = check.left() - EVALUATION * (not check.tiny)
    assert config.epochs is not None  # the preset's
    epochs = min(config.epochs, int(share * left / (1.1 * each)))
    if epochs < 1:
        check.left_out.append(f"{objective}: an epoch takes {each:.1f} s, {left:.0f} s were left")
        return {}
    svi = build(config)
    with tempfile.TemporaryDirectory() as folder:
        progress = fit(
            svi,
            loader,
            num_epochs=epochs,
            folder=Path(folder),
            checkpoint_seconds=math.inf,
            show_progress=False,
        )
    begun, (partitions, about) = time.monotonic(), check.data
    guide: Any = svi.guide  # its parts are no part of the type nn.Module
    scores = evaluate_latents(
        guide.unimodal, partitions["test"], len(about["classes"]), check.device
    )
    return {
        "epochs": progress.epoch,
        "of_epochs": config.epochs,
        "interrupted": progress.interrupted,
        "steps": progress.step,
        "seconds_training": progress.seconds,
        "seconds_evaluating": time.monotonic() - begun,
        **{score: scores[score] for score in ("purity", "hungarian", "active_units")},
    }
