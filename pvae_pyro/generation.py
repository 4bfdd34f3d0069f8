"""Infer latents from some modalities, and generate modalities from latents.

`decode` is the one that generates; `sample`, `reconstruct`, `translate`, `restyle` and
`interpolate` say what it is given. They take everything at its mean but what comes from a prior.
`predict` is `pyro.infer.Predictive`, for draws with the observation noise.

Shapes: B examples, D dimensions of a latent, S draws.
"""

from collections.abc import Collection, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import Predictive
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pvae_pyro.batch import Batch, Observation, batch_size


class _AtMeans(Messenger):
    """The sites of the named modalities take their distributions' means."""

    def __init__(self, names: Collection[str]):
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        of_modality = any(msg["name"] == n or msg["name"].startswith(f"{n}_") for n in self.names)
        if of_modality and not msg["is_observed"] and not msg["done"]:
            msg["value"], msg["done"] = msg["fn"].mean, True


@torch.no_grad()
def infer(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Posterior means of a guide's latents: site -> ``[B, D]``.

    The guide draws as it goes; the means do not depend on it, and the random state is left alone.
    """
    with torch.random.fork_rng():
        return {name: site["fn"].mean for name, site in _latent_sites(guide, batch)}


def infer_from(guide: Any, batch: Batch) -> dict[str, Tensor]:
    """As `infer`, by a guide with unimodal ones, `guide.unimodal`, from any of its modalities.

    One is left to its own guide, all of them to the guide itself, and any others to
    `product_of_experts`; a guide of all that sees what is missing can be asked by `infer`, but
    was found to be worse at it (docs/missing.md). Raises ValueError for a modality that is not
    the guide's.
    """
    if unknown := batch.keys() - guide.unimodal.keys():
        raise ValueError(f"no guide for {sorted(unknown)}: there are {list(guide.unimodal)}")
    if len(batch) == 1 or len(batch) == len(guide.unimodal):
        return infer(guide, batch)
    return product_of_experts(guide, batch)


@torch.no_grad()
def product_of_experts(guide: Any, batch: Batch) -> dict[str, Tensor]:
    """Means of the product of unimodal posteriors, of any number of modalities.

    For Gaussians and the prior N(0, I) that all of them contain it has

        precision  Λ = Σ_m 1/scale_m² - (n - 1), at least 1      mean  Σ_m loc_m/scale_m² / Λ

    with n modalities (Wu & Goodman 2018, arXiv:1802.05335, section 2.2; latents of one
    modality alone are that one's). Under another prior it takes each posterior relative to N(0, I)
    all the same, which is no longer exact.
    """
    found: dict[str, list[Any]] = {}
    with torch.random.fork_rng():
        for name, observation in batch.items():
            for site, node in _latent_sites(guide.unimodal[name], {name: observation}):
                found.setdefault(site, []).append(node["fn"])
    means = {}
    for site, factors in found.items():
        precisions = [1 / factor.variance for factor in factors]
        total = (sum(precisions) - (len(factors) - 1)).clamp(min=1.0)
        weighted = sum(p * factor.mean for p, factor in zip(precisions, factors, strict=True))
        means[site] = weighted / total if len(factors) > 1 else factors[0].mean
    return means


@torch.no_grad()
def draw(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """One draw of a guide's latents: site -> ``[B, D]``."""
    return {name: site["value"] for name, site in _latent_sites(guide, batch)}


def _latent_sites(guide: nn.Module, batch: Batch) -> list[tuple[str, dict[str, Any]]]:
    with pyro.get_param_store().scope():
        trace: Any = prune_subsample_sites(poutine.trace(guide).get_trace(batch))
    return [(name, site) for name, site in trace.nodes.items() if site["type"] == "sample"]


def style_of(latents: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """The latents that are a modality's own: those called ``z_style_<modality>``."""
    return {site: z for site, z in latents.items() if site == f"z_style_{modality}"}


def shared_of(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The latents that are of no modality: z_sem of a PVAE, the z of a model without styles."""
    return {site: z for site, z in latents.items() if not site.startswith("z_style_")}


def sample(
    model: nn.Module, num_examples: int, names: Collection[str]
) -> tuple[dict[str, Observation], dict[str, Tensor]]:
    """Modalities that belong together, from the prior; and the shared latents they are from."""
    shared = shared_from_prior(model, num_examples)
    return decode(model, shared, names), shared


@torch.no_grad()
def shared_from_prior(model: nn.Module, num_examples: int) -> dict[str, Tensor]:
    """A draw of the shared latents ``[B, D]``: what a model of no modality at all draws."""
    with pyro.get_param_store().scope():
        trace: Any = poutine.trace(model).get_trace(names=(), num_examples=num_examples)
    nodes: dict[str, Any] = prune_subsample_sites(trace).nodes
    return {name: site["value"] for name, site in nodes.items() if site["type"] == "sample"}


def reconstruct(model: nn.Module, guide: nn.Module, batch: Batch) -> dict[str, Observation]:
    """What the model makes of the batch's own latents."""
    return decode(model, infer_from(guide, batch), list(batch))


def translate(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    target: str,
    style: Observation | None = None,
) -> Observation:
    """The target modality, of the shared latent of `batch`, in the style of an example of it.

    batch: any modalities, ``[B, ...]``. style: of the target modality, ``[B, ...]`` or ``[1, ...]``
    for all; None draws one from the prior for each. With a batch of the target modality this
    is `restyle`. Raises ValueError where a style is given to a model that has none.
    """
    latents = shared_of(infer_from(guide, batch))
    if style is not None:
        own = style_of(infer_from(guide, {target: style}), target)
        if not own:
            raise ValueError(f"the model has no style of {target}")
        size = batch_size(batch)
        latents |= {site: z.expand(size, -1) if len(z) == 1 else z for site, z in own.items()}
    return decode(model, latents, [target])[target]


def restyle(
    model: nn.Module, guide: nn.Module, content: Observation, style: Observation, modality: str
) -> Observation:
    """The content of one example in the style of another, of one modality."""
    return translate(model, guide, {modality: content}, modality, style)


def interpolate(
    model: nn.Module,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    moved: Collection[str],
    names: Collection[str],
    steps: int = 8,
) -> dict[str, Observation]:
    """From `start` to `end` in the latents `moved`, the others as in `start`: ``[steps, ...]``.

    Along the straight line, ends included; start, end: site -> ``[1, D]``. Raises ValueError for
    fewer than two steps, or a site that is in neither.
    """
    if steps < 2:
        raise ValueError(f"an interpolation has two steps at least, not {steps}")
    if missing := set(moved) - (start.keys() & end.keys()):
        raise ValueError(f"no latent {sorted(missing)} at both ends: there are {sorted(start)}")
    latents = {}
    for site, z in start.items():
        weight = torch.linspace(0, 1, steps, device=z.device).unsqueeze(1) * (site in moved)
        latents[site] = torch.lerp(z.expand(steps, -1), end.get(site, z).expand(steps, -1), weight)
    return decode(model, latents, names)


def predict(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    num_samples: int,
    names: Collection[str] | None = None,
    chunk: int = 250,
) -> dict[str, Tensor]:
    """Draws of the posterior predictive, by `pyro.infer.Predictive`: site -> ``[S, B, ...]``.

    batch: what the guide infers from; it is not given back. names: modalities to generate, all
    by default. chunk: examples at a time, which bounds the memory of the model, not of what is
    returned; within one chunk this is ``Predictive(model, guide=guide, ...)(batch, observed=())``.
    """
    predictive = Predictive(model, guide=guide, num_samples=num_samples)
    parts: dict[str, list[Tensor]] = {}
    size = batch_size(batch)
    for start in range(0, size, chunk):
        some = {name: x.part(start, start + chunk) for name, x in batch.items()}
        with torch.no_grad(), pyro.get_param_store().scope():
            draws = predictive(some, names=names, observed=())
        for site, values in draws.items():
            parts.setdefault(site, []).append(values)
    return {site: torch.cat(values, 1) for site, values in parts.items()}


@torch.no_grad()
def decode(
    model: nn.Module, latents: Mapping[str, Tensor], names: Collection[str], chunk: int = 500
) -> dict[str, Observation]:
    """The mean of p(x | z), of the given latents; those not given are drawn from their prior.

    What is given decides what this is. The shared latent of another modality is a translation,
    in a style drawn from the prior; with a style besides, a translation in that style; the shared
    latent of one example and the style of another, a restyling; both of one, a reconstruction.
    Durations are at their means too, so nothing but a latent from its prior is random.

    Args:
        latents: site -> ``[B, D]``, at least one.
        names: modalities to generate. A site is a modality's if it is named as that, or so and
            an underscore before the rest.
        chunk: examples at a time.

    Returns: modality -> observation, with lengths where it is a sequence. Raises ValueError where
    no latent is given, for then there is no number of examples.
    """
    if not latents:
        raise ValueError("decode needs a latent at least")
    size = len(next(iter(latents.values())))
    parts: dict[str, list[Observation]] = {name: [] for name in names}
    for start in range(0, size, chunk):
        some = {site: value[start : start + chunk] for site, value in latents.items()}
        with pyro.get_param_store().scope():
            generated = means(model, some, names)
        for name in names:
            parts[name].append(generated[name])
    return {name: _joined(pieces) for name, pieces in parts.items()}


def means(
    model: nn.Module, latents: Mapping[str, Tensor], names: Collection[str]
) -> dict[str, Observation]:
    """As `decode`, at once, and differentiable in latents and parameters (durations are not)."""
    size = len(next(iter(latents.values())))
    with poutine.condition(data=dict(latents)), _AtMeans(names):
        trace: Any = poutine.trace(model).get_trace(names=names, num_examples=size)
    sites = {name: trace.nodes[name] for name in names}
    return {
        name: Observation(site["value"], getattr(site["fn"], "lengths", None))
        for name, site in sites.items()
    }


def _joined(parts: list[Observation]) -> Observation:
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Observation(
        torch.cat([part.value for part in parts]), torch.cat(lengths) if lengths else None
    )
