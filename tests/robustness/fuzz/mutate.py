"""Good files made bad: bytes, numbers, words and structure changed at random."""

import gzip
import json
import random
import re
import struct
import zlib
from collections.abc import Callable, Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

MOST = 1 << 16  # bytes of a mutated file
NUMBERS = (
    *(0, 1, 2, 3, 4, 7, 8, 15, 16, 127, 128, 255, 256, 1000, 4095, 4096, 32767, 32768, 65535),
    *(65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1),
)
# As text: what a parser of numbers may stumble over.
TEXTS = (
    *(b"", b"-1", b"0", b"1e999", b"-0.0", b"nan", b"inf", b"1_000", b"0x10", b"9" * 400),
    *(b"9" * 5000, b"4611686018427387904", b"-9223372036854775808", "٣".encode(), b"\0", b" "),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**62, 10**400, 0.5, 1e308, float("nan"), float("inf")),
    *("", "x", "0", "../../etc/passwd", "<b>", "\0", "\ud800", "a" * 5000, [], {}, [[]], [1, "a"]),
    *({"": None}, {"a": {"b": {"c": 1}}}),
)


def mutated(rng: random.Random, seeds: Sequence[bytes], words: Sequence[bytes] = ()) -> bytes:
    """A seed with one to a few changes; `words` are what the format's parser looks for."""
    content = bytearray(rng.choice(seeds))
    for _ in range(1 + int(rng.expovariate(0.7))):
        change = rng.choice(_CHANGES)
        change(rng, content, seeds, words)
    return bytes(content[:MOST])


def _place(rng: random.Random, content: bytearray) -> int:
    """Anywhere; half of the time near the start, where headers are."""
    if not content:
        return 0
    return rng.randrange(min(len(content), rng.choice((16, 64, 256, len(content)))))


def _flip(rng: random.Random, content: bytearray, *_: Any) -> None:
    for _ in range(rng.choice((1, 1, 2, 8))):
        if content:
            content[_place(rng, content)] ^= 1 << rng.randrange(8)


def _set(rng: random.Random, content: bytearray, *_: Any) -> None:
    if content:
        content[_place(rng, content)] = rng.choice((0, 0xFF, 0x7F, 0x80, rng.randrange(256)))


def _integer(rng: random.Random, content: bytearray, *_: Any) -> None:
    width = rng.choice((1, 2, 3, 4, 8))
    value = rng.choice(NUMBERS) % 256**width
    at = _place(rng, content)
    content[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))


def _cut(rng: random.Random, content: bytearray, *_: Any) -> None:
    del content[_place(rng, content) :]


def _delete(rng: random.Random, content: bytearray, *_: Any) -> None:
    at = _place(rng, content)
    del content[at : at + rng.choice((1, 2, 4, 16, 100))]


def _repeat(rng: random.Random, content: bytearray, *_: Any) -> None:
    at = _place(rng, content)
    some = content[at : at + rng.choice((1, 4, 32, 500))]
    content[at:at] = some * min(rng.choice((1, 2, 50)), 1 + MOST // max(len(some), 1))


def _move(rng: random.Random, content: bytearray, *_: Any) -> None:
    at, length = _place(rng, content), rng.choice((1, 4, 32))
    some = content[at : at + length]
    del content[at : at + length]
    to = _place(rng, content)
    content[to:to] = some


def _splice(
    rng: random.Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    other = bytearray(rng.choice(seeds))
    at = _place(rng, other)
    content[_place(rng, content) :] = other[at:]


def _word(
    rng: random.Random, content: bytearray, seeds: Sequence[bytes], words: Sequence[bytes]
) -> None:
    word = rng.choice((*words, *TEXTS))
    at = _place(rng, content)
    content[at : at + (len(word) if rng.random() < 0.5 else 0)] = word


def _number(rng: random.Random, content: bytearray, *_: Any) -> None:
    """A decimal number of the text, another."""
    found = list(re.finditer(rb"-?[0-9]+(\.[0-9]+)?", bytes(content[:MOST])))
    if found:
        start, end = rng.choice(found).span()
        content[start:end] = rng.choice((*TEXTS, str(rng.choice(NUMBERS)).encode()))


_CHANGES: tuple[Callable[..., None], ...] = (
    _flip, _flip, _set, _integer, _integer, _cut, _delete, _repeat, _move, _splice, _word, _number
)  # fmt: skip


def mutated_json(rng: random.Random, value: Any) -> Any:
    """A JSON value with one to a few of its parts changed, taken out or given another name."""
    value = json.loads(json.dumps(value))
    for _ in range(1 + int(rng.expovariate(0.7))):
        places = [value] if isinstance(value, (dict, list)) else []
        for part in places:  # grows as it is gone through
            items = part.values() if isinstance(part, dict) else part
            places += [item for item in items if isinstance(item, (dict, list))]
        inside = [part for part in places if part]
        if not inside:
            return deepcopy(rng.choice(VALUES))
        part = rng.choice(inside)
        key = rng.choice(list(part)) if isinstance(part, dict) else rng.randrange(len(part))
        change = rng.randrange(5)
        if change == 0:
            del part[key]
        elif change == 1 and isinstance(part, dict):
            part[rng.choice((f"{key}x", "", "__class__", "../x"))] = part.pop(key)
        elif change == 2:
            part[key] = rng.choice(([part[key]], {"x": part[key]}, str(part[key])))
        elif change == 3:
            part[key] = rng.choice(NUMBERS) * rng.choice((1, -1, 0.5))
        else:
            part[key] = deepcopy(rng.choice(VALUES))
    return value if rng.random() < 0.98 else deepcopy(rng.choice(VALUES))


def json_file(rng: random.Random, values: Sequence[Any]) -> bytes:
    """A JSON file: its structure changed, or its bytes; or nested deeper than any parser goes."""
    kind = rng.random()
    if kind < 0.01:
        return rng.choice((b"[", b'{"a":', b'{"num_cells":[')) * rng.choice((900, 20_000))
    value = rng.choice(values)
    if kind < 0.7:
        value = mutated_json(rng, value)
    content = json.dumps(value).encode()
    return content if kind < 0.6 else mutated(rng, [content], (b"NaN", b"Infinity", b"1e999"))


def with_png_checksums(content: bytes) -> bytes:
    """Every chunk's CRC made right, so that a decoder looks at what is in it."""
    made, at = bytearray(content[:8]), 8
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        body = content[at + 4 : at + 8 + length]
        made += content[at : at + 4] + body + struct.pack(">I", zlib.crc32(body))
        at += 12 + length
    return bytes(made + content[at:])


def with_png_data(content: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """The picture's filtered rows, which are packed in IDAT chunks, as `change` makes them."""
    at, parts = 8, []
    while at + 12 <= len(content):
        (length,) = struct.unpack(">I", content[at : at + 4])
        parts.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    data = change(zlib.decompress(b"".join(body for kind, body in parts if kind == b"IDAT")))
    before = [part for part in parts if part[0] not in (b"IDAT", b"IEND")]
    made = [*before, (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    return content[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in made
    )


def with_ogg_checksums(content: bytes) -> bytes:
    """As `with_png_checksums`, of the pages of an Ogg stream (RFC 3533, section 6)."""
    made = bytearray(content)
    starts = [match.start() for match in re.finditer(b"OggS", content)]
    for start, end in pairwise([*starts, len(content)]):
        if end - start >= 27:
            made[start + 22 : start + 26] = bytes(4)
            crc = 0
            for byte in made[start:end]:
                crc = (crc << 8 & 0xFFFFFFFF) ^ _OGG[crc >> 24 ^ byte]
            made[start + 22 : start + 26] = struct.pack("<I", crc)
    return bytes(made)


def _ogg_table() -> list[int]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 & 0xFFFFFFFF) ^ (0x04C11DB7 if crc >> 31 else 0)
        table.append(crc)
    return table


_OGG = _ogg_table()


def with_tar_checksums(content: bytes) -> bytes:
    """As `with_png_checksums`, of the headers that lie at every block of 512 bytes."""
    made = bytearray(content)
    for at in range(0, len(made) - 511, 512):
        if made[at + 257 : at + 262] == b"ustar":
            made[at + 148 : at + 156] = b" " * 8
            made[at + 148 : at + 156] = b"%06o\0 " % sum(made[at : at + 512])
    return bytes(made)


def zipped(content: bytes) -> bytes:
    return gzip.compress(content, 1, mtime=0)


def parts_of_safetensors(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors (https://huggingface.co/docs/safetensors)."""
    (length,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def in_order(content: bytes) -> bytes:
    """The same each time: safetensors has its metadata in any order."""
    header, tensors = parts_of_safetensors(content)
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    return safetensors_of(header, tensors)


def safetensors_of(header: Any, tensors: bytes) -> bytes:
    written = json.dumps(header).encode()
    return struct.pack("<Q", len(written)) + written + tensors
