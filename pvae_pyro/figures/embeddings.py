"""t-SNE maps of latents (paper, Figs. 11 to 15): do classes or modalities lie apart?

A map's distances, sizes and directions mean nothing but who is near whom; it has no ticks.
"""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from sklearn.manifold import TSNE

from pvae_pyro.figures.style import MARKERS, RC, class_colours, new_figure, plain

MOST_POINTS = 2000  # of a modality; more cover each other
POINT = 5.0  # area in square points
Colour: TypeAlias = tuple[float, float, float, float]
PANEL = 2.6  # inches
LEGEND_ROWS = 20


def choose(count: int, most: int = MOST_POINTS, seed: int = 0) -> np.ndarray:
    """Indices of at most `most` out of `count` examples, at random, none twice.

    All, where there are no more. Raises ValueError when count is 0.
    """
    if count < 1:
        raise ValueError("no example to choose from")
    return np.random.default_rng(seed).permutation(count)[:most]


def embed(latents: np.ndarray, seed: int = 0, perplexity: float = 30.0) -> np.ndarray:
    """t-SNE of ``[N, D]`` latents to ``[N, 2]``, by scikit-learn, started from the PCA.

    The perplexity is at most (N - 1) / 3, which is what few points allow. Give the latents as
    they are: t-SNE looks at their Euclidean distances. It takes minutes beyond 10,000 points.

    Raises ValueError for fewer than 4 points, fewer than 2 dimensions, or points that are all
    the same.

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
    """Maps side by side, one of each key of `points` and under it as title, coloured by class.

    Args:
        points: title -> ``[N, 2]``. labels: title -> ``[N]`` indices into `classes`.
        classes: what colours stand for: classes, or groups such as speakers.

    Raises ValueError for no map, an empty one, or labels that do not fit the points.
    """
    if not points:
        raise ValueError("no map to draw")
    for title in points:
        _check(points[title], labels[title], classes)
    colours = class_colours(classes)
    figure = _figure(len(points), len(classes))
    with matplotlib.rc_context(RC):
        for title, axes in zip(points, _panels(figure, len(points)), strict=True):
            axes.set_title(title)
            order = _order(points[title])
            _scatter(axes, points[title][order], _colours_of(labels[title][order], classes))
        figure.legend(
            handles=[_key(name, colours[name]) for name in classes],
            loc="outside right upper", title=legend_title or None, frameon=False,
            ncols=_num_columns(classes), handletextpad=0.1,
        )  # fmt: skip
    return figure


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

    Left: coloured by class, with the modality's marker. Right: coloured by modality. A latent
    that means the same whatever it was inferred from has clusters of one colour at the left, and
    each of them in all colours at the right.

    Args:
        points: ``[N, 2]``, of the modalities pooled before `embed`.
        labels, modalities: ``[N]`` indices into `classes` and into `names`.
        title: of the latent.

    Raises ValueError for no points, or labels or modalities that do not fit them.
    """
    _check(points, labels, classes)
    _check(points, modalities, names)
    colours = class_colours(classes)
    modality_colours = _modality_colours(names)
    figure = _figure(2, len(classes) + len(names) + 2)
    with matplotlib.rc_context(RC):
        by_class, by_modality = _panels(figure, 2)
        of = f"{title} " if title else ""
        by_class.set_title(f"{of}coloured by {legend_title or 'class'}")
        by_modality.set_title(f"{of}coloured by modality")
        for axes, colour in (
            (by_class, _colours_of(labels, classes)),
            (by_modality, np.array(list(modality_colours.values()))[modalities]),
        ):
            # A few at a time, so that no modality lies on top of the others.
            for some in np.array_split(_order(points), -(-len(points) // 100)):
                for n in range(len(names)):
                    chosen = some[modalities[some] == n]
                    _scatter(axes, points[chosen], colour[chosen], MARKERS[n % len(MARKERS)])
        blank = Line2D([], [], linestyle="none", label=" ")
        figure.legend(
            handles=[
                *(_key(c, colours[c]) for c in classes),
                blank,
                *(
                    _key(name, modality_colours[name], MARKERS[n % len(MARKERS)])
                    for n, name in enumerate(names)
                ),
            ],
            loc="outside right upper", title=legend_title or None, frameon=False,
            ncols=_num_columns(classes), handletextpad=0.1,
        )  # fmt: skip
    return figure


def _check(points: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> None:
    if len(points) == 0:
        raise ValueError("no point to draw")
    if np.shape(points) != (len(points), 2) or np.shape(labels) != (len(points),):
        raise ValueError(f"want points [N, 2], labels [N]; got {points.shape}, {labels.shape}")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise ValueError(f"labels from {labels.min()} to {labels.max()} of {len(classes)} classes")


def _figure(num_panels: int, num_keys: int) -> Figure:
    return new_figure(PANEL * num_panels + 0.8 * -(-num_keys // LEGEND_ROWS), PANEL + 0.2)


def _panels(figure: Figure, count: int) -> list[Axes]:
    panels = [figure.add_subplot(1, count, 1 + n) for n in range(count)]
    for axes in panels:
        axes.set(xticks=[], yticks=[])
        axes.set_box_aspect(1)
    return panels


def _order(points: np.ndarray) -> np.ndarray:
    """To draw them in: random, so that no class lies on top of the others."""
    return np.random.default_rng(0).permutation(len(points))


def _scatter(axes: Axes, points: np.ndarray, colours: np.ndarray, marker: str = "o") -> None:
    # Thousands of points are one picture in the PDF, not as many objects.
    x, y = points.T
    axes.scatter(x, y, s=POINT, c=colours, marker=marker, linewidths=0, rasterized=True)


def _colours_of(labels: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    return np.array(list(class_colours(classes).values()))[labels]


def _modality_colours(names: Sequence[str]) -> dict[str, Colour]:
    """Dark to light, unlike those of classes."""
    colours = matplotlib.colormaps["viridis"]
    return {name: colours(0.15 + 0.65 * n / max(len(names) - 1, 1)) for n, name in enumerate(names)}


def _key(name: str, colour: Colour, marker: str = "o") -> Line2D:
    label = plain(name)
    label = f" {label}" if label.startswith("_") else label  # else Matplotlib < 3.10 leaves it out
    return Line2D([], [], linestyle="none", marker=marker, markersize=4, color=colour, label=label)


def _num_columns(classes: Sequence[str]) -> int:
    return -(-len(classes) // LEGEND_ROWS)
