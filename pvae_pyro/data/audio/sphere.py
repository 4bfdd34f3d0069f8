"""NIST SPHERE files: a header of text, then samples, plain or packed by shorten.

Header: https://catalog.ldc.upenn.edu/docs/LDC93S5/WAV_SPEC.TXT. Shorten, which the LDC packs
with (TIDIGITS: ``pcm,embedded-shorten-v2.00``), is decoded by FFmpeg through PyAV
(https://pyav.basswood-io.com); libsndfile reads no packed file.
"""

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile

from pvae_pyro.data.corpus import AudioError, CorpusError

MAGIC = b"NIST_1A"

_SIZE = re.compile(rb"NIST_1A\r?\n *([0-9]{4,5}) *\r?\n")  # five digits: it fits any memory
_FIELD = re.compile(r"(\w+) +-(?:[ir]|s[0-9]+) +(.*)")
_END = re.compile(rb"^end_head\s*$", re.MULTILINE)
_BYTE_ORDER = {"01": "<", "0123": "<", "10": ">", "3210": ">"}
_SUBTYPES = {
    ("pcm", 2): "PCM_16",
    ("pcm", 4): "PCM_32",
    **{(name, 1): "ULAW" for name in ("ulaw", "mu-law", "mulaw")},
    **{(name, 1): "ALAW" for name in ("alaw", "a-law")},
}
_PACKET = 1 << 12
_MOST_CHANNELS = 8  # of FFmpeg's shorten
# A few bytes can stand for a block of silence. Shorten's blocks are of 256 samples if not told
# otherwise; FFmpeg refuses larger ones than this, so that no file fills the memory.
_MAX_BLOCK = 1 << 12
# Shorten ends with a command of its own. Where that is cut off, FFmpeg makes up what is missing
# of the last block, and says nothing. These ones, fed to it after the file, mean nothing after
# the end; before it they are samples, more than one block of the largest size can hold.
_TAIL = b"\xff" * 32_768


@dataclass(frozen=True)
class SphereHeader:
    """What a header says of the samples after it.

    size: of the header, in bytes.
    samples: of one channel. rate: in Hz. width: bytes of a sample when it is not packed.
    byte_order: of plain samples, ``"<"`` or ``">"``; None where the header does not say.
    coding: ``"pcm"``, ``"ulaw"``, ``"pcm,embedded-shorten-v2.00"``, ...
    packed: the samples are not plain.
    checksum: the sum of all samples modulo 2^16; None where the header does not say.
    """

    size: int
    samples: int
    rate: int
    channels: int
    width: int
    byte_order: str | None
    coding: str
    packed: bool
    checksum: int | None


def read_header(file: BinaryIO, name: str) -> SphereHeader:
    """The header at the start of a file, or `AudioError` where it is damaged.

    It is one as well if plain samples are fewer or more than the header says. None is read yet:
    what a header says need not fit the memory.
    """
    fields, size = _fields(file, name)
    coding = fields.get("sample_coding", "pcm").replace(" ", "").lower()
    header = SphereHeader(
        size=size,
        samples=_number(fields, "sample_count", name),
        rate=_number(fields, "sample_rate", name),
        channels=_number(fields, "channel_count", name),
        width=_number(fields, "sample_n_bytes", name),
        byte_order=_BYTE_ORDER.get(fields.get("sample_byte_format", "")),
        coding=coding,
        # LDC94S18 tells of packed files whose header does not say so.
        packed="," in coding or file.read(4) == b"ajkg",
        checksum=_number(fields, "sample_checksum", name) if "sample_checksum" in fields else None,
    )
    if not 1 <= header.channels <= _MOST_CHANNELS:
        raise AudioError(f"{name}: its SPHERE header says {header.channels} channels", "header")
    if not header.packed:
        there = os.fstat(file.fileno()).st_size - size
        declared = header.samples * header.channels * header.width
        if there < declared:
            raise AudioError(
                f"{name}: truncated, {there} of {declared} bytes of sound are there", "truncated"
            )
        if there > declared:
            raise _other_count(name, header)
    return header


def read_samples(file: BinaryIO, header: SphereHeader, name: str) -> np.ndarray:
    """The samples of a file, float32 ``[samples, channels]``, in [-1, 1].

    Sixteen bits are divided by 2^15: a plain and a packed copy give the same numbers.

    Raises `AudioError` if they are not as many as the header says or add up to another checksum,
    if they are damaged, or coded in another way; `CorpusError` if PyAV is needed and not there.
    """
    file.seek(header.size)
    if not header.packed:
        return _plain(file, header, name)
    if not re.fullmatch("pcm(,embedded-shorten.*)?", header.coding):
        reason = f"is coded as {header.coding!a}, which is not read: convert it (sph2pipe -p)"
        raise AudioError(f"{name}: {reason}", "unreadable")
    samples = _unpack(file, header, name)
    if len(samples) != header.samples:
        raise _other_count(name, header)
    _check_sum(samples, header, name)
    return samples.astype(np.float32) / 2**15


def _fields(file: BinaryIO, name: str) -> tuple[dict[str, str], int]:
    """What is between the first two lines and ``end_head``, and the size of the header."""
    start = file.read(16)
    match = _SIZE.match(start)
    size = int(match[1]) if match else 0
    if size == 0 or size % 1024:
        raise AudioError(f"{name}: its SPHERE header does not say its own size", "header")
    content = start + file.read(size - len(start))
    end = _END.search(content)
    if len(content) < size or end is None:
        raise AudioError(f"{name}: its SPHERE header is cut off", "header")
    fields: dict[str, str] = {}
    for line in content[: end.start()].decode("latin-1").split("\n"):
        if (field := _FIELD.match(line)) and field[1].startswith(("sample_", "channel_")):
            value = field[2].partition(";")[0].strip()  # a comment follows
            if fields.setdefault(field[1], value) != value:
                raise AudioError(f"{name}: its SPHERE header gives {field[1]} twice", "header")
    return fields, size


def _number(fields: dict[str, str], field: str, name: str) -> int:
    """``-r`` is allowed where the number is whole."""
    if field not in fields:
        raise AudioError(f"{name}: its SPHERE header does not say its {field}", "header")
    if not re.fullmatch(r"[+-]?[0-9]{1,20}(\.0*)?", fields[field]):
        raise AudioError(f"{name}: its SPHERE header says {field} {fields[field]!a}", "header")
    return int(fields[field].split(".")[0])


def _plain(file: BinaryIO, header: SphereHeader, name: str) -> np.ndarray:
    subtype = _SUBTYPES.get((header.coding, header.width))
    if subtype is None:
        reason = f"is coded as {header.coding!a}, {header.width} bytes a sample, which is not read"
        raise AudioError(f"{name}: {reason}", "unreadable")
    if header.width > 1 and header.byte_order is None:
        raise AudioError(f"{name}: its SPHERE header does not say the order of bytes", "header")
    content = file.read()
    if header.width == 2:
        _check_sum(np.frombuffer(content, f"{header.byte_order}i2"), header, name)
    samples: np.ndarray = soundfile.read(
        io.BytesIO(content),
        format="RAW",
        subtype=subtype,
        endian="BIG" if header.byte_order == ">" else "LITTLE",
        channels=header.channels,
        samplerate=header.rate,
        dtype="float32",
        always_2d=True,
    )[0]
    return samples


def _unpack(file: BinaryIO, header: SphereHeader, name: str) -> np.ndarray:
    try:
        import av
    except ImportError as error:
        raise CorpusError(f"{name}: is packed by shorten; to read it: pip install av") from error
    decoder = av.CodecContext.create("shorten", "r")
    assert isinstance(decoder, av.AudioCodecContext)
    decoder.extradata = b"\1"  # as FFmpeg's reader of SPHERE: there is no RIFF header inside
    decoder.options = {"max_samples": str(_MAX_BLOCK)}
    decoder.sample_rate = header.rate
    blocks = [np.zeros((0, header.channels), dtype=np.int16)]
    found = 0
    try:
        for data in _packets(file):
            for frame in decoder.decode(av.Packet(data) if data else None):
                if frame.layout.nb_channels != header.channels or frame.format.bits != 16:
                    raise AudioError(
                        f"{name}: its SPHERE header has other channels, or bytes of a sample, than "
                        "what shorten packed",
                        "header",
                    )
                found += frame.samples
                if found > header.samples:
                    raise _other_count(name, header)
                block: np.ndarray = frame.to_ndarray().T  # planes, one a channel
                blocks.append(block)
    except av.FFmpegError as error:
        reason = f"damaged after {found} of {header.samples} samples ({error.strerror})"
        raise AudioError(f"{name}: {reason}", "unreadable") from error
    return np.concatenate(blocks)


def _packets(file: BinaryIO) -> Iterator[bytes]:
    while data := file.read(_PACKET):
        yield data
    yield _TAIL
    yield b""  # what is left in the decoder


def _other_count(name: str, header: SphereHeader) -> AudioError:
    there = (
        "fewer or more are there, or their end is cut off" if header.packed else "more are there"
    )
    return AudioError(f"{name}: says it has {header.samples} samples, {there}", "sample count")


def _check_sum(samples: np.ndarray, header: SphereHeader, name: str) -> None:
    """The sum of all samples in 16 bits, without the overflow, in whichever byte order.

    http://svr-www.eng.cam.ac.uk/reports/ajr/TR192/node11.html, which names no byte order.
    """
    sums = {
        int(ordered.view(f"{ordered.dtype.byteorder}u2").sum(dtype=np.uint64)) % 2**16
        for ordered in (samples, samples.byteswap())
    }
    if header.checksum is not None and header.checksum % 2**16 not in sums:
        raise AudioError(
            f"{name}: damaged, its samples do not add up to the checksum in its header", "checksum"
        )
