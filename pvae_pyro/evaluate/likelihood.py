"""Log-likelihood of examples by importance weighting: joint, marginal and conditional.

Shapes: B examples of a batch, K draws.
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


class Estimate(NamedTuple):
    """What K weights say of each example, ``[B]`` each.

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

    x is the modalities `names`; the model makes no site of others. All sites of a modality count,
    for a sequence that of its duration, too. Which latents there are is read off the traces.
    Scales (`poutine.scale`, subsampling) weigh an objective and are no part of a density: they
    are left out; masks are heeded.

    q is the guide. Of several, it is their mixture in equal parts, with as many draws from each
    (multiple importance sampling with the balance heuristic; Veach & Guibas 1995,
    doi:10.1145/218380.218498). Whatever q looks at, the mean weight is p(x) in expectation: a
    guide may see modalities that are not in `names`. Its latents that the model then lacks are
    left out, which is right if no other latent of the guide depends on them.

    The latents of all draws are held, K B ΣD numbers; the model runs on as many draws at a time
    as `chunk` has room for, which does not change the result. The random state and the param
    store are left as they were.

    Args:
        model: called as ``model(batch, names=names)``, with the modalities `names` alone.
        guides: called as ``guide(batch)``, with the whole batch.
        names: all of the batch by default.
        num_samples: draws from each guide.
        chunk: examples decoded at a time; a single draw of the whole batch at least.

    Raises ValueError if a modality is not in the batch, if a latent is not in all of model and
    guides, but for those just named, or if a site is not in the plate of the batch, where it has
    no value of each example.
    """
    names = batch.keys() if names is None else names
    guides = [guides] if callable(guides) else guides
    if missing := set(names) - batch.keys():
        raise ValueError(f"not in the batch: {sorted(missing)}; there are {sorted(batch)}")
    size = batch_size(batch)
    if size < 1 or num_samples < 1:
        raise ValueError(f"{num_samples} draws of {size} examples: both must be positive")
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
                    raise ValueError(f"the model samples {sorted(alone)}, which a guide does not")
                log_p.append(_log_prob(joint, joint.nodes, count, size))
            used = {name: value for name, value in latents.items() if name in joint.nodes}
            if len(observed) == len(batch) and len(used) < len(latents):
                alone = latents.keys() - used.keys()
                raise ValueError(f"a guide samples {sorted(alone)}, which the model does not")
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
    """A trace of `count` draws at once, at the given latents."""
    with pyro.plate("draws", count, dim=-2), poutine.condition(data=latents):
        return prune_subsample_sites(poutine.trace(run).get_trace(*args, **kwargs))


def _log_prob(trace: Any, names: Collection[str], num_samples: int, size: int) -> Tensor:
    """Sum over the named sites, without their scales: ``[num_samples, size]``."""
    if missing := set(names) - {*trace.nodes}:
        raise ValueError(f"one guide samples {sorted(missing)}, and another does not")
    trace.compute_log_prob()
    parts = {
        name: scale_and_mask(trace.nodes[name]["unscaled_log_prob"], mask=trace.nodes[name]["mask"])
        for name in names
        if trace.nodes[name]["type"] == "sample"
    }
    shapes = {name: tuple(part.shape) for name, part in parts.items()}
    if set(shapes.values()) != {(num_samples, size)}:
        raise ValueError(
            f"every site must stand in the plate of the batch, with a value of each of {size} "
            f"examples and {num_samples} draws; got shapes {shapes}"
        )
    return torch.stack([*parts.values()]).sum(0)


def evaluate_likelihood(
    model: nn.Module,
    guide: nn.Module,
    batches: Iterable[Batch],
    *,
    num_samples: int = 50,
    seed: int = 0,
    chunk: int = 250,
) -> dict[str, Any]:
    """Log-likelihoods of a partition, in nats per example, as JSON has them.

        joint        log p(x^1, …, x^M), draws from `guide`
        marginal     log p(x^m), draws from `guide` and as many from ``guide.unimodal[m]``
        conditional  log p(x^{-m} | x^m) = log p(x^1, …, x^M) - log p(x^m)

    The first two are lower bounds (`Estimate`). The third is a difference of lower bounds and so
    *no bound*, neither a lower nor an upper one: it is too low by the slack of the joint's and too
    high by that of the marginal's, and right as K grows. Where an effective sample size is near
    1, slack can be tens of nats, more than what one modality tells of another: the conditional
    then means nothing. Two guides propose the marginal because a unimodal one alone is looser
    than `guide` where it was only taught to follow it; its bound is `log_weights` with it alone.

    All are densities, of values as the batches have them: after normalisation, that is. The
    duration of a sequence is part of it.

    Args:
        model, guide: of the same modalities, those of `guide.unimodal`; others of the batches are
            passed over. Where there is but one, its marginal is the joint and there is no
            conditional.
        batches: e.g. ``loader.epoch(0)``.
        num_samples, chunk: as of `log_weights`.
        seed: with the same batches, it fixes the result.

    Returns: ``{"num_examples", "num_samples", "seed", "joint": {…}, "marginal": {"a": {…}},
    "conditional": {"a|b": {…}}}``, "a,b|c" where there are more than two modalities. Each has
    "mean" and "se", the standard error of the mean over examples (None of a single example),
    and "effective_sample_size", a mean over examples (of the conditional, the lesser one of its
    two terms); joint and marginal have "elbo" besides, the `Estimate`'s mean.

    Raises ValueError without any example and as `log_weights`, and FloatingPointError where a
    likelihood is not finite.
    """
    unimodal: Any = guide.unimodal
    names = tuple(unimodal)
    proposals = {names: [guide]}
    for name in names:  # of one modality alone, the marginal is the joint
        proposals[(name,)] = [guide, unimodal[name]] if len(names) > 1 else [unimodal[name]]
    seeds = np.random.default_rng(seed)
    parts: dict[tuple[str, ...], list[Tensor]] = {target: [] for target in proposals}
    for batch in batches:
        if missing := set(names) - batch.keys():
            raise ValueError(f"not in the batch: {sorted(missing)}; there are {sorted(batch)}")
        batch = {name: batch[name] for name in names}
        noise = int(seeds.integers(2**63))
        for target, guides in proposals.items():
            weights = log_weights(
                model, guides, batch, target, num_samples=num_samples, seed=noise, chunk=chunk
            )
            parts[target].append(torch.stack(estimate(weights)).double().cpu())
    if not parts[names]:
        raise ValueError("the likelihood of no example at all")
    estimates = {target: Estimate(*torch.cat(some, 1)) for target, some in parts.items()}
    joint = estimates[names]
    conditional = {}
    for name in names if len(names) > 1 else ():
        given = estimates[(name,)]
        sizes = joint.effective_sample_size.mean(), given.effective_sample_size.mean()
        conditional[f"{','.join(other for other in names if other != name)}|{name}"] = {
            **_mean(joint.log_likelihood - given.log_likelihood),
            "effective_sample_size": min(sizes).item(),
        }
    return {
        "num_examples": len(joint.log_likelihood),
        "num_samples": num_samples,
        "seed": seed,
        "joint": _summary(joint),
        "marginal": {name: _summary(estimates[(name,)]) for name in names},
        "conditional": conditional,
    }


def _summary(values: Estimate) -> dict[str, float | None]:
    return {
        **_mean(values.log_likelihood),
        "elbo": values.elbo.mean().item(),
        "effective_sample_size": values.effective_sample_size.mean().item(),
    }


def _mean(values: Tensor) -> dict[str, float | None]:
    """Mean over examples ``[N]``, and its standard error."""
    if not values.isfinite().all():
        index = int((~values.isfinite()).nonzero()[0])
        raise FloatingPointError(f"the log-likelihood of example {index} is {values[index].item()}")
    size = len(values)
    return {
        "mean": values.mean().item(),
        "se": values.std().item() / math.sqrt(size) if size > 1 else None,
    }
