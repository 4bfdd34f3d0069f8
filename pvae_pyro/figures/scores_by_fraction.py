"""Scores of runs by the fraction that the runs differ in: of missing data, of known pairs."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

SCORES = ("purity z_sem", "coherence")


def scores_by_fraction_figure(runs: Sequence[Mapping[str, Any]], label: str) -> Figure:
    """Purity and coherence of translation, a panel each, against the fraction.

    runs: ``row``, a number, perhaps followed by a word, whose runs are a dashed series;
        ``figures``: name -> value in [0, 1]. Runs of one row are points; a line joins their means.
    label: of the fraction.
    """
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for axes, prefix in zip(figure.subplots(1, 2, sharey=True), SCORES, strict=True):
        series: dict[tuple[str, str], dict[float, list[float]]] = defaultdict(dict)
        for run in runs:
            fraction, _, kind = run["row"].partition(" ")
            for name, value in run["figures"].items():
                if name.startswith(prefix):
                    series[name, kind].setdefault(float(fraction), []).append(value)
        names = list(dict.fromkeys(name for name, _ in series))
        for (name, kind), values in series.items():
            colour, marker = f"C{names.index(name)}", "s" if kind else "o"
            x = sorted(values)
            for at in x:
                axes.plot([at] * len(values[at]), values[at], marker, color=colour, alpha=0.4)
            axes.plot(
                x, [np.mean(values[at]) for at in x], marker, ms=3, color=colour,
                linestyle="--" if kind else "-",
                label=f"{name.removeprefix(prefix)} {kind}".strip(),
            )  # fmt: skip
        axes.set(title=prefix, xlabel=label, ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small", loc="lower left")
    return figure
