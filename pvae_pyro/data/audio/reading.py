"""Reading sound files, and refusing those that would spoil a corpus unnoticed."""

import os
import re
from io import FileIO
from typing import NamedTuple

import numpy as np
import soundfile

from pvae_pyro.data.audio.ffmpeg import check_length, read_stream, sphere_format
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.placeholder import placeholder
from pvae_pyro.errors import shown

# Formats of libsndfile in which truncation is noticed: by libsndfile, or below.
_FORMATS = {"WAV", "WAVEX", "AIFF", "AU", "FLAC", "OGG"}
_SPHERE = b"NIST_1A"
_MP3 = re.compile(rb"ID3|\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]")  # a tag, or a frame of layer 1 to 3
_OGG_PAGE = re.compile(rb"OggS\0(.).{20}(.)", re.DOTALL)  # type, number of segments (RFC 3533)
_NOT_SOUND = (
    (rb"(?s)....ftyp", "MPEG-4 (M4A) sound: convert it to WAV or FLAC"),
    (rb"PK\x03\x04|\x1f\x8b", "an archive: unpack it"),
    (rb"[\t\r\n -~]{16}", "text, not a sound"),
)
# Full scale is 1. Float recordings exceed it a little; 16-bit values stored as floats, by far.
_LOUDEST = 16.0
# The range of samples that a rounding error of one 16-bit step up and one down makes.
_ROUNDING = 2 / 2**15
# The mean of two unlike channels has half of their energy. Below this share of that they cancel:
# if both have one level, this is a correlation below -0.7.
_CANCELLED = 0.3
_UNKNOWN_COUNT = 2**63 - 1
# A program that writes into a pipe cannot correct the size in the header afterwards, and leaves
# 0xffffffff (FFmpeg), 0x7ffff000 or 0x7f000000 (SoX), or 0x80000000 (arecord).
_STREAMED = 0x7F000000
# libsndfile shortens a truncated file to what is present, and says so only in its log:
# "data : 4768 (should be 2362)" (WAV), "SSND : ..." (AIFF), "Data Size : ..." (AU).
_SHORTENED = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)


class Format(NamedTuple):
    """What a file's header says: rate in Hz, and the number of channels."""

    rate: int
    channels: int


def read_audio(path: str | os.PathLike[str], channel: int | None = None) -> tuple[np.ndarray, int]:
    """Mono samples in [-1, 1] (float32, ``[samples]``) and the sample rate in Hz.

    channel: the channel to take, from 1; None is the mean of all.

    Reads WAV, FLAC, AIFF, AU and Ogg by libsndfile (https://libsndfile.github.io), MP3 and NIST
    SPHERE (also compressed by shorten) by FFmpeg. The content decides, not the file's name. A
    file whose header lacks the length, because it was written into a pipe, is read to its end.

    Raises `AudioError`, which names the file and the reason. Its `kind` is one of: ``missing``,
    ``no permission``, ``unreadable`` (not a file, not a sound), ``empty``, ``header`` (damaged),
    ``truncated``, ``sample count`` (not what the header says), ``checksum``, ``no samples``,
    ``silent`` (nothing but the rounding of sixteen bits), ``not finite``, ``range`` (beyond 16
    times full scale), ``channels`` (no such channel), ``opposite phase`` (channels that cancel in
    their mean), ``wrong rate`` (below 4 or above 192 kHz), ``too long`` (over an hour).
    """
    name = shown(path)
    with _open(path) as file:
        start = file.read(64)
        file.seek(0)
        if not start:
            raise AudioError(f"{name}: the file is empty", "empty")
        if start.startswith(_SPHERE):
            sound, rate = read_stream(file, "nistsphere", name)
        elif _MP3.match(start):
            sound, rate = read_stream(file, "mp3", name)
        else:
            if start.startswith(b"OggS"):
                _check_ogg(file.read(), name)
            sound, rate = _read_libsndfile(file, start, name)
    samples = _one_channel(sound, channel, name)
    check_samples(samples, name)
    return samples, rate


def read_format(path: str | os.PathLike[str]) -> Format:
    """What the file's header says; the sound is not decoded.

    Raises `AudioError` as `read_audio` does, for what shows in the header.
    """
    name = shown(path)
    with _open(path) as file:
        start = file.read(8)
        file.seek(0)
        if start.startswith(_SPHERE):
            form = Format(*sphere_format(file, name))
        else:
            try:
                with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                    form = Format(sound.samplerate, sound.channels)
            except soundfile.LibsndfileError as error:
                raise AudioError(f"{name}: the format is unknown", "unreadable") from error
    check_length(0, form.rate, name)
    return form


def check_samples(samples: np.ndarray, name: str) -> None:
    """Raise `AudioError` for samples ``[n]`` that are no sound, or with nothing to hear in it."""
    if len(samples) == 0:
        raise AudioError(f"{name}: has no samples", "no samples")
    lowest, highest = float(samples.min()), float(samples.max())
    if not np.isfinite(highest - lowest):
        raise AudioError(f"{name}: has samples that are NaN or infinite", "not finite")
    if highest - lowest <= _ROUNDING:
        reason = f"is silent: samples are {lowest:.3g} to {highest:.3g}, and full scale is 1"
        raise AudioError(f"{name}: {reason}", "silent")
    if (loudest := max(highest, -lowest)) > _LOUDEST:
        reason = f"has samples of {loudest:.3g}, and full scale is 1 (16-bit values in floats?)"
        raise AudioError(f"{name}: {reason}", "range")


def _open(path: str | os.PathLike[str]) -> FileIO:
    name = shown(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):  # opening a pipe would block
            raise AudioError(f"{name}: not a regular file", "unreadable")
        return open(path, "rb", buffering=0)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError(f"{name}: no such file", "missing") from error
    except PermissionError as error:
        raise AudioError(f"{name}: permission denied", "no permission") from error
    except (OSError, ValueError) as error:
        raise AudioError(f"{name}: cannot be opened ({error})", "unreadable") from error


def _check_ogg(content: bytes, name: str) -> None:
    """libsndfile reads the first of several streams alone, and reads a truncated one as whole."""
    pages = list(_OGG_PAGE.finditer(content))
    if sum(page[1][0] & 2 for page in pages) > 2:
        raise AudioError(f"{name}: several Ogg streams are joined, so split it", "unreadable")
    last = pages[-1] if pages else None
    if last is None or not last[1][0] & 4:
        raise AudioError(f"{name}: truncated, its stream has no end", "truncated")
    body = last.end() + last[2][0]
    if body + sum(content[last.end() : body]) > len(content):
        raise AudioError(f"{name}: truncated, its stream has no end", "truncated")


def _read_libsndfile(file: FileIO, start: bytes, name: str) -> tuple[np.ndarray, int]:
    """Samples ``[samples, channels]`` (float32) and the rate."""
    file.seek(0)
    kind = "header" if start.startswith((b"RIFF", b"FORM", b".snd")) else "unreadable"
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            declared, rate = sound.frames, sound.samplerate
            if sound.format not in _FORMATS:
                reason = f"the format is {sound.format}: convert it to WAV or FLAC"
                raise AudioError(f"{name}: {reason}", "unreadable")
            if sound.format == "FLAC" and declared == _UNKNOWN_COUNT:  # written into a pipe
                return read_stream(file, "flac", name)
            if sound.format.startswith("WAV") and declared == 0:  # perhaps its recorder was killed
                return read_stream(file, "wav", name)
            if shortened := _SHORTENED.search(sound.extra_info):
                size, present = map(int, shortened.groups())
                if present < size < _STREAMED:
                    reason = f"truncated, {present} of {size} bytes of sound are present"
                    raise AudioError(f"{name}: {reason}", "truncated")
            check_length(declared, rate, name)
            kind = "truncated"
            samples = sound.read(dtype="float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        reasons = (reason for pattern, reason in _NOT_SOUND if re.match(pattern, start))
        unknown = "cannot be read: damaged, truncated or of an unknown format"
        known = placeholder(start) or next(reasons, None)
        reason = known or f"{unknown} ({error.error_string.strip()})"
        raise AudioError(f"{name}: {reason}", kind) from error
    if len(samples) != declared:
        reason = f"truncated, {len(samples)} of {declared} samples are present"
        raise AudioError(f"{name}: {reason}", "truncated")
    return samples, rate


def _one_channel(sound: np.ndarray, channel: int | None, name: str) -> np.ndarray:
    """``[samples]`` of ``[samples, channels]``."""
    number = sound.shape[1]
    if channel is not None and channel > number:
        reason = f"has {number} channel{'s' * (number > 1)}, and channel {channel} was selected"
        raise AudioError(f"{name}: {reason}", "channels")
    if channel is not None or number == 1:
        return np.ascontiguousarray(sound[:, (channel or 1) - 1])
    mean: np.ndarray = sound.mean(1)
    if len(mean) and mean.var() < _CANCELLED * sound.var(0).mean() / number:
        reason = f"its {number} channels are in opposite phase and cancel: select one (--channel 1)"
        raise AudioError(f"{name}: {reason}", "opposite phase")
    return mean
