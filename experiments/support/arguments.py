"""Arguments that commands share: numbers within limits, paths, devices and seeds."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pvae_pyro.io.files import expanded

MOST_EXAMPLES = 10_000_000  # the most examples in a batch or of a class
MOST_STEPS = 10_000_000  # the most steps or epochs
MOST_SEED = 2**32 - 1  # the largest seed that scikit-learn takes

Help = argparse.RawDescriptionHelpFormatter  # keeps the lines of a command's docstring


def number(
    kind: type, least: float | None = None, above: float | None = None, most: float | None = None
) -> Callable[[str], Any]:
    """A converter for argparse: finite numbers with least <= it, above < it and it <= most."""

    def convert(text: str) -> Any:
        value = kind(text)
        if kind is float and not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if least is not None and value < least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        if above is not None and value <= above:
            raise argparse.ArgumentTypeError(f"{text} is not more than {above}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"{text} is more than {most:.15g}")
        return value

    convert.__name__ = kind.__name__  # argparse names it when the text is not a number
    return convert


def place(text: str) -> Path:
    """A converter for argparse. The shell does not expand the ``~`` of ``--out=~/runs``."""
    try:
        return expanded(text)
    except OSError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_place(add: Callable[..., Any], data: bool = True) -> None:
    """Add --device and, with `data`, --data."""
    if data:
        add("--data", type=place, metavar="DIR", help="the corpora; else $PVAE_DATA, else ./data")
    add("--device", default="auto", help="cpu, cuda, cuda:1, …; auto: cuda if it is available")


def add_seed(add: Callable[..., Any], of_what: str) -> None:
    seed = number(int, least=0, most=MOST_SEED)
    add("--seed", type=seed, default=0, metavar="N", help=f"seed of {of_what}")
