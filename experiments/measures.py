"""What evaluate.py measures of a finished run: functions, and the keys of evaluation.json."""

import argparse
from collections.abc import Callable
from typing import Any

from experiments.runs import RunError
from experiments.trained import STYLE, Trained
from pvae_pyro.data.cache import cache_dir
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.coherence import coherence, style_swap
from pvae_pyro.evaluate.judges import cached_judge
from pvae_pyro.evaluate.likelihood import evaluate_likelihood
from pvae_pyro.evaluate.num_classes import find_num_classes
from pvae_pyro.evaluate.probes import group_probe, linear_probe
from pvae_pyro.evaluate.retrieval import cross_modal_retrieval
from pvae_pyro.evaluate.run import evaluate_latents

CLUSTERING = ("purity", "nmi", "ari", "hungarian", "active_units")
OPTIONS = ("limit", "judge_steps", "num_samples", "likelihood_examples")  # of how to measure


def clustering(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    num_clusters = run.config["num_clusters"] or len(run.data.classes)
    return evaluate_latents(run.guide.unimodal, run.test, num_clusters, run.device)


def num_classes(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """Of the training partition, which has more examples; none of a latent hardly in use."""
    found: dict[str, Any] = {}
    for latent, of_modality in run.latents("train").items():
        for name, locs in of_modality.items() if latent != STYLE else ():
            try:
                found.setdefault(latent, {})[name] = find_num_classes(locs)
            except ValueError as error:
                found.setdefault(latent, {})[name] = {"agreed": None, "reason": str(error)}
    return found


def probes(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
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


def retrieval(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    labels = {name: examples.labels for name, examples in run.test.items()}
    return {
        latent: cross_modal_retrieval(of_modality, labels)
        for latent, of_modality in run.latents().items()
        if latent != STYLE
    }


def generation(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """Coherence and style swaps, by the same judges."""
    judges = {
        name: cached_judge(
            run.data.train[name],
            len(run.data.classes),
            cache_dir() / "judges",
            device=run.device,
            steps=options.judge_steps,
        )
        for name in run.names
    }
    arguments = (run.model, run.guide.unimodal, judges, run.test, run.device)
    return {
        "coherence": coherence(*arguments, limit=options.limit),
        "style_swap": style_swap(*arguments, limit=options.limit),
    }


def log_likelihood(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """Of the first pairs of the test partition."""
    loader = PairedLoader(run.data.test, 32, device=run.device, names=run.names)
    batches = []
    for batch in loader.epoch(0):
        if len(batches) * 32 >= options.likelihood_examples:
            break
        batches.append(batch)
    try:
        return evaluate_likelihood(run.model, run.guide, batches, num_samples=options.num_samples)
    except FloatingPointError as error:
        raise RunError(f"{run.folder}: {error}; the others are kept") from error


# What is measured together -> how. The keys of evaluation.json are those of `KEYS`.
MEASURES: dict[str, Callable[[Trained, argparse.Namespace], dict[str, Any]]] = {
    "clustering": clustering,
    "num_classes": num_classes,
    "probes": probes,
    "retrieval": retrieval,
    "generation": generation,
    "log_likelihood": log_likelihood,
}
KEYS = {
    "clustering": CLUSTERING,
    "generation": ("coherence", "style_swap"),
    **{name: (name,) for name in ("num_classes", "probes", "retrieval", "log_likelihood")},
}
