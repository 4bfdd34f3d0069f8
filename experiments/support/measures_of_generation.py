"""Measures of evaluate.py that generate: what is made by a run's model, judged and heard."""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from itertools import permutations
from typing import Any

import numpy as np
import torch
from torch import nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.synthesis import to_waveform
from pvae_pyro.data.cache import cache_dir
from pvae_pyro.data.corpus import CorpusError
from pvae_pyro.evaluate.coherence import coherence, style_swap
from pvae_pyro.evaluate.judges import cached_judge, judged
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.evaluate.recognise import DIGITS, recognition_accuracy
from pvae_pyro.evaluate.styles import diversity, style_kept
from pvae_pyro.evaluate.subsets import subsets
from pvae_pyro.experiments.support.saved_run import SavedRun
from pvae_pyro.figures.observations import panels
from pvae_pyro.generation import decode, shared_of


def generation(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Coherence, style swaps and what of a style is kept, by the same judges."""
    judges = _judges(run, options)
    arguments = (run.model, run.unimodal, judges, run.test, run.device)
    return {
        "coherence": coherence(*arguments, limit=options.limit),
        "style_swap": style_swap(*arguments, limit=options.limit),
        "styles": {
            "kept": style_kept(
                run.model,
                run.unimodal,
                run.test,
                run.device,
                speaker_judges=_speaker_judges(run, options),
                sounds=run.data.log_mels,
                limit=options.limit,
            ),
            "diversity": _diversity(run, options, judges),
        },
    }


def _judges(run: SavedRun, options: argparse.Namespace) -> dict[str, nn.Module]:
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


def _speaker_judges(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
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
    run: SavedRun, options: argparse.Namespace, judges: Mapping[str, nn.Module]
) -> dict[str, Any]:
    """Of translations of each modality into each other one, in styles from the prior: of those
    that are judged to be of the right class."""
    found = {}
    for source, target in permutations(run.names, 2):
        real = run.test[target]
        index = np.random.default_rng(0).permutation(len(run.test[source]))[: options.limit]
        content = run.test[source].take(index)
        locs = posterior_locs(run.unimodal[source], source, content, run.device)
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


def of_subsets(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
    """Of models of several modalities."""
    if len(run.names) < 2:
        return {"reason": "the model has one modality"}
    return subsets(
        run.model,
        run.guide,
        _judges(run, options),
        run.test,
        run.num_clusters,
        run.device,
        limit=options.limit,
    )


def recognised(run: SavedRun, options: argparse.Namespace) -> dict[str, Any]:
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
    locs = posterior_locs(run.unimodal[name], name, given, run.device)
    found = {"originals": given.observation(np.arange(len(given)))}
    own = {site: torch.from_numpy(z).to(run.device) for site, z in locs.items()}
    found["reconstructions"] = decode(run.model, own, [name])[name]
    for source in (n for n in run.names if n != name):
        content = run.test[source]
        content = content.take(np.random.default_rng(0).permutation(len(content))[: options.limit])
        of = posterior_locs(run.unimodal[source], source, content, run.device)
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
