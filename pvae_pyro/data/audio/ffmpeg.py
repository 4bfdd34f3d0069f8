"""Sound files that FFmpeg decodes, through PyAV, because libsndfile cannot or is unreliable.

These are MP3, NIST SPHERE (plain, or compressed by shorten as the LDC's corpora are) and files
whose header lacks the number of samples.
"""

import re
from typing import Any, BinaryIO

import numpy as np

from pvae_pyro.data.corpus import AudioError

_RATES = (4_000, 192_000)  # Hz
_LONGEST = 3600  # seconds
# The number of bytes of sound that encoders write into the first frame of an MP3 file
# (http://gabriel.mp3-tech.org/mp3infotag.html). The tag starts at most 38 bytes into the frame.
_MP3_BYTES = re.compile(rb"(?:Xing|Info)\0\0\0[\x03\x07\x0b\x0f].{4}(.{4})", re.DOTALL)
_TAG_OFFSET = 38
_SIXTEEN_BITS = ("pcm_s16le", "pcm_s16be", "shorten")


def read_stream(file: BinaryIO, container: str, name: str) -> tuple[np.ndarray, int]:
    """Samples ``[samples, channels]`` (float32, full scale is 1) and the rate in Hz.

    container: the name of an FFmpeg demuxer (``mp3``, ``nistsphere``, ``flac``, ``wav``).
    name: what errors call the file.

    Raises `AudioError` for a file that is damaged or truncated, has other samples than its header
    declares, or changes its rate or number of channels.
    """
    import av

    if container == "mp3":
        _check_mp3_size(file, name)
    blocks: list[np.ndarray] = []
    found, formats = 0, set()
    try:
        file.seek(0)
        with av.open(file, mode="r", format=container, metadata_errors="replace") as opened:
            stream = _audio_stream(opened, name)
            declared = stream.duration if container == "nistsphere" else None
            check_length(declared or 0, stream.rate, name)
            stream.codec_context.options = {"err_detect": "crccheck+explode"}
            to_float = av.AudioResampler(format="flt")
            for frame in opened.decode(stream):
                formats.add((frame.sample_rate, frame.layout.nb_channels))
                if len(formats) > 1:
                    reason = "the sample rate or number of channels changes within the file"
                    raise AudioError(f"{name}: {reason}, so split it", "unreadable")
                found += frame.samples
                check_length(found, frame.sample_rate, name)
                if declared is not None and found > declared:
                    break
                for block in to_float.resample(frame):
                    blocks.append(block.to_ndarray().reshape(-1, frame.layout.nb_channels))
            coding, checksum = stream.codec_context.name, opened.metadata.get("sample_checksum")
    except av.FFmpegError as error:
        reason = f"damaged or truncated after {found} samples ({error.strerror})"
        raise AudioError(f"{name}: {reason}", "truncated") from error
    if declared is not None and found != declared:
        reason = f"the header declares {declared} samples, and the file has"
        if found < declared:
            raise AudioError(f"{name}: truncated, {reason} {found}", "truncated")
        raise AudioError(f"{name}: {reason} more", "sample count")
    if not blocks:
        raise AudioError(f"{name}: has no samples", "no samples")
    samples = np.concatenate(blocks)
    if checksum and coding in _SIXTEEN_BITS:
        _verify_checksum(samples, int(checksum), name)
    return samples, formats.pop()[0]


def sphere_format(file: BinaryIO, name: str) -> tuple[int, int]:
    """Sample rate in Hz and number of channels of a SPHERE file, or `AudioError`."""
    import av

    try:
        with av.open(file, mode="r", format="nistsphere", metadata_errors="replace") as opened:
            stream = _audio_stream(opened, name)
            return stream.rate, stream.layout.nb_channels
    except av.FFmpegError as error:
        raise AudioError(f"{name}: the SPHERE header is damaged", "header") from error


def _audio_stream(opened: Any, name: str) -> Any:
    if not opened.streams.audio or opened.streams.audio[0].codec_context is None:
        raise AudioError(f"{name}: the header is damaged, or the coding is unknown", "header")
    return opened.streams.audio[0]


def check_length(samples: int, rate: int, name: str) -> None:
    """Raise `AudioError` for a rate that speech is not recorded at, or more than an hour."""
    if not _RATES[0] <= rate <= _RATES[1]:
        reason = f"the sample rate is {rate} Hz, outside {_RATES[0]} to {_RATES[1]} Hz"
        raise AudioError(f"{name}: {reason}", "wrong rate")
    if samples > _LONGEST * rate:
        raise AudioError(f"{name}: longer than an hour, so split it", "too long")


def _check_mp3_size(file: BinaryIO, name: str) -> None:
    content = file.read()
    if tag := _MP3_BYTES.search(content):
        declared = int.from_bytes(tag[1], "big")
        present = len(content) - tag.start() + _TAG_OFFSET
        if present < declared:
            reason = f"truncated, {present} of {declared} bytes of sound are present"
            raise AudioError(f"{name}: {reason}", "truncated")


def _verify_checksum(samples: np.ndarray, checksum: int, name: str) -> None:
    """Compare the 16-bit sum of 16-bit samples, in either byte order, with the header's.

    http://svr-www.eng.cam.ac.uk/reports/ajr/TR192/node11.html, which names no byte order.
    """
    ints = (samples * 2**15).astype(np.int16)
    sums = {int(order.sum(dtype=np.int64)) % 2**16 for order in (ints, ints.byteswap())}
    if checksum % 2**16 not in sums:
        raise AudioError(f"{name}: damaged, the samples do not match the checksum", "checksum")
