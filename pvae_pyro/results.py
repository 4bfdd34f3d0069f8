"""Files of a run that people and programs read: what was run, on what, with which result."""

import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pvae_pyro.files import write_whole
from pvae_pyro.nn.recurrent import cpu_language

PACKAGES = (
    *("pvae-pyro", "pyro-ppl", "torch", "torchaudio", "torchvision"),
    *("scikit-learn", "numpy", "arviz"),
)


def environment() -> dict[str, Any]:
    """Versions, what the LSTM runs in on CPU, threads of an operation, and the git commit.

    The commit is None outside a checkout; ``dirty`` is added if files differ from it.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "versions": versions,
        "platform": platform.platform(),
        "lstm_cell": cpu_language(),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write all of it or, on any failure, nothing; see `write_whole`."""
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _git_commit() -> str | None:
    def git(*arguments: str) -> str:
        command = ("git", "-C", str(Path(__file__).parent), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return None
