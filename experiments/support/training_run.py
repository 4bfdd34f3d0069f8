"""A training from its configuration to its results: what run_svi.py does."""

import contextlib
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor

from pvae_pyro import distributed
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.errors import PvaeError
from pvae_pyro.evaluate.run import evaluate_latents, evaluate_terms
from pvae_pyro.experiments.support.build import build, check_memory, gaps, presence
from pvae_pyro.experiments.support.command import INTERRUPTED, RunError, tell
from pvae_pyro.experiments.support.config import Config, Options
from pvae_pyro.experiments.support.data import check_data, load_data
from pvae_pyro.experiments.support.paper_table import table
from pvae_pyro.experiments.support.results import Results
from pvae_pyro.experiments.support.run_folder import (
    REPORT,
    Place,
    RunFolder,
    check_threads,
    end_log,
    leave_no_trace,
    open_folder,
    start_log,
    tell_of_lost,
)
from pvae_pyro.experiments.support.saved_run import (
    CONFIG,
    FRAMING,
    RESULTS,
    check_same,
    check_size,
    staying,
)
from pvae_pyro.experiments.support.without_effect import without_effect
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.training.loop import fit
from pvae_pyro.training.progress import Progress

log = logging.getLogger("pvae_pyro")


def train(asked: Options, place: Place) -> int:
    """Train and score a run, or resume one; returns the exit code. Documented errors of the start
    are raised; those after it are told, and in run.log."""
    try:
        with distributed.started(), contextlib.ExitStack() as held:
            if distributed.rank() > 0:
                log.setLevel(logging.ERROR)  # the first process tells the rest
            if distributed.world_size() == 1:  # one of several that waits could not be told
                held.enter_context(_sigterm_as_ctrl_c())
            return _train(asked, place, held)
    finally:
        end_log()


def _train(asked: Options, place: Place, held: contextlib.ExitStack) -> int:
    root = place.data or data_root()
    if (place.data or "PVAE_DATA" in os.environ) and not root.is_dir():
        raise RunError(f"--data or $PVAE_DATA: {root} is not a folder")
    opened = None
    try:
        try:
            if distributed.rank() == 0:
                opened = open_folder(asked, place, held)
                start_log(opened.path)
        finally:  # the others do not wait for one that failed
            opened = distributed.first_of_all(opened)
        if opened is None:
            return 1
        results = _run(asked, opened, root)
    except (PvaeError, FloatingPointError, OSError) as error:
        tell(error)
        if log.handlers:
            log.error(f"error: {error}")  # in run.log
        if opened is not None and distributed.rank() == 0 and not (opened.path / CONFIG).exists():
            leave_no_trace(opened.path)
        return 1
    except KeyboardInterrupt:  # outside training, or a second one inside it
        begun = opened is not None and (opened.path / CONFIG).exists()
        print(f"stopped{_how_to_resume(opened.path) if opened and begun else ''}", file=sys.stderr)
        return INTERRUPTED
    if results is None and distributed.rank() > 0:
        return 0
    if results is None:
        log.info(f"stopped and saved{_how_to_resume(opened.path)}")
        return INTERRUPTED
    log.info(table(Results.model_validate(results)))
    log.info(f"results in {opened.path / RESULTS}")
    if place.report:
        _report(opened.path, root)
    return 0


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
    if ignored := without_effect(asked.model_fields_set, config):
        log.warning(f"no effect on this run: {', '.join(ignored)}")
    if not opened.resume:
        tell_of_lost(folder)
    config = config.but(threads=check_threads(config.threads))
    with distributed.first_alone():
        data = load_data(config, root)
    config = check_data(config, data, folder)
    if missing := set(config.modelled) - data.train.keys():
        raise RunError(f"the data lack the modalities {sorted(missing)}: see docs/modalities.md")
    there = presence(config, data)
    config = config.with_epochs(len(data.train[config.names[0]] if there is None else there))
    config = config.but(
        max_frames=config.max_frames or longest(data),
        # For what is to be prepared alike, without the corpus.
        sample_rates={name: log_mel.sample_rate for name, log_mel in data.log_mels.items()},
    )
    return train_and_score(config, data, folder, opened.resume)


def train_and_score(
    config: Config, data: PairedData, folder: Path, resume: bool
) -> dict[str, Any] | None:
    """Returns what results.json holds; None if interrupted, and in all processes but the first.

    Raises RunError if the model is larger than memory or than the checkpoint that is to be resumed,
    or there are fewer examples to score than clusters.
    """
    made_by = environment()  # now: a commit made while it runs is not what runs
    check_memory(config)
    if resume:
        check_size(config, folder)
        check_same(config, folder)
    svi = build(config)
    num_clusters = _num_clusters(config, data)
    loader = partial(
        PairedLoader,
        batch_size=config.batch_size,
        seed=config.seed,
        device=config.device,
        names=config.modelled,
    )
    there = presence(config, data)
    train = loader(data.train, presence=there, anew=config.pairs == "anew")
    # Shuffled too: a corpus in order of its classes would draw negatives of one class.
    test = loader(data.test, part=(0, 1))
    num_complete = train.num_examples if there is None else there.num_complete
    counts = {"train": train.num_examples, "complete": num_complete, "test": test.num_examples}
    _tell_size(config, data, counts, len(train), sum(p.numel() for p in svi.parameters()))
    assert config.epochs is not None
    progress = fit(
        svi,
        train,
        num_epochs=config.epochs,
        folder=folder,
        resume=resume,
        extra={**_normalisation(data), **_framing(config, data)},
        config=staying(config),
        checkpoint_seconds=config.checkpoint_seconds,
        skip_bad_batches=config.skip_bad_batches,
        on_start=partial(_begin, config, folder),
    )
    if progress.interrupted or distributed.rank() > 0:
        return None
    started = time.monotonic()
    guides = dict(svi.guide.unimodal.items())  # type: ignore[operator, union-attr]
    latents = evaluate_latents(guides, data.test, num_clusters, config.device)
    terms = evaluate_terms(svi, test)
    seconds = {
        "seconds_training": round(progress.seconds, 1),
        "seconds_evaluating": round(time.monotonic() - started, 1),
    }
    results = {
        **latents,
        "test_terms": terms,
        **_results_of(config, data, progress),
        "num_examples": counts,
        **seconds,
        **made_by,
    }
    write_json(folder / RESULTS, results)
    return results


def _results_of(config: Config, data: PairedData, progress: Progress) -> dict[str, Any]:
    return {
        "corpus": data.corpus,
        "stand_in": data.stand_in,
        "dataset": config.dataset,
        "model": config.model,
        "classes": list(data.classes),
        "remarks": [*data.remarks, *gaps(config)],
        "left_out": Counter(problem.kind for problem in data.problems),
        "preset": config.preset,
        "seed": config.seed,
        "device": config.device,
        "processes": distributed.world_size(),
        "epochs": progress.epoch,
        "steps": progress.step,
        "skipped_batches": progress.skipped,
        "config": config.model_dump(mode="json"),
    }


def _num_clusters(config: Config, data: PairedData) -> int:
    """Raises RunError, before hours of training, if there are more clusters than examples."""
    number = config.num_clusters or len(data.classes)
    scored = min(len(data.test[name]) for name in config.modelled)
    if number > scored:
        raise RunError(
            f"--num-clusters is {number}, but only {scored} test examples can be clustered"
        )
    return number


def _tell_size(
    config: Config, data: PairedData, counts: dict[str, int], num_steps: int, num_parameters: int
) -> None:
    lines = [f"{data.corpus}\n{counts['train']} training examples an epoch"]
    if counts["complete"] < counts["train"]:
        lines.append(f"{counts['complete']} of them with every modality")
    lines += [
        f"{counts['test']} test examples",
        f"{config.epochs} epochs of {num_steps} steps",
        f"{num_parameters / 1e6:.1f} M parameters on {config.device}",
    ]
    if distributed.world_size() > 1:
        lines.append(f"{distributed.world_size()} processes")
    log.info(", ".join(lines))


def _normalisation(data: PairedData) -> dict[str, Tensor]:
    return {
        f"{name}.{field}": torch.as_tensor(getattr(examples.normalisation, field))
        for name, examples in data.train.items()
        for field in ("loc", "scale")
    }


def _framing(config: Config, data: PairedData) -> dict[str, Tensor]:
    """How the training pictures are, for what brings a user's own pictures to it."""
    if "image" not in config.modelled:
        return {}
    framing = Framing.measured(data.train["image"].values[:, 0])
    return {FRAMING: torch.tensor(framing.numbers())} if framing else {}


def _begin(config: Config, folder: Path) -> None:
    write_whole(folder / CONFIG, (config.model_dump_json(indent=2) + "\n").encode())
    for name in (RESULTS, REPORT):  # the weights will be others
        (folder / name).unlink(missing_ok=True)


def longest(data: PairedData) -> int | None:
    """Frames of the longest training example of speech: nothing longer is ever generated."""
    lengths = [data.train[name].lengths for name in data.log_mels]
    return max((int(of.max()) for of in lengths if of is not None), default=None)


def _report(folder: Path, root: Path) -> None:
    """Write the page of the run. If that fails, the run is finished all the same; a line tells."""
    # Not before: it needs the figures' libraries, which a run without it need not load.
    from pvae_pyro.experiments.report import write_report
    from pvae_pyro.experiments.support.saved_run import open_run

    log.info("report …")
    again = f"python experiments/report.py {folder}"
    try:
        write_report(open_run(folder, root), folder / REPORT)
    except Exception as error:  # whatever it is: the run itself is done
        log.warning(f"no report: {type(error).__name__}: {error}\n{again} tries again")
    except KeyboardInterrupt:
        log.warning(f"no report; {again} makes it")
    else:
        log.info(f"report in {folder / REPORT}")


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Outside training too, which has its own answer to both."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread, where alone signals are handled
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
