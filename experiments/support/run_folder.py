"""A run's folder, opened to begin or to go on, and its log."""

import argparse
import contextlib
import logging
import sys
import time
from pathlib import Path
from typing import Any

import torch

from pvae_pyro.data.corpus import shown
from pvae_pyro.experiments.support.data import file_name
from pvae_pyro.experiments.support.errors import RunError
from pvae_pyro.experiments.support.given import changes, contradictions
from pvae_pyro.experiments.support.options import (
    resolve,
    resolve_device,
)
from pvae_pyro.experiments.support.runs import CONFIG, read_config
from pvae_pyro.io.files import folder_held, remove_unfinished, whole_lines
from pvae_pyro.training.checked_steps import BAD_BATCHES
from pvae_pyro.training.checkpoint import has_checkpoint
from pvae_pyro.training.loop import CHECKPOINT, METRICS

log = logging.getLogger("pvae_pyro")

LOG = "run.log"
REPORT = "report.html"


def open_folder(
    parser: argparse.ArgumentParser,
    arguments: argparse.Namespace,
    argv: list[str] | None,
    held: contextlib.ExitStack,
) -> tuple[Path, dict[str, Any], bool]:
    """The run folder, its configuration, and whether there is a checkpoint to go on from.

    The folder is this process's alone until `held` is closed.
    """
    if arguments.resume is None:
        config = resolve(arguments)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        model = "" if config["model"] == "pvae" else f"-{config['model']}"
        if config["modalities"] != parser.get_default("modalities").split(","):
            model = f"-{'-'.join(config['modalities'])}{model}"
        run_of = f"{file_name(config['dataset'])}{model}-{config['preset']}"
        name = f"{run_of}-seed{config['seed']}-{stamp}"
        folder = arguments.out or Path("runs", name)
        if (folder / CONFIG).exists():
            raise RunError(f"{folder} holds a run: give --resume {folder}, or another --out")
        # A name of our own making is nobody else's: of two started at once, one is told.
        folder.mkdir(parents=True, exist_ok=arguments.out is not None)
        held.enter_context(folder_held(folder))
        remove_unfinished(folder)
        _check_appended(folder)
        if others := {path.name for path in folder.iterdir()} - {LOG}:
            raise RunError(f"{folder} is not empty: it holds {', '.join(sorted(others)[:5])}")
    else:
        folder = arguments.out if arguments.resume is True else arguments.resume
        if folder.is_dir():  # else there is no configuration, which is told
            held.enter_context(folder_held(folder))
            remove_unfinished(folder)
        config = read_config(folder)
        _check_appended(folder)
        if different := contradictions(parser, argv, config):
            raise RunError(f"cannot resume {folder} with other options: {', '.join(different)}")
        done = len(whole_lines(folder / METRICS))
        config |= changes(parser, argv, config)
        if config["epochs"] < done:
            raise RunError(
                f"{folder} has {done} epochs already: --epochs {config['epochs']} is less"
            )
        config["device"] = resolve_device(config["device"])
    return folder, config, has_checkpoint(folder / CHECKPOINT)


def _check_appended(folder: Path) -> None:
    for path in (folder / LOG, folder / METRICS, folder / BAD_BATCHES):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise RunError(f"{path} is a link, or no file: nothing is appended to it")


def tell_of_lost(folder: Path) -> None:
    """Of a run that begins: epochs that are there already."""
    if lost := len(whole_lines(folder / METRICS)):
        log.warning(
            f"no checkpoint is left: beginning anew, with its {lost} epochs (one is written every "
            "--checkpoint-seconds, and at the end)"
        )


def check_threads(before: int | None) -> int:
    """Threads of an operation now; warns where a run was trained with another number of them.

    Sums of convolutions are then taken in another order (docs/reproducibility.md).
    """
    now = torch.get_num_threads()
    if before not in (None, now):
        log.warning(
            f"this run was last trained with {before} threads, and now has {now}: it goes on, but "
            f"not to the bits that it would have had; OMP_NUM_THREADS={before} goes on as before"
        )
    return now


def start_log(folder: Path) -> None:
    log.setLevel(logging.INFO)
    printed, kept = logging.StreamHandler(sys.stdout), _File(folder / LOG, encoding="utf-8")
    printed.addFilter(lambda record: record.levelno < logging.ERROR)  # these are on stderr
    for handler in (printed, kept):
        handler.setFormatter(_Printable())
        log.addHandler(handler)


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Nothing: what cannot be kept, on a full disk say, is printed all the same."""


class _Printable(logging.Formatter):
    """A line may hold the names of anyone's files: a terminal must not obey them."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), keep="\n")


def end_log() -> None:
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()
