"""Train and evaluate in a process that is killed at a chosen moment, and read what it left.

The process tells through a shared page what it is doing. It writes files slowly, in small pieces,
so that a kill can hit the middle of one.
"""

import json
import mmap
import multiprocessing
import os
import signal
import sys
import time
from functools import wraps
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import pvae_pyro.data.cache
import pvae_pyro.io.files
import pvae_pyro.training.loop
from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support import training_run
from pvae_pyro.io.files import whole_lines
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import CHECKPOINT, previous, read_config, read_progress
from pvae_pyro.training.records import METRICS

# What a process can be doing, and the functions that do it.
PHASES: dict[str, list[tuple[Any, str]]] = {
    "training step": [(SVI, "update")],
    "checkpoint": [(pvae_pyro.training.loop, "save_checkpoint")],
    "evaluation": [
        (training_run, "evaluate_latents"),
        (training_run, "evaluate_terms"),
        (evaluate, "evaluate"),
    ],
    "cache write": [(pvae_pyro.data.cache, "write_whole")],
}
# About how long each of them takes here, in seconds.
LENGTHS = {"training step": 0.03, "checkpoint": 0.2, "evaluation": 0.5, "cache write": 0.08}
OPTIONS = ["--batch-size", "4", "--checkpoint-seconds", "0.03", "--epochs", "3"]
PIECES, PAUSE = 8, 0.01
_CLOCK = {"results": ("seconds_training", "seconds_evaluating"), "evaluation": ("checkpoint",)}


class Page:
    """How often each phase was begun so far, in bytes that two processes share."""

    def __init__(self, path: Path):
        with open(path, "a+b") as file:
            if not file.tell():
                file.write(bytes(len(PHASES)))
                file.flush()
            self._memory = mmap.mmap(file.fileno(), len(PHASES))

    def count(self, phase: str) -> int:
        return self._memory[list(PHASES).index(phase)]

    def begin(self, phase: str) -> None:
        cell = list(PHASES).index(phase)
        self._memory[cell] = min(255, self._memory[cell] + 1)


class _Slow:
    """A file that takes its time."""

    def __init__(self, file: Any):
        self.file = file

    def __enter__(self) -> "_Slow":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> int:
        each = max(1, -(-len(content) // PIECES))
        for start in range(0, len(content), each):
            self.file.write(content[start : start + each])
            self.file.flush()
            time.sleep(PAUSE)
        return len(content)


def _told(page: Page, phase: str, function: Any) -> Any:
    @wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        page.begin(phase)
        return function(*args, **kwargs)

    return told


def run(folder: Path, options: list[str]) -> None:
    """The target of a process: start the run in `folder`, or resume it, and evaluate it."""
    torch.set_num_threads(1)
    os.environ.update(PVAE_CACHE=str(folder / "cache"), PVAE_OFFLINE="1")
    log = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    page, out = Page(folder / "page"), folder / "run"
    for phase, functions in PHASES.items():
        for owner, name in functions:
            setattr(owner, name, _told(page, phase, getattr(owner, name)))
    pvae_pyro.io.files.open = lambda *args, **how: _Slow(open(*args, **how))  # type: ignore[attr-defined]  # noqa: SIM115
    begun = (out / "config.json").exists()
    code = run_svi.main(
        ["--resume", str(out), "--no-report"] if begun else [*options, "--out", str(out)]
    )
    if code == 0:
        code = evaluate.main([str(out), "--only", "purity", "retrieval"])
    sys.exit(code)


def start(folder: Path, options: list[str]) -> Any:
    """A process of `run`, forked from one that has imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.support.kill"])
    process = context.Process(target=run, args=(folder, options))
    process.start()
    return process


def finish(folder: Path, options: list[str]) -> None:
    process = start(folder, options)
    process.join(600)
    assert process.exitcode == 0, (folder / "output").read_text()


def kill(folder: Path, options: list[str], phase: str, count: int, seconds: float) -> bool:
    """Kill a run `seconds` after it began `phase` for the `count`th time.

    Returns False if it had ended before that.
    """
    page, process = Page(folder / "page"), start(folder, options)
    while page.count(phase) < count and process.exitcode is None:
        time.sleep(0.0005)
    time.sleep(seconds)
    process.kill()
    process.join(600)
    assert process.exitcode in (0, -signal.SIGKILL), (folder / "output").read_text()
    return process.exitcode != 0


def check_left(folder: Path) -> None:
    """Fail if any file under its own name is not whole."""
    for path in [*(folder / "run").glob("*"), *(folder / "cache").rglob("*")]:
        if path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.suffix == ".jsonl":
            assert all(isinstance(json.loads(line), dict) for line in whole_lines(path))
        elif path.suffix == ".safetensors" and path.parent == folder / "run":
            read_progress(path)
        elif path.suffix == ".safetensors":
            load_file(path)


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on kills, which is all but times."""
    out = folder / "run"
    # As bytes: NaN and the sign of zero count.
    tensors = load_file(out / CHECKPOINT)
    found: dict[str, Any] = {name: value.numpy().tobytes() for name, value in tensors.items()}
    found["progress"] = read_progress(out / CHECKPOINT).model_dump(exclude={"seconds"})
    found["config of the checkpoint"] = read_config(out / CHECKPOINT)
    for name in ("results", "evaluation", "config"):
        found[name] = json.loads((out / f"{name}.json").read_text())
        for key in (*_CLOCK.get(name, ()), "git_commit"):
            found[name].pop(key, None)
    found["metrics"] = [json.loads(line) for line in whole_lines(out / METRICS)]
    for record in found["metrics"]:
        del record["seconds"]
    names = {path.name for path in out.iterdir() if not path.name.startswith("events.")}
    found["files"] = names - {previous(out / CHECKPOINT).name}  # there if there were two
    assert not list(folder.rglob("*.tmp"))
    return found
