"""t-SNE maps of latents (paper, Figs. 11 to 15): are classes or modalities apart?

Only neighbourhood means anything in such a map; distances, sizes and directions do not, so it has
no ticks.
"""

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from pvae_pyro.figures.style import RC, Colour, class_colours, new_figure, plain

MOST_POINTS = 2000  # of a modality; more would cover each other
POINT = 5.0  # area in square points
PANEL = 2.6  # inches
LEGEND_ROWS = 20


def embed(latents: np.ndarray, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """t-SNE of ``[N, D]`` latents to ``[N, 2]``, by scikit-learn, initialised by PCA.

    The perplexity is at most (N - 1) / 3, as t-SNE demands. It takes minutes beyond 10,000 points.
    Raises ValueError for fewer than 4 points, or points that are all the same.

    Source: van der Maaten & Hinton 2008.
    """
    if len(latents) < 4:
        raise ValueError(f"t-SNE needs 4 points or more, got {len(latents)}")
    if not np.ptp(latents, axis=0).any():
        raise ValueError("all points are the same: there is nothing to embed")
    tsne = TSNE(perplexity=min(perplexity, (len(latents) - 1) / 3), random_state=seed)
    return tsne.fit_transform(np.asarray(latents, np.float32))


def scatter_figure(
    points: Mapping[str, np.ndarray],
    labels: Mapping[str, np.ndarray],
    classes: Sequence[str],
    legend_title: str = "",
) -> Figure:
    """One map for each key of `points`, side by side under the key as title, coloured by class.

    Args:
        points: title -> ``[N, 2]``. labels: title -> ``[N]`` indices into `classes`.
        classes: what the colours stand for: classes, or groups such as speakers.
    """
    colours = class_colours(classes)
    of_label = np.array(list(colours.values()))
    panels = {title: (at, of_label[labels[title]]) for title, at in points.items()}
    return _figure(panels, colours, legend_title)


def pooled_figure(
    points: np.ndarray,
    labels: np.ndarray,
    modalities: np.ndarray,
    classes: Sequence[str],
    names: Sequence[str],
    legend_title: str = "",
    title: str = "",
) -> Figure:
    """One map of a shared latent inferred from several modalities, drawn twice (paper, Fig. 13).

    It is coloured by class on the left and by modality on the right. If the latent means the same
    whichever modality it was inferred from, each cluster has one colour on the left and all
    colours on the right.

    Args:
        points: ``[N, 2]``, of the modalities pooled before `embed`.
        labels, modalities: ``[N]`` indices into `classes` and into `names`.
        title: of the latent.
    """
    colours = class_colours(classes)
    viridis = matplotlib.colormaps["viridis"]  # unlike the colours of classes
    shades = np.linspace(0.15, 0.8, len(names))
    of_modality = {name: viridis(shade) for name, shade in zip(names, shades, strict=True)}
    panels = {
        f"{title} coloured by {legend_title or 'class'}".strip(): (
            points,
            np.array(list(colours.values()))[labels],
        ),
        f"{title} coloured by modality".strip(): (
            points,
            np.array(list(of_modality.values()))[modalities],
        ),
    }
    return _figure(panels, {**colours, " ": (0, 0, 0, 0), **of_modality}, legend_title)


def _figure(
    panels: Mapping[str, tuple[np.ndarray, np.ndarray]],
    legend: Mapping[str, Colour],
    legend_title: str,
) -> Figure:
    """Panels: title -> points ``[N, 2]`` and their colours ``[N, 4]``."""
    columns = -(-len(legend) // LEGEND_ROWS)
    figure = new_figure(PANEL * len(panels) + 0.8 * columns, PANEL + 0.2)
    with matplotlib.rc_context(RC):
        all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (title, (points, colours)) in zip(all_axes, panels.items(), strict=True):
            axes.set(title=title, xticks=[], yticks=[])
            axes.set_box_aspect(1)
            # In random order, so that no class lies on top; one picture in a PDF.
            order = np.random.default_rng(0).permutation(len(points))
            x, y = points[order].T
            axes.scatter(x, y, s=POINT, c=colours[order], linewidths=0, rasterized=True)
        figure.legend(
            handles=[_key(name, colour) for name, colour in legend.items()],
            loc="outside right upper", title=legend_title or None, frameon=False, ncols=columns,
            handletextpad=0.1,
        )  # fmt: skip
    return figure


def _key(name: str, colour: Colour) -> Line2D:
    label = plain(name)
    label = f" {label}" if label.startswith("_") else label  # Matplotlib < 3.10 would leave it out
    return Line2D([], [], linestyle="none", marker="o", markersize=4, color=colour, label=label)
