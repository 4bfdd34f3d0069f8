"""How well each subset of the modalities determines the shared latent and what it generates."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.pairing import pair_by_class
from pvae_pyro.evaluate.chance import agreement
from pvae_pyro.evaluate.clustering import clustering_scores
from pvae_pyro.evaluate.judges import class_judges, judged
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun
from pvae_pyro.generation import decode, infer, shared_of

Infer = Callable[[Batch], dict[str, Tensor]]


def measure(run: TrainedRun, settings: MeasureSettings, seed: int = 0) -> dict[str, Any]:
    """Scores of the shared latent inferred from every subset of the modalities.

    Test examples of the modalities are in the complete pairs that are known, or else paired by
    class; at most `settings.limit` tuples are used.
    seed: of their choice, and of styles.

    Returns "a+b" -> method of inference -> purity of the shared latent's means, and coherence:
    target -> fraction of its generated examples, in a style from the prior, that its judge gives
    the class; and their chance levels, purity_chance and coherence_chance. Methods: "product", of
    the unimodal posteriors (`DispatchingGuide.product`); for all modalities also "multimodal".
    """
    if len(run.names) < 2:
        return {"reason": "the model has one modality"}
    judges, device = class_judges(run, settings), run.device
    known = run.data.pairs.get("test")
    tuples = _tuples(run.test, known, settings.limit, seed)
    if not all(map(len, tuples.values())):
        return {"reason": "no test pair has all modalities"}
    labels = next(iter(tuples.values())).labels
    names = list(tuples)
    result: dict[str, Any] = {}
    for subset in (s for n in range(len(names)) for s in combinations(names, n + 1)):
        targets = [name for name in names if name not in subset] or names
        found = result["+".join(subset)] = {}
        for method, infer_by in _methods(run.guide, len(subset) == len(names)).items():
            parts = [shared_of(infer_by(batch)) for batch in _batches(tuples, subset, device)]
            shared = {site: torch.cat([part[site] for part in parts]) for site in parts[0]}
            locs = torch.cat(list(shared.values()), -1).cpu().numpy()
            scores = clustering_scores(locs, labels, min(run.num_clusters, len(labels)))
            coherent, by_chance = {}, {}
            for target in targets:
                with torch.random.fork_rng():
                    torch.manual_seed(seed)
                    made = decode(run.model, shared, [target])[target]
                judgement = judged(judges[target], made, device)
                coherent[target], by_chance[target] = agreement(judgement, labels)
            found[method] = {
                "purity": scores["purity"],
                "purity_chance": scores["purity_chance"],
                "coherence": coherent,
                "coherence_chance": by_chance,
            }
    return result


def _methods(guide: Any, complete: bool) -> dict[str, Infer]:
    def product(batch: Batch) -> dict[str, Tensor]:
        return {site: q.mean for site, q in guide.product(batch).items()}

    methods: dict[str, Infer] = {"product": torch.no_grad()(product)}
    if complete:
        methods["multimodal"] = lambda batch: infer(guide, batch)
    return methods


def _tuples(
    test: Mapping[str, Examples], known: Mapping[str, np.ndarray] | None, limit: int, seed: int
) -> dict[str, Examples]:
    """At most `limit` examples of each modality; those at one position have one class."""
    if known is None:
        pairs = pair_by_class({name: x.labels for name, x in test.items()}, seed, 0)
    else:
        complete = np.logical_and.reduce([known[name] >= 0 for name in test])
        pairs = {name: known[name][complete] for name in test}
    number = len(next(iter(pairs.values())))
    chosen = np.random.default_rng(seed).permutation(number)[:limit]
    return {name: test[name].take(index[chosen]) for name, index in pairs.items()}


def _batches(
    tuples: Mapping[str, Examples],
    names: tuple[str, ...],
    device: torch.device | str,
    size: int = 500,
) -> Iterator[Batch]:
    number = len(next(iter(tuples.values())))
    for start in range(0, number, size):
        index = np.arange(start, min(start + size, number))
        yield {name: tuples[name].observation(index).to(device) for name in names}
