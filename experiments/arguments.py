"""Numbers of the command line, within limits."""

import argparse
import math
from collections.abc import Callable
from typing import Any


def number(
    kind: type, least: float | None = None, above: float | None = None, most: float | None = None
) -> Callable[[str], Any]:
    """A converter for argparse: text -> `kind`, refused unless least <= it, above < it <= most.

    Infinity and NaN are refused too. The converter's attribute `of` is `kind`.
    """

    def convert(text: str) -> Any:
        value = kind(text)
        if not math.isfinite(value):
            raise argparse.ArgumentTypeError(f"{text} is not a finite number")
        if least is not None and not value >= least:
            raise argparse.ArgumentTypeError(f"{text} is less than {least}")
        if above is not None and not value > above:
            raise argparse.ArgumentTypeError(f"{text} is not more than {above}")
        if most is not None and not value <= most:
            raise argparse.ArgumentTypeError(f"{text} is more than {most}")
        return value

    convert.of = kind
    convert.__name__ = kind.__name__  # argparse names it when the text is not a number
    return convert
