"""Plate diagrams of Pyro programs, read off a run of them (paper, Fig. 1).

Latents are in a row above, data in a row below, and one plate, the examples, is around both.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import matplotlib
import pyro
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath
from pyro.infer.inspect import get_model_relations

from pvae_pyro.batch import Batch
from pvae_pyro.figures.style import RC, new_figure

FONT_SIZE = 8  # points
# In inches: from row to row, between the nodes of a row, of a node, around a diagram.
ROW, GAP, HEIGHT, MARGIN = 0.85, 0.25, 0.36, 0.3
PER_ROW = 2  # diagrams


@dataclass(frozen=True)
class Graph:
    """The sites of a Pyro program and how they depend on each other.

    parents: site -> the sites that its distribution depends on, in the order they are made.
    observed: sites that hold data; they are the lower row. plate: the name of what all are in.
    inference: the edges are of q, from data to latents; they are dashed.
    """

    parents: Mapping[str, tuple[str, ...]]
    observed: frozenset[str]
    plate: str
    inference: bool = False

    @property
    def edges(self) -> set[tuple[str, str]]:
        return {(parent, site) for site, parents in self.parents.items() for parent in parents}


def model_graph(model: Any, batch: Batch, **kwargs: Any) -> Graph:
    """The graph of ``model(batch, observed=…)``, by Pyro's `get_model_relations`.

    An edge means that a site's log density is computed from the other's value (Pyro follows the
    values through the networks), so an edge may be there whose weights happen to be zero. Edges
    are those of generating, nothing observed: given the data, a dependence between two observed
    sites could not be seen. Deterministic sites are passed through. Neither the parameters, the
    parameter store nor the random state change.

    Args: kwargs go to the model. Raises ValueError for a model without a sample site, or one with
    other plates than a single one of all sites.
    """
    generating = _relations(model, batch, observed=(), **kwargs)
    observed = _relations(model, batch, **kwargs)["observed"]
    sites = _sampled(generating)
    return _graph(generating, sites, [site for site in sites if site in observed])


def guide_graph(guide: Any, batch: Batch, **kwargs: Any) -> Graph:
    """The graph of ``guide(batch)``: which latents' q depends on which modality's data.

    A guide's data are arguments and no sites, so Pyro does not see them. For this run they
    become deterministic sites, named as their modalities; those that feed nothing are left out.
    Otherwise as `model_graph`.
    """

    def program(batch: Batch) -> None:
        given = {
            name: replace(data, value=pyro.deterministic(name, data.value))
            for name, data in batch.items()
        }
        guide(given, **kwargs)

    relations = _relations(program, batch, include_deterministic=True)
    latents = [site for site in _sampled(relations) if site not in batch]
    used = {parent for site in latents for parent in relations["sample_sample"][site]}
    data = [name for name in batch if name in used]
    return _graph(relations, [*data, *latents], data, inference=True)


def _relations(
    program: Any, batch: Batch, include_deterministic: bool = False, **kwargs: Any
) -> dict[str, Any]:
    with pyro.get_param_store().scope():
        return get_model_relations(program, (batch,), kwargs, include_deterministic)


def _sampled(relations: Mapping[str, Any]) -> list[str]:
    families = relations["sample_dist"]
    return [site for site, family in families.items() if family != "Deterministic"]


def _graph(
    relations: Mapping[str, Any], sites: list[str], data: list[str], inference: bool = False
) -> Graph:
    plates = {name: of for name, of in relations["plate_sample"].items() if {*of} & {*sites}}
    if not sites:
        raise ValueError("there is no sample site to draw")
    within = {*sites} - {*data} if inference else {*sites}  # a guide opens its plate by itself
    if len(plates) != 1 or not all(within <= {*of} for of in plates.values()):
        raise ValueError(f"only one plate of all sites is drawn; there are {plates}")
    parents = {
        site: tuple(parent for parent in relations["sample_sample"][site] if parent in sites)
        for site in sites
    }
    return Graph(parents, frozenset(data), next(iter(plates)), inference)


def plate_diagrams(graphs: Mapping[str, Graph], labels: Mapping[str, str]) -> Figure:
    """A diagram of each graph under its title, a key; observed nodes are shaded.

    labels: site -> what to write in place of its name (mathtext, e.g. ``"$z$"``).
    Raises ValueError when there is no graph.
    """
    if not graphs:
        raise ValueError("no graph to draw")
    names = {labels.get(site, site) for graph in graphs.values() for site in graph.parents}
    node = max(map(_text_width, names)) + 0.3
    longest = max(len(row) for graph in graphs.values() for row in _rows(graph))
    width = longest * (node + GAP) - GAP + 2 * MARGIN
    width = max(width, *(1.1 * _text_width(title) + 0.1 for title in graphs))
    height = ROW + HEIGHT + 2 * MARGIN + 0.2
    columns = min(len(graphs), PER_ROW)
    rows = -(-len(graphs) // columns)
    figure = new_figure(columns * width, rows * (height + 0.25))
    with matplotlib.rc_context(RC):
        panels = figure.subplots(rows, columns, squeeze=False).flat
        for axes in panels:
            axes.set(xlim=(-width / 2, width / 2), ylim=(-height / 2, height / 2), aspect="equal")
            axes.axis("off")
        for axes, (title, graph) in zip(figure.axes, graphs.items(), strict=False):
            axes.set_title(title, pad=2)
            _draw(axes, graph, labels, node)
    return figure


def _rows(graph: Graph) -> tuple[list[str], list[str]]:
    """Latents, each above what it is linked to, and data, in the order of the program."""
    data = [site for site in graph.parents if site in graph.observed]

    def place(latent: str) -> float:
        linked = [
            n for n, site in enumerate(data) if {(latent, site), (site, latent)} & graph.edges
        ]
        return sum(linked) / max(len(linked), 1)

    return sorted((site for site in graph.parents if site not in graph.observed), key=place), data


def _draw(axes: Axes, graph: Graph, labels: Mapping[str, str], width: float) -> None:
    nodes = {}
    rows = _rows(graph)
    for y, row in zip((ROW / 2, -ROW / 2), rows, strict=True):
        for n, site in enumerate(row):
            place = ((n - (len(row) - 1) / 2) * (width + GAP), y + 0.1)
            shade = "0.82" if site in graph.observed else "white"
            nodes[site] = Ellipse(
                place, width, HEIGHT, facecolor=shade, edgecolor="black", linewidth=0.8, gid=site,
                zorder=2,
            )  # fmt: skip
            axes.add_patch(nodes[site])
            label = labels.get(site, site)
            axes.text(*place, label, ha="center", va="center", size=FONT_SIZE, zorder=3)
    for parent, site in sorted(graph.edges):
        axes.add_patch(
            FancyArrowPatch(
                nodes[parent].center, nodes[site].center, patchA=nodes[parent], patchB=nodes[site],
                shrinkA=0, shrinkB=1, arrowstyle="-|>", mutation_scale=8, linewidth=0.8,
                linestyle="--" if graph.inference else "-", color="black", zorder=1,
            )
        )  # fmt: skip
    half = max(map(len, rows)) * (width + GAP) / 2 - GAP / 2 + MARGIN / 2
    bottom, top = (side * (ROW + HEIGHT + MARGIN) / 2 + 0.1 for side in (-1, 1))
    bottom -= 0.2  # for its name
    axes.add_patch(
        FancyBboxPatch(
            (-half, bottom), 2 * half, top - bottom, boxstyle="round,pad=0,rounding_size=0.08",
            facecolor="none", edgecolor="0.35", linewidth=0.8, zorder=0,
        )
    )  # fmt: skip
    axes.text(half - 0.08, bottom + 0.06, graph.plate, ha="right", va="bottom", size=FONT_SIZE)


def _text_width(text: str) -> float:
    return TextPath((0, 0), text, size=FONT_SIZE).get_extents().width / 72 if text else 0.0
