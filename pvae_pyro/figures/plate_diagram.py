"""The drawing of a `Graph` as a plate diagram."""

from collections.abc import Mapping

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse, FancyArrowPatch, FancyBboxPatch
from matplotlib.textpath import TextPath

from pvae_pyro.figures.graph import Graph
from pvae_pyro.figures.layout import layered_layout
from pvae_pyro.figures.style import RC, new_figure

FONT_SIZE, FAMILY_SIZE = 8, 6  # points
ROW = 0.85  # inches from one row to the next
GAP = 0.25  # inches between the nodes of a row
MARGIN = 0.15  # inches around nodes, of a plate's box
NAME = 0.2  # inches below them, for its name
WIDEST = 12.0  # inches of diagrams side by side; more go below


def graph_figure(
    graphs: Mapping[str, Graph],
    *,
    labels: Mapping[str, str] | None = None,
    families: bool = False,
) -> Figure:
    """Plate diagrams side by side, in rows, each under its title (a key; "" for none).

    Observed nodes are shaded; a plate is a box with its name at the lower right. Latents are at
    the top and data at the bottom: edges of a model run down, those of a guide, dashed, up.

    Args:
        labels: site or plate -> what to write in place of its name (mathtext, e.g. ``"$z$"``).
        families: write each site's distribution family under its name.

    Raises ValueError when there is no graph.
    """
    if not graphs:
        raise ValueError("no graph to draw")
    labels = labels or {}
    height_of_node = 0.5 if families else 0.36
    panels = []
    for title, graph in graphs.items():
        width = max(
            max(
                _text_width(labels.get(site, site), FONT_SIZE) + 0.3,
                _text_width(family, FAMILY_SIZE) + 0.2 if families and family else 0.0,
                height_of_node,
            )
            for site, family in graph.families.items()
        )
        down = ROW if graph.inference else -ROW
        columns = layered_layout(graph.parents, graph.plates)
        places = {s: (x * (width + GAP) / 2, row * down) for s, (x, row) in columns.items()}
        panels.append((title, graph, places, (width, height_of_node)))
    boxes = [
        _widened(_bounds(places, size, graph), 1.1 * _text_width(title, FONT_SIZE) + 0.1)
        for title, graph, places, size in panels
    ]
    widths = [x1 - x0 for x0, _, x1, _ in boxes]
    # All panels at one scale: as many inches as their boxes need.
    top = 0.25 if any(graphs) else 0.0
    corners, tallest = [(0.0, 0.0)], 0.0
    for (_, y0, _, y1), width in zip(boxes, widths, strict=True):
        left, above = corners[-1]
        if left and left + width > WIDEST:
            left, above, tallest = 0.0, above + tallest, 0.0
        corners[-1:] = [(left, above), (left + width, above)]
        tallest = max(tallest, y1 - y0 + top)
    page_height = corners.pop()[1] + tallest
    page_width = max(left + width for (left, _), width in zip(corners, widths, strict=True))
    figure = new_figure(page_width, page_height)
    figure.set_layout_engine("none")
    with matplotlib.rc_context(RC):
        for panel, (x0, y0, x1, y1), (left, above) in zip(panels, boxes, corners, strict=True):
            title, graph, places, size = panel
            axes = figure.add_axes(
                (
                    left / page_width,
                    1 - (above + top + y1 - y0) / page_height,
                    (x1 - x0) / page_width,
                    (y1 - y0) / page_height,
                )
            )
            axes.set(xlim=(x0, x1), ylim=(y0, y1), title=title)
            axes.axis("off")
            _draw(axes, graph, places, size, labels, families)
    return figure


def _draw(
    axes: Axes,
    graph: Graph,
    places: Mapping[str, tuple[float, float]],
    size: tuple[float, float],
    labels: Mapping[str, str],
    families: bool,
) -> None:
    for plate, (x0, y0, x1, y1) in _plate_boxes(places, size, graph).items():
        axes.add_patch(
            FancyBboxPatch(
                (x0, y0), x1 - x0, y1 - y0, boxstyle="round,pad=0,rounding_size=0.08",
                facecolor="none", edgecolor="0.35", linewidth=0.8, zorder=0,
            )
        )  # fmt: skip
        name = plate.split("__CLONE")[0]  # Pyro draws a plate that crosses another in parts
        axes.text(
            x1 - 0.08, y0 + 0.06, labels.get(name, name), ha="right", va="bottom", size=FONT_SIZE
        )
    nodes = {}
    for site, place in places.items():
        nodes[site] = Ellipse(
            place, *size, facecolor="0.82" if site in graph.observed else "white",
            edgecolor="black", linewidth=0.8, zorder=2, gid=site,
        )  # fmt: skip
        axes.add_patch(nodes[site])
        x, y = place
        family = graph.families[site] if families else ""
        axes.text(
            x, y + (0.07 if family else 0), labels.get(site, site), ha="center", va="center",
            size=FONT_SIZE, zorder=3,
        )  # fmt: skip
        if family:
            axes.text(
                x, y - 0.1, family, ha="center", va="center", size=FAMILY_SIZE, color="0.3",
                zorder=3,
            )  # fmt: skip
    for parent, site in sorted(graph.edges):
        axes.add_patch(
            FancyArrowPatch(
                places[parent], places[site], patchA=nodes[parent], patchB=nodes[site],
                shrinkA=0, shrinkB=1, arrowstyle="-|>", mutation_scale=8, linewidth=0.8,
                linestyle="--" if graph.inference else "-", color="black", zorder=1,
            )
        )  # fmt: skip


def _plate_boxes(
    places: Mapping[str, tuple[float, float]], size: tuple[float, float], graph: Graph
) -> dict[str, tuple[float, float, float, float]]:
    """Plate -> (left, bottom, right, top); a plate is wider than those within it."""
    boxes = {}
    for plate, sites in graph.plates.items():
        if not sites:
            continue
        within = sum(bool(other) and set(other) < set(sites) for other in graph.plates.values())
        pad = MARGIN * (1 + within)
        xs, ys = zip(*(places[site] for site in sites), strict=True)
        boxes[plate] = (
            min(xs) - size[0] / 2 - pad,
            min(ys) - size[1] / 2 - pad - NAME * (1 + within),
            max(xs) + size[0] / 2 + pad,
            max(ys) + size[1] / 2 + pad,
        )
    return boxes


def _bounds(
    places: Mapping[str, tuple[float, float]], size: tuple[float, float], graph: Graph
) -> tuple[float, float, float, float]:
    boxes = [
        (x - size[0] / 2, y - size[1] / 2, x + size[0] / 2, y + size[1] / 2)
        for x, y in places.values()
    ]
    boxes += _plate_boxes(places, size, graph).values()
    lefts, bottoms, rights, tops = zip(*boxes, strict=True)
    return min(lefts) - 0.1, min(bottoms) - 0.1, max(rights) + 0.1, max(tops) + 0.1


def _widened(
    box: tuple[float, float, float, float], least: float
) -> tuple[float, float, float, float]:
    """As wide as `least` at least, on both sides alike."""
    more = max(least - (box[2] - box[0]), 0.0) / 2
    return box[0] - more, box[1], box[2] + more, box[3]


def _text_width(text: str, size: float) -> float:
    return TextPath((0, 0), text, size=size).get_extents().width / 72 if text else 0.0
