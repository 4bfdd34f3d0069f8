"""Train a PVAE on spoken and written digits, and score its latents as the paper does.

    python experiments/run_svi.py --dataset tidigit                  # a stand-in where it is not
    PVAE_DATA=/my/data python experiments/run_svi.py --dataset fsdd  # real recordings
    python experiments/run_svi.py --resume runs/fsdd-quick-…         # go on after Ctrl-C
    torchrun --nproc-per-node 2 experiments/run_svi.py --dataset fsdd  # a process a GPU, or core

The run folder holds config.json (what was run, resolved), metrics.jsonl (a line an epoch: every
term of the objective, nats per example), checkpoint.safetensors and the one before it,
best.safetensors, TensorBoard events, run.log, results.json and report.html. Ctrl-C and SIGTERM save
and exit with code 130 (under torchrun, which reports it in its own way, with 1); errors exit with
1, wrong usage with 2. What is promised of a run that is stopped or killed: docs/trust.md.
"""

import sys
from pathlib import Path

if not __package__:  # run as a file: by the code of this checkout, whatever is installed
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import contextlib
import logging
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from types import FrameType
from typing import Any

import torch

from pvae_pyro import distributed
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.evaluate.run import evaluate_latents, evaluate_terms
from pvae_pyro.experiments.support.build import build, gaps, presence
from pvae_pyro.experiments.support.data import check_corpus_options
from pvae_pyro.experiments.support.entry import INTERRUPTED, entry
from pvae_pyro.experiments.support.errors import OF_A_RUN, RunError, tell
from pvae_pyro.experiments.support.given import without_effect
from pvae_pyro.experiments.support.options import (
    check_model,
    check_options,
    fill_epochs,
    make_parser,
)
from pvae_pyro.experiments.support.paper_table import table
from pvae_pyro.experiments.support.run_folder import (
    LOG,
    REPORT,
    check_threads,
    end_log,
    open_folder,
    start_log,
    tell_of_lost,
)
from pvae_pyro.experiments.support.runs import (
    CONFIG,
    OF_CHECKPOINT,
    OF_PICTURES,
    as_tensor,
    check_data,
    check_memory,
    check_same,
    check_size,
    load_data,
)
from pvae_pyro.experiments.support.settings import VAE
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.training.checkpoint import recover
from pvae_pyro.training.loop import CHECKPOINT, fit

log = logging.getLogger("pvae_pyro")

RESULTS = "results.json"


def run(
    config: dict[str, Any], data: PairedData, folder: Path, resume: bool
) -> dict[str, Any] | None:
    """Train and score; returns what results.json then holds, or None when interrupted.

    Raises RunError when the data and the model are not of the same modalities, the model is
    larger than memory or the checkpoint that is to be resumed, or there are fewer examples to score
    than clusters.
    """
    made_by = environment()  # now: a commit made while it runs is not what runs
    check_memory(config)
    if resume:
        with distributed.first_alone():  # the file that is looked at is the one that is taken
            if distributed.rank() == 0 and (told := recover(folder / CHECKPOINT)):
                log.warning(told)
        check_size(config, folder)
        check_same(config, folder)
    svi = build(config)
    modelled = tuple(svi.guide.unimodal)
    if missing := set(modelled) - data.train.keys():
        raise RunError(
            f"the model has the modalities {sorted(modelled)}, the data lack {sorted(missing)}: "
            "see docs/modalities.md"
        )
    num_clusters = config["num_clusters"] or len(data.classes)
    scored = min(len(data.test[name]) for name in modelled)
    if num_clusters > scored:  # told before hours of training
        raise RunError(f"no {num_clusters} clusters (--num-clusters) of {scored} test examples")
    loader = partial(
        PairedLoader,
        batch_size=config["batch_size"],
        seed=config["seed"],
        device=config["device"],
        names=modelled,
    )
    there = presence(config, data, modelled)
    train = loader(data.train, presence=there, anew=config["pairs"] == "anew")
    # Shuffled too: a corpus in order of its classes would draw negatives of one class.
    test = loader(data.test, part=(0, 1))
    whole = train.num_examples if there is None else there.num_complete
    num_parameters = sum(p.numel() for p in svi.parameters())
    log.info(
        f"{data.corpus}\n{train.num_examples} training examples"
        + f" an epoch, of {whole} of which every modality is known" * (whole < train.num_examples)
        + f", {test.num_examples} to test, "
        f"{config['epochs']} epochs of {len(train)} steps, "
        f"{num_parameters / 1e6:.1f} M parameters on {config['device']}"
        + f", {distributed.world_size()} processes"
        * (distributed.world_size() > 1)
    )
    normalisation = {
        f"{name}.{field}": torch.as_tensor(getattr(examples.normalisation, field))
        for name, examples in data.train.items()
        for field in ("loc", "scale")
    }
    framing = Framing.measured(data.train["image"].values[:, 0]) if "image" in modelled else None
    of_pictures = {OF_PICTURES: torch.tensor(framing.numbers())} if framing else {}
    progress = fit(
        svi,
        train,
        num_epochs=config["epochs"],
        folder=folder,
        resume=resume,
        extra={**normalisation, **of_pictures, OF_CHECKPOINT: as_tensor(config)},
        checkpoint_seconds=config["checkpoint_seconds"],
        skip_bad_batches=config["skip_bad_batches"],
        best_of=config["best_of"],
        on_start=partial(_begin, config, folder),
    )
    if progress.interrupted or distributed.rank() > 0:
        return None
    started = time.monotonic()
    results = {
        **evaluate_latents(
            svi.guide.unimodal,
            data.test,
            num_clusters,
            config["device"],
        ),
        "test_terms": evaluate_terms(svi, test),
        "corpus": data.corpus,
        "stand_in": data.stand_in,
        "dataset": config["dataset"],
        "model": config["model"],
        "classes": data.classes,
        "remarks": (*data.remarks, *gaps(config)),
        "left_out": Counter(problem.kind for problem in data.problems),
        "num_examples": {"train": train.num_examples, "complete": whole, "test": test.num_examples},
        "preset": config["preset"],
        "seed": config["seed"],
        "device": config["device"],
        "processes": distributed.world_size(),
        "epochs": progress.epoch,
        "steps": progress.step,
        "skipped_batches": progress.skipped,
        "seconds_training": round(progress.seconds, 1),
        "seconds_evaluating": round(time.monotonic() - started, 1),
        "config": config,
        **made_by,
    }
    write_json(folder / RESULTS, results)
    return results


def _begin(config: dict[str, Any], folder: Path) -> None:
    write_json(folder / CONFIG, config)
    for name in (RESULTS, REPORT):  # the weights will be others
        (folder / name).unlink(missing_ok=True)


def longest(data: PairedData) -> dict[str, int]:
    """max_frames, of the longest training example of speech: nothing longer is ever generated.

    Without speech there is none.
    """
    lengths = [data.train[name].lengths for name in data.log_mels]
    return {"max_frames": max(int(of.max()) for of in lengths if of is not None)} if lengths else {}


@entry()
def main(argv: list[str] | None = None) -> int:
    try:
        with distributed.started(), contextlib.ExitStack() as held:
            if distributed.rank() > 0:
                log.setLevel(logging.ERROR)  # the first process tells the rest
            if distributed.world_size() == 1:  # of several, one that waits could not be told
                held.enter_context(_sigterm_as_ctrl_c())
            return command(argv, held)
    finally:
        end_log()


@contextlib.contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """Outside training too, which has its own answer to both."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: signals are somebody else's
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def command(argv: list[str] | None, held: contextlib.ExitStack) -> int:
    """What `main` does, until `held` is closed; returns the exit code."""
    parser = make_parser(__doc__)
    arguments = parser.parse_args(argv)
    if arguments.resume is not None and (arguments.resume is True) == (arguments.out is None):
        parser.error("--resume needs one folder: --resume DIR, or --resume --out DIR")
    check_corpus_options(parser, arguments)
    check_options(parser, arguments)
    if arguments.resume is None:
        check_model(parser, arguments)
    root = arguments.data or data_root()
    if (arguments.data or "PVAE_DATA" in os.environ) and not root.is_dir():
        parser.error(f"--data or $PVAE_DATA: {root} is no folder")
    folder = None
    try:
        opened = None
        try:
            if distributed.rank() == 0:
                opened = open_folder(parser, arguments, argv, held)
                start_log(opened[0])
        finally:  # the others do not wait for one that failed
            opened = distributed.first_of_all(opened)
        if opened is None:
            return 1
        folder, config, resume = opened
        if distributed.world_size() > 1 and config["device"].startswith("cuda"):
            config["device"] = "cuda"  # of each process its own
        log.info(
            f"run folder {folder}{' (resumed)' * resume}, preset {config['preset']}"
            + f" (auto, on {config['device']})" * (arguments.preset == "auto" and not resume)
        )
        if ignored := without_effect(parser, argv, config):
            log.warning(f"of no effect on this run: {', '.join(ignored)}")
        if not resume:
            tell_of_lost(folder)
        config["threads"] = check_threads(config.get("threads"))
        with distributed.first_alone():
            data = load_data(config, root)
        config |= check_data(config, data, folder)
        of_one = config["model"].startswith(VAE)
        modelled = [config["model"].removeprefix(VAE)] if of_one else config["modalities"]
        there = presence(config, data, modelled)
        lead = data.train[config["modalities"][0]]
        fill_epochs(config, len(lead if there is None else there))
        config = {**longest(data), **config}
        # For what is to be prepared alike, without the corpus.
        config["sample_rates"] = {name: of.sample_rate for name, of in data.log_mels.items()}
        results = run(config, data, folder, resume)
    except (*OF_A_RUN, FloatingPointError) as error:
        tell(error)
        if log.handlers:
            log.error(f"error: {error}")  # in run.log
        begun = folder is None or (folder / CONFIG).exists()
        if not begun and distributed.rank() == 0:
            (folder / LOG).unlink(missing_ok=True)  # nothing was begun: leave no trace
            with contextlib.suppress(OSError):
                folder.rmdir()
        return 1
    except KeyboardInterrupt:  # outside training, or a second one inside it
        going_on = folder is not None and (folder / CONFIG).exists()
        to_go_on = f"; to go on: python experiments/run_svi.py --resume {folder}" * going_on
        print(f"stopped{to_go_on}", file=sys.stderr)
        return INTERRUPTED
    if results is None and distributed.rank() > 0:
        return 0
    if results is None:
        log.info(f"stopped and saved; to go on: python experiments/run_svi.py --resume {folder}")
        return INTERRUPTED
    log.info(table(results))
    log.info(f"results in {folder / 'results.json'}")
    if arguments.report:
        _report(folder, root)
    return 0


def _report(folder: Path, root: Path) -> None:
    """The page of the run; where that fails the run is finished all the same, and it is told."""
    # Not before: it wants the figures' libraries, which a run without it need not load.
    from pvae_pyro.experiments.report import write_report
    from pvae_pyro.experiments.support.trained import open_run

    log.info("report …")
    try:
        write_report(open_run(folder, root), folder / REPORT)
    except Exception as error:  # whatever it is: the run itself is done
        log.warning(f"no report: {type(error).__name__}: {error}")
        log.warning(f"python experiments/report.py {folder} tries again")
    except KeyboardInterrupt:
        log.warning(f"no report; python experiments/report.py {folder} makes it")
    else:
        log.info(f"report in {folder / REPORT}")


if __name__ == "__main__":
    sys.exit(main())
