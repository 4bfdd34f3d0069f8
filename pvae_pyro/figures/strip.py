"""What went in beside what came out, one panel each."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pvae_pyro.figures.observations import SequenceAxes

_PER_ROW = 8
_PICTURE = (28, 28)


def strip_figure(
    panels: Sequence[np.ndarray],
    titles: Sequence[str],
    axes: SequenceAxes | Sequence[SequenceAxes | None] | None = None,
) -> Figure:
    """Pictures ``[28, 28]`` in grey, sequences ``[F, T]`` and vectors ``[1, D]`` in colour, as
    `observations.panels` gives them, in rows of eight. All of one F or D have the same colours
    and, where they are sequences, the same width of a frame.

    axes: of the sequences, or of each panel; without, frames are counted. Raises ValueError for
    other than a title a panel, or none.
    """
    if len(panels) != len(titles) or not panels:
        raise ValueError(f"{len(panels)} panels and {len(titles)} titles")
    rows = -(-len(panels) // _PER_ROW)
    columns = min(len(panels), _PER_ROW)
    figure = Figure(figsize=(1.9 * columns, 2.2 * rows), layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).flat
    of_kind: dict[tuple[int, ...], list[np.ndarray]] = {}
    for panel in panels:
        of_kind.setdefault(_kind(panel), []).append(panel)
    each = axes if isinstance(axes, Sequence) else [axes] * len(panels)
    for cell, panel, title, own in zip(cells, panels, titles, each, strict=False):
        cell.set_title(title, fontsize=8)
        cell.set_xticks([])
        cell.set_yticks([])
        if panel.shape == _PICTURE:
            cell.imshow(panel, cmap="gray", vmin=0, vmax=255)
            continue
        alike = of_kind[_kind(panel)]
        low, high = np.quantile(np.concatenate([p.ravel() for p in alike]), [0.01, 1])
        colours = {"cmap": "viridis" if len(panel) == 1 else "magma", "vmin": low, "vmax": high}
        cell.imshow(panel, origin="lower", aspect="auto", **colours)
        if len(panel) == 1:
            continue
        cell.set_xlim(-0.5, max(p.shape[1] for p in alike) - 0.5)
        frames = panel.shape[1]
        told = f"{frames} frames" if own is None else f"{frames * own.frame_seconds:.2f} s"
        cell.set_xlabel(told, fontsize=7)
    for cell in list(figure.axes)[len(panels) :]:
        cell.set_axis_off()
    return figure


def _kind(panel: np.ndarray) -> tuple[int, ...]:
    """Of panels that are drawn alike: pictures, vectors of one length, sequences of one F."""
    return panel.shape if panel.shape == _PICTURE or len(panel) == 1 else panel.shape[:1]
