"""Train and score a run: what happens between its configuration and its results.json."""

import logging
import time
from collections import Counter
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pvae_pyro import distributed
from pvae_pyro.data.augment import augmentations
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.data.paired import PairedData
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.evaluate.clustering import evaluate_latents
from pvae_pyro.evaluate.run import evaluate_terms
from pvae_pyro.experiments.support.build import build, gaps, presence
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.config import Config
from pvae_pyro.experiments.support.data import normalisation_tensors
from pvae_pyro.experiments.support.results import not_scored
from pvae_pyro.experiments.support.run_folder import REPORT
from pvae_pyro.experiments.support.saved_run import (
    CONFIG,
    FIT,
    FRAMING,
    RESULTS,
    check_same,
    check_size,
    staying,
)
from pvae_pyro.io.files import write_whole
from pvae_pyro.io.provenance import environment, write_json
from pvae_pyro.models.fitting import fit as fit_priors
from pvae_pyro.models.fitting import install
from pvae_pyro.models.priors import StandardNormal
from pvae_pyro.nn.picture_layers import MNIST
from pvae_pyro.svi import SVI
from pvae_pyro.training.checkpoint import CHECKPOINT, add_extra
from pvae_pyro.training.loop import fit

log = logging.getLogger("pvae_pyro")

_EPOCHS_TO_FIT = 4  # epochs of new pairs whose posteriors the priors are fitted to


def train_and_score(
    config: Config, data: PairedData, folder: Path, resume: bool
) -> dict[str, Any] | None:
    """The content of results.json; None if interrupted, and in all processes but the first.

    Raises RunError if the model does not fit the checkpoint that is to be resumed, or if there are
    fewer examples to score than clusters.
    """
    made_by = environment()  # now, because a commit may be made during training
    num_clusters = _num_clusters(config, data)
    if resume:
        check_size(config, folder)
        check_same(config, folder)
    svi = build(config)
    loader = partial(
        data.loader,
        batch_size=config.batch_size,
        seed=config.seed,
        device=config.device,
        names=config.modelled,
    )
    present = presence(config, data)
    varied = {name: data.train[name] for name in config.augment if name in config.modelled}
    changes = augmentations(varied, data.log_mels, config.max_frames)
    anew = config.pairs == "anew"
    train = loader("train", presence=present, anew=anew, augment=changes)
    # Shuffled too: in a corpus sorted by class, a batch would have negatives of one class.
    test = loader("test", part=(0, 1))
    num_complete = train.num_examples if present is None else present.num_complete
    counts = {"train": train.num_examples, "complete": num_complete, "test": test.num_examples}
    num_weights = sum(parameter.numel() for parameter in svi.parameters())
    log.info(
        f"{data.corpus}\n{counts['train']} training examples an epoch ({num_complete} complete), "
        f"{counts['test']} test examples, {config.epochs} epochs of {len(train)} steps, "
        f"{num_weights / 1e6:.1f} M parameters on {config.device}, "
        f"processes: {distributed.world_size()}"
    )
    assert config.epochs is not None
    progress = fit(
        svi,
        train,
        num_epochs=config.epochs,
        folder=folder,
        resume=resume,
        extra={**normalisation_tensors(data), **_framing(config, data)},
        config=staying(config),
        warm_up_steps=config.warm_up_steps,
        checkpoint_seconds=config.checkpoint_seconds,
        skip_bad_batches=config.skip_bad_batches,
        on_start=partial(_begin, config, folder),
    )
    if progress.interrupted or distributed.rank() > 0:
        return None
    started = time.monotonic()
    test_terms = evaluate_terms(svi, test)
    fit_of_priors: dict[str, Any] = {}
    if config.fit_prior and isinstance(svi.model.prior, StandardNormal):
        log.info("fit of the priors …")
        whole = loader("train", presence=present, anew=anew, part=(0, 1))
        components = _fit_priors(svi, whole, folder)
        fit_of_priors = {"components": components, "test_terms": evaluate_terms(svi, test)}
    guides = dict(svi.guide.unimodal.items())  # type: ignore[operator, union-attr]
    latents = evaluate_latents(guides, data.test, num_clusters, config.device)
    results = {
        **latents,
        "test_terms": test_terms,
        "fit": fit_of_priors,
        **{n: getattr(config, n) for n in ("dataset", "model", "preset", "seed", "device")},
        "corpus": data.corpus,
        "stand_in": data.stand_in,
        "classes": list(data.classes),
        "not_scored": not_scored(data.classes),
        "remarks": [*data.remarks, *gaps(config)],
        "left_out": Counter(problem.kind for problem in data.problems),
        "processes": distributed.world_size(),
        "epochs": progress.epoch,
        "steps": progress.step,
        "skipped_batches": progress.skipped,
        "config": config.model_dump(mode="json"),
        "num_examples": counts,
        "seconds_training": round(progress.seconds, 1),
        "seconds_evaluating": round(time.monotonic() - started, 1),
        **made_by,
    }
    write_json(folder / RESULTS, results)
    return results


def _fit_priors(svi: SVI, loader: PairedLoader, folder: Path) -> dict[str, int]:
    """Fit the priors to the training examples, install them, and keep them in the checkpoint.

    Returns the number of components of each mixture.
    """
    epochs = (loader.epoch(epoch) for epoch in range(_EPOCHS_TO_FIT))
    fitted = fit_priors(svi.guide, chain.from_iterable(epochs))
    add_extra(folder / CHECKPOINT, {f"{FIT}{name}": tensor for name, tensor in fitted.items()})
    install(svi.model, svi.guide, fitted)
    weights = {name: tensor for name, tensor in fitted.items() if name.endswith(".weights")}
    return {name.removesuffix(".weights"): len(tensor) for name, tensor in weights.items()}


def _num_clusters(config: Config, data: PairedData) -> int:
    number = config.num_clusters or len(data.classes)
    scored = min(len(data.test[name]) for name in config.modelled)
    if number > scored:
        raise RunError(
            f"--num-clusters is {number}, but only {scored} test examples can be clustered"
        )
    return number


def _framing(config: Config, data: PairedData) -> dict[str, Tensor]:
    """The framing of the training pictures, to which generate.py brings a user's own pictures.

    Colour and larger pictures, which may be photographs, have none.
    """
    if "image" not in config.modelled or config.image_shape != MNIST:
        return {}
    framing = Framing.measured(data.train["image"].values[:, 0])
    return {FRAMING: torch.tensor(framing.numbers())} if framing else {}


def _begin(config: Config, folder: Path) -> None:
    write_whole(folder / CONFIG, (config.model_dump_json(indent=2) + "\n").encode())
    for name in (RESULTS, REPORT):  # they describe earlier weights
        (folder / name).unlink(missing_ok=True)
