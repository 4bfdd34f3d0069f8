"""Panels under titles: what a model was given beside what it generated."""

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
    """Pictures ``[28, 28]``, sequences ``[F, T]`` and vectors ``[1, D]`` in rows of eight.

    The panels are what `observations.panels` returns. Those of one F or D have the same colours
    and, if they are sequences, the same width of a frame.

    Args:
        axes: of all sequences, or one entry for each panel; by default frames are counted.

    Raises ValueError if there is no panel, or not one title for each.
    """
    if len(panels) != len(titles) or not panels:
        raise ValueError(f"{len(panels)} panels need as many titles, at least one: {len(titles)}")
    rows, columns = -(-len(panels) // _PER_ROW), min(len(panels), _PER_ROW)
    figure = Figure(figsize=(1.9 * columns, 2.2 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    all_axes = axes if isinstance(axes, Sequence) else [axes] * len(panels)
    for cell, panel, title, own in zip(cells, panels, titles, all_axes, strict=False):
        alike = [other for other in panels if _kind(other) == _kind(panel)]
        is_sequence = panel.shape != _PICTURE and len(panel) > 1
        drawing = Drawing.of(alike, alike, SequenceAxes() if is_sequence else None)
        if is_sequence:
            drawing = replace(drawing, axes=own or drawing.axes)
            frames = panel.shape[1]
            duration = f"{frames} frames" if own is None else f"{frames * own.frame_seconds:.2f} s"
            cell.set_xlabel(duration, fontsize=7)
        drawing.draw(cell, panel)
        cell.set_title(title, fontsize=8)
    for cell in cells[len(panels) :]:
        cell.set_axis_off()
    return figure


def _kind(panel: np.ndarray) -> tuple[int, ...]:
    """Equal for panels that are drawn alike."""
    return panel.shape if panel.shape == _PICTURE or len(panel) == 1 else panel.shape[:1]
