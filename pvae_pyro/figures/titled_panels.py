"""Panels under titles: what was given to a model beside what it made of it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.figure import Figure

from pvae_pyro.figures.observations import Drawing, SequenceAxes

_PER_ROW = 8
_PICTURE = (28, 28)


def titled_panels_figure(
    panels: Sequence[np.ndarray],
    titles: Sequence[str],
    axes: SequenceAxes | Sequence[SequenceAxes | None] | None = None,
) -> Figure:
    """Pictures ``[28, 28]``, sequences ``[F, T]`` and vectors ``[1, D]``, as `observations.panels`
    gives them, in rows of eight. All of one F or D have the same colours and, where they are
    sequences, the same width of a frame.

    axes: of the sequences, or of each panel; without, frames are counted. Raises ValueError for
    other than a title a panel, or none.
    """
    if len(panels) != len(titles) or not panels:
        raise ValueError(f"{len(panels)} panels and {len(titles)} titles")
    rows, columns = -(-len(panels) // _PER_ROW), min(len(panels), _PER_ROW)
    figure = Figure(figsize=(1.9 * columns, 2.2 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    of_each = axes if isinstance(axes, Sequence) else [axes] * len(panels)
    for cell, panel, title, own in zip(cells, panels, titles, of_each, strict=False):
        alike = [other for other in panels if _kind(other) == _kind(panel)]
        is_sequence = panel.shape != _PICTURE and len(panel) > 1
        drawing = Drawing.of(alike, alike, SequenceAxes() if is_sequence else None)
        if is_sequence:
            frames = panel.shape[1]
            told = f"{frames} frames" if own is None else f"{frames * own.frame_seconds:.2f} s"
            drawing = replace(drawing, axes=own or drawing.axes)
            cell.set_xlabel(told, fontsize=7)
        drawing.draw(cell, panel)
        cell.set_box_aspect(drawing.aspect)
        cell.set_title(title, fontsize=8)
    for cell in cells[len(panels) :]:
        cell.set_axis_off()
    return figure


def _kind(panel: np.ndarray) -> tuple[int, ...]:
    """Of panels that are drawn alike: pictures, vectors of one length, sequences of one F."""
    return panel.shape if panel.shape == _PICTURE or len(panel) == 1 else panel.shape[:1]
