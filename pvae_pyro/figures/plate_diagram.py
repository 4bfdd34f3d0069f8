"""Plate diagrams of a model and of its guides (paper, Fig. 1): latents above, data below."""

from collections.abc import Collection, Mapping
from typing import Any

import matplotlib
import pyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from pyro.infer.inspect import get_model_relations

from pvae_pyro.batch import Batch
from pvae_pyro.figures.style import RC, new_figure

Edges = set[tuple[str, str]]
_LATENT_ROW, _DATA_ROW, _PLATE = 1.0, 0.0, "examples"


def model_edges(model: Any, batch: Batch) -> Edges:
    """(parent, site) of every dependence among the sites of ``model(batch, observed=())``.

    Pyro follows the values through the networks (`get_model_relations`), so an edge means that a
    site's density is computed from the parent's value. Parameters, the parameter store and the
    random state do not change.
    """
    with pyro.get_param_store().scope():
        relations = get_model_relations(model, (batch,), {"observed": ()})
    families = relations["sample_dist"]
    return {
        (parent, site)
        for site, parents in relations["sample_sample"].items()
        for parent in parents
        if parent != site and families[site] != "Deterministic"
    }


def guide_edges(guide: Any, batch: Batch) -> Edges:
    """(modality, latent) of all latents that ``guide(batch)`` infers from these modalities."""
    with pyro.get_param_store().scope():
        relations = get_model_relations(guide, (batch,))
    return {(name, site) for name in batch for site in relations["sample_sample"]}


def plate_diagrams(
    diagrams: Mapping[str, Edges], data: Collection[str], labels: Mapping[str, str]
) -> Figure:
    """One diagram of each set of edges, side by side, under its title.

    data: the observed sites, which are shaded and in the lower row. Edges from data to latents,
    which belong to a guide, are dashed. labels: site -> mathtext, e.g. ``"$z$"``.
    """
    most = max(len({site for edge in edges for site in edge}) for edges in diagrams.values())
    figure = new_figure((1.0 + 0.5 * most) * len(diagrams), 2.2)
    with matplotlib.rc_context(RC):
        all_axes = figure.subplots(1, len(diagrams), squeeze=False)[0]
        for axes, (title, edges) in zip(all_axes, diagrams.items(), strict=True):
            _draw(axes, edges, data, labels)
            axes.set_title(title)
    return figure


def _draw(axes: Axes, edges: Edges, data: Collection[str], labels: Mapping[str, str]) -> None:
    sites = sorted({site for edge in edges for site in edge})
    rows = {
        _LATENT_ROW: [site for site in sites if site not in data],
        _DATA_ROW: [site for site in sites if site in data],
    }
    place = {
        site: ((n + 0.5) / len(row), y) for y, row in rows.items() for n, site in enumerate(row)
    }
    for parent, site in sorted(edges):
        style = "--" if parent in data and site not in data else "-"
        axes.add_patch(
            FancyArrowPatch(
                place[parent], place[site], arrowstyle="-|>", mutation_scale=9, shrinkA=12,
                shrinkB=13, linestyle=style, color="black", linewidth=0.8, zorder=4,
            )
        )  # fmt: skip
    for site, (x, y) in place.items():
        shade = "0.82" if site in data else "white"
        box = {"boxstyle": "round,pad=0.5", "facecolor": shade, "edgecolor": "black"}
        axes.text(x, y, labels.get(site, site), ha="center", va="center", bbox=box)
    axes.add_patch(
        FancyBboxPatch((0, -0.35), 1, 1.7, boxstyle="round,pad=0.02", facecolor="none", zorder=0)
    )
    axes.text(0.98, -0.32, _PLATE, ha="right", va="bottom", size=7)
    axes.set(xlim=(-0.05, 1.05), ylim=(-0.45, 1.45))
    axes.axis("off")
