"""k-means inertia against the number of clusters (paper, Fig. 3)."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pvae_pyro.figures.style import RC, new_figure


def inertia_figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A panel for each modality: the inertia curve, and a dotted line at the number of classes.

    Inertia is the sum of squared Euclidean distances to the closest centroid.

    Args: found: modality -> what `pvae_pyro.evaluate.num_classes.measure` returns: "inertia" at
        k = 1, 2, …, and "number".
    """
    figure = new_figure(3.2 * len(found), 2.3)
    with matplotlib.rc_context(RC):
        all_axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, result) in zip(all_axes, found.items(), strict=True):
            inertia, number = result["inertia"], result["number"]
            axes.plot(range(1, len(inertia) + 1), inertia, ".-", color="black", linewidth=1)
            axes.axvline(number, color="0.5", linestyle=":", label=f"classes: {number}")
            axes.set(title=name, xlabel="number of clusters", ylim=(0, 1.05 * max(inertia)))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
            axes.legend(framealpha=1, edgecolor="none")
        all_axes[0].set_ylabel("inertia")
    return figure
