"""A run's folder, opened to begin or to resume a training, and its log."""

import contextlib
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import MAY_CHANGE, Config, Options
from pvae_pyro.experiments.support.data import file_name
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.experiments.support.saved_run import CONFIG, read_config
from pvae_pyro.io.files import LOCK, folder_held, remove_unfinished, whole_lines
from pvae_pyro.training.checkpoint import CHECKPOINT
from pvae_pyro.training.records import METRICS

log = logging.getLogger("pvae_pyro")

LOG = "run.log"
REPORT = "report.html"


@dataclass(frozen=True)
class Place:
    """Where a training finds its data and leaves its results.

    data: --data. out: --out. resume: the folder of the run to resume. report: make report.html.
    """

    data: Path | None = None
    out: Path | None = None
    resume: Path | None = None
    report: bool = True


@dataclass(frozen=True)
class RunFolder:
    """config: the run's configuration. resume: whether there is a checkpoint to continue from."""

    path: Path
    config: Config
    resume: bool


def open_folder(asked: Options, place: Place, held: contextlib.ExitStack) -> RunFolder:
    """The folder belongs to this process alone until `held` is closed. Raises RunError, OSError."""
    if place.resume is not None:
        return _resumed(place.resume, asked, held)
    config = asked.resolved(resolve_device(asked.device))
    folder = place.out or Path("runs", _name(config))
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a run: give --resume {folder}, or another --out")
    # A name of our own making belongs to nobody else: of two runs that start at once, one is told.
    folder.mkdir(parents=True, exist_ok=place.out is not None)
    held.enter_context(folder_held(folder))
    remove_unfinished(folder)
    _check_appended(folder)
    if others := {path.name for path in folder.iterdir()} - {LOG, LOCK}:
        raise RunError(f"{folder} is not empty: it holds {', '.join(sorted(others)[:5])}")
    return RunFolder(folder, config, (folder / CHECKPOINT).exists())


def _resumed(folder: Path, asked: Options, held: contextlib.ExitStack) -> RunFolder:
    if folder.is_dir():  # else reading its configuration tells what is wrong
        held.enter_context(folder_held(folder))
        remove_unfinished(folder)
    config = read_config(folder)
    _check_appended(folder)
    if different := contradictions(asked, config):
        raise RunError(f"cannot resume {folder} with other options: {', '.join(different)}")
    config = config.but(**{name: getattr(asked, name) for name in asked.model_fields_set})
    done = len(whole_lines(folder / METRICS))
    if config.epochs is not None and config.epochs < done:
        raise RunError(f"{folder} has {done} epochs already: --epochs {config.epochs} is less")
    config = config.but(device=resolve_device(config.device))
    return RunFolder(folder, config, (folder / CHECKPOINT).exists())


def contradictions(asked: Options, config: Config) -> list[str]:
    """Options that were given and that a run's configuration does not have, and may not get."""
    given = {name: getattr(asked, name) for name in asked.model_fields_set}
    return [
        f"{flag(name)} {value} (the run: {getattr(config, name)})"
        for name, value in given.items()
        if name not in MAY_CHANGE
        and value != getattr(config, name)
        and not config.may_move(name, value)
    ]


def _name(config: Config) -> str:
    model = "" if config.model == "pvae" else f"-{config.model}"
    if config.names != Options.model_fields["modalities"].default:
        model = f"-{'-'.join(config.names)}{model}"
    run_of = f"{file_name(config.dataset)}{model}-{config.preset}"
    return f"{run_of}-seed{config.seed}-{time.strftime('%Y%m%d-%H%M%S')}"


def _check_appended(folder: Path) -> None:
    for path in (folder / LOG, folder / METRICS):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise RunError(f"{path} is a link, or not a file: nothing is appended to it")


def tell_of_lost(folder: Path) -> None:
    """Warn of epochs that a run which begins has trained already."""
    if lost := len(whole_lines(folder / METRICS)):
        log.warning(
            f"no checkpoint is left: the run starts again, and loses {lost} epochs (a checkpoint "
            "is written every --checkpoint-seconds, and at the end)"
        )


def check_threads(before: int | None) -> int:
    """Threads of an operation now; warns if a run was trained with another number of them.

    Sums of convolutions are then taken in another order (docs/reproducibility.md).
    """
    now = torch.get_num_threads()
    if before not in (None, now):
        log.warning(
            f"this run was last trained with {before} threads and now has {now}: it resumes, but "
            f"not bit for bit; set OMP_NUM_THREADS={before} to resume as before"
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


def leave_no_trace(folder: Path, *args: Any) -> None:
    """Remove the folder of a run that did not begin."""
    for name in (LOG, LOCK):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
