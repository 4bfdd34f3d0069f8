"""Infer latents from some modalities, and generate modalities from latents.

Everything is taken at its mean, except latents that are drawn from their prior. For draws with
the observation noise use `pyro.infer.Predictive`.

Shapes: B examples, D dimensions of a latent.
"""

from collections.abc import Collection, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pvae_pyro.batch import Batch, Observation, batch_size


@torch.no_grad()
def infer(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Posterior means of a guide's latents: site -> ``[B, D]``. The random state is unchanged.

    The guide of a PVAE or a JMVAE infers from any of its modalities (`DispatchingGuide`), as it did
    in training, and a member of its `unimodal` from one.
    """
    with torch.random.fork_rng():
        return {name: site["fn"].mean for name, site in _latent_sites(guide, batch)}


@torch.no_grad()
def infer_moments(guide: nn.Module, batch: Batch) -> dict[str, tuple[Tensor, Tensor]]:
    """As `infer`, means and variances: site -> ``[B, D]`` each."""
    with torch.random.fork_rng():
        sites = _latent_sites(guide, batch)
        return {name: (site["fn"].mean, site["fn"].variance) for name, site in sites}


@torch.no_grad()
def draw(guide: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """One draw of a guide's latents: site -> ``[B, D]``."""
    return {name: site["value"] for name, site in _latent_sites(guide, batch)}


def _latent_sites(program: nn.Module, *args: Any, **kwargs: Any) -> list[tuple[str, Any]]:
    with pyro.get_param_store().scope():
        trace: Any = prune_subsample_sites(poutine.trace(program).get_trace(*args, **kwargs))
    return [(name, site) for name, site in trace.nodes.items() if site["type"] == "sample"]


def style_of(latents: Mapping[str, Tensor], modality: str) -> dict[str, Tensor]:
    """The latents of one modality: those called ``z_style_<modality>``."""
    return {site: z for site, z in latents.items() if site == f"z_style_{modality}"}


def shared_of(latents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The latents of no single modality: z_sem of a PVAE, z of a model without styles."""
    return {site: z for site, z in latents.items() if not site.startswith("z_style_")}


def sample(
    model: nn.Module, num_examples: int, names: Collection[str]
) -> tuple[dict[str, Observation], dict[str, Tensor]]:
    """Matching modalities generated from the prior, and their shared latents."""
    shared = shared_from_prior(model, num_examples)
    return decode(model, shared, names), shared


@torch.no_grad()
def shared_from_prior(model: nn.Module, num_examples: int) -> dict[str, Tensor]:
    """A draw of the shared latents from their prior: site -> ``[B, D]``."""
    sites = _latent_sites(model, names=(), num_examples=num_examples)  # no modality, so no style
    return {name: site["value"] for name, site in sites}


def translate(
    model: nn.Module,
    guide: nn.Module,
    batch: Batch,
    target: str,
    style: Observation | None = None,
) -> Observation:
    """Generate the target modality with the content of `batch` and the style of an example.

    batch: any modalities, ``[B, ...]``. style: an observation of the target modality, ``[B, ...]``
    or ``[1, ...]`` for all; None draws a style from the prior for each example. Raises ValueError
    if a style is given to a model that has none.
    """
    latents = shared_of(infer(guide, batch))
    if style is not None:
        own = style_of(infer(guide, {target: style}), target)
        if not own:
            raise ValueError(f"the model has no style of {target}")
        size = batch_size(batch)
        latents |= {site: z.expand(size, -1) if len(z) == 1 else z for site, z in own.items()}
    return decode(model, latents, [target])[target]


def restyle(
    model: nn.Module, guide: nn.Module, content: Observation, style: Observation, modality: str
) -> Observation:
    """The content of one example in the style of another, within one modality."""
    return translate(model, guide, {modality: content}, modality, style)


def interpolate(
    model: nn.Module,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    moved: Collection[str],
    names: Collection[str],
    steps: int = 8,
) -> dict[str, Observation]:
    """Move the latents `moved` from `start` to `end` along a straight line: ``[steps, ...]``.

    start, end: site -> ``[1, D]``; both ends are included, and other latents stay as in `start`.
    Raises ValueError for fewer than two steps, or a site that is not at both ends.
    """
    if steps < 2:
        raise ValueError(f"an interpolation needs at least two steps, not {steps}")
    if missing := set(moved) - (start.keys() & end.keys()):
        raise ValueError(f"no latent {sorted(missing)} at both ends: there are {sorted(start)}")
    latents = {}
    for site, z in start.items():
        weight = torch.linspace(0, 1, steps, device=z.device).unsqueeze(1) * (site in moved)
        latents[site] = torch.lerp(z.expand(steps, -1), end.get(site, z).expand(steps, -1), weight)
    return decode(model, latents, names)


@torch.no_grad()
def decode(
    model: nn.Module, latents: Mapping[str, Tensor], names: Collection[str], chunk: int = 500
) -> dict[str, Observation]:
    """The mean of p(x | z) given latents; latents that are not given are drawn from their prior.

    The given latents decide what it computes: the shared latent of another modality gives a
    translation; with another example's style, a translation in that style; all latents of one
    example give its reconstruction. Durations are at their means too.

    Args:
        latents: site -> ``[B, D]``, at least one.
        names: modalities to generate.
        chunk: examples at a time.

    Returns: modality -> observation, with lengths if it is a sequence. Raises ValueError without a
    latent, which would leave the number of examples unknown.
    """
    if not latents:
        raise ValueError("decode needs at least one latent")
    parts = []
    for start in range(0, len(next(iter(latents.values()))), chunk):
        some = {site: value[start : start + chunk] for site, value in latents.items()}
        with pyro.get_param_store().scope():
            parts.append(generated_means(model, some, names))
    return {name: _concatenated([part[name] for part in parts]) for name in names}


@torch.no_grad()
def mean_of_observed(
    model: nn.Module, latents: Mapping[str, Tensor], batch: Batch
) -> dict[str, Observation]:
    """As `decode`, of the batch's modalities and with its durations, to be compared with it.

    latents: site -> ``[B, D]``, all of these modalities. It computes in one chunk.
    """
    with pyro.get_param_store().scope(), poutine.condition(data=dict(latents)):
        trace: Any = poutine.trace(model).get_trace(batch, names=[*batch])
    return {
        name: Observation(trace.nodes[name]["fn"].mean, observation.lengths)
        for name, observation in batch.items()
    }


def generated_means(
    model: nn.Module, latents: Mapping[str, Tensor], names: Collection[str]
) -> dict[str, Observation]:
    """As `decode`, in one chunk and differentiable in latents and parameters, not in durations."""
    size = len(next(iter(latents.values())))
    with poutine.condition(data=dict(latents)), _TakeMeans(names):
        trace: Any = poutine.trace(model).get_trace(names=names, num_examples=size)
    sites = {name: trace.nodes[name] for name in names}
    return {
        name: Observation(site["value"], getattr(site["fn"], "lengths", None))
        for name, site in sites.items()
    }


class _TakeMeans(Messenger):
    """Sites called ``<modality>`` or ``<modality>_...`` take the means of their distributions."""

    def __init__(self, names: Collection[str]):
        super().__init__()
        self.names = names

    def _pyro_sample(self, msg: Any) -> None:
        of_modality = any(msg["name"] == n or msg["name"].startswith(f"{n}_") for n in self.names)
        if of_modality and not msg["is_observed"] and not msg["done"]:
            msg["value"], msg["done"] = msg["fn"].mean, True


def _concatenated(parts: list[Observation]) -> Observation:
    lengths = [part.lengths for part in parts if part.lengths is not None]
    return Observation(
        torch.cat([part.value for part in parts]), torch.cat(lengths) if lengths else None
    )
