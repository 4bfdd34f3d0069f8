"""What is inferred from some of the modalities, by the unimodal guides and by that of all."""

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Batch
from pvae_pyro.data.examples import Examples
from pvae_pyro.data.pairing import pair_by_class
from pvae_pyro.evaluate.clustering import clustering_scores
from pvae_pyro.evaluate.judges import judged
from pvae_pyro.generation import decode, infer, product_of_experts, shared_of


def subsets(
    model: nn.Module,
    guide: Any,
    judges: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    num_clusters: int,
    device: torch.device | str = "cpu",
    *,
    limit: int = 1000,
    seed: int = 0,
) -> dict[str, dict[str, Any]]:
    """Of every set of modalities, how well its shared latent tells the class.

    Args:
        guide: with `unimodal`, and `multimodal`, which is asked about parts of what it knows only
            if it was trained to see presence.
        judges: see `coherence`. test: the first modality leads the pairing by class.
        num_clusters: of k-means, if there are as many tuples.
        limit: at most so many tuples. seed: of the choice, and of styles.

    Returns "a+b" -> how it was inferred -> purity of the shared latent's means, and coherence:
    target -> fraction of what is generated of it, in a style from the prior, that its judge gives
    the class. How: "product" of experts, `product_of_experts`; "presence", the guide of all that
    sees what is there (of all modalities at once any guide of all: "multimodal").
    """
    tuples = _tuples(test, limit, seed)
    labels = next(iter(tuples.values())).labels
    names = list(tuples)
    result: dict[str, dict[str, Any]] = {}
    for size in range(1, len(names) + 1):
        for some in combinations(names, size):
            ways: dict[str, Callable[[Batch], dict[str, Tensor]]] = {
                "product": lambda batch: product_of_experts(guide, batch)
            }
            if size == len(names):
                ways["multimodal"] = lambda batch: infer(guide.multimodal, batch)
            elif guide.multimodal.sees_presence:
                ways["presence"] = lambda batch: infer(guide.multimodal, batch)
            found = result.setdefault("+".join(some), {})
            for way, infer_by in ways.items():
                parts = [shared_of(infer_by(b)) for b in _batches(tuples, some, device)]
                shared = {site: torch.cat([part[site] for part in parts]) for site in parts[0]}
                locs = torch.cat(list(shared.values()), -1).cpu().numpy()
                coherent = {}
                for target in (n for n in names if n not in some or len(some) == len(names)):
                    with torch.random.fork_rng():
                        torch.manual_seed(seed)
                        made = decode(model, shared, [target])[target]
                    right = judged(judges[target], made, device) == labels
                    coherent[target] = float(right.mean())
                purity = clustering_scores(locs, labels, min(num_clusters, len(labels)))["purity"]
                found[way] = {"purity": purity, "coherence": coherent}
    return result


def _tuples(test: Mapping[str, Examples], limit: int, seed: int) -> dict[str, Examples]:
    """At most `limit` examples of each modality that belong together, by class."""
    pairs = pair_by_class({name: x.labels for name, x in test.items()}, seed, 0)
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
