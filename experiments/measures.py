"""What evaluate.py measures of a finished run: functions, and the keys of evaluation.json."""

import argparse
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import nn

from experiments.runs import RunError
from experiments.trained import STYLE, Trained
from pvae_pyro.data.cache import cache_dir
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.data.loader import PairedLoader
from pvae_pyro.evaluate.clustering import (
    clustering_scores,
    components_in_use,
    partition_scores,
)
from pvae_pyro.evaluate.coherence import coherence, style_swap
from pvae_pyro.evaluate.judges import cached_judge, judged
from pvae_pyro.evaluate.likelihood import evaluate_likelihood
from pvae_pyro.evaluate.num_classes import find_num_classes
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.evaluate.probes import group_probe, linear_probe
from pvae_pyro.evaluate.recognise import DIGITS, recognition_accuracy
from pvae_pyro.evaluate.retrieval import cross_modal_retrieval
from pvae_pyro.evaluate.run import evaluate_latents
from pvae_pyro.evaluate.styles import diversity, style_kept
from pvae_pyro.evaluate.subsets import subsets
from pvae_pyro.evaluate.unseen import unseen_classes
from pvae_pyro.figures.observations import panels
from pvae_pyro.generate import decode, shared_of
from pvae_pyro.modality import Observation
from pvae_pyro.sound import to_waveform

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


def prior_clusters(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
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
    """Coherence, style swaps and what of a style is kept, by the same judges."""
    judges = _judges(run, options)
    arguments = (run.model, run.guide.unimodal, judges, run.test, run.device)
    return {
        "coherence": coherence(*arguments, limit=options.limit),
        "style_swap": style_swap(*arguments, limit=options.limit),
        "styles": {
            "kept": style_kept(
                run.model,
                run.guide.unimodal,
                run.test,
                run.device,
                speaker_judges=_speaker_judges(run, options),
                sounds=run.data.log_mels,
                limit=options.limit,
            ),
            "diversity": _diversity(run, options, judges),
        },
    }


def _judges(run: Trained, options: argparse.Namespace) -> dict[str, nn.Module]:
    return {
        name: cached_judge(
            run.data.train[name],
            len(run.data.classes),
            cache_dir() / "judges",
            device=run.device,
            steps=options.judge_steps,
        )
        for name in run.names
    }


def _speaker_judges(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """Of modalities whose speakers are all in the training partition too, two or more."""
    found = {}
    for name in run.names:
        train, test = run.data.train[name], run.test[name]
        groups = sorted(set(train.groups))
        if len(groups) > 1 and set(test.groups) <= set(groups):
            labels = np.searchsorted(np.array(groups), np.array(train.groups))
            judge = cached_judge(
                replace(train, labels=labels),
                len(groups),
                cache_dir() / "judges",
                device=run.device,
                steps=options.judge_steps,
            )
            found[name] = judge, groups
    return found


def _diversity(
    run: Trained, options: argparse.Namespace, judges: Mapping[str, nn.Module]
) -> dict[str, Any]:
    """Of translations of each modality into each other one, in styles from the prior: of those
    that are judged to be of the right class."""
    found = {}
    for source, target in permutations(run.names, 2):
        real = run.test[target]
        index = np.random.default_rng(0).permutation(len(run.test[source]))[: options.limit]
        content = run.test[source].take(index)
        locs = posterior_locs(run.guide.unimodal[source], source, content, run.device)
        shared = shared_of({site: torch.from_numpy(z) for site, z in locs.items()})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            moved = {site: z.to(run.device) for site, z in shared.items()}
            made = decode(run.model, moved, [target])[target]
        right = np.flatnonzero(judged(judges[target], made, run.device) == content.labels)
        lengths = None if made.lengths is None else made.lengths[right]
        some = real.take(np.random.default_rng(1).permutation(len(real))[: options.limit])
        found[f"{source}->{target}"] = diversity(
            Observation(made.value[right], lengths),
            some.observation(np.arange(len(some))),
            content.labels[right],
            some.labels,
            real.normalisation,
            target in run.data.log_mels,
        )
    return found


def of_subsets(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """Of models of several modalities."""
    if len(run.names) < 2:
        return {"reason": "the model has one modality"}
    return subsets(
        run.model,
        run.guide,
        _judges(run, options),
        run.test,
        run.config["num_clusters"] or len(run.data.classes),
        run.device,
        limit=options.limit,
    )


def unseen(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """Of each latent and modality; of a run with --unseen-classes."""
    if not run.config["unseen_classes"]:
        return {"reason": "the run was trained on all classes"}
    classes = list(run.data.classes)
    left_out = [classes.index(label) for label in run.config["unseen_classes"]]
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


def recognised(run: Trained, options: argparse.Namespace) -> dict[str, Any]:
    """What a recogniser of words, trained on other recordings, hears: fractions of right classes.

    Of spoken digits alone. Everything is made of log-Mel features, also "originals": what is lost
    between a recording and these is lost for all. Elsewhere, and without pocketsphinx, a reason.
    """
    name = "speech"
    log_mel = run.data.log_mels.get(name)
    words = {word: label for word, label in DIGITS.items() if label in run.data.classes}
    if log_mel is None or name not in run.names or not set(run.data.classes) <= set(words.values()):
        return {"reason": "only spoken digits are recognised"}
    given = run.data.test[name]
    given = given.take(np.random.default_rng(0).permutation(len(given))[: options.limit])
    labels = {name: given.labels}
    locs = posterior_locs(run.guide.unimodal[name], name, given, run.device)
    found = {"originals": given.observation(np.arange(len(given)))}
    own = {site: torch.from_numpy(z).to(run.device) for site, z in locs.items()}
    found["reconstructions"] = decode(run.model, own, [name])[name]
    for source in (n for n in run.names if n != name):
        content = run.test[source]
        content = content.take(np.random.default_rng(0).permutation(len(content))[: options.limit])
        of = posterior_locs(run.guide.unimodal[source], source, content, run.device)
        shared = shared_of({site: torch.from_numpy(z).to(run.device) for site, z in of.items()})
        with torch.random.fork_rng():
            torch.manual_seed(0)
            found[f"from {source}"] = decode(run.model, shared, [name])[name]
        labels[f"from {source}"] = content.labels
    heard: dict[str, Any] = {}
    try:
        for what, x in found.items():
            energies = panels(x, given.normalisation)
            sounds = [to_waveform(np.ascontiguousarray(e.T), log_mel) for e in energies]
            right = [run.data.classes[k] for k in labels.get(what, given.labels)]
            heard[what] = recognition_accuracy(
                [(sound, log_mel.sample_rate) for sound in sounds], right, words
            )
    except CorpusError as error:  # no pocketsphinx
        return {"reason": str(error)}
    chance = 1 / len(set(words.values()))
    return {**heard, "chance": chance, "num_examples": {k: len(x.value) for k, x in found.items()}}


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
    "prior_clusters": prior_clusters,
    "probes": probes,
    "retrieval": retrieval,
    "generation": generation,
    "subsets": of_subsets,
    "unseen": unseen,
    "recognised": recognised,
    "log_likelihood": log_likelihood,
}
KEYS = {
    "clustering": CLUSTERING,
    "generation": ("coherence", "style_swap", "styles"),
    **{
        name: (name,)
        for name in (
            *("num_classes", "prior_clusters", "probes", "retrieval", "subsets", "unseen"),
            *("recognised", "log_likelihood"),
        )
    },
}
