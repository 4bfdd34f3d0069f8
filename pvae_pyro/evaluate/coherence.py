"""Whether generated examples are of the right class, by judges trained on real data.

A judge maps an `Observation` of its modality to logits ``[B, K]`` (`pvae_pyro.evaluate.judges`).
Latents are posterior means given one modality, unless they are drawn from the prior.
"""

from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pvae_pyro.evaluate.judges import class_judges, judge_accuracy, judged
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun, some_of, tensor_locs
from pvae_pyro.generation import decode, shared_from_prior, shared_of, style_of


def measure(run: TrainedRun, settings: MeasureSettings, seed: int = 0) -> dict[str, Any]:
    """Fractions of the right class among translations, reconstructions and draws from the prior.

    Of at most `settings.limit` test examples of each modality, and as many draws from the prior.
    seed: of the choice and of the draws; the random state does not change.

    Returns, with fractions in [0, 1]:
        "a->b": for each ordered pair, of translations of a into b that judge b gives the source's
            label; the style is from its prior. Shi et al. 2019 (arXiv:1911.03393), section 4.
        "real_style": {"a->b"}: the same in the style of a random example of b, of any class;
            empty for a model without styles.
        "prior": {"a,b"}: of pairs generated from one shared latent and styles of the prior, on
            which the two judges agree.
        "reconstruction": {modality}: of reconstructions judged to be of their original's class: an
            upper limit for translations.
        "judge_accuracy": {modality}: on all real test examples.
        "num_examples": {modality: …, "prior": …}; and "seed".
    """
    model, names, test, device = run.model, run.names, run.test, run.device
    limit, judges = settings.limit, class_judges(run, settings)
    result: dict[str, Any] = {"judge_accuracy": {}, "reconstruction": {}, "real_style": {}}
    result |= {"prior": {}, "num_examples": {}, "seed": seed}
    some = {name: some_of(test[name], limit, seed) for name in names}
    latents = {name: tensor_locs(run.unimodal[name], name, some[name], device) for name in names}
    rng = np.random.default_rng(seed)

    def right(source: str, target: str, given: dict[str, Tensor]) -> float:
        generated = decode(model, given, [target])[target]
        return float((judged(judges[target], generated, device) == some[source].labels).mean())

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in names:
            result["judge_accuracy"][name] = judge_accuracy(judges[name], test[name], device)
            result["num_examples"][name] = len(some[name])
            result["reconstruction"][name] = right(name, name, latents[name])
        for a, b in permutations(names, 2):
            shared = shared_of(latents[a])
            result[f"{a}->{b}"] = right(a, b, shared)
            if style := style_of(latents[b], b):
                index = torch.from_numpy(rng.integers(len(some[b]), size=len(some[a])))
                taken = {site: value[index.to(device)] for site, value in style.items()}
                result["real_style"][f"{a}->{b}"] = right(a, b, shared | taken)
        if len(names) > 1:
            pairs = decode(model, shared_from_prior(model, limit), names)
            found = {name: judged(judges[name], pairs[name], device) for name in names}
            result["num_examples"]["prior"] = limit
            for a, b in combinations(names, 2):
                result["prior"][f"{a},{b}"] = float((found[a] == found[b]).mean())
    return result
