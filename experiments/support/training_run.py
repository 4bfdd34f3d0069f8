"""A run from its options to its report: what run_svi.py does."""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from pvae_pyro import distributed
from pvae_pyro.data.cache import data_root
from pvae_pyro.errors import PvaeError
from pvae_pyro.experiments.support.build import presence
from pvae_pyro.experiments.support.command import INTERRUPTED, RunError, tell
from pvae_pyro.experiments.support.config import Options
from pvae_pyro.experiments.support.data import (
    check_data,
    image_shape,
    load_data,
    longest,
)
from pvae_pyro.experiments.support.paper_table import table
from pvae_pyro.experiments.support.results import Results
from pvae_pyro.experiments.support.run_folder import (
    REPORT,
    RunFolder,
    check_threads,
    end_log,
    new_folder,
    remove_unused,
    resumed_folder,
    start_log,
)
from pvae_pyro.experiments.support.saved_run import (
    CONFIG,
    RESULTS,
)
from pvae_pyro.experiments.support.scored_training import train_and_score
from pvae_pyro.experiments.support.unused_options import unused_options
from pvae_pyro.io.files import whole_lines
from pvae_pyro.training.records import METRICS

log = logging.getLogger("pvae_pyro")


def train(
    asked: Options,
    *,
    data: Path | None = None,
    out: Path | None = None,
    resume: Path | None = None,
    report: bool = True,
) -> int:
    """Train and score a run, or resume the one in the folder `resume`; returns the exit code.

    data, out: as --data and --out. report: make report.html at the end.

    Documented errors before the run begins are raised; later ones are printed and logged.
    """
    root = data or data_root()
    if (data or "PVAE_DATA" in os.environ) and not root.is_dir():
        raise RunError(f"--data or $PVAE_DATA: {root} is not a folder")
    opened = None
    with distributed.started(), contextlib.ExitStack() as held:
        held.callback(end_log)
        if distributed.rank() > 0:
            log.setLevel(logging.ERROR)  # the first process logs the rest
        if distributed.world_size() == 1:  # a process that waits for others could not react
            before = signal.signal(signal.SIGTERM, signal.default_int_handler)
            held.callback(signal.signal, signal.SIGTERM, before)
        try:
            try:
                if distributed.rank() == 0:
                    opened = resumed_folder(resume, asked, held) if resume else None
                    opened = opened or new_folder(asked, out, held)
                    start_log(opened.path)
            finally:  # the other processes must not wait for one that failed
                opened = distributed.first_of_all(opened)
            if opened is None:
                return 1
            results = _run(asked, opened, root)
        except (PvaeError, FloatingPointError, OSError) as error:
            return _failed(error, opened)
        except KeyboardInterrupt:  # outside the training loop, or twice inside it
            begun = opened is not None and (opened.path / CONFIG).exists()
            print(
                "stopped" + (_how_to_resume(opened.path) if opened and begun else ""),
                file=sys.stderr,
            )
            return INTERRUPTED
        if distributed.rank() > 0:
            return 0
        if results is None:
            log.info(f"stopped and saved{_how_to_resume(opened.path)}")
            return INTERRUPTED
        log.info(table(Results.model_validate(results)))
        log.info(f"results in {opened.path / RESULTS}")
        if report:
            _report(opened.path, root)
        return 0


def _failed(error: Exception, opened: RunFolder | None) -> int:
    tell(error)
    if log.handlers:
        log.error(f"error: {error}")  # in run.log
    if opened is not None and distributed.rank() == 0 and not (opened.path / CONFIG).exists():
        remove_unused(opened.path)
    return 1


def _how_to_resume(folder: Path) -> str:
    return f"; to resume: python experiments/run_svi.py --resume {folder}"


def _run(asked: Options, opened: RunFolder, root: Path) -> dict[str, Any] | None:
    """Train and score; None if interrupted, and in every process but the first."""
    config, folder = opened.config, opened.path
    if distributed.world_size() > 1 and config.device.startswith("cuda"):
        config = config.but(device="cuda")  # each process has a GPU of its own
    chosen = f" (auto, on {config.device})" if asked.preset == "auto" and not opened.resume else ""
    resumed = " (resumed)" if opened.resume else ""
    log.info(f"run folder {folder}{resumed}, preset {config.preset}{chosen}")
    if ignored := unused_options(asked.model_fields_set, config):
        log.warning(f"no effect on this run: {', '.join(ignored)}")
    if not opened.resume and (lost := len(whole_lines(folder / METRICS))):
        log.warning(f"there is no checkpoint: the run starts again, and loses {lost} epochs")
    config = config.but(threads=check_threads(config.threads))
    with distributed.first_alone():
        data = load_data(config, root)
    config = check_data(config, data, folder)
    if missing := set(config.modelled) - data.train.keys():
        raise RunError(f"the data lack the modalities {sorted(missing)}: see docs/modalities.md")
    present = presence(config, data)
    examples = data.labels_of_tuples("train") if present is None else present
    config = config.with_epochs(len(examples))
    config = config.but(
        max_frames=config.max_frames or longest(data),
        image_shape=image_shape(data),
        # generate.py prepares a user's own sounds with it, without the corpus.
        sample_rates={name: log_mel.sample_rate for name, log_mel in data.log_mels.items()},
    )
    return train_and_score(config, data, folder, opened.resume)


def _report(folder: Path, root: Path) -> None:
    """Write the report of the run. If that fails, the run is finished all the same."""
    # Not above: a run without a report need not load matplotlib.
    from pvae_pyro.experiments.report import write_report
    from pvae_pyro.experiments.support.saved_run import open_run

    log.info("report …")
    try:
        write_report(open_run(folder, root), folder / REPORT)
    except (Exception, KeyboardInterrupt) as error:  # the run itself is complete
        again = f"python experiments/report.py {folder}"
        log.warning(f"no report: {type(error).__name__}: {error}\n{again} tries again")
    else:
        log.info(f"report in {folder / REPORT}")
