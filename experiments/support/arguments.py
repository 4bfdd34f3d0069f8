"""Arguments that commands share: numbers within limits, places, seeds."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pvae_pyro.io.files import expanded

_SHOWN = 40  # characters of a number, in a message

MOST_EXAMPLES = 10_000_000  # of a batch, a class, a likelihood
MOST_STEPS = 10_000_000  # and epochs, which may be of one step: weeks, on two cores
MOST_UNITS = 1 << 20  # of a layer
MOST_SEED = 2**32 - 1  # scikit-learn's


class Help(argparse.RawDescriptionHelpFormatter):
    """Tells of each number the most that it may be."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        told = super()._get_help_string(action)
        most = getattr(action.type, "most", None)
        return told if told is None or most is None else f"{told}; at most {most:.15g}"


def number(
    kind: type, least: float | None = None, above: float | None = None, most: float | None = None
) -> Callable[[str], Any]:
    """A converter for argparse: text -> `kind`, refused unless least <= it, above < it <= most.

    Infinity and NaN are refused too. The converter's attributes `of` and `most` are those.
    """

    def convert(text: str) -> Any:
        value = kind(text)
        text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
        if kind is float and not math.isfinite(value):  # whole numbers may be beyond any float
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if least is not None and not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        if above is not None and not value > above:
            raise argparse.ArgumentTypeError(f"{text} is not more than {above}")
        if most is not None and not value <= most:
            raise argparse.ArgumentTypeError(f"{text} is more than {most:.15g}")
        return value

    convert.most = most  # type: ignore[attr-defined]
    convert.__name__ = kind.__name__  # argparse names it when the text is not a number
    return convert


def place(text: str) -> Path:
    """A converter for argparse; a shell does not expand the ``~`` of ``--out=~/runs``."""
    try:
        return expanded(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_place(add: Callable[..., Any], data: bool = True) -> None:
    """Where a run is opened."""
    if data:
        add("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    add("--device", default="auto", help="cpu, cuda, cuda:1, …; auto: cuda where there is one")


def add_seed(add: Callable[..., Any], of_what: str) -> None:
    seed = number(int, least=0, most=MOST_SEED)
    add("--seed", type=seed, default=0, metavar="N", help=f"of {of_what}")
