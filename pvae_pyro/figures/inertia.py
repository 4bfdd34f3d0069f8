"""k-means inertia against the number of clusters (paper, Fig. 3)."""

from collections.abc import Mapping
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pvae_pyro.figures.style import RC, new_figure

RINGS = ("tab:red", "tab:blue", "tab:green", "tab:purple")  # of the criteria, in their order


def inertia_figure(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A panel for each modality: the inertia curve, and the number that each criterion finds.

    Inertia is the sum of squared Euclidean distances to the closest centroid. Each criterion has a
    ring at its number; a number beyond the curve is only in the legend. The dotted line is at the
    number agreed on.

    Args: found: modality -> what `find_num_classes` returns: "inertia" at k = 1, 2, …,
        "criteria" (name -> k) and "agreed".
    """
    figure = new_figure(3.2 * len(found), 2.3)
    with matplotlib.rc_context(RC):
        all_axes = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, result) in zip(all_axes, found.items(), strict=True):
            inertia, agreed = result["inertia"], result["agreed"]
            axes.plot(range(1, len(inertia) + 1), inertia, ".-", color="black", linewidth=1)
            axes.axvline(agreed, color="0.5", linestyle=":", label=f"agreed: {agreed}")
            for ring, (criterion, k) in enumerate(result["criteria"].items()):
                on_curve = inertia[k - 1 : k] if k > 0 else []
                axes.plot(
                    [k] * len(on_curve), on_curve, "o", markersize=5 + 2.5 * ring,
                    fillstyle="none", clip_on=False, color=RINGS[ring % len(RINGS)],
                    label=f"{criterion.replace('_', ' ')}: {k}",
                )  # fmt: skip
            axes.set(title=name, xlabel="number of clusters", ylim=(0, 1.05 * max(inertia)))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
            axes.ticklabel_format(axis="y", scilimits=(-3, 4), useMathText=True)
            axes.legend(framealpha=1, edgecolor="none", labelspacing=0.8)
        all_axes[0].set_ylabel("inertia")
    return figure
