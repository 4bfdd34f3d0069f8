"""Grids of examples and of what is generated from their latents (paper, Figs. 2, 4, 5, 16-22)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from pvae_pyro.data.examples import Examples
from pvae_pyro.figures.observations import Drawing, SequenceAxes, originals, panels
from pvae_pyro.figures.panel_grid import PanelRow, panel_grid_figure
from pvae_pyro.figures.style import plain
from pvae_pyro.generation import decode, infer, shared_of, style_of

_CONTENT, _STYLE = "tab:blue", "tab:orange"  # frames of the originals
_COLUMN = 12  # letters of a column's name
_MOST = 10  # panels side by side on a page


def choose_examples(
    examples: Examples, labels: Sequence[int] | np.ndarray, seed: int
) -> np.ndarray:
    """Positions of one example for each of `labels`, in that order; fewer if a class has fewer.

    The choice is random without repetition, and prefers the groups (speakers) taken least so far.
    Labels choose what to show (-1 is that of examples without one); nothing is inferred from them.
    Raises ValueError if no example has any of the labels.
    """
    order = np.random.default_rng(seed).permutation(len(examples)).tolist()
    groups = examples.groups or [""] * len(examples)
    taken: Counter[str] = Counter()
    chosen: list[int] = []
    for label in labels:
        left = [n for n in order if examples.labels[n] == label and n not in chosen]
        if left:
            chosen.append(min(left, key=lambda n: taken[groups[n]]))
            taken[groups[chosen[-1]]] += 1
    if not chosen:
        raise ValueError(f"no example of the classes {list(labels)}")
    return np.array(chosen)


def label_of(examples: Examples, n: int, classes: Sequence[str]) -> str:
    """The class of an example; without labels, the name of its file or its number from 1."""
    if examples.labels[n] >= 0:
        return classes[examples.labels[n]]
    return Path(examples.names[n]).stem if examples.names else str(n + 1)


def latents_of(
    guide: nn.Module, name: str, examples: Examples, device: torch.device | str
) -> dict[str, Tensor]:
    """Posterior means of a few examples, in one batch, by the guide of their modality."""
    return infer(guide, {name: examples.observation(np.arange(len(examples))).to(device)})


def translation_grid(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    examples: Mapping[str, Examples],
    source: str,
    target: str,
    contents: np.ndarray | None = None,
    styles: np.ndarray | None = None,
    *,
    classes: Sequence[str],
    axes: Mapping[str, SequenceAxes],
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Figure:
    """Column c, row r: the target modality, from the shared latent of example ``contents[c]`` of
    the source modality and the style latent of example ``styles[r]`` of the target modality.

        E[p(x^target | z_sem = E q_source(z_sem | x_c), z_style = E q_target(z_style | x_r))]

    The originals of the source are above the columns, those of the target left of the rows. With
    two modalities this is a controlled cross-modal generation (paper, Figs. 5 and 19-22), with
    one modality a restyling (Figs. 4 and 16-18).

    Args:
        unimodal: modality -> its guide.
        contents, styles: positions in the examples of the source and of the target. By default
            `choose_examples`: three of each class, but at most 10, or 10 without labels; at most
            one style of each group, where groups are known.
        classes: names of the labels. axes: of the modalities that are sounds.
        seed: of the choice.

    Raises ValueError if the model has no shared latent or no style latent.
    """
    if contents is None:
        contents = choose_examples(examples[source], _spread(len(classes), _MOST), seed)
    if styles is None:
        groups = len(set(examples[target].groups))
        labels = _spread(len(classes), min(groups, _MOST) if groups else _MOST)
        styles = choose_examples(examples[target], labels, seed + 1)
    content, style = examples[source].take(contents), examples[target].take(styles)
    shared = shared_of(latents_of(unimodal[source], source, content, device))
    own = style_of(latents_of(unimodal[target], target, style, device), target)
    if not shared or not own:
        raise ValueError(f"the model has no {'style' if shared else 'shared'} latent to combine")

    num_contents, num_styles = len(contents), len(styles)
    latents = {site: loc.repeat(num_styles, 1) for site, loc in shared.items()}
    latents |= {site: loc.repeat_interleave(num_contents, 0) for site, loc in own.items()}
    cells = panels(decode(model, latents, [target])[target], style.normalisation)
    above, beside = originals(content), originals(style)
    shown = beside + cells + above * (source == target)
    drawing = _drawing(target, examples[target], axes, shown)
    header = drawing if source == target else _drawing(source, examples[source], axes, above)
    rows = [PanelRow("", header, [None, *above], [None, *[_CONTENT] * num_contents])]
    for n, original in enumerate(beside):
        row = [original, *cells[n * num_contents : (n + 1) * num_contents]]
        frames = [_STYLE, *[None] * num_contents]
        rows.append(PanelRow(_row_name(style, n, classes), drawing, row, frames))
    what = "restyled" if source == target else f"generated from {source}"
    return panel_grid_figure(
        rows,
        ["", *_column_names(content, classes)],
        f"{target.capitalize()} {what}: a cell has the shared latent of the {source} above its "
        f"column (blue frame), and the style latent of the {target} left of its row (orange frame)",
    )


def joint_latent_grid(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    examples: Mapping[str, Examples],
    source: str,
    contents: np.ndarray | None = None,
    *,
    classes: Sequence[str],
    axes: Mapping[str, SequenceAxes],
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Figure:
    """Every modality of `examples`, from latents inferred from the source modality (paper, Fig. 2).

    Columns are examples of the source, with the originals on top. The latent of a JMVAE goes to
    all decoders. Of a partitioned model only the shared latent does; each cell's style is drawn
    from the prior.

    Args: see `translation_grid`; by default three examples of each of five classes, or 10 without
    labels. `seed` is also that of the draws.
    """
    if contents is None:
        labels = np.repeat(_spread(len(classes), min(len(classes), 5)), 3)
        labels = labels if classes else _spread(0, _MOST)
        contents = choose_examples(examples[source], labels, seed)
    content = examples[source].take(contents)
    locs = latents_of(unimodal[source], source, content, device)
    shared = shared_of(locs)
    if not shared:
        raise ValueError("the model has no shared latent")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        decoded = decode(model, shared, list(examples))
    shown = {name: panels(decoded[name], examples[name].normalisation) for name in examples}
    above = originals(content)
    drawings = {
        name: _drawing(name, examples[name], axes, above * (name == source) + shown[name])
        for name in examples
    }
    rows = [PanelRow(f"{source},\noriginal", drawings[source], above, [_CONTENT] * len(above))]
    for name in examples:
        rows.append(PanelRow(f"{name},\ndecoded", drawings[name], shown[name], [None] * len(above)))
    partitioned = len(shared) < len(locs)
    style = "; styles are drawn from the prior" if partitioned else ""
    return panel_grid_figure(
        rows,
        _column_names(content, classes),
        f"Decoded from the {'shared ' * partitioned}latent inferred from {source}{style}",
    )


def _spread(num_classes: int, at_most: int) -> np.ndarray:
    """Class indices in order: up to three of each, or evenly spaced ones if not all fit.

    Without classes, `at_most` times the label of examples that have none.
    """
    if not num_classes:
        return np.full(at_most, -1)
    count = num_classes * min(at_most // num_classes, 3) or at_most
    return np.arange(count) * num_classes // count


def _drawing(
    name: str,
    examples: Examples,
    axes: Mapping[str, SequenceAxes],
    shown: Sequence[np.ndarray],
) -> Drawing:
    return replace(Drawing.of_examples(examples, shown, axes.get(name)), name=name)


def _column_names(examples: Examples, classes: Sequence[str]) -> list[str]:
    return [plain(label_of(examples, n, classes), _COLUMN) for n in range(len(examples))]


def _row_name(examples: Examples, n: int, classes: Sequence[str]) -> str:
    label = plain(label_of(examples, n, classes))
    return f"{plain(examples.groups[n][:16])}:\n{label}" if examples.groups else label
