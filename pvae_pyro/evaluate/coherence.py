"""Whether generated examples are of the right class, by judges trained on real data.

A judge maps an `Observation` of its modality to logits ``[B, K]`` (`pvae_pyro.evaluate.judges`).
Latents are posterior means given one modality, unless they are drawn from the prior.
"""

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples
from pvae_pyro.evaluate.chance import agreement, chance_largest_share, largest_share
from pvae_pyro.evaluate.judges import class_judges, judged, judged_examples
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, some_of, tensor_locs
from pvae_pyro.evaluate.styles import diversity
from pvae_pyro.generation import decode, sample, shared_of, style_of


def measure(run: TrainedRun, settings: MeasureSettings, seed: int = 0) -> dict[str, Any]:
    """Fractions of the right class among translations, reconstructions and draws from the prior.

    Of at most `settings.limit` test examples of each modality, and as many draws from the prior.
    seed: of the choice and of the draws; the random state does not change.

    Returns, with fractions in [0, 1]:
        "a->b": for each ordered pair, of translations of a into b that judge b gives the source's
            label; the style is from its prior. Shi et al. 2019 (arXiv:1911.03393), section 4.
        "real_style": {"a->b"}: the same in the style of a random example of b, of any class;
            empty for a model without styles.
        "reconstruction": {modality}: of reconstructions judged to be of their original's class: an
            upper limit for translations.
        "judge_accuracy": {modality}: on all real test examples.
        "prior", "largest_class", "diversity": see `of_prior`. "before_fit": the same of the prior
            that the model was trained with, if another was fitted afterwards.
        "chance": the chance level of each fraction, nested in the same way: `chance_agreement` of
            what is judged with the labels.
        "num_examples": {modality: …, "prior": …}; and "seed".
    """
    model, names, test, device = run.model, run.names, run.test, run.device
    judges = class_judges(run, settings)
    result: dict[str, Any] = {"judge_accuracy": {}, "reconstruction": {}, "real_style": {}}
    chance: dict[str, Any] = {what: {} for what in result}
    some = {name: some_of(test[name], settings.limit, seed) for name in names}
    latents = {name: tensor_locs(run.unimodal[name], name, some[name], device) for name in names}
    rng = np.random.default_rng(seed)

    def right(source: str, target: str, given: dict[str, Tensor]) -> tuple[Any, Any]:
        generated = decode(model, given, [target])[target]
        return agreement(judged(judges[target], generated, device), some[source].labels)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in names:
            found = agreement(judged_examples(judges[name], test[name], device), test[name].labels)
            result["judge_accuracy"][name], chance["judge_accuracy"][name] = found
            found = right(name, name, latents[name])
            result["reconstruction"][name], chance["reconstruction"][name] = found
        for a, b in permutations(names, 2):
            pair, shared = f"{a}->{b}", shared_of(latents[a])
            result[pair], chance[pair] = right(a, b, shared)
            if style := style_of(latents[b], b):
                index = torch.from_numpy(rng.integers(len(some[b]), size=len(some[a])))
                taken = {site: value[index.to(device)] for site, value in style.items()}
                found = right(a, b, shared | taken)
                result["real_style"][pair], chance["real_style"][pair] = found
        drawn, _ = sample(model, settings.limit, names)
        if (before := run.model_before_fit) is not None:
            drawn_before, _ = sample(before, settings.limit, names)
            of_before = of_prior(run, drawn_before, some, judges)
            result["before_fit"], chance["before_fit"] = of_before
    sizes = {name: len(of) for name, of in some.items()} | {"prior": settings.limit}
    found_of_prior, chance_of_prior = of_prior(run, drawn, some, judges)
    chance |= chance_of_prior
    return result | found_of_prior | {"chance": chance, "num_examples": sizes, "seed": seed}


def of_prior(
    run: TrainedRun,
    drawn: Mapping[str, Observation],
    real: Mapping[str, Examples],
    judges: Mapping[str, nn.Module],
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Matching modalities that were drawn from the prior, beside real test examples.

    Returns, and then the chance level of each fraction:
        "prior": {"a,b"}: of pairs on which the two judges agree.
        "largest_class": {modality}: of the class that the judge finds most often. Its chance level
            is `chance_largest_share` of the test partition's labels.
        "diversity": {modality}: `styles.diversity` of the draws in which all judges find one class.
    """
    found = {name: judged(judges[name], of, run.device) for name, of in drawn.items()}
    every = np.stack(list(found.values()))
    agreed = np.flatnonzero((every == every[0]).all(0))
    result: dict[str, Any] = {"prior": {}, "largest_class": {}, "diversity": {}}
    chance: dict[str, Any] = {"prior": {}, "largest_class": {}}
    for a, b in combinations(found, 2):
        pair = f"{a},{b}"
        result["prior"][pair], chance["prior"][pair] = agreement(found[a], found[b])
    for name, classes in found.items():
        labels, of_all = real[name].labels, run.test[name].labels
        result["largest_class"][name] = largest_share(classes)
        chance["largest_class"][name] = chance_largest_share(of_all, len(classes))
        result["diversity"][name] = diversity(
            drawn[name].take(torch.from_numpy(agreed)),
            real[name].observation(np.arange(len(labels))),
            classes[agreed],
            labels,
            real[name].normalisation,
            name in run.data.log_mels,
        )
    return result, chance
