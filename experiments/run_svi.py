"""Train a PVAE on spoken and written digits, and score its latents as the paper does.

    python experiments/run_svi.py --dataset tidigit                  # a stand-in, unless you own it
    PVAE_DATA=/my/data python experiments/run_svi.py --dataset fsdd  # real recordings
    python experiments/run_svi.py --resume runs/fsdd-quick-…         # go on after Ctrl-C

A run folder holds config.json (what was run, resolved), metrics.jsonl (a line an epoch),
checkpoint.safetensors, TensorBoard events, run.log and results.json.
"""

import argparse
import json
import logging
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from pvae_pyro.data.cache import data_root

from guides import PartitionedGuide
from models import PVAE, digit_modalities
from pvae_pyro.checkpoint import CheckpointError
from pvae_pyro.data.corpora.digits import DATASETS, LICENSED, PairedData, load_digits
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.evaluate.run import LATENTS, evaluate_latents, evaluate_terms
from pvae_pyro.results import environment, write_json
from pvae_pyro.svi import SVI
from pvae_pyro.train import CHECKPOINT, fit

log = logging.getLogger("pvae_pyro")

# `paper`: Hsu & Glass 2018, as far as its text survives (README, "Constants").
# `quick`: the same objective and images, a smaller LSTM, fewer epochs: minutes on two cores.
PRESETS: dict[str, dict[str, Any]] = {
    "paper": {"epochs": 400, "batch_size": 256, "num_cells": 512, "learning_rate": 1e-3},
    "quick": {"epochs": 60, "batch_size": 256, "num_cells": 256, "learning_rate": 1e-3},
}
# Table 1 of the paper, PVAE, purity in %: dataset -> latent -> modality.
PAPER = {
    "tidigit": {
        "z_sem": {"speech": 99.77, "image": 99.10},
        "z_style": {"speech": 24.79, "image": 20.63},
    },
    "secuvoice": {
        "z_sem": {"speech": 99.30, "image": 99.02},
        "z_style": {"speech": 25.78, "image": 21.81},
    },
}
INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--dataset",
        choices=DATASETS,
        default="tidigit",
        help="spoken digits, paired with MNIST: tidigit (English) and secuvoice (Spanish) are the "
        "paper's, licensed, and run on a synthetic stand-in here; fsdd is open and downloaded "
        "(default: tidigit)",
    )
    data.add_argument(
        "--require-corpus", action="store_true", help="fail rather than train on any stand-in"
    )
    data.add_argument(
        "--data",
        type=Path,
        default=None,
        help="folder of the corpora (default: $PVAE_DATA, else ./data)",
    )
    data.add_argument(
        "--limit",
        type=_positive(int),
        default=None,
        metavar="N",
        help="use at most N examples of each class and modality: for trying things out",
    )
    run = parser.add_argument_group("run")
    run.add_argument(
        "--preset",
        choices=("auto", *PRESETS),
        default="auto",
        help="paper: 512 LSTM cells, 400 epochs; quick: for two CPU cores; auto: paper on CUDA, "
        "else quick (default)",
    )
    run.add_argument(
        "--epochs", type=_positive(int), help="passes over the speech (default: preset's)"
    )
    run.add_argument("--batch-size", type=_positive(int), help="examples a step (default: 256)")
    run.add_argument(
        "--num-cells", type=_positive(int), help="cells of each LSTM (default: preset's)"
    )
    run.add_argument("--learning-rate", type=_positive(float), help="Adam's (default: 0.001)")
    run.add_argument("--seed", type=int, default=0, help="of weights, pairs and noise (default: 0)")
    run.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1, … (default: cuda if there)"
    )
    run.add_argument(
        "--out",
        type=Path,
        default=None,
        help="run folder (default: runs/<dataset>-<preset>-<time>)",
    )
    run.add_argument(
        "--resume",
        nargs="?",
        const=True,
        default=None,
        metavar="FOLDER",
        help="go on with the run in FOLDER (or in --out), with its own settings; only --epochs "
        "may be given besides",
    )
    model = parser.add_argument_group("model and objective")
    model.add_argument(
        "--alpha", type=_not_negative, default=1.0, help="weight of coherence (default: 1)"
    )
    model.add_argument(
        "--beta",
        type=_not_negative,
        default=100.0,
        help="weight of the contrastive hinge (default: 100)",
    )
    model.add_argument("--margin", type=float, default=0.5, help="of the hinge, eta (default: 0.5)")
    model.add_argument(
        "--length-scale", type=_positive(float), default=1.0, help="of the RBF kernel (default: 1)"
    )
    model.add_argument(
        "--semantic-dim", type=_positive(int), default=32, help="size of z_sem (default: 32)"
    )
    model.add_argument(
        "--style-dim", type=_positive(int), default=32, help="size of each z_style (default: 32)"
    )
    model.add_argument(
        "--speech-scale",
        type=_positive(float),
        default=1.0,
        help="observation scale of a normalised log-Mel coefficient (default: 1)",
    )
    model.add_argument(
        "--image-scale",
        type=_positive(float),
        default=1.0,
        help="observation scale of a pixel in [0, 1] (default: 1)",
    )
    model.add_argument(
        "--duration-scale",
        type=_not_negative,
        default=0.1,
        help="observation scale of log-duration; 0 leaves duration out of the model (default: 0.1)",
    )
    arguments = parser.parse_args(argv)
    if arguments.resume is True and arguments.out is None:
        parser.error("--resume without a folder needs --out")
    return arguments


def _positive(kind: type) -> Any:
    def convert(text: str) -> Any:
        value = kind(text)
        if not value > 0:
            raise argparse.ArgumentTypeError(f"{text} is not positive")
        return value

    return convert


def _not_negative(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is negative")
    return value


def resolve(arguments: argparse.Namespace) -> dict[str, Any]:
    """The whole configuration, with every default filled in: what config.json holds."""
    config = {k: v for k, v in vars(arguments).items() if k not in ("out", "resume", "data")}
    if config["device"] == "auto":
        config["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    if config["preset"] == "auto":
        config["preset"] = "paper" if config["device"].startswith("cuda") else "quick"
    for name, value in PRESETS[config["preset"]].items():
        if config[name] is None:
            config[name] = value
    return config


def build(config: dict[str, Any], data: PairedData) -> SVI:
    """Model, guide, objective and optimiser of a configuration."""
    pyro.set_rng_seed(config["seed"])
    modalities = digit_modalities(
        num_cells=config["num_cells"],
        max_frames=int(data.train["speech"].lengths.max()),
        speech_scale=config["speech_scale"],
        image_scale=config["image_scale"],
        duration_scale=config["duration_scale"] or None,
    )
    dims = {"semantic_dim": config["semantic_dim"], "style_dim": config["style_dim"]}
    model = PVAE(modalities, **dims).to(config["device"])
    guide = PartitionedGuide(modalities, **dims).to(config["device"])
    elbo = PartitionedELBO(
        alpha=config["alpha"],
        beta=config["beta"],
        margin=config["margin"],
        length_scale=config["length_scale"],
    )
    # β1 = 0.95 is that of the author's other papers' code.
    adam = partial(torch.optim.Adam, lr=config["learning_rate"], betas=(0.95, 0.999))
    return SVI(model, guide, adam, elbo)


def run(
    config: dict[str, Any], data: PairedData, folder: Path, resume: bool
) -> dict[str, Any] | None:
    """Train and score; returns the content of results.json, or None when interrupted."""
    svi = build(config, data)
    loaders = {
        split: PairedLoader(
            examples,
            config["batch_size"],
            seed=config["seed"],
            device=config["device"],
            shuffle=split == "train",
        )
        for split, examples in (("train", data.train), ("test", data.test))
    }
    parameters = sum(p.numel() for group in svi.optim.param_groups for p in group["params"])
    log.info(
        "%s\n%d training and %d test pairs; %d epochs of %d steps; %.1f M parameters on %s",
        data.corpus,
        loaders["train"].num_examples,
        loaders["test"].num_examples,
        config["epochs"],
        len(loaders["train"]),
        parameters / 1e6,
        config["device"],
    )
    normalisation = {
        f"{name}.{field}": torch.as_tensor(getattr(examples.normalisation, field))
        for name, examples in data.train.items()
        for field in ("loc", "scale")
    }
    progress = fit(
        svi,
        loaders["train"],
        num_epochs=config["epochs"],
        folder=folder,
        resume=resume,
        extra=normalisation,
    )
    if progress.interrupted:
        return None
    started = time.monotonic()
    svi.model.eval()
    svi.guide.eval()
    results = {
        **evaluate_latents(svi.guide.unimodal, data.test, data.num_classes, config["device"]),
        "test_terms": evaluate_terms(svi, loaders["test"]),
        "corpus": data.corpus,
        "stand_in": data.stand_in,
        "dataset": config["dataset"],
        "preset": config["preset"],
        "seed": config["seed"],
        "device": config["device"],
        "epochs": progress.epoch,
        "steps": progress.step,
        "seconds_training": round(progress.seconds, 1),
        "seconds_evaluating": round(time.monotonic() - started, 1),
        "config": config,
        **environment(),
    }
    write_json(folder / "results.json", results)
    return results


def table(results: dict[str, Any]) -> str:
    """Ours, with what shows whether a latent is in use at all, beside the paper's purity."""
    paper = PAPER.get(results["dataset"])
    corpus = ("STAND-IN: " if results["stand_in"] else "") + results["corpus"]
    lines = [
        "",
        f"Test partition, unimodal inference, k-means. Corpus: {corpus}",
        f"{'':18}  {'------------ this run ------------':34}   the paper's",
        f"{'latent':9}{'modality':9}  {'purity':>7}{'NMI':>7}{'ARI':>7}{'units':>6}{'KL':>7}"
        f"   {'purity on ' + results['dataset'].upper() if paper else '(not this corpus)'}",
    ]
    for latent in LATENTS:
        for name, value in results["purity"][latent].items():
            site = latent if latent == "z_sem" else f"z_style_{name}"
            nats = results["test_terms"][f"kl/{site}"]
            units = results["active_units"][latent][name]
            lines.append(
                f"{latent:9}{name:9}  {100 * value:6.2f}%{results['nmi'][latent][name]:7.3f}"
                f"{results['ari'][latent][name]:7.3f}{units:6d}{nats:7.1f}   "
                + (f"{paper[latent][name]:6.2f}%" if paper else "")
                + ("   <- not in use: its purity means nothing" if units == 0 else "")
            )
    lines += [
        "units: dimensions whose posterior mean varies; KL: of the multimodal guide to the prior, nats.",
        f"{results['steps']} steps in {results['seconds_training']:.0f} s",
    ]
    return "\n".join(lines)


def start_log(folder: Path) -> None:
    log.setLevel(logging.INFO)
    log.handlers.clear()
    for handler in (
        logging.StreamHandler(sys.stdout),
        logging.FileHandler(folder / "run.log", encoding="utf-8"),
    ):
        log.addHandler(handler)


def open_folder(arguments: argparse.Namespace) -> tuple[Path, dict[str, Any], bool]:
    """The run folder, its configuration, and whether there is training to go on with."""
    if arguments.resume is None:
        config = resolve(arguments)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = arguments.out or Path("runs") / f"{config['dataset']}-{config['preset']}-{stamp}"
        if (folder / "config.json").exists():
            raise CheckpointError(
                f"{folder} holds a run already: --resume {folder}, or another --out"
            )
        folder.mkdir(parents=True, exist_ok=True)
        resume = False
    else:
        folder = arguments.out if arguments.resume is True else Path(arguments.resume)
        try:
            config = json.loads((folder / "config.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(f"cannot resume {folder}: {error}") from error
        config["epochs"] = arguments.epochs or config["epochs"]
        resume = (folder / CHECKPOINT).exists()
    write_json(folder / "config.json", config)
    return folder, config, resume


def main(argv: list[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        folder, config, resume = open_folder(arguments)
        start_log(folder)
        log.info(
            "run folder %s, preset %s%s", folder, config["preset"], ", resumed" if resume else ""
        )
        data = load_digits(
            config["dataset"],
            arguments.data or data_root(),
            require_corpus=config["require_corpus"],
            limit=config["limit"],
        )
        results = run(config, data, folder, resume)
    except (CorpusError, CheckpointError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if results is None:
        log.info("stopped and saved; go on with: python experiments/run_svi.py --resume %s", folder)
        return INTERRUPTED
    log.info(table(results))
    if results["stand_in"]:
        wanted = config["dataset"].upper() if config["dataset"] in LICENSED else "the full corpus"
        log.info("Stand-in corpus: do not compare these figures with the paper's on %s.", wanted)
    log.info("results in %s", folder / "results.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
