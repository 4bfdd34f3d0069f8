"""What went in beside what came out, one panel each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pvae_pyro.figures.observations import SequenceAxes

_PER_ROW = 8


def strip_figure(
    panels: Sequence[np.ndarray], titles: Sequence[str], axes: SequenceAxes | None = None
) -> Figure:
    """Pictures ``[28, 28]`` in grey and log-Mel spectrograms ``[F, T]`` in colour, as
    `observations.panels` gives them, in rows of eight. All spectrograms have the same colours
    and the same width of a second.

    axes: of the spectrograms. Raises ValueError for other than a title a panel, or none.
    """
    if len(panels) != len(titles) or not panels:
        raise ValueError(f"{len(panels)} panels and {len(titles)} titles")
    rows = -(-len(panels) // _PER_ROW)
    columns = min(len(panels), _PER_ROW)
    figure = Figure(figsize=(1.9 * columns, 2.2 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).flat
    sequences = [p for p in panels if p.shape[0] != p.shape[1] or p.shape[0] != 28]
    values = [p.ravel() for p in sequences] or [np.arange(2.0)]
    low, high = np.quantile(np.concatenate(values), [0.01, 1])
    longest = max([p.shape[1] for p in sequences], default=1)
    for cell, panel, title in zip(cells, panels, titles, strict=False):
        cell.set_title(title, fontsize=8)
        cell.set_xticks([])
        cell.set_yticks([])
        if any(panel is p for p in sequences):
            cell.imshow(panel, origin="lower", aspect="auto", vmin=low, vmax=high, cmap="magma")
            cell.set_xlim(-0.5, longest - 0.5)
            if axes is not None:
                cell.set_xlabel(f"{panel.shape[1] * axes.frame_seconds:.2f} s", fontsize=7)
        else:
            cell.imshow(panel, cmap="gray", vmin=0, vmax=255)
    for cell in list(figure.axes)[len(panels) :]:
        cell.set_axis_off()
    return figure
