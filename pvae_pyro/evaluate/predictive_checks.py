"""Criticism of a model by predictive checks."""

from collections.abc import Collection
from typing import Any

SAMPLE = ("chain", "draw", "example")
PREDICTIVE = ("posterior_predictive", "prior_predictive")
_INSIDE = (0.05, 0.95)  # quantiles of the draws


def statistics(values: Any) -> dict[str, Any]:
    """Statistics of each example and draw, over its own entries; NaN is padding.

        mean      of the entries; of a picture, the amount of ink
        sd        of the entries, around that mean
        energy    Σ x², of a sequence
        duration  frames, of a sequence

    values: a variable of `pvae_pyro.inference_data`, an `xarray.DataArray`. Returns statistic ->
    DataArray over chain, draw and example, in the units of the values.
    """
    event = [dim for dim in values.dims if dim not in SAMPLE]
    found = {"mean": values.mean(event), "sd": values.std(event)}
    if frames := [dim for dim in event if str(dim).endswith("_frame")]:
        within = [dim for dim in event if dim not in frames]
        found["energy"] = (values**2).sum(event)
        found["duration"] = values.notnull().any(within).sum(frames)
    return found


def predictive_check(data: Any, names: Collection[str]) -> dict[str, Any]:
    """Observed statistics against predicted ones: modality -> statistic -> group -> figures.

        observed   mean over examples of the observed statistic
        predicted  the same of a replicate, averaged over draws; draws_sd: its sd over draws
        p          fraction of draws whose mean over examples is at least the observed one
        inside     fraction of examples whose observed statistic lies within the central 90 % of
                   its own draws

    data: what `inference_data` returns. A p near 0 or 1 is a misfit. The posterior's p is biased
    towards 1/2, since each latent was inferred from the example it predicts; the prior's is not.

    Source: Gelman, Meng & Stern 1996 (Statistica Sinica 6, 733-807).
    """
    found: dict[str, Any] = {}
    for name in names:
        observed = statistics(data["observed_data"][name])
        for group in PREDICTIVE:
            for what, drawn in statistics(data[group][name]).items():
                of_example = observed[what]
                replicates, mean = drawn.mean("example"), float(of_example.mean())
                low, high = (drawn.quantile(q, ["chain", "draw"]) for q in _INSIDE)
                found.setdefault(name, {}).setdefault(what, {})[group] = {
                    "observed": mean,
                    "predicted": float(replicates.mean()),
                    "draws_sd": float(replicates.std()),
                    "p": float((replicates >= mean).mean()),
                    "inside": float(((of_example >= low) & (of_example <= high)).mean()),
                }
    return found
