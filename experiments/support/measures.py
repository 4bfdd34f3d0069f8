"""What evaluate.py measures of a finished run: functions, and the keys of evaluation.json."""

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from pvae_pyro.batch import Batch
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.clustering import (
    clustering_scores,
    components_in_use,
    partition_scores,
)
from pvae_pyro.evaluate.likelihood import evaluate_likelihood
from pvae_pyro.evaluate.num_classes import find_num_classes
from pvae_pyro.evaluate.probes import group_probe, linear_probe
from pvae_pyro.evaluate.retrieval import cross_modal_retrieval
from pvae_pyro.evaluate.run import evaluate_latents
from pvae_pyro.evaluate.unseen import unseen_classes
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.measures_of_generation import generation, of_subsets, recognised
from pvae_pyro.experiments.support.results import STYLE
from pvae_pyro.experiments.support.saved_run import SavedRun

CLUSTERING = ("purity", "nmi", "ari", "hungarian", "active_units")
OPTIONS = ("limit", "judge_steps", "num_samples", "likelihood_examples")  # of how to measure


def clustering(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    return evaluate_latents(run.unimodal, run.test, run.num_clusters, run.device)


def num_classes(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Of the training partition, which has more examples; none of a latent hardly in use."""
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents("train").items():
        for name, locs in of_modality.items() if latent != STYLE else ():
            try:
                found.setdefault(latent, {})[name] = find_num_classes(locs)
            except ValueError as error:
                found.setdefault(latent, {})[name] = {"agreed": None, "reason": str(error)}
    return found


def prior_clusters(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """The test partition's posterior means of the shared latent, clustered by the prior.

    A cluster is a component of the prior, and holds the means that it is most responsible for;
    beside it k-means with as many clusters as there are components in use.
    """
    prior = getattr(run.model, "prior", None)
    responsibilities = getattr(prior, "responsibilities", None)
    if responsibilities is None:
        return {"reason": f"the prior is no mixture but a {type(prior).__name__}"}
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents().items():
        for name, locs in of_modality.items() if latent != STYLE else ():
            labels = run.test[name].labels
            shares = responsibilities(torch.as_tensor(locs, device=run.device)).cpu().numpy()
            use = components_in_use(shares)
            found.setdefault(latent, {})[name] = {
                **partition_scores(labels, shares.argmax(1)),
                **use,
                "components": shares.shape[1],
                "kmeans": clustering_scores(locs, labels, max(1, int(use["in_use"]))),
            }
    return found


def probes(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Of each latent and modality: the class, and the speaker (None where it is not known).

    Read off the posterior means, and off one sample of each posterior, which is what a decoder
    has seen in training. A mean may tell what a sample of the same posterior hides in its noise.
    """
    known, of = run.examples("train"), run.test
    found: dict[str, Any] = {}
    for suffix, find in (("", run.latents), ("_of_samples", run.samples)):
        train, test = find("train"), find("test")
        for latent, of_modality in test.items():
            for name, values in of_modality.items():
                at = train[latent][name], known[name], values, of[name]
                found.setdefault(latent, {}).setdefault(name, {}).update(
                    {
                        f"class{suffix}": linear_probe(at[0], at[1].labels, at[2], at[3].labels),
                        f"speaker{suffix}": group_probe(at[0], at[1].groups, at[2], at[3].groups),
                    }
                )
    return found


def retrieval(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    labels = {name: examples.labels for name, examples in run.test.items()}
    return {
        latent: cross_modal_retrieval(of_modality, labels)
        for latent, of_modality in run.latents().items()
        if latent != STYLE
    }


def unseen(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Of each latent and modality; of a run with --unseen-classes."""
    if not run.config.unseen_classes:
        return {"reason": "the run was trained on all classes"}
    classes = list(run.data.classes)
    left_out = [classes.index(label) for label in run.config.unseen_classes]
    for name, examples in run.test.items():
        is_unseen = np.isin(examples.labels, left_out)
        if is_unseen.all() or not is_unseen.any():
            which = "seen" if is_unseen.all() else "left out of training"
            return {"reason": f"no test example of {name} is of a class that was {which}"}
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents().items():
        for name, locs in of_modality.items():
            train, labels = run.examples("train")[name], run.test[name].labels
            at = run.latents("train")[latent][name], train.labels, locs, labels
            found.setdefault(latent, {})[name] = unseen_classes(*at, left_out)
        if latent != STYLE and len(of_modality) > 1:
            some = {name: np.isin(run.test[name].labels, left_out) for name in of_modality}
            found[latent]["retrieval"] = cross_modal_retrieval(
                {name: of_modality[name][some[name]] for name in some},
                {name: run.test[name].labels[some[name]] for name in some},
            )
    return found


def log_likelihood(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Of the first pairs of the test partition."""
    loader = PairedLoader(run.data.test, 32, device=run.device, names=run.names)
    batches: list[Batch] = []
    for batch in loader.epoch(0):
        if len(batches) * 32 >= options.likelihood_examples:
            break
        batches.append(batch)
    try:
        return evaluate_likelihood(run.model, run.guide, batches, num_samples=options.num_samples)
    except FloatingPointError as error:
        raise RunError(f"{run.folder}: {error}; the others are kept") from error


# What is measured together -> how. The keys of evaluation.json are those of `KEYS`.
MEASURES: dict[str, Callable[[SavedRun, argparse.Namespace], dict[str, Any]]] = {
    "clustering": clustering,
    "num_classes": num_classes,
    "prior_clusters": prior_clusters,
    "probes": probes,
    "retrieval": retrieval,
    "generation": generation,
    "subsets": of_subsets,
    "unseen": unseen,
    "recognised": recognised,
    "log_likelihood": log_likelihood,
}
_SEVERAL = {"clustering": CLUSTERING, "generation": ("coherence", "style_swap", "styles")}
KEYS = {name: _SEVERAL.get(name, (name,)) for name in MEASURES}
