"""Kill -9 a run at random moments, resume it, and compare it with one that was left alone.

A run is all of `run_svi.py` and `evaluate.py` on a small corpus, in a process of its own that tells
through a shared page what it is at: training step, checkpoint, evaluation, cache write. Each kill
waits for one of these, taken in turn, and for a random time within it. Files are written
slowly, in small pieces, as on a slow disk: a kill can then hit the middle of one.
"""

import contextlib
import json
import mmap
import multiprocessing
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import torch

import pvae_pyro.io.files
import pvae_pyro.training.best
import pvae_pyro.training.loop
from pvae_pyro.data import cache
from pvae_pyro.experiments import evaluate, run_svi
from pvae_pyro.io.files import whole_lines
from pvae_pyro.svi import SVI
from pvae_pyro.training import checkpoint
from tests.support.tiny_run import small_corpus

PHASES = ("training step", "checkpoint", "evaluation", "cache write")
OPTIONS = ["--batch-size", "4", "--checkpoint-seconds", "0.03", "--best-of", "2"]
PIECES, PAUSE = 8, 0.01
# Of the page: what the process is at (0: something else), and how often it was at each so far.
_CELLS = 1 + len(PHASES)


class Page:
    """Bytes that the parent and the killed process share."""

    def __init__(self, path: Path):
        with open(path, "a+b") as file:
            if not file.tell():
                file.write(bytes(_CELLS))
                file.flush()
            self._memory = mmap.mmap(file.fileno(), _CELLS)

    def __getitem__(self, cell: int) -> int:
        return self._memory[cell]

    @contextlib.contextmanager
    def at(self, phase: int):
        before, self._memory[0] = self._memory[0], phase
        self._memory[phase] = min(255, self._memory[phase] + 1)
        try:
            yield
        finally:
            self._memory[0] = before


class _Slow:
    """A file that takes its time."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, content: bytes) -> int:
        each = max(1, -(-len(content) // PIECES))
        for start in range(0, len(content), each):
            self.file.write(content[start : start + each])
            self.file.flush()
            time.sleep(PAUSE)
        return len(content)


def run(folder: Path, options: list[str]) -> None:
    """In a process of its own: start, or go on, and finish."""
    torch.set_num_threads(1)
    os.environ.update(PVAE_CACHE=str(folder / "cache"), PVAE_OFFLINE="1")
    log = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    page = Page(folder / "page")

    def tell(owner: Any, name: str, phase: str) -> None:
        function, number = getattr(owner, name), 1 + PHASES.index(phase)

        @wraps(function)
        def told(*args, **kwargs):
            with page.at(number):
                return function(*args, **kwargs)

        setattr(owner, name, told)

    tell(SVI, "update", "training step")
    tell(pvae_pyro.training.loop, "save_checkpoint", "checkpoint")
    tell(pvae_pyro.training.best, "save_checkpoint", "checkpoint")
    tell(run_svi, "evaluate_latents", "evaluation")
    tell(run_svi, "evaluate_terms", "evaluation")
    tell(evaluate, "evaluate", "evaluation")
    tell(cache, "_save", "cache write")
    pvae_pyro.io.files.open = lambda *args, **options: _Slow(open(*args, **options))  # noqa: SIM115
    out = folder / "run"
    begun = (out / "config.json").exists()
    how = ["--resume", str(out), "--no-report"] if begun else [*options, "--out", str(out)]
    code = run_svi.main(how)
    if code == 0:
        code = evaluate.main([str(out), "--only", "purity", "retrieval"])
    sys.exit(code)


def context():
    """Processes forked from one that has imported everything: to start another takes seconds."""
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["tests.support.kill"])
    return made


def finish(folder: Path, options: list[str]) -> None:
    """Run to the end."""
    process = context().Process(target=run, args=(folder, options))
    process.start()
    process.join(300)
    assert process.exitcode == 0, (folder / "output").read_text()


def kill(folder: Path, options: list[str], phase: str, count: int, seconds: float) -> str | None:
    """Kill a run `seconds` after it began with `phase` for the `count`th time.

    Returns what it was then at; None where it had come to its end before.
    """
    page, number = Page(folder / "page"), 1 + PHASES.index(phase)
    process = context().Process(target=run, args=(folder, options))
    process.start()
    while page[number] < count and process.exitcode is None:
        time.sleep(0.0005)
    time.sleep(seconds)
    process.kill()
    process.join(60)
    if process.exitcode != -signal.SIGKILL:
        assert process.exitcode == 0, (folder / "output").read_text()
        return None
    return (("between", *PHASES))[page[0]]


def left_behind(folder: Path) -> int:
    """Files that a killed run was about to write. All others must be whole, or this fails."""
    out, unfinished = folder / "run", 0
    for path in [*out.glob("*"), *out.glob(".*"), *(folder / "cache").rglob("*")]:
        if path.name.endswith(".tmp"):
            unfinished += 1
        elif path.suffix == ".json":
            assert json.loads(path.read_text())
        elif path.parent == out and path.suffix == ".safetensors":
            checkpoint.read_progress(path)
        elif path.suffix == ".safetensors":
            cache.load(path)
        elif path.suffix == ".jsonl":
            assert all(isinstance(json.loads(line), dict) for line in whole_lines(path))
    return unfinished


def outcome(folder: Path) -> dict[str, Any]:
    """All that must not depend on kills: what is left out is times of day and spans of time."""
    out = folder / "run"
    found: dict[str, Any] = {}
    for name in ("checkpoint", "best"):
        tensors, header = checkpoint._read(out / f"{name}.safetensors")
        del header["progress"]["seconds"]
        found[name] = header
        # As bytes: NaN and the sign of zero count.
        found |= {f"{name} {key}": value.numpy().tobytes() for key, value in tensors.items()}
    for name in ("results", "evaluation", "config"):
        found[name] = json.loads((out / f"{name}.json").read_text())
    del found["results"]["seconds_training"], found["results"]["seconds_evaluating"]
    del found["evaluation"]["checkpoint"]  # of the file, which holds seconds
    for name in ("results", "evaluation"):
        del found[name]["git_commit"]  # of the tests' own code too
    found["metrics"] = [json.loads(line) for line in whole_lines(out / "metrics.jsonl")]
    for record in found["metrics"]:
        del record["seconds"]
    names = {path.name.split(".out.")[0] for path in out.iterdir()}
    found["files"] = names - {"checkpoint-previous.safetensors"}  # there if there were two
    return found


def try_kills(
    folder: Path, phases: Sequence[str], seed: int, num_epochs: int = 6
) -> dict[str, Any]:
    """Runs that are killed once each, in those phases, and resumed; what came of it."""
    rng = random.Random(seed)
    data = folder / "data"
    data.mkdir()
    options = [*small_corpus(data), *OPTIONS, "--epochs", str(num_epochs)]
    whole = folder / "whole"
    whole.mkdir()
    finish(whole, options)
    expected = outcome(whole)
    assert expected["metrics"][-1]["step"] == 3 * num_epochs
    # How often each phase comes, and about how long it is.
    counts = {phase: Page(whole / "page")[1 + n] for n, phase in enumerate(PHASES)}
    lengths = {"training step": 0.03, "checkpoint": 0.2, "evaluation": 0.5, "cache write": 0.08}
    hits: Counter[str] = Counter()
    equal = unfinished = 0
    for n, phase in enumerate(phases):
        case, at, tries = folder, None, 0
        while at is None:  # else it was too late
            case = folder / f"killed{n}-{tries}"
            case.mkdir()
            when = rng.randint(1, max(1, min(counts[phase], 8)))
            at = kill(case, options, phase, when, rng.uniform(0, lengths[phase]))
            tries += 1
        left = left_behind(case)
        finish(case, options)
        assert not left_behind(case)
        found = outcome(case)
        same = found == expected
        different = [key for key in expected if found.get(key) != expected[key]]
        hits[at] += 1
        equal += same
        unfinished += left > 0
        print(f"kill {n + 1}: at {at}, {left} unfinished files, equal: {same} {different[:5]}")
    return {
        "kills": len(phases),
        "equal": equal,
        "hit": dict(hits),
        "with_unfinished_files": unfinished,
        "seed": seed,
        "compared": "weights, optimiser, random states, position, metrics, results, evaluation, "
        "best of the last epochs: bit for bit",
    }
