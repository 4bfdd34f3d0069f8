"""JSON from elsewhere, held to what it must be before anything is made of it."""

import json
import math
import os
from collections.abc import Mapping
from typing import Any, TypeAlias

from pvae_pyro.io.files import read_regular

# A type or several; a list of one shape; a mapping from any name to one shape, ``{str: shape}``;
# or from given names, of which those that end in "?" may be missing.
Shape: TypeAlias = Any

NUMBER = (int, float)
_MOST = 2**63


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The object in a JSON file.

    Raises OSError where it cannot be read, and ValueError where it is no JSON object, has numbers
    that are not finite or are beyond 2^63, text that no file could hold, or is nested too deep.
    """
    return parse_object(read_regular(path).decode())


def parse_object(text: str) -> dict[str, Any]:
    """As `read_json`, of its text."""
    try:
        content = json.loads(text, parse_constant=_number, parse_float=_number, parse_int=_whole)
        json.dumps(content, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("nested too deep") from error
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def misfit(value: Any, shape: Shape, name: str = "it") -> str | None:
    """Where `value` is not of the shape, in words; None where it is.

    True and False are of the shape ``bool`` alone, not numbers.
    """
    if isinstance(shape, Mapping):
        return _misfit_of_mapping(value, shape, name)
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        found = (misfit(part, shape[0], f"{name}[{n}]") for n, part in enumerate(value))
        return next((told for told in found if told), None)
    kinds = shape if isinstance(shape, tuple) else (shape,)
    fits = isinstance(value, kinds)
    if isinstance(value, bool):
        fits = bool in kinds or object in kinds
    return None if fits else f"{name} is {_short(value)}"


def _misfit_of_mapping(value: Any, shape: Mapping[Any, Shape], name: str) -> str | None:
    if not isinstance(value, Mapping):
        return f"{name} is {_short(value)}"
    if str in shape:
        of = dict.fromkeys(value, shape[str])
    else:
        of = {key.removesuffix("?"): part for key, part in shape.items()}
        if lacking := [key for key in shape if not key.endswith("?") and key not in value]:
            return f"{name} has no {lacking[0]}"
    found = (misfit(value[key], part, f"{name}.{key}") for key, part in of.items() if key in value)
    return next((told for told in found if told), None)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is not a finite number")
    return value


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= _MOST:
        raise ValueError(f"{text[:20]}… is beyond 2^63")
    return int(text)


def _short(value: Any) -> str:
    return ascii(value)[:60]
