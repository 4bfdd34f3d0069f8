"""Whether what is generated is of the right class, by judges trained on real data.

A judge maps an `Observation` of its modality to logits ``[B, K]`` (`pvae_pyro.evaluate.judges`).
`unimodal` are the guides of one modality each. A latent is a modality's style if it is called
``z_style_<modality>``; the others are shared: z_sem of a PVAE, the z of a model without styles.
All latents are posterior means, given one modality, unless they are said to be from the prior.
"""

from collections.abc import Mapping
from itertools import combinations, permutations
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.batch import Observation
from pvae_pyro.data.examples import Examples
from pvae_pyro.evaluate.judges import judge_accuracy, judged
from pvae_pyro.evaluate.posterior import posterior_locs
from pvae_pyro.generation import decode, infer, shared_from_prior, shared_of, style_of

Latents = dict[str, Tensor]


def coherence(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    judges: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    device: torch.device | str = "cpu",
    *,
    seed: int = 0,
    limit: int = 1000,
) -> dict[str, Any]:
    """Translate, reconstruct and draw from the prior; the fractions of the right class.

    Args:
        unimodal: its keys are the modalities to look at. judges, test: of each of them.
        seed: of the choice of examples and of what is drawn from priors; the caller's random
            state is left alone.
        limit: at most so many examples of each modality, drawn at random; as many from the prior.

    Returns, with fractions in [0, 1] and ready for JSON:
        "a->b": for each ordered pair, of translations of a into b that judge b gives the source's
            label; the style is from its prior. Shi et al. 2019 (arXiv:1911.03393), section 4.
        "real_style": {"a->b"}: the same in the style of a random example of b, whatever its
            class; only where there are styles.
        "prior": {"a,b"}: of pairs generated from one shared latent of the prior and styles of
            theirs, on which the two judges agree.
        "reconstruction": {modality}: of reconstructions judged as their original's label: a
            ceiling of translation.
        "judge_accuracy": {modality}: on all real test examples.
        "num_examples": {modality: how many, "prior": how many}; and "seed".
    """
    names = list(unimodal)
    result: dict[str, Any] = {"judge_accuracy": {}, "reconstruction": {}, "real_style": {}}
    result |= {"prior": {}, "num_examples": {}, "seed": seed}
    some = {name: _some(test[name], limit, seed) for name in names}
    latents = {name: _latents(unimodal[name], name, some[name], device) for name in names}
    rng = np.random.default_rng(seed)

    def is_right(source: str, target: str, given: Latents) -> float:
        generated = decode(model, given, [target])[target]
        return float((judged(judges[target], generated, device) == some[source].labels).mean())

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for name in names:
            result["judge_accuracy"][name] = judge_accuracy(judges[name], test[name], device)
            result["num_examples"][name] = len(some[name])
            result["reconstruction"][name] = is_right(name, name, latents[name])
        for a, b in permutations(names, 2):
            shared = shared_of(latents[a])
            result[f"{a}->{b}"] = is_right(a, b, shared)
            if style := style_of(latents[b], b):
                index = torch.from_numpy(rng.integers(len(some[b]), size=len(some[a])))
                taken = {site: value[index.to(device)] for site, value in style.items()}
                result["real_style"][f"{a}->{b}"] = is_right(a, b, shared | taken)
        if len(names) > 1:
            shared = shared_from_prior(model, limit)
            pairs = decode(model, shared, names)
            found = {name: judged(judges[name], pairs[name], device) for name in names}
            result["num_examples"]["prior"] = limit
            for a, b in combinations(names, 2):
                result["prior"][f"{a},{b}"] = float((found[a] == found[b]).mean())
    return result


def style_swap(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    judges: Mapping[str, nn.Module],
    test: Mapping[str, Examples],
    device: torch.device | str = "cpu",
    *,
    seed: int = 0,
    limit: int = 1000,
) -> dict[str, dict[str, float | int | None]]:
    """Give each example a the style of another one b of its modality, and see what became of it.

    Arguments as of `coherence`. b is of any class and never a itself.

    Returns modality -> figure -> value, for modalities that have a style (so none of a model
    without):
        content_class: fraction judged as a's label.
        content_class_other, style_class_other: where the labels differ, the fractions judged as
            a's and as b's; None where they never do.
        style_follows: fraction whose own style, inferred again from what was generated, is nearer
            (Euclidean) to b's than to a's.
        num_examples, num_other: how many, and how many of them of different labels.
    """
    result: dict[str, dict[str, float | int | None]] = {}
    for name, guide in unimodal.items():
        some = _some(test[name], limit, seed)
        latents = _latents(guide, name, some, device)
        own = style_of(latents, name)
        if not own or len(some) < 2:
            continue
        # The next one around: the examples are in random order already.
        given = {site: value.roll(-1, 0) for site, value in own.items()}
        with torch.random.fork_rng():  # a model may have more to draw than a PVAE
            torch.manual_seed(seed)
            generated = decode(model, shared_of(latents) | given, [name])[name]
        content, style = some.labels, np.roll(some.labels, -1)
        found = judged(judges[name], generated, device)
        other = content != style
        again = style_of(_inferred(guide, name, generated), name)
        nearer = _distance(again, given) < _distance(again, own)
        result[name] = {
            "content_class": float((found == content).mean()),
            "content_class_other": _mean((found == content)[other]),
            "style_class_other": _mean((found == style)[other]),
            "style_follows": float(nearer.double().mean()),
            "num_examples": len(some),
            "num_other": int(other.sum()),
        }
    return result


def _some(examples: Examples, limit: int, seed: int) -> Examples:
    """At most `limit`, in random order."""
    return examples.take(np.random.default_rng(seed).permutation(len(examples))[:limit])


def _latents(
    guide: nn.Module, name: str, examples: Examples, device: torch.device | str
) -> Latents:
    locs = posterior_locs(guide, name, examples, device)
    return {site: torch.from_numpy(value).to(device) for site, value in locs.items()}


def _inferred(guide: nn.Module, name: str, generated: Observation, chunk: int = 500) -> Latents:
    """Posterior means of generated examples, `chunk` of them at a time."""
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(generated.value), chunk):
        for site, loc in infer(guide, {name: generated.part(start, start + chunk)}).items():
            parts.setdefault(site, []).append(loc)
    return {site: torch.cat(values) for site, values in parts.items()}


def _distance(a: Latents, b: Latents) -> Tensor:
    """Euclidean, over all dimensions of the sites of both, ``[B]``."""
    return torch.cat([a[site] - b[site] for site in a], -1).norm(dim=-1)


def _mean(right: np.ndarray) -> float | None:
    return float(right.mean()) if len(right) else None
