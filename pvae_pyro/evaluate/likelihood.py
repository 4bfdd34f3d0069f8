"""Log-likelihoods by importance weighting: joint, marginal, conditional, and if they are reliable.

Shapes: N examples, K draws.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from pvae_pyro.evaluate.importance import JOINT, Estimate, estimate, weights_by_target
from pvae_pyro.evaluate.pareto import pareto_k, reliable_k
from pvae_pyro.evaluate.run import MeasureSettings, TrainedRun

LEAST_EFFECTIVE = 0.1  # of K draws, in the median example
MOST_ABOVE = 0.1  # the share of examples whose Pareto k may be above `reliable_k`


def evaluate_likelihood(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """Log-likelihoods of a partition, in nats per example, ready for JSON.

        joint        log p(x^1, …, x^M)
        marginal     log p(x^m)
        conditional  log p(x^{-m} | x^m) = log p(x^1, …, x^M) - log p(x^m)

    Importance weighting gives lower bounds of the first two in expectation (`Estimate`). They are
    estimates only if the proposal covers the posterior (`why_unreliable`). The conditional is a
    difference of bounds and so *no bound*. All are densities of normalised values.

    Args: weights: target -> ``[K, N]``, what `weights_by_target` returns.

    Returns: ``{"num_examples", "joint": {…}, "marginal": {"a": {…}}, "conditional": {"a|b": {…}}}``
    with "a,b|c" for more than two modalities. Of one modality the marginal is the joint. Each has
    "reliable" and, over examples,

        mean, se               the estimate and its standard error (None of a single example)
        elbo                   the same bound with a single draw; not of a conditional
        effective_sample_size  median; of a conditional, the smaller one of its two terms
        pareto_k_above         the share whose Pareto k is above `reliable_k`; of a conditional, the
                               larger one of its two terms

    If it is not reliable, there is a "reason", and in place of mean and se "bound" and "bound_se",
    or "difference_of_bounds" and "difference_of_bounds_se" of a conditional.

    Raises FloatingPointError if a likelihood is not finite.
    """
    estimates = {target: estimate(some) for target, some in weights.items()}
    entries = {target: _entry(weights[target], one) for target, one in estimates.items()}
    names = [target for target in estimates if target != JOINT]
    joint = JOINT if len(names) > 1 else names[0]
    conditional = {}
    for name in names if len(names) > 1 else ():
        difference = estimates[joint].log_likelihood - estimates[name].log_likelihood
        terms = entries[joint], entries[name]
        reasons = [
            f"log p({target}) is not reliable: {entries[target]['reason']}"
            for target in (joint, name)
            if not entries[target]["reliable"]
        ]
        conditional[f"{','.join(other for other in names if other != name)}|{name}"] = {
            **_figures(mean_and_se(difference), "difference_of_bounds", next(iter(reasons), None)),
            "effective_sample_size": min(one["effective_sample_size"] for one in terms),
            "pareto_k_above": max(one["pareto_k_above"] for one in terms),
        }
    return {
        "num_examples": len(estimates[joint].log_likelihood),
        "joint": entries[joint],
        "marginal": {name: entries[name] for name in names},
        "conditional": conditional,
    }


def measure(run: TrainedRun, settings: MeasureSettings) -> dict[str, Any]:
    """`evaluate_likelihood` of the first pairs of the test partition; the reason without any."""
    try:
        batches = run.test_batches(settings.likelihood_examples)
    except ValueError as error:  # known pairs, none of them complete
        return {"reason": str(error)}
    weights = weights_by_target(run.model, run.guide, batches, num_samples=settings.num_samples)
    return {"num_samples": settings.num_samples, **evaluate_likelihood(weights)}


def why_unreliable(effective_sample_sizes: Tensor, k: np.ndarray, num_samples: int) -> str | None:
    """A sentence if the weights of N examples are no basis of an estimate, else None.

    An estimate is reliable if at most `MOST_ABOVE` of the examples have a Pareto k above
    `reliable_k`, and the median effective sample size is at least `LEAST_EFFECTIVE` K. Otherwise
    few draws have all the weight, and the mean says how loose the bound is rather than how likely
    the data are.

    Args: effective_sample_sizes, k: ``[N]``. num_samples: K.

    Source: Vehtari et al. 2024 (arXiv:1507.02646); the two shares are ours.
    """
    limit = reliable_k(num_samples)
    above, size = float((k > limit).mean()), effective_sample_sizes.median().item()
    if above <= MOST_ABOVE and size >= LEAST_EFFECTIVE * num_samples:
        return None
    return (
        f"Pareto k is above {limit:.2f} for {100 * above:.0f} % of the examples, and the median "
        f"effective sample size is {size:.1f} of {num_samples} draws, so this is only a bound"
    )


def _entry(log_weights: Tensor, values: Estimate) -> dict[str, Any]:
    """The entry of a joint or a marginal."""
    found = mean_and_se(values.log_likelihood)
    k, num_samples = pareto_k(log_weights), len(log_weights)
    reason = why_unreliable(values.effective_sample_size, k, num_samples)
    return {
        **_figures(found, "bound", reason),
        "elbo": values.elbo.mean().item(),
        "effective_sample_size": values.effective_sample_size.median().item(),
        "pareto_k_above": float((k > reliable_k(num_samples)).mean()),
    }


def _figures(found: dict[str, float | None], name: str, reason: str | None) -> dict[str, Any]:
    """Mean and standard error under the names of an estimate or, with a reason, of `name`."""
    if reason is None:
        return {"reliable": True, **found}
    bound = {name: found["mean"], f"{name}_se": found["se"]}
    return {"reliable": False, "reason": reason, **bound}


def mean_and_se(values: Tensor) -> dict[str, float | None]:
    """Mean over examples ``[N]``, and its standard error.

    Raises FloatingPointError if a value is not finite.
    """
    if not values.isfinite().all():
        index = int((~values.isfinite()).nonzero()[0])
        raise FloatingPointError(f"the log-likelihood of example {index} is {values[index].item()}")
    size = len(values)
    return {
        "mean": values.mean().item(),
        "se": values.std().item() / math.sqrt(size) if size > 1 else None,
    }
