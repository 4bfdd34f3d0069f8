"""Sound decoded by FFmpeg, through PyAV, where libsndfile goes by a header that may not know."""

import io
import re
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from pvae_pyro.data.corpus import AudioError, CorpusError

# What encoders put into the first frame: bytes of sound, from that frame on.
# http://gabriel.mp3-tech.org/mp3infotag.html; VBRI is Fraunhofer's.
_TOLD_BYTES = re.compile(
    rb"(?:Xing|Info)\0\0\0[\x02\x06\x0a\x0e](.{4})|(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f].{4}(.{4})"
    rb"|VBRI.{6}(.{4})",
    re.DOTALL,
)
_TAG = 10  # bytes of an ID3 tag before its content


def first_mp3_frame(file: BinaryIO) -> int | None:
    """Where MPEG sound begins, after ID3 tags (with cover art, perhaps); None: it is none."""
    at = 0
    while True:
        file.seek(at)
        start = file.read(_TAG)
        if not start.startswith(b"ID3") or len(start) < _TAG:
            break
        size = 0
        for byte in start[6:]:
            size = size << 7 | byte & 0x7F
        at += _TAG + size
    return at if _begins_frame(start) or (at and start[:4] != b"fLaC") else None


def _begins_frame(start: bytes) -> bool:
    """Eleven ones, and a layer."""
    return len(start) > 1 and start[0] == 0xFF and start[1] >= 0xE0 and bool(start[1] & 6)


def read_mp3(
    file: BinaryIO, first: int, name: str, check: Callable[[int, int], None]
) -> tuple[np.ndarray, int]:
    """As `read_stream`; `AudioError` too where there is less than the first frame says."""
    file.seek(first)
    start = file.read(256)
    there = file.seek(0, 2) - first
    if told := _TOLD_BYTES.search(start):
        declared = int.from_bytes(next(filter(None, told.groups())), "big")
        if there < declared:
            raise AudioError(
                f"{name}: truncated, {there} of {declared} bytes of sound are there", "truncated"
            )
        file.seek(first + declared)
        after = file.read(3)
        if after and not _begins_frame(after) and after != b"ID3":  # tags, lyrics, zeros
            file.seek(0)
            file = io.BytesIO(file.read(first + declared))
    return read_stream(file, "mp3", name, check)


def read_stream(
    file: BinaryIO, container: str, name: str, check: Callable[[int, int], None]
) -> tuple[np.ndarray, int]:
    """Samples ``[samples, channels]`` (float32) to the end of the file, and the rate in Hz.

    container: what FFmpeg is to take it for. check: is called with the number of samples so far
        and the rate, and raises `AudioError` where they are no use.

    Raises `AudioError` for a damaged file, or one whose rate or number of channels changes.
    """
    try:
        import av
    except ImportError as error:
        raise CorpusError(f"{name}: to read it: pip install av") from error
    blocks: list[np.ndarray] = []
    kinds: set[tuple[int, int]] = set()
    found = 0
    file.seek(0)
    try:
        with av.open(file, mode="r", format=container) as opened:
            if not opened.streams.audio:
                raise AudioError(f"{name}: has no sound that can be found", "unreadable")
            opened.streams.audio[0].codec_context.options = {"err_detect": "crccheck+explode"}
            to_float = av.AudioResampler(format="flt")
            for frame in opened.decode(audio=0):
                kinds.add((frame.sample_rate, frame.layout.nb_channels))
                if len(kinds) > 1:
                    reason = "changes its rate or its number of channels: cut it into parts"
                    raise AudioError(f"{name}: {reason}", "unreadable")
                found += frame.samples
                check(found, frame.sample_rate)
                for block in to_float.resample(frame):
                    blocks.append(block.to_ndarray().reshape(-1, frame.layout.nb_channels))
    except av.FFmpegError as error:
        reason = f"is damaged or truncated after {found} samples ({error.strerror})"
        raise AudioError(f"{name}: {reason}", "truncated") from error
    if not kinds:
        raise AudioError(f"{name}: has no samples", "no samples")
    return np.concatenate(blocks), kinds.pop()[0]
