"""Makes NIST SPHERE files, plain or packed by shorten, as in the corpora of the LDC.

The header: https://catalog.ldc.upenn.edu/docs/LDC93S5/WAV_SPEC.TXT. Shorten: T. Robinson,
SHORTEN: Simple lossless and near-lossless waveform compression, CUED/F-INFENG/TR.156, 1994.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

_BLOCK = 256
_DIFFERENCE_COMMAND, _QUIT_COMMAND, _BLOCKSIZE_COMMAND = 1, 4, 5
_COMMAND_BITS, _RICE_BITS, _LONG_BITS = 2, 3, 2
_SIGNED_16_BITS = {"10": 3, "01": 5}  # shorten's file types


def write_sphere(path: Path, *args: Any, **kwargs: Any) -> None:
    """Write the file that `sphere` makes."""
    Path(path).write_bytes(sphere(*args, **kwargs))


def sphere(
    samples: np.ndarray,
    rate: int,
    *,
    coding: Literal["pcm", "shorten"] = "pcm",
    byte_order: Literal["01", "10"] = "01",
    sample_count: int | None = None,
    **header_overrides: int | float | str | None,
) -> bytes:
    """A SPHERE file of 16-bit samples, ``[N]`` or ``[N, channels]``.

    byte_order: of plain samples, ``"01"`` has the low byte first; a shortened file only says so.
    sample_count: what the header claims, if that is to be wrong.
    header_overrides: more fields, or other values; None leaves a field out. ``int`` is written as
        ``-i``, ``float`` as ``-r``, ``str`` as ``-sN``.
    """
    samples = np.asarray(samples)
    if not np.array_equal(samples, samples.astype(np.int16)):
        raise ValueError("samples must fit sixteen bits")
    packed = coding == "shorten"
    fields: dict[str, int | float | str | None] = {
        "sample_count": len(samples) if sample_count is None else sample_count,
        "sample_rate": rate,
        "channel_count": 1 if samples.ndim == 1 else samples.shape[1],
        "sample_n_bytes": 2,
        "sample_byte_format": byte_order,
        "sample_sig_bits": 16,
        "sample_coding": "pcm,embedded-shorten-v2.00" if packed else "pcm",
        "sample_checksum": int(samples.astype(np.int64).sum()) % 2**16,
    }
    if packed:
        data = _shorten(samples, _SIGNED_16_BITS[byte_order])
    else:
        data = samples.astype("<i2" if byte_order == "01" else ">i2").tobytes()
    fields |= header_overrides
    lines = [_line(name, value) for name, value in fields.items() if value is not None]
    text = "".join([*lines, "end_head\n"]).encode("latin-1")
    size = -(-(16 + len(text)) // 1024) * 1024  # a multiple of 1024
    return (b"NIST_1A\n%7d\n" % size + text).ljust(size) + data


def _line(name: str, value: int | float | str) -> str:
    if isinstance(value, str):
        return f"{name} -s{len(value)} {value}\n"
    return f"{name} -{'i' if isinstance(value, int) else 'r'} {value}\n"


class _Codes:
    """Rice codes: as many zeros as the value's high bits say, a one, the ``low`` low bits."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.lows: list[np.ndarray] = []

    def put(self, values: int | np.ndarray, low: int) -> None:
        self.values.append(np.atleast_1d(values))
        self.lows.append(np.full(self.values[-1].shape, low))

    def put_long(self, value: int) -> None:
        """Write a value of any size, after its number of low bits."""
        self.put(value.bit_length(), _LONG_BITS)
        self.put(value, value.bit_length())

    def bytes(self) -> bytes:
        values, lows = np.concatenate(self.values), np.concatenate(self.lows)
        ends = np.cumsum((values >> lows) + 1 + lows)
        bits = np.zeros(ends[-1], dtype=np.uint8)
        bits[ends - lows - 1] = 1
        for bit in range(lows.max()):
            has = lows > bit
            bits[ends[has] - 1 - bit] = values[has] >> bit & 1
        return np.packbits(bits).tobytes()


def _shorten(samples: np.ndarray, file_type: int) -> bytes:
    """Samples ``[N]`` or ``[N, channels]``, packed by shorten 2 as differences in Rice codes."""
    differences = np.diff(np.atleast_2d(samples.T.astype(np.int64)), prepend=0)
    codes = _Codes()
    # There are no linear prediction, no means and no bytes to skip.
    for value in (file_type, len(differences), _BLOCK, 0, 0, 0):
        codes.put_long(value)
    for start in range(0, differences.shape[1], _BLOCK):
        for channel, block in enumerate(differences[:, start : start + _BLOCK]):
            if len(block) < _BLOCK and channel == 0:
                codes.put(_BLOCKSIZE_COMMAND, _COMMAND_BITS)
                codes.put_long(len(block))
            rice = max(int(np.abs(block).mean()).bit_length() - 1, 0)
            codes.put(_DIFFERENCE_COMMAND, _COMMAND_BITS)
            codes.put(rice, _RICE_BITS)
            codes.put(np.where(block < 0, ~block << 1 | 1, block << 1), rice + 1)
    codes.put(_QUIT_COMMAND, _COMMAND_BITS)
    return b"ajkg\x02" + codes.bytes()
