"""What all figures share: sizes, colours, and how they are saved."""

import io
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import matplotlib
from matplotlib.figure import Figure

from pvae_pyro.errors import shown
from pvae_pyro.io.files import write_whole

RC: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": 200,
}
LONGEST_NAME = 24  # letters
Colour: TypeAlias = tuple[float, float, float, float]


def new_figure(width: float, height: float) -> Figure:
    """A figure of that size in inches; a page's text is about 6.5 wide. Needs no display."""
    with matplotlib.rc_context(RC):
        return Figure(figsize=(width, height), layout="constrained")


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """Text from a user's data, such as a label, in one short line without formulas."""
    text = shown(text)
    cut = text if len(text) <= longest else f"{text[: longest - 1]}…"
    return cut.replace("$", r"\$")


def class_colours(classes: Sequence[str]) -> dict[str, Colour]:
    """A colour for each class, the same in every figure; up to ten are easily told apart."""
    name = "tab10" if len(classes) <= 10 else "turbo"
    colours = matplotlib.colormaps[name].resampled(max(len(classes), 10))
    return {label: colours(n) for n, label in enumerate(classes)}


def save_figure(figure: Figure, path: Path, formats: Iterable[str] = ("png", "pdf")) -> list[Path]:
    """Write `path` with each format's suffix, whole or not at all; returns the files.

    Raises OSError naming the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    with matplotlib.rc_context(RC), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph")  # the font lacks a letter: an empty box
        for suffix in formats:
            files.append(path.with_name(f"{path.name}.{suffix}"))
            content = io.BytesIO()
            figure.savefig(content, format=suffix)
            write_whole(files[-1], content.getvalue())
    return files
