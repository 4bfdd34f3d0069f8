"""The versions, platform and commit that made a result, and JSON files."""

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

_SET_FOR_HOOKS = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")
PACKAGES = (
    *("pvae-pyro", "pyro-ppl", "torch", "torchaudio"),
    *("scikit-learn", "numpy", "arviz"),
)


def environment() -> dict[str, Any]:
    """Versions, the LSTM's language on CPU, the number of threads, and the git commit.

    The commit is None outside a checkout of this package; ``-dirty`` is added if files differ.
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
    """Write a JSON file completely or not at all; see `write_whole`."""
    write_whole(path, (json.dumps(content, indent=2, allow_nan=False) + "\n").encode())


def _git_commit() -> str | None:
    """The commit of the repository whose top folder holds this package.

    An installed package may lie in a repository of its user's, whose commit would be wrong.
    """
    top = Path(__file__).resolve().parents[2]
    # Trust the folder whoever owns it: its code is running already.
    command = ("git", "-C", str(top), "-c", f"safe.directory={top}", "--no-optional-locks")
    # Git sets these for its hooks, to another repository.
    variables = {k: v for k, v in os.environ.items() if k not in _SET_FOR_HOOKS}
    try:
        is_ours = 'name = "pvae-pyro"' in (top / "pyproject.toml").read_text("utf-8")
        if not is_ours or not (top / ".git").exists():
            return None
        return subprocess.run(
            (*command, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"),
            capture_output=True, text=True, check=True, env=variables,
        ).stdout.strip()  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
