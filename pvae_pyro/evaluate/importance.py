"""Importance weights of examples: of all modalities together, and of each alone.

Shapes: B examples of a batch, N of all batches, K draws.
"""

import math
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyro
import torch
from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import prune_subsample_sites
from torch import Tensor, nn

from pvae_pyro.batch import Batch, batch_size

JOINT = "joint"


class Estimate(NamedTuple):
    """Estimates of each example from its K weights, ``[B]`` each.

    log_likelihood: log 1/K Σ_k w_k, in nats. In expectation at most log p(x), and closer with
        every draw (Burda et al. 2016, arXiv:1509.00519, theorem 1).
    elbo: 1/K Σ_k log w_k, in nats: the same bound with a single draw, averaged over K of them.
    effective_sample_size: (Σ_k w_k)² / Σ_k w_k², 1 to K. Near 1 a single draw has all the
        weight, and log_likelihood is far below log p(x).
    """

    log_likelihood: Tensor
    elbo: Tensor
    effective_sample_size: Tensor


def estimate(log_weights: Tensor) -> Estimate:
    """The estimates of ``[K, B]`` log importance weights."""
    total = log_weights.logsumexp(0)
    return Estimate(
        total - math.log(len(log_weights)),
        log_weights.mean(0),
        (2 * total - (2 * log_weights).logsumexp(0)).exp(),
    )


@torch.no_grad()
def log_weights(
    model: Callable[..., Any],
    guides: Callable[..., Any] | Sequence[Callable[..., Any]],
    batch: Batch,
    names: Collection[str] | None = None,
    *,
    num_samples: int = 50,
    seed: int = 0,
    chunk: int = 250,
) -> Tensor:
    """log w_k = log p(x, z_k) - log q(z_k) of each example, z_k ~ q: ``[K, B]``, in nats.

    x is the modalities `names`, including the durations of sequences. Scales (`poutine.scale`,
    subsampling) weigh an objective and are no part of a density: they are left out; masks apply.

    q is the guide, or the mixture of several guides in equal parts with as many draws from each
    (multiple importance sampling with the balance heuristic; Veach & Guibas 1995,
    doi:10.1145/218380.218498). Whatever q looks at, the mean weight is p(x) in expectation, so a
    guide may see modalities that are not in `names`. Its latents that the model then lacks are
    left out, which is right if no other latent of the guide depends on them.

    The random state and the parameter store do not change.

    Args:
        model: called as ``model(batch, names=names)``, with the modalities `names` alone.
        guides: called as ``guide(batch)``, with the whole batch.
        names: all of the batch by default.
        num_samples: draws from each guide.
        chunk: examples that the model decodes at a time; it does not change the result.

    Raises ValueError if a modality is not in the batch, if model and guides have different
    latents (but for those just named), or if a site is outside the plate of the batch.
    """
    names = batch.keys() if names is None else names
    guides = [guides] if callable(guides) else guides
    if missing := set(names) - batch.keys():
        raise ValueError(f"not in the batch: {sorted(missing)}; there are {sorted(batch)}")
    size = batch_size(batch)
    observed = {name: batch[name] for name in names}
    step = max(1, chunk // size)
    weights = []
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        torch.manual_seed(seed)
        for proposal in [_trace(guide, num_samples, {}, batch) for guide in guides]:
            latents = {name: proposal.nodes[name]["value"] for name in proposal.stochastic_nodes}
            log_p = []
            for start in range(0, num_samples, step):
                some = {name: value[start : start + step] for name, value in latents.items()}
                count = min(step, num_samples - start)
                joint = _trace(model, count, some, observed, names=names)
                if alone := {*joint.stochastic_nodes}:
                    raise ValueError(f"the model samples {sorted(alone)}, but a guide does not")
                log_p.append(_log_prob(joint, joint.nodes, count, size))
            used = {name: value for name, value in latents.items() if name in joint.nodes}
            if len(observed) == len(batch) and len(used) < len(latents):
                alone = latents.keys() - used.keys()
                raise ValueError(f"a guide samples {sorted(alone)}, but the model does not")
            log_q = [
                _log_prob(_trace(guide, num_samples, used, batch), used, num_samples, size)
                for guide in guides
            ]
            mixture = torch.stack(log_q).logsumexp(0) - math.log(len(guides))
            weights.append(torch.cat(log_p) - mixture)
    return torch.cat(weights)


def _trace(
    run: Callable[..., Any], count: int, latents: dict[str, Tensor], *args: Any, **kwargs: Any
) -> Any:
    with pyro.plate("draws", count, dim=-2), poutine.condition(data=latents):
        return prune_subsample_sites(poutine.trace(run).get_trace(*args, **kwargs))


def _log_prob(trace: Any, names: Collection[str], num_samples: int, size: int) -> Tensor:
    """Sum over the named sites, without their scales: ``[num_samples, size]``."""
    if missing := set(names) - {*trace.nodes}:
        raise ValueError(f"one guide samples {sorted(missing)}, but another does not")
    trace.compute_log_prob()
    parts = {
        name: scale_and_mask(trace.nodes[name]["unscaled_log_prob"], mask=trace.nodes[name]["mask"])
        for name in names
        if trace.nodes[name]["type"] == "sample"
    }
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    if set(shapes.values()) != {(num_samples, size)}:
        raise ValueError(
            f"every site must be in the plate of the batch, with a value for each of {size} "
            f"examples and {num_samples} draws; got shapes {shapes}"
        )
    return torch.stack([*parts.values()]).sum(0)


def weights_by_target(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    num_samples: int = 50,
    seed: int = 0,
    chunk: int = 250,
) -> dict[str, Tensor]:
    """`log_weights` of all batches, for each target: ``[K, N]``, float64, on the CPU.

    The targets are "joint", with draws from `guide`, and each modality m alone, with draws from
    `guide` and as many from ``guide.unimodal[m]``: the unimodal guide alone gives a looser bound if
    it was only taught to follow `guide`. Of a guide of one modality there is that target alone.

    Args:
        model, guide: of the modalities in `guide.unimodal`; others of the batches are ignored.
        batches: e.g. ``loader.epoch(0)``.
        num_samples, chunk: see `log_weights`.
        seed: it fixes the result for the same batches.

    Raises ValueError if there is no example, and as `log_weights`.
    """
    unimodal: Any = guide.unimodal
    names = tuple(unimodal)
    if len(names) == 1:
        targets = {names[0]: (names, [unimodal[names[0]]])}
    else:
        targets = {JOINT: (names, [guide])}
        targets |= {name: ((name,), [guide, unimodal[name]]) for name in names}
    seeds = np.random.default_rng(seed)
    parts: dict[str, list[Tensor]] = {target: [] for target in targets}
    for batch in batches:
        batch = {name: batch[name] for name in names if name in batch}
        noise = int(seeds.integers(2**63))
        for target, (observed, guides) in targets.items():
            weights = log_weights(
                model, guides, batch, observed, num_samples=num_samples, seed=noise, chunk=chunk
            )
            parts[target].append(weights.double().cpu())
    if not parts[next(iter(targets))]:
        raise ValueError("there is no example whose likelihood could be estimated")
    return {target: torch.cat(some, 1) for target, some in parts.items()}
