"""A run's folder, opened to begin or to resume a training, and its log."""

import contextlib
import logging
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import flag
from pvae_pyro.experiments.support.config import (
    MAY_CHANGE,
    OBJECTIVE_VERSION,
    PLACES,
    Config,
    Options,
)
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
class RunFolder:
    """config: the run's configuration. resume: whether there is a checkpoint to continue from."""

    path: Path
    config: Config
    resume: bool


def new_folder(asked: Options, out: Path | None, held: contextlib.ExitStack) -> RunFolder:
    """Make the folder of a new run, which `held` locks for this process. Raises RunError, OSError.

    out: as --out; None makes a folder in runs/.
    """
    config = asked.resolved(resolve_device(asked.device))
    folder = out or Path("runs", _name(config))
    if (folder / CONFIG).exists():
        raise RunError(f"{folder} holds a run: give --resume {folder}, or another --out")
    # Two runs that start in the same second make the same name; the second one fails here.
    folder.mkdir(parents=True, exist_ok=out is not None)
    held.enter_context(folder_held(folder))
    remove_unfinished(folder)
    _check_appended(folder)
    if others := {path.name for path in folder.iterdir()} - {LOG, LOCK}:
        raise RunError(f"{folder} is not empty: it holds {', '.join(sorted(others)[:5])}")
    return RunFolder(folder, config, resume=False)


def resumed_folder(folder: Path, asked: Options, held: contextlib.ExitStack) -> RunFolder:
    """Open a run's folder to resume it; `held` locks it for this process. Raises RunError, OSError.

    asked: options may repeat the run's own, or be in `MAY_CHANGE` or `PLACES`.
    """
    if folder.is_dir():  # else reading the configuration raises the error
        held.enter_context(folder_held(folder))
        remove_unfinished(folder)
    config = read_config(folder)
    _check_appended(folder)
    if config.objective_version != OBJECTIVE_VERSION:
        raise RunError(
            f"cannot resume {folder}: the objective has changed since this run was begun (version "
            f"{config.objective_version}, now {OBJECTIVE_VERSION}; docs/objective.md). The run can "
            f"still be evaluated; to train with today's objective, begin a new run"
        )
    if different := contradictions(asked, config):
        raise RunError(f"cannot resume {folder} with other options: {', '.join(different)}")
    config = config.but(**{name: getattr(asked, name) for name in asked.model_fields_set})
    done = len(whole_lines(folder / METRICS))
    if config.epochs is not None and config.epochs < done:
        raise RunError(f"{folder} has {done} epochs already: --epochs {config.epochs} is less")
    config = config.but(device=resolve_device(config.device))
    return RunFolder(folder, config, (folder / CHECKPOINT).exists())


def contradictions(asked: Options, config: Config) -> list[str]:
    """The given options that differ from a run's configuration and that may not change."""
    return [
        f"{flag(name)} {getattr(asked, name)} (the run: {getattr(config, name)})"
        for name in sorted(asked.model_fields_set - {*MAY_CHANGE, *PLACES})
        if getattr(asked, name) != getattr(config, name)
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


def check_threads(before: int | None) -> int:
    """The number of threads; warns if the run was last trained with another number.

    Sums of convolutions are then taken in another order (docs/reproducibility.md).
    """
    now = torch.get_num_threads()
    if before not in (None, now):
        log.warning(
            f"this run was last trained with {before} threads and now has {now}: it resumes, but "
            f"not bit for bit; set OMP_NUM_THREADS={before} to resume bit for bit"
        )
    return now


def start_log(folder: Path) -> None:
    """Log to stdout and to run.log."""
    log.setLevel(logging.INFO)
    printed, kept = logging.StreamHandler(sys.stdout), _File(folder / LOG, encoding="utf-8")
    printed.addFilter(lambda record: record.levelno < logging.ERROR)  # errors go to stderr
    for handler in (printed, kept):
        handler.setFormatter(_Printable())
        log.addHandler(handler)


class _File(logging.FileHandler):
    def handleError(self, record: logging.LogRecord) -> None:
        """Ignore it: a full disk must not stop the run, and the message is printed as well."""


class _Printable(logging.Formatter):
    """Escapes control characters: a line may hold names of files from anywhere."""

    def format(self, record: logging.LogRecord) -> str:
        return shown(super().format(record), keep="\n")


def end_log() -> None:
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def remove_unused(folder: Path) -> None:
    """Remove the folder of a run that did not begin."""
    for name in (LOG, LOCK):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()
