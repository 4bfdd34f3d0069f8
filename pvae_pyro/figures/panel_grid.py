"""A grid of small panels on one page, with names, frames and units where they are needed."""

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.text import Text

from pvae_pyro.figures.observations import Drawing
from pvae_pyro.figures.style import RC, new_figure

# In inches.
WIDTH, WIDEST_PANEL = 6.5, 0.75
LINE = 0.14  # of text
APART = 0.12  # between originals and what is generated
UNITS = 0.36  # ticks and label under a panel
HERTZ = 0.44  # ticks and label right of a panel
LABEL = 0.8  # length of that label, which may be more than the panel's height
BAR = 1.8  # from one colour bar to the next
MARGIN = 0.05
_LETTER = 0.062  # width of a letter, about
_GAP, _CLASS_GAP = 0.04, 0.1  # between panels and between classes, of a panel's width


@dataclass(frozen=True)
class PanelRow:
    """Panels side by side, and perhaps one before them, set apart.

    name: on the left; equal names of neighbouring rows are written once.
    frame: colour around the panels if these are originals; first_frame: around `first`.
    apart: leave a wider gap above.
    """

    name: str
    drawing: Drawing
    panels: Sequence[np.ndarray]
    frame: str | None = None
    first: np.ndarray | None = None
    first_frame: str | None = None
    apart: bool = False


def panel_grid_figure(
    rows: Sequence[PanelRow],
    columns: Sequence[str],
    title: str,
    above: tuple[str, str],
    beside: tuple[str, str] | None = None,
) -> Figure:
    """All rows under each other; the Axes are in the order of the rows, `first` before panels.

    Units are shown once for each drawing, on the last panel of its last row; a colour bar for
    each drawing of sequences is at the foot.

    Args:
        columns: names over the columns; equal names of neighbours are written once.
        title: a sentence. above, beside: a text and its colour, over the columns and left of
            the rows.
    """
    with matplotlib.rc_context(RC):
        return _PanelGrid(rows, columns, title, above, beside).figure


class _PanelGrid:
    """Measures the page in inches from its top left corner, then fills it."""

    def __init__(
        self,
        rows: Sequence[PanelRow],
        columns: Sequence[str],
        title: str,
        above: tuple[str, str],
        beside: tuple[str, str] | None,
    ):
        self.rows = rows
        self.drawings = list({id(row.drawing): row.drawing for row in rows}.values())
        self.sequences = [drawing for drawing in self.drawings if drawing.axes]
        lines = textwrap.wrap(title, 105)
        top = MARGIN + LINE * (len(lines) + 2) + 0.06
        self._measure(columns, top, beside is not None)
        for n, line in enumerate(lines):
            self._text(WIDTH / 2, MARGIN + LINE * (n + 0.5), line, fontsize=8)
        self._fill()
        self._names(columns, top, above, beside)
        self._colour_bars()

    def _measure(self, columns: Sequence[str], top: float, beside: bool) -> None:
        """Left ends of the columns, upper ends of the rows, and sizes."""
        names = max(len(line) for row in self.rows for line in row.name.split("\n"))
        self.left = MARGIN + LINE * 1.2 * beside + (0.06 + _LETTER * names) * (names > 0)
        right = HERTZ if self.sequences else MARGIN
        first = any(row.first is not None for row in self.rows)
        steps = np.array([_GAP if a == b else _CLASS_GAP for a, b in pairwise(columns)])
        if len(set(columns)) == len(columns):  # no groups to tell apart
            steps = np.full_like(steps, _GAP)
        in_panels = np.concatenate([[0], np.cumsum(1 + steps)])
        room = WIDTH - self.left - right - first * APART
        self.panel = min(room / (in_panels[-1] + 1 + first), WIDEST_PANEL)
        # Narrow grids stand in the middle of the page.
        self.left += (room - self.panel * (in_panels[-1] + 1 + first)) / 2
        self.lefts = self.left + first * (self.panel + APART) + in_panels * self.panel
        self.tops, y = [], top
        last_rows = {id(row.drawing): n for n, row in enumerate(self.rows) if row.drawing.axes}
        self.with_units = set(last_rows.values())
        for n, row in enumerate(self.rows):
            if n:
                before = self.rows[n - 1]
                if n - 1 in self.with_units:
                    height = self.panel * max(before.drawing.aspect, row.drawing.aspect)
                    y += max(UNITS, LABEL - height) if n in self.with_units else UNITS
                elif row.apart or before.frame != row.frame:
                    y += APART
                else:
                    y += _GAP * self.panel
            self.tops.append(y)
            y += self.panel * row.drawing.aspect
        self.bottom = y
        self.height = y + (UNITS + 0.08 if self.sequences else MARGIN)
        self.figure = new_figure(WIDTH, self.height)
        self.figure.set_layout_engine("none")

    def _fill(self) -> None:
        for n, row in enumerate(self.rows):
            if row.first is not None:
                self._panel(n, self.left, row.first, row.first_frame)
            for left, panel in zip(self.lefts, row.panels, strict=True):
                last = self._panel(n, float(left), panel, row.frame)
            if n in self.with_units:
                row.drawing.show_units(last)

    def _panel(self, n: int, left: float, values: np.ndarray, frame: str | None) -> Axes:
        drawing = self.rows[n].drawing
        axes = self._axes(left, self.tops[n], self.panel, self.panel * drawing.aspect)
        drawing.draw(axes, values)
        for spine in axes.spines.values():
            spine.set(visible=frame is not None, color=frame, linewidth=0.7)
        return axes

    def _names(
        self,
        columns: Sequence[str],
        top: float,
        above: tuple[str, str],
        beside: tuple[str, str] | None,
    ) -> None:
        middle = (self.lefts[0] + self.lefts[-1] + self.panel) / 2
        self._text(middle, top - LINE * 1.5 - 0.04, above[0], color=above[1])
        for name, a, b in _runs(columns):
            centre = (self.lefts[a] + self.lefts[b] + self.panel) / 2
            self._text(centre, top - LINE * 0.5 - 0.02, name)
        for name, a, b in _runs([row.name for row in self.rows]):
            end = self.tops[b] + self.panel * self.rows[b].drawing.aspect
            self._text(self.left - 0.05, (self.tops[a] + end) / 2, name, ha="right")
        if beside:
            with_first = [n for n, row in enumerate(self.rows) if row.first is not None]
            centre = (self.tops[with_first[0]] + self.bottom) / 2
            self._text(MARGIN + LINE / 2, centre, beside[0], color=beside[1], rotation=90)

    def _colour_bars(self) -> None:
        # Under the first column, or further left where the last one's units would be in the way.
        left = float(min(self.lefts[0], self.lefts[-1] - BAR * len(self.sequences)))
        for n, drawing in enumerate(self.sequences):
            axes = self._axes(left + BAR * n, self.bottom + 0.1, BAR - 0.6, 0.07)
            scale = Normalize(drawing.low, drawing.high)
            bar = self.figure.colorbar(
                ScalarMappable(scale, drawing.colours),
                cax=axes,
                orientation="horizontal",
                extend="both",
            )
            bar.ax.tick_params(length=2, pad=1)
            assert drawing.axes
            whose = f" of {drawing.name}" if len(self.sequences) > 1 else ""
            bar.set_label(f"{drawing.axes.value}{whose}", labelpad=1, fontsize=7)

    def _axes(self, left: float, top: float, width: float, height: float) -> Axes:
        bottom = self.height - top - height
        return self.figure.add_axes(
            (
                left / WIDTH,
                bottom / self.height,
                width / WIDTH,
                height / self.height,
            )
        )

    def _text(self, x: float, y: float, text: str, ha: str = "center", **kwargs: object) -> Text:
        style = {"fontsize": 7, **kwargs}
        x, y = x / WIDTH, 1 - y / self.height
        return self.figure.text(x, y, text, ha=ha, va="center", **style)  # type: ignore[arg-type]


def _runs(names: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Equal neighbours: the name, the first and the last position."""
    for name, group in groupby(range(len(names)), key=names.__getitem__):
        found = list(group)
        yield name, found[0], found[-1]
