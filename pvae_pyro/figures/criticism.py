"""Figures that criticise a model: predictive checks, and what importance weights are worth.

Shapes: B examples, K draws.
"""

from collections.abc import Collection, Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from pvae_pyro.figures.style import RC, new_figure
from pvae_pyro.inference_data import import_arviz, is_before_1

SAMPLE = ("chain", "draw", "example")
PREDICTIVE = {"posterior_predictive": "tab:blue", "prior_predictive": "tab:orange"}
GOOD_K = 0.7  # Vehtari et al. 2024 (arXiv:1507.02646)
_INSIDE = (0.05, 0.95)  # quantiles of the draws


def statistics(values: Any) -> dict[str, Any]:
    """Statistics of each example and draw, over its own entries alone: NaN is no entry.

        mean      of its entries; of a picture, how much ink there is
        sd        of its entries, around that mean
        energy    Σ x², of a sequence
        duration  frames, of a sequence

    values: a variable of `pvae_pyro.inference_data`, an `xarray.DataArray`. Returns statistic ->
    DataArray with its chain, draw and example. Units are those of the values.
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

    data: what `inference_data` returns. A p near 0 or 1 is a misfit. After the posterior it leans
    to 1/2, for each latent was inferred from the example it predicts; after the prior it does not.

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


def predictive_figure(data: Any, names: Collection[str]) -> Figure:
    """A row for each modality, a panel for each statistic: its density over examples.

    Black is observed; colours are all draws of the predictions, after the posterior and after the
    prior. p in the legend is `predictive_check`'s. Axes end at the 0.5 % and 99.5 % quantiles of
    all three.

    Raises ValueError without a modality.
    """
    if not names:
        raise ValueError("no modality to draw")
    checks = predictive_check(data, names)
    columns = max(map(len, checks.values()))
    figure = new_figure(1.9 * columns, 1.9 * len(names))
    with matplotlib.rc_context(RC):
        for row, name in enumerate(names):
            observed = statistics(data["observed_data"][name])
            drawn = {group: statistics(data[group][name]) for group in PREDICTIVE}
            for column, what in enumerate(observed):
                axes = figure.add_subplot(len(names), columns, 1 + row * columns + column)
                values = {group: np.ravel(drawn[group][what]) for group in PREDICTIVE}
                shown = [np.ravel(observed[what]), *values.values()]
                ends = np.array([np.quantile(some, (0.005, 0.995)) for some in shown])
                low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
                bins = np.linspace(low, high if high > low else low + 1, 30).tolist()
                for group, colour in PREDICTIVE.items():
                    p = checks[name][what][group]["p"]
                    label = f"{group.split('_')[0]}, p = {p:.2f}"
                    axes.hist(
                        np.clip(values[group], bins[0], bins[-1]), bins, density=True,
                        color=colour, alpha=0.45, label=label,
                    )  # fmt: skip
                axes.hist(
                    np.clip(shown[0], bins[0], bins[-1]), bins, density=True, histtype="step",
                    color="black", label="observed",
                )  # fmt: skip
                unit = " (frames)" if what == "duration" else ""
                axes.set(title=name if column == 0 else "", xlabel=f"{what}{unit}", yticks=[])
                axes.ticklabel_format(axis="x", scilimits=(-3, 4), useMathText=True)
                axes.legend(
                    loc="upper center", bbox_to_anchor=(0.5, -0.35), frameon=False, fontsize=6,
                    handlelength=1,
                )  # fmt: skip
    return figure


def pareto_k(log_weights: Tensor) -> np.ndarray:
    """Tail index k̂ of the importance weights of each example: ``[K, B]`` -> ``[B]``.

    A generalised Pareto distribution is fitted to the largest min(K / 5, 3 √K) weights. It has
    1/k moments: up to k = 0.7 estimates by importance weighting converge at a usable rate, above
    1 not even the mean exists, that is, q misses where the posterior is. K draws tell no k above
    1 - 1 / log10(K) from a harmless one. Infinite where there are too few weights to fit; 0 where
    all are within 1 % of each other.

    Source: Vehtari et al. 2024 (arXiv:1507.02646); ArviZ's `psislw`.
    """
    weights = log_weights.double().numpy(force=True)
    arviz = import_arviz()
    if is_before_1(arviz):
        _, found = arviz.psislw(weights.T)
    else:
        from arviz_stats.base import array_stats

        _, found = array_stats.psislw(-weights.T)  # which wants log-likelihoods to leave out
    return np.where(np.ptp(weights, axis=0) < 0.01, 0.0, np.where(np.isnan(found), np.inf, found))


def pareto_k_figure(found: Mapping[str, np.ndarray], num_samples: int) -> Figure:
    """A column for each target, e.g. a modality or all together: k̂ of each example, ``[B]``.

    Points beside each other are in the order of the examples; the bar is their median. The line is
    at 0.7, the dotted one at 1 - 1 / log10(K) where K draws tell no more than that. Those that are
    infinite stand as triangles on top. The axis is logarithmic above 1.

    Args:
        found: target -> what `pareto_k` returns.
        num_samples: K.

    Raises ValueError when there is none, or no k̂ is of any example.
    """
    if not found or not all(len(values) for values in found.values()):
        raise ValueError("no k of any example to draw")
    every = np.concatenate([*found.values()])
    top = max(1.2, 1.1 * float(every[np.isfinite(every)].max(initial=0)))
    figure = new_figure(1.2 + 1.5 * len(found), 2.8)
    with matplotlib.rc_context(RC):
        axes = figure.add_subplot()
        for n, values in enumerate(found.values()):
            place = n + np.linspace(-0.3, 0.3, len(values))
            finite = np.isfinite(values)
            axes.plot(place[finite], values[finite], ".", markersize=3, alpha=0.6)
            if not finite.all():
                infinite = np.full((~finite).sum(), top)
                axes.plot(place[~finite], infinite, "^", color="black", markersize=3, clip_on=False)
            axes.hlines(min(float(np.median(values)), top), n - 0.35, n + 0.35, color="black")
        axes.axhline(GOOD_K, color="tab:red", linewidth=1, label=f"k = {GOOD_K}")
        if (reliable := reliable_k(num_samples)) < GOOD_K:
            axes.axhline(
                reliable, color="tab:red", linewidth=1, linestyle=":",
                label=f"k = {reliable:.2f}, for {num_samples} draws",
            )  # fmt: skip
        labels = [
            f"{target}\n{100 * np.mean(values > GOOD_K):.0f} % above {GOOD_K}"
            for target, values in found.items()
        ]
        axes.set_xticks(range(len(found)), labels)
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set(ylabel="Pareto k of the importance weights", ylim=(min(0, every.min() - 0.1), top))
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False)
    return figure


def reliable_k(num_samples: int) -> float:
    """min(1 - 1 / log10(K), 0.7): the largest k that K draws are enough for; at least 0."""
    return max(0.0, min(1 - 1 / np.log10(max(num_samples, 2)), GOOD_K))
