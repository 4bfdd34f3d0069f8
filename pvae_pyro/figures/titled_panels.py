"""Panels under titles: what a model was given beside what it generated."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pvae_pyro.figures.observations import Drawing, SequenceAxes

_PER_ROW = 8


def titled_panels_figure(
    panels: Sequence[np.ndarray],
    titles: Sequence[str],
    axes: Sequence[SequenceAxes | None] | None = None,
) -> Figure:
    """Pictures ``[H, W]`` or ``[H, W, 3]``, sequences ``[F, T]``, vectors ``[1, D]``, eight a row.

    The panels are what `observations.panels` returns. Those of one H and W, F or D have the same
    colours and, if they are sequences, the same width of a frame.

    Args:
        axes: for each panel those of a sequence, or None; without, no panel is a sequence.

    Raises ValueError if there is no panel, or not one title for each.
    """
    if len(panels) != len(titles) or not panels:
        raise ValueError(f"{len(panels)} panels need as many titles, at least one: {len(titles)}")
    rows, columns = -(-len(panels) // _PER_ROW), min(len(panels), _PER_ROW)
    figure = Figure(figsize=(1.9 * columns, 2.2 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    all_axes = axes or [None] * len(panels)
    kinds = [
        panel.shape if own is None else len(panel)
        for panel, own in zip(panels, all_axes, strict=True)
    ]
    for cell, panel, title, own, kind in zip(cells, panels, titles, all_axes, kinds, strict=False):
        alike = [other for other, of in zip(panels, kinds, strict=True) if of == kind]
        drawing = Drawing.of(alike, alike, own)
        if own:
            frames = panel.shape[1]
            is_sound = own.bin_hz is not None
            duration = f"{frames * own.frame_seconds:.2f} s" if is_sound else f"{frames} frames"
            cell.set_xlabel(duration, fontsize=7)
        drawing.draw(cell, panel)
        cell.set_title(title, fontsize=8)
    for cell in cells[len(panels) :]:
        cell.set_axis_off()
    return figure
