"""Good files made bad: bytes, numbers, words, JSON and arrays changed at random."""

import json
import random
import re
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

MOST = 1 << 16  # bytes of a damaged file
NUMBERS = (0, 1, 2, 7, 127, 255, 256, 4096, 65535, 2**24, 2**31 - 1, 2**32, 2**53, 2**63 - 1, 2**64)
WORDS = (
    *(b"", b"-1", b"0", b"1e999", b"nan", b"inf", b"9" * 400, b"4611686018427387904", b"\0", b" "),
    *(b"../out.wav", b"/etc/passwd", b"link/out.wav", b"\r\n", b'"', b",", b"\t", b"\xff"),
    *(b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\x1b[2J", b"a" * 300, b"pipe", b"loop"),
    *(
        b"F32",
        b"BF16",
        b"data_offsets",
        b"__metadata__",
        b"sample_count -i ",
        b"end_head\n",
        b"RIFF",
    ),
    *(b"data", b"fLaC", b"OggS", b"IHDR", b"IDAT", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
)
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 1, 2**31, 2**62, 10**400, 0.5, 1e308, float("nan"), float("inf"), "", "x"),
    *("../../etc/passwd", "<b>", "\0", "\ud800", "a" * 5000, [], {}, [[]], [1, "a"], {"": None}),
)


def changed_bytes(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """One of the seeds with one to a few changes."""
    content = bytearray(rng.choice(seeds))
    for _ in range(1 + int(rng.expovariate(0.7))):
        rng.choice(_CHANGES)(rng, content, seeds)
    return bytes(content[:MOST])


def _place(rng: random.Random, content: bytearray) -> int:
    """Anywhere; half of the time near the start, where headers are."""
    return rng.randrange(min(len(content), rng.choice((16, 64, 256, MOST))) or 1)


def _flip(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    if content:
        content[_place(rng, content)] ^= 1 << rng.randrange(8)


def _integer(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    width, at = rng.choice((1, 2, 3, 4, 8)), _place(rng, content)
    value = rng.choice(NUMBERS) % 256**width
    content[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _cut(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    del content[_place(rng, content) :]


def _delete(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, content)
    del content[at : at + rng.choice((1, 2, 4, 16, 100))]


def _repeat(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    at = _place(rng, content)
    content[at:at] = content[at : at + rng.choice((1, 4, 32, 500))] * rng.choice((1, 2, 50))


def _splice(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    other = bytearray(rng.choice(seeds))
    content[_place(rng, content) :] = other[_place(rng, other) :]


def _word(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    word, at = rng.choice(WORDS), _place(rng, content)
    content[at : at + rng.choice((0, len(word)))] = word


def _number(rng: random.Random, content: bytearray, seeds: Sequence[bytes]) -> None:
    """A decimal number of a text becomes another."""
    if found := list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?", bytes(content[:MOST]))):
        start, end = rng.choice(found).span()
        content[start:end] = rng.choice((*WORDS[:9], str(rng.choice(NUMBERS)).encode()))


_CHANGES: tuple[Callable[..., None], ...] = (
    _flip, _flip, _integer, _integer, _cut, _delete, _repeat, _splice, _word, _number
)  # fmt: skip


def changed_value(rng: random.Random, value: Any) -> Any:
    """A JSON value with one to a few of its parts changed, taken out or renamed."""
    value = deepcopy(value)
    for _ in range(1 + int(rng.expovariate(0.7))):
        places = [value]
        for part in places:  # grows while it is gone through
            items = part.values() if isinstance(part, dict) else part
            places += [item for item in items if isinstance(item, (dict, list)) and item]
        part = rng.choice(places)
        if not part:
            break
        key = rng.choice(list(part)) if isinstance(part, dict) else rng.randrange(len(part))
        change = rng.randrange(4)
        if change == 0:
            del part[key]
        elif change == 1 and isinstance(part, dict):
            part[rng.choice((f"{key}x", "", "__class__"))] = part.pop(key)
        elif change == 2:
            part[key] = rng.choice(([part[key]], str(part[key]), rng.choice(NUMBERS)))
        else:
            part[key] = deepcopy(rng.choice(VALUES))
    return value


def changed_json(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A JSON file: its structure is changed, or its bytes; or it is nested too deep."""
    kind, seed = rng.random(), rng.choice(seeds)
    if kind < 0.01:
        return rng.choice((b"[", b'{"a":', b'{"num_cells":[')) * rng.choice((900, 20_000))
    if kind < 0.3:
        return changed_bytes(rng, seeds)
    return json.dumps(changed_value(rng, json.loads(seed))).encode()


def changed_lines(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    """A file of one JSON value a line, of which one is changed."""
    lines = rng.choice(seeds).splitlines()
    lines[rng.randrange(len(lines))] = changed_json(rng, lines)
    return b"\n".join([*lines, b""])


def changed_arrays(rng: random.Random, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays of other names, shapes, types and numbers."""
    arrays = dict(arrays)
    for _ in range(rng.choice((0, 1, 1, 2, 4))):
        if not arrays:
            break
        name = rng.choice(sorted(arrays))
        array = np.array(arrays[name])
        change = rng.randrange(6)
        with np.errstate(all="ignore"):
            if change == 0:
                del arrays[name]
            elif change == 1:
                arrays[name] = array.reshape(-1)[: rng.randrange(array.size + 1)]
            elif change == 2:
                kinds = (np.float64, np.int8, np.int64, np.bool_, np.float16)
                arrays[name] = array.astype(rng.choice(kinds))
            elif change == 3 and array.size:
                extreme = np.array(rng.choice((-1.0, 2.0**62, -(2.0**62), np.nan, np.inf, 255.0)))
                array.reshape(-1)[rng.randrange(array.size)] = extreme.astype(array.dtype)
                arrays[name] = array
            elif change == 4:
                arrays[name] = np.concatenate([np.atleast_1d(array)] * 2)
            else:
                arrays[rng.choice((f"{name}x", "optim.0.x", "optim.²", "rng.9.cpu"))] = array
    return arrays
