"""A grid of small panels with named rows and columns."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from pvae_pyro.figures.observations import Drawing
from pvae_pyro.figures.style import RC, new_figure

WIDTH, WIDEST_PANEL = 6.5, 0.75  # inches


@dataclass(frozen=True)
class PanelRow:
    """Panels side by side, drawn alike.

    name: written on the left. panels: None leaves a cell empty. frames: the colour around each
    panel, or None.
    """

    name: str
    drawing: Drawing
    panels: Sequence[np.ndarray | None]
    frames: Sequence[str | None]


def panel_grid_figure(rows: Sequence[PanelRow], columns: Sequence[str], title: str) -> Figure:
    """All rows under each other; the Axes are in the order of the rows, without empty cells.

    Each drawing of sequences has its units on the last panel of its last row, and a colour bar at
    the foot of the page. columns: names above the columns; of equal neighbours only the first is
    written.
    """
    panel = min(WIDEST_PANEL, (WIDTH - 0.8) / len(columns))
    heights = [row.drawing.aspect for row in rows]
    last_rows = {id(row.drawing): row for row in rows if row.drawing.axes}
    lines = textwrap.wrap(title, 95)
    height = 1.15 * panel * sum(heights) + 0.15 * len(lines) + 0.3 + 0.6 * len(last_rows)
    figure = new_figure(WIDTH, height)
    with matplotlib.rc_context(RC):
        figure.suptitle("\n".join(lines), fontsize=8)
        grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
        for n, name in enumerate(columns):
            if n == 0 or name != columns[n - 1]:
                grid[0, n].set_title(name, fontsize=7)
        for row, cells in zip(rows, grid, strict=True):
            drawn = []
            for axes, values, frame in zip(cells, row.panels, row.frames, strict=True):
                if values is None:
                    axes.remove()
                    continue
                row.drawing.draw(axes, values)
                axes.spines[:].set(visible=frame is not None, color=frame)
                drawn.append(axes)
            drawn[0].set_ylabel(row.name, rotation=0, ha="right", va="center", fontsize=7)
            if row is last_rows.get(id(row.drawing)):
                row.drawing.show_units(drawn[-1])
        panel_axes = list(figure.axes)
        for row in last_rows.values():
            drawing = row.drawing
            scale = ScalarMappable(Normalize(drawing.low, drawing.high), drawing.colours)
            figure.colorbar(
                scale, ax=panel_axes, location="bottom", shrink=0.3, aspect=30, extend="both",
                label=f"{drawing.axes.value if drawing.axes else ''}, {drawing.name}",
            )  # fmt: skip
    return figure
