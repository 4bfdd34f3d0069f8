"""Galleries of a report: examples to see and hear, and what a model makes of them.

Shapes: D dimensions of a latent, T frames, F bins of a frame, H by W pixels.
"""

import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, permutations
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.synthesis import level_matched, to_waveform, write_wav
from pvae_pyro.data.examples import Examples
from pvae_pyro.figures.grids import choose_examples, label_of, latents_of
from pvae_pyro.figures.observations import Drawing, originals, panels
from pvae_pyro.generation import decode, shared_of, style_of

MOST_CLASSES = 20  # rows of a table; of more classes, evenly spaced ones
UNLABELLED = 10  # rows of a table without labels
NUM_STYLES = 4  # columns of a table
LOUDNESS = 0.08  # root mean square of every sound, in full scale
_WIDTH, _HEIGHT = 160, 64  # CSS pixels, of the longest sequence
_PICTURE, _VECTOR = 72, 24  # height of a picture, and of a vector, which is as wide

Latents = dict[str, Tensor]


@dataclass(frozen=True)
class Exhibit:
    """A PNG with its description and size in CSS pixels; and a WAV of it, if it can be heard."""

    png: bytes
    alt: str
    width: int
    height: int
    wav: bytes | None


@dataclass(frozen=True)
class Gallery:
    """A table.

    columns: title, and the example whose style the column has, if any. rows: name, cells.
    """

    title: str
    caption: str
    columns: list[tuple[str, Exhibit | None]]
    rows: list[tuple[str, list[Exhibit]]]


@dataclass(frozen=True)
class _Shown:
    """What is shown of a modality.

    content: an example of each class, or any examples without labels; latents: site ->
    ``[len(content), D]``.
    style: reference examples; style_latents: of this modality alone, site -> ``[len(style), D]``;
    empty if the model has no styles.
    sound: how features were computed; None is silent.
    """

    name: str
    content: Examples
    latents: Latents
    style: Examples
    style_latents: Latents
    drawing: Drawing
    sound: LogMel | None


def galleries(
    model: nn.Module,
    unimodal: Mapping[str, nn.Module],
    examples: Mapping[str, Examples],
    classes: Sequence[str],
    sounds: Mapping[str, LogMel],
    *,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> list[Gallery]:
    """A table for each modality, then for each ordered pair of modalities.

    A row is an example of a class (without labels, any example): the original, its reconstruction,
    and, if there are style latents, its content in the styles of reference examples. Of a pair of
    modalities the row is the original of the one, and the other from its shared latent, in such
    styles if there are any.

        E[p(x^target | z_sem = E q_source(z_sem | x), z_style = E q_target(z_style | reference))]

    Args:
        unimodal: modality -> its guide. examples: modality -> where to choose from; labels
            choose what is shown (`choose_examples`), nothing is inferred from them.
        sounds: modality -> how its features were computed, for those that can be heard.
        seed: of the choice.

    A modality that is neither a sequence ``[T, F]``, a picture ``[1, H, W]`` or ``[3, H, W]`` nor a
    vector is left out.
    """
    shown = []
    for name, guide in unimodal.items():
        some = examples[name]
        rows = _spread(len(classes), min(len(classes) or UNLABELLED, MOST_CLASSES))
        content = some.take(choose_examples(some, rows, seed))
        try:
            drawing = Drawing.of_examples(some, originals(content))
        except ValueError:  # it cannot be drawn
            continue
        style = some.take(choose_examples(some, _spread(len(classes), NUM_STYLES), seed + 1))
        latents, of_style = (latents_of(guide, name, part, device) for part in (content, style))
        own = style_of(of_style, name)
        shown.append(_Shown(name, content, latents, style, own, drawing, sounds.get(name)))
    found = []
    for one in shown:
        what = "reconstructed and restyled" if one.style_latents else "reconstructed"
        found.append(_gallery(model, f"{one.name.capitalize()}, {what}", one, one, classes))
    for source, target in permutations(shown, 2):
        title = f"{target.name.capitalize()} from {source.name}"
        found.append(_gallery(model, title, source, target, classes))
    return found


def _gallery(
    model: nn.Module, title: str, source: _Shown, target: _Shown, classes: Sequence[str]
) -> Gallery:
    """A row for each example of the source, a column for each way to generate the target."""
    contents = originals(source.content)
    references = originals(target.style) if target.style_latents else []
    made = {}
    for column, latents in _columns(source, target, classes).items():
        decoded = decode(model, latents, [target.name])[target.name]
        made[column] = panels(decoded, target.content.normalisation)
    longest = {target.name: _longest([*references, *chain(*made.values())])}
    longest[source.name] = max(longest.get(source.name, 0), _longest(contents))

    def show(one: _Shown, panel: np.ndarray, what: str) -> Exhibit:
        return _exhibit(one, panel, f"{one.name}, {what}", longest[one.name])

    columns: list[tuple[str, Exhibit | None]] = [(f"{source.name}, original", None)]
    first_style = len(made) - len(references)
    for n, column in enumerate(made):
        reference = None
        if n >= first_style:
            reference = show(target, references[n - first_style], f"reference of {column}")
        columns.append((column, reference))
    rows = []
    for n, panel in enumerate(contents):
        label = _label(source.content, n, classes)
        cells = [show(source, panel, f"original: {label}")]
        for column, shown in made.items():
            cells.append(show(target, shown[n], f"made of the {source.name} {label}: {column}"))
        rows.append((label, cells))
    caption = f"What the model makes of the {source.name} on the left"
    if references:
        caption += f", in the style of the {target.name} above"
    return Gallery(title, caption, columns, rows)


def _columns(source: _Shown, target: _Shown, classes: Sequence[str]) -> dict[str, Latents]:
    """A column's title -> the latents that it is decoded from; styles come last."""
    shared = shared_of(source.latents)
    found = {"reconstruction": source.latents} if source is target else {}
    if not target.style_latents:
        return found or {f"{target.name}, generated": shared}
    for n in range(len(target.style)):
        style = {
            site: loc[n].expand(len(source.content), -1)
            for site, loc in target.style_latents.items()
        }
        found[f"style {n + 1}: {_label(target.style, n, classes)}"] = shared | style
    return found


def _exhibit(one: _Shown, panel: np.ndarray, alt: str, longest: int) -> Exhibit:
    height, width = panel.shape[:2]
    if one.content.lengths is None:
        size = (_WIDTH, _VECTOR) if height == 1 else (round(_PICTURE * width / height), _PICTURE)
        origin = "upper"
    else:  # low frequencies at the bottom, and all sequences on one time axis
        origin, size = "lower", (max(round(_WIDTH * width / longest), 1), _HEIGHT)
    file = io.BytesIO()
    low, high = one.drawing.low, one.drawing.high
    plt.imsave(
        file,
        one.drawing.in_range(panel),
        cmap=one.drawing.colours,
        vmin=low,
        vmax=high,
        origin=origin,
    )
    wav = _wav(panel.T, one.sound) if one.sound else None
    return Exhibit(file.getvalue(), alt, size[0], size[1], wav)


def _wav(log_mel: np.ndarray, settings: LogMel) -> bytes:
    samples = to_waveform(np.ascontiguousarray(log_mel, np.float32), settings)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "sound.wav"
        write_wav(path, level_matched(samples, LOUDNESS), settings.sample_rate)
        return path.read_bytes()


def _longest(shown: Sequence[np.ndarray]) -> int:
    return max(panel.shape[1] for panel in shown)


def _spread(num_classes: int, count: int) -> np.ndarray:
    """That many class indices, in order, evenly spaced; -1 without classes."""
    if not num_classes:
        return np.full(count, -1)
    return np.arange(count) * num_classes // count


def _label(examples: Examples, n: int, classes: Sequence[str]) -> str:
    """An example's class, and its group (a speaker) if there are groups."""
    label = label_of(examples, n, classes)
    return f"{label}, by {examples.groups[n]}" if examples.groups else label
