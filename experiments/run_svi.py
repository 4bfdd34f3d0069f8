"""Train a PVAE on spoken and written digits, and score its latents as the paper does.

    python experiments/run_svi.py --dataset tidigit                  # a stand-in where it is not
    PVAE_DATA=/my/data python experiments/run_svi.py --dataset fsdd  # real recordings
    python experiments/run_svi.py --resume runs/fsdd-quick-…         # go on after Ctrl-C
    torchrun --nproc-per-node 2 experiments/run_svi.py --dataset fsdd  # a process a GPU, or core

The run folder holds config.json (what was run, resolved), metrics.jsonl (a line an epoch: every
term of the objective, nats per example), checkpoint.safetensors, TensorBoard events, run.log,
results.json and report.html. Ctrl-C saves and exits with code 130 (under torchrun, which reports it
in its own way, with 1); errors exit with 1, wrong usage with 2.
"""

import argparse
import contextlib
import logging
import os
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import torch

from experiments.corpora import check_corpus_options, file_name
from experiments.options import (
    DeviceError,
    contradictions,
    fill_epochs,
    make_parser,
    resolve,
    resolve_device,
    without_effect,
)
from experiments.paper import table
from experiments.runs import (
    CONFIG,
    RunError,
    build,
    check_data,
    check_size,
    load_data,
    read_config,
)
from pvae_pyro import distributed
from pvae_pyro.checkpoint import CheckpointError
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import PairedData
from pvae_pyro.evaluate.run import evaluate_latents, evaluate_terms
from pvae_pyro.results import environment, write_json
from pvae_pyro.train import CHECKPOINT, METRICS, fit

log = logging.getLogger("pvae_pyro")

LOG = "run.log"
INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


def run(
    config: dict[str, Any], data: PairedData, folder: Path, resume: bool
) -> dict[str, Any] | None:
    """Train and score; returns what results.json then holds, or None when interrupted.

    Raises RunError when the data and the model are not of the same modalities, or the model is
    larger than the checkpoint that is to be resumed.
    """
    made_by = environment()  # now: a commit made while it runs is not what runs
    if resume:
        check_size(config, folder)
    svi = build(config)
    modelled = tuple(svi.guide.unimodal)
    if missing := set(modelled) - data.train.keys():
        raise RunError(
            f"the model has the modalities {sorted(modelled)}, the data lack {sorted(missing)}: "
            "see models/modalities.py and pvae_pyro/data/paired.py"
        )
    if distributed.rank() == 0:
        write_json(folder / CONFIG, config)
    loader = partial(
        PairedLoader,
        batch_size=config["batch_size"],
        seed=config["seed"],
        device=config["device"],
        names=modelled,
    )
    # Shuffled too: a corpus in order of its classes would draw negatives of one class.
    train, test = loader(data.train), loader(data.test, part=(0, 1))
    num_parameters = sum(p.numel() for p in svi.parameters())
    log.info(
        f"{data.corpus}\n{train.num_examples} training and {test.num_examples} test pairs, "
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
    progress = fit(
        svi,
        train,
        num_epochs=config["epochs"],
        folder=folder,
        resume=resume,
        extra=normalisation,
    )
    if progress.interrupted or distributed.rank() > 0:
        return None
    started = time.monotonic()
    results = {
        **evaluate_latents(
            svi.guide.unimodal,
            data.test,
            config["num_clusters"] or len(data.classes),
            config["device"],
        ),
        "test_terms": evaluate_terms(svi, test),
        "corpus": data.corpus,
        "stand_in": data.stand_in,
        "dataset": config["dataset"],
        "model": config["model"],
        "classes": data.classes,
        "remarks": data.remarks,
        "left_out": Counter(problem.kind for problem in data.problems),
        "preset": config["preset"],
        "seed": config["seed"],
        "device": config["device"],
        "processes": distributed.world_size(),
        "epochs": progress.epoch,
        "steps": progress.step,
        "seconds_training": round(progress.seconds, 1),
        "seconds_evaluating": round(time.monotonic() - started, 1),
        "config": config,
        **made_by,
    }
    write_json(folder / "results.json", results)
    return results


def longest(data: PairedData) -> int:
    """Frames of the longest training example: nothing longer is ever generated."""
    lengths = data.train["speech"].lengths
    assert lengths is not None
    return int(lengths.max())


def open_folder(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, argv: list[str] | None
) -> tuple[Path, dict[str, Any], bool]:
    """The run folder, its configuration, and whether there is a checkpoint to go on from."""
    if arguments.resume is None:
        config = resolve(arguments)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        model = "" if config["model"] == "pvae" else f"-{config['model']}"
        run_of = f"{file_name(config['dataset'])}{model}-{config['preset']}"
        name = f"{run_of}-seed{config['seed']}-{stamp}"
        folder = arguments.out or Path("runs", name)
        if (folder / CONFIG).exists():
            raise RunError(f"{folder} holds a run: give --resume {folder}, or another --out")
        # A name of our own making is nobody else's: of two started at once, one is told.
        folder.mkdir(parents=True, exist_ok=arguments.out is not None)
        if others := {path.name for path in folder.iterdir()} - {LOG}:
            raise RunError(f"{folder} is not empty: it holds {', '.join(sorted(others)[:5])}")
    else:
        folder = arguments.out if arguments.resume is True else Path(arguments.resume)
        config = read_config(folder)
        if different := contradictions(parser, argv, config):
            raise RunError(f"cannot resume {folder} with other options: {', '.join(different)}")
        metrics = folder / METRICS
        done = len(metrics.read_bytes().splitlines()) if metrics.exists() else 0
        config["epochs"] = arguments.epochs or config["epochs"]
        if config["epochs"] < done:
            raise RunError(
                f"{folder} has {done} epochs already: --epochs {config['epochs']} is less"
            )
        given = arguments.device != "auto"
        config["device"] = resolve_device(arguments.device if given else config["device"])
    return folder, config, (folder / CHECKPOINT).exists()


def start_log(folder: Path) -> None:
    log.setLevel(logging.INFO)
    log.addHandler(logging.StreamHandler(sys.stdout))
    log.addHandler(logging.FileHandler(folder / LOG, encoding="utf-8"))


def end_log() -> None:
    for handler in list(log.handlers):
        log.removeHandler(handler)
        handler.close()


def main(argv: list[str] | None = None) -> int:
    try:
        with distributed.started():
            if distributed.rank() > 0:
                log.setLevel(logging.ERROR)  # the first process tells the rest
            return command(argv)
    finally:
        end_log()


def command(argv: list[str] | None) -> int:
    """What `main` does; returns the exit code."""
    parser = make_parser(__doc__)
    arguments = parser.parse_args(argv)
    if arguments.resume is not None and (arguments.resume is True) == (arguments.out is None):
        parser.error("--resume needs one folder: --resume DIR, or --resume --out DIR")
    check_corpus_options(parser, arguments)
    root = arguments.data or data_root()
    if (arguments.data or "PVAE_DATA" in os.environ) and not root.is_dir():
        parser.error(f"--data or $PVAE_DATA: {root} is no folder")
    folder = None
    try:
        opened = None
        try:
            if distributed.rank() == 0:
                opened = open_folder(parser, arguments, argv)
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
        if ignored := without_effect(parser, argv, config["model"]):
            log.warning(f"of no effect on {config['model']}: {', '.join(ignored)}")
        with distributed.first_alone():
            data = load_data(config, root)
        config |= check_data(config, data, folder)
        fill_epochs(config, len(data.train["speech"]))
        config.setdefault("max_frames", longest(data))
        if data.log_mel is not None:  # for what is to be prepared alike, without the corpus
            config["sample_rate_of_features"] = data.log_mel.sample_rate
        results = run(config, data, folder, resume)
    except (
        RunError,
        CorpusError,
        CheckpointError,
        FloatingPointError,
        DeviceError,
        OSError,
    ) as error:
        print(f"error: {error}", file=sys.stderr)
        begun = folder is None or (folder / CONFIG).exists()
        if not begun and distributed.rank() == 0:
            (folder / LOG).unlink(missing_ok=True)  # nothing was begun: leave no trace
            with contextlib.suppress(OSError):
                folder.rmdir()
        return 1
    except KeyboardInterrupt:  # outside training, or a second one inside it
        print("stopped", file=sys.stderr)
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
    from experiments.report import REPORT, write_report
    from experiments.trained import open_run

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
