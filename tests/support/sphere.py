"""Makes NIST SPHERE files, plain or packed by shorten, as in the corpora of the LDC.

The header: https://catalog.ldc.upenn.edu/docs/LDC93S5/WAV_SPEC.TXT. Shorten: T. Robinson,
SHORTEN: Simple lossless and near-lossless waveform compression, CUED/F-INFENG/TR.156, 1994.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np

_BLOCK = 256
_MEANS = 4
_ZERO_COMMAND, _BLOCKSIZE_COMMAND, _QUIT_COMMAND = 8, 5, 4
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
        data = shorten(samples, _SIGNED_16_BITS[byte_order])
    else:
        data = samples.astype("<i2" if byte_order == "01" else ">i2").tobytes()
    return sphere_header({**fields, **header_overrides}) + data


def sphere_header(fields: dict[str, int | float | str | None]) -> bytes:
    """A header of as many times 1024 bytes as the fields need."""
    lines = [_line(name, value) for name, value in fields.items() if value is not None]
    text = "".join([*lines, "end_head\n"]).encode("latin-1")
    size = -(-(16 + len(text)) // 1024) * 1024
    return (b"NIST_1A\n%7d\n" % size + text).ljust(size)


def _line(name: str, value: int | float | str) -> str:
    if isinstance(value, str):
        return f"{name} -s{len(value)} {value}\n"
    return f"{name} -{'i' if isinstance(value, int) else 'r'} {value}\n"


def shorten(samples: np.ndarray, file_type: int = 5, channels: int = 0) -> bytes:
    """Packed as shorten 2 does by default: differences up to the third, Rice codes.

    samples: ``[N]`` or ``[N, channels]``, of which blocks take turns.
    file_type, channels: what its header claims.
    """
    planes = np.atleast_2d(np.asarray(samples, dtype=np.int64).T)
    # Order 0 subtracts the mean of the last blocks, orders 1 to 3 are differences of the samples.
    before = np.pad(planes, ((0, 0), (3, 0)))
    differences = [np.diff(before[:, 3 - order :], n=order) for order in (1, 2, 3)]
    means = [[0] * _MEANS for _ in planes]
    codes = Codes()
    # No linear prediction, no skip.
    for value in (file_type, channels or len(planes), _BLOCK, 0, _MEANS, 0):
        codes.long(value)
    for start in range(0, planes.shape[1], _BLOCK):
        at = slice(start, start + _BLOCK)
        for channel, block in enumerate(planes[:, at]):
            if len(block) < _BLOCK and channel == 0:
                codes.put(_BLOCKSIZE_COMMAND, _COMMAND_BITS)
                codes.long(len(block))
            offset = _divide(sum(means[channel]) + _MEANS // 2, _MEANS)
            mean = _divide(int(block.sum()) + len(block) // 2, len(block))
            means[channel] = [*means[channel][1:], mean]
            if not block.any():
                codes.put(_ZERO_COMMAND, _COMMAND_BITS)
                continue
            residuals = [block - offset, *(d[channel, at] for d in differences)]
            sizes = [int(np.abs(residual).sum()) for residual in residuals]
            order = int(np.argmin(sizes))
            rice = max((sizes[order] // len(block)).bit_length() - 1, 0)
            codes.put(order, _COMMAND_BITS)
            codes.put(rice, _RICE_BITS)
            residual = residuals[order]
            codes.put(np.where(residual < 0, ~residual << 1 | 1, residual << 1), rice + 1)
    codes.put(_QUIT_COMMAND, _COMMAND_BITS)
    return b"ajkg\x02" + codes.bytes()


class Codes:
    """Rice codes: as many zeros as the value's high bits say, a one, the ``low`` low bits."""

    def __init__(self) -> None:
        self.values: list[np.ndarray] = []
        self.lows: list[np.ndarray] = []

    def put(self, values: int | np.ndarray, low: int) -> None:
        self.values.append(np.atleast_1d(values))
        self.lows.append(np.full(self.values[-1].shape, low))

    def long(self, value: int) -> None:
        """A value of any size, its own number of low bits before it."""
        self.put(value.bit_length(), _LONG_BITS)
        self.put(value, value.bit_length())

    def bytes(self) -> bytes:
        values, lows = np.concatenate(self.values), np.concatenate(self.lows)
        zeros = values >> lows
        ends = np.cumsum(zeros + 1 + lows)
        bits = np.zeros(ends[-1], dtype=np.uint8)
        bits[ends - lows - 1] = 1
        for bit in range(lows.max()):
            has = lows > bit
            bits[ends[has] - 1 - bit] = values[has] >> bit & 1
        return np.packbits(bits).tobytes()


def _divide(a: int, b: int) -> int:
    """As C does: towards zero."""
    return a // b if a >= 0 else -(-a // b)
