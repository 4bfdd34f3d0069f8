"""Train and evaluate in a process that is killed at a chosen moment, and read what it left.

The process counts in shared memory which phases it began. It pauses before a finished file gets its
name, so that a kill can hit that moment.
"""

import json
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
import pvae_pyro.training.loop
from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.experiments.support import scored_training
from pvae_pyro.io.files import whole_lines
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import CHECKPOINT, read_progress, read_trained_config
from pvae_pyro.training.records import METRICS

# phase -> the functions that do it
PHASES: dict[str, list[tuple[Any, str]]] = {
    "training step": [(SVI, "update")],
    "checkpoint": [(pvae_pyro.training.loop, "save_checkpoint")],
    "evaluation": [(scored_training, "evaluate_latents"), (evaluate, "evaluate")],
    "cache write": [(pvae_pyro.data.cache, "write_whole")],
}
# phase -> about how long it takes, in seconds
LENGTHS = {"training step": 0.03, "checkpoint": 0.2, "evaluation": 0.5, "cache write": 0.08}
OPTIONS = ["--batch-size", "4", "--checkpoint-seconds", "0.03", "--epochs", "3"]
PAUSE = 0.08

_context = multiprocessing.get_context("forkserver")  # of a process that has imported this
_context.set_forkserver_preload(["tests.support.killed_run"])


def _counted(counts: Any, number: int, function: Any) -> Any:
    @wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        counts[number] += 1
        return function(*args, **kwargs)

    return counted


def _train_and_evaluate(folder: Path, options: list[str], counts: Any) -> None:
    """The target of a process: start the run in `folder`, or resume it, and evaluate it."""
    torch.set_num_threads(1)
    os.environ.update(PVAE_CACHE=str(folder / "cache"), PVAE_OFFLINE="1")
    log = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    for number, functions in enumerate(PHASES.values()):
        for owner, name in functions:
            setattr(owner, name, _counted(counts, number, getattr(owner, name)))
    os.fsync = lambda descriptor: time.sleep(PAUSE)
    out = folder / "run"
    resume = ["--resume", str(out), "--no-report"]
    begun = (out / "config.json").exists()
    code = run_svi.main(resume if begun else [*options, "--out", str(out)])
    sys.exit(code or evaluate.main([str(out), "--only", "purity", "retrieval"]))


def start(folder: Path, options: list[str]) -> tuple[Any, Any]:
    """A process that trains and evaluates, and how often it began each of `PHASES`."""
    counts = _context.Array("i", len(PHASES), lock=False)
    process = _context.Process(target=_train_and_evaluate, args=(folder, options, counts))
    process.start()
    return process, counts


def finish(folder: Path, options: list[str]) -> list[int]:
    """Train and evaluate to the end; returns how often each of `PHASES` was begun."""
    process, counts = start(folder, options)
    process.join(600)
    assert process.exitcode == 0, (folder / "output").read_text()
    return list(counts)


def kill(folder: Path, options: list[str], phase: str, count: int, seconds: float) -> bool:
    """Kill a run `seconds` after it began `phase` for the `count`th time.

    Returns False if it had ended before that.
    """
    process, counts = start(folder, options)
    while counts[list(PHASES).index(phase)] < count and process.exitcode is None:
        time.sleep(0.0005)
    time.sleep(seconds)
    process.kill()
    process.join(600)
    assert process.exitcode in (0, -signal.SIGKILL), (folder / "output").read_text()
    return process.exitcode != 0


def check_files_are_whole(folder: Path) -> None:
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
    """All that must not depend on kills: everything but times and the commit."""
    out = folder / "run"
    # As bytes: NaN and the sign of zero count.
    tensors = load_file(out / CHECKPOINT)
    found: dict[str, Any] = {name: value.numpy().tobytes() for name, value in tensors.items()}
    found["progress"] = read_progress(out / CHECKPOINT).model_dump(exclude={"seconds"})
    found["config of the checkpoint"] = read_trained_config(out / CHECKPOINT)
    for name in ("results", "evaluation", "config"):
        found[name] = json.loads((out / f"{name}.json").read_text())
    for key in ("seconds_training", "seconds_evaluating", "git_commit"):
        found["results"].pop(key)
    for key in ("checkpoint", "git_commit"):
        found["evaluation"].pop(key)
    found["metrics"] = [json.loads(line) for line in whole_lines(out / METRICS)]
    for record in found["metrics"]:
        del record["seconds"]
    names = (path.name for path in out.iterdir())
    found["files"] = {name for name in names if not name.startswith("events.")}
    assert not list(folder.rglob("*.tmp"))
    return found
