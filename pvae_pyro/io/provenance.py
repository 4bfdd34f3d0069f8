"""Files of a run that people and programs read: what was run, on what, with which result."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pvae_pyro.io.files import write_whole
from pvae_pyro.nn.lstm.ragged_lstm import cpu_language

_OF_A_HOOK = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
PACKAGES = (
    *("pvae-pyro", "pyro-ppl", "torch", "torchaudio", "torchvision"),
    *("scikit-learn", "numpy", "arviz"),
)


def environment() -> dict[str, Any]:
    """Versions, what the LSTM runs in on CPU, threads of an operation, and the git commit.

    The commit is None outside a checkout of this package; ``-dirty`` is added if files differ from
    it.
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
    """Of the repository whose top folder holds this package, tracked: a package that is installed
    may lie in a repository of its user's."""
    file = Path(__file__).resolve()
    top = file.parents[2]
    # This code runs already, so that another owner of the folder (as in a container) is trusted.
    command = ("git", "-C", str(top), "-c", f"safe.directory={top}", "--no-optional-locks")
    # Of another repository, where git itself has started us, as a hook.
    variables = {k: v for k, v in os.environ.items() if k not in _OF_A_HOOK}

    def git(*arguments: str) -> str:
        return subprocess.run(
            (*command, *arguments), capture_output=True, text=True, check=True, env=variables
        ).stdout.strip()

    try:
        if 'name = "pvae-pyro"' not in (top / "pyproject.toml").read_text("utf-8"):
            return None
        git("ls-files", "--error-unmatch", str(file.relative_to(top)))
        if git("rev-parse", "--show-prefix"):
            return None
        dirty = "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        return git("rev-parse", "HEAD") + dirty
    except (OSError, subprocess.CalledProcessError):
        return None
