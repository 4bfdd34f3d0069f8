"""Scores of runs by the fraction that the runs differ in: of missing data, of known pairs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

OF_INTEREST = ("purity z_sem", "coherence")


def scores_by_fraction_figure(runs: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """Purity and coherence of translation, a panel each, against the fraction.

    runs: ``row``, a number, perhaps with a word after it, which makes a series of its own, dashed;
        ``figures``: name -> value in [0, 1]. Several of one row are drawn each, and a line goes
        through their means.
    label: of the fraction.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots(1, len(OF_INTEREST), sharey=True)
    for axis, prefix in zip(axes, OF_INTEREST, strict=True):
        names = dict.fromkeys(n for run in runs for n in run["figures"] if n.startswith(prefix))
        for colour, name in enumerate(names):
            points: dict[str, dict[float, list[float]]] = {}
            for run in runs:
                fraction, _, kind = run["row"].partition(" ")
                of_kind = points.setdefault(kind, {})
                if name in run["figures"]:
                    of_kind.setdefault(float(fraction), []).append(run["figures"][name])
            for kind, values in points.items():
                x = sorted(values)
                every = [(at, value) for at in x for value in values[at]]
                mark = "s" if kind else "o"
                axis.plot(*zip(*every, strict=True), mark, color=f"C{colour}", alpha=0.4, ms=5)
                axis.plot(
                    x,
                    [np.mean(values[at]) for at in x],
                    f"{'--' if kind else '-'}{'s' if kind else 'o'}",
                    ms=3,
                    color=f"C{colour}",
                    label=" ".join([name.removeprefix(prefix).strip(), kind]).strip(),
                )
        axis.set(title=prefix, xlabel=label, ylim=(0, 1.02))
        axis.grid(alpha=0.3)
        axis.legend(fontsize="small", loc="lower left")
    return figure
