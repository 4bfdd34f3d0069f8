"""Reading sound files, and refusing the ones that would spoil a corpus without a word."""

import io
import os
import re
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, NamedTuple, TypeVar

import numpy as np
import soundfile

from pvae_pyro.data.audio import ffmpeg, ogg, sphere
from pvae_pyro.data.audio.no_sound import other_kind
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.errors import shown

# Formats of libsndfile in which a file that was cut is noticed: by libsndfile, or below.
_FORMATS = {"WAV", "WAVEX", "AIFF", "AU", "FLAC", "OGG", "MP3"}
_UNCOMPRESSED = (b"RIFF", b"RIFX", b"FORM", b".snd")
_EIGHT_BIT = {"PCM_S8", "PCM_U8", "DPCM_8"}  # µ-law and A-law have the range of fourteen bits
_RATES = (4_000, 192_000)  # Hz
_LONGEST = 3600  # seconds
# Full scale is 1. Recorders of floats go a little beyond; sixteen-bit values in floats, far.
_LOUDEST = 16.0
# From the lowest sample to the highest, in one step of sixteen bits up and one down: rounding.
_NOTHING = 2 / 2**15
# The mean of two unlike channels has half of their energy. Below this share of that they cancel:
# of two of one level, where their correlation is below -0.7.
_CANCELLED = 0.3
_BLOCK = 1 << 18
_UNKNOWN_COUNT = 2**63 - 1
# Who writes into a pipe cannot go back to the header, and puts in a size that none has:
# 0xffffffff (FFmpeg), 0x7ffff000 (SoX, WAV), 0x7f000000 (SoX, AIFF), 0x80000000 (arecord).
_STREAMED = 0x7F000000

Result = TypeVar("Result")

# libsndfile shortens a cut file to what is there and says so only in its log:
# "data : 4768 (should be 2362)" (WAV), "SSND : ..." (AIFF), "Data Size : ..." (AU).
_SHORTENED = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
# Nor is it an error to libsndfile that a header has another number of samples than the file.
_OTHER_COUNT = re.compile(
    r"Unknown chunk marker"  # WAV: what follows is no chunk, but more samples (three or more)
    r"|calculated from length of 'SSND' chunk"  # AIFF: the two sizes in it differ
)
_WAV_SIZE = re.compile(r"^data : (\d+)", re.MULTILINE)
_AU_SIZES = re.compile(r"Data Offset : (\d+)\s+Data Size   : (\d+)")
_WIDTHS = {"PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}  # bytes
_CHUNK = re.compile(rb"[A-Za-z][A-Za-z0-9 ]{3}")
_FLAC = re.compile(rb"fLaC[\x00\x80]\x00\x00\x22")  # the marker, and its first block's header


class Format(NamedTuple):
    """What a file's header says: rate in Hz, channels, and whether samples have eight bits."""

    rate: int
    channels: int
    eight_bit: bool


def read_audio(path: str | os.PathLike[str], channel: int | None = None) -> tuple[np.ndarray, int]:
    """Mono samples in [-1, 1] (float32, ``[samples]``) and the sample rate in Hz.

    channel: which one of several, from 1; None is their mean.

    WAV, FLAC, AIFF, AU, Ogg (libsndfile, https://libsndfile.github.io), MP3 (FFmpeg) and NIST
    SPHERE (`data.audio.sphere`), told apart by what is in the file, not by its name. Files
    whose header does not know their length, for it was written into a pipe, are read to the end;
    so are streams that follow one another in an MP3 or Ogg file.

    Raises `AudioError`, which names the file and the reason. Its `kind` is one of: ``missing``,
    ``no permission``, ``unreadable`` (not a file, not a sound), ``empty``, ``header`` (cut off,
    or makes no sense), ``truncated``, ``sample count`` (not what the header says), ``checksum``,
    ``no samples``, ``silent`` (nothing but the rounding of sixteen bits), ``not finite``,
    ``range`` (beyond 16 times full scale), ``channels`` (it has not the one asked for),
    ``opposite phase`` (channels that cancel each other in their mean), ``wrong rate`` (below 4 or
    above 192 kHz), ``too long`` (over an hour).
    """
    name = shown(path)
    sound, rate = _opened(path, _read)
    samples = _one_channel(sound, channel, name)
    check_samples(samples, name)
    return samples, rate


def check_samples(samples: np.ndarray, name: str) -> None:
    """Raise `AudioError` for samples ``[n]`` that are no sound, or with nothing to hear in it."""
    if len(samples) == 0:
        raise AudioError(f"{name}: has no samples", "no samples")
    lowest, highest = float(samples.min()), float(samples.max())
    if not np.isfinite(highest - lowest):
        raise AudioError(f"{name}: has samples that are NaN or infinite", "not finite")
    if highest - lowest <= _NOTHING:
        raise AudioError(
            f"{name}: is silent: samples are {lowest:.3g} to {highest:.3g}, and full scale is 1"
            + " (16-bit values in a file of 32 bits?)" * bool(highest > lowest),
            "silent",
        )
    if (loudest := max(highest, -lowest)) > _LOUDEST:
        raise AudioError(
            f"{name}: has samples of {loudest:.3g}, and full scale is 1: divide floats by 32768 if "
            "they are 16-bit values",
            "range",
        )


def read_format(path: str | os.PathLike[str]) -> Format:
    """What the file's header says, without a look at the sound.

    Raises `AudioError` as `read_audio` does, for what shows in the header.
    """

    def found(file: BinaryIO, name: str) -> Format:
        start = file.read(8)
        file.seek(0)
        if start.startswith(sphere.MAGIC):
            header = sphere.read_header(file, name)
            return Format(header.rate, header.channels, False)
        try:
            with soundfile.SoundFile(_source(file), closefd=False) as sound:
                return Format(sound.samplerate, sound.channels, sound.subtype in _EIGHT_BIT)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name}: cannot be read", "unreadable") from error

    form = _opened(path, found)
    _check(0, form.rate, shown(path))
    return form


def _opened(path: str | os.PathLike[str], read: Callable[[BinaryIO, str], Result]) -> Result:
    """``read(file, name)``, and what the operating system refuses as an `AudioError`."""
    name = shown(path)
    try:
        if not _is_file(path):  # opening a pipe would wait for its writer
            raise AudioError(f"{name}: is not a file that can be read", "unreadable")
        with open(path, "rb", buffering=0) as file:
            return read(file, name)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise AudioError(f"{name}: no such file", "missing") from error
    except PermissionError as error:
        raise AudioError(f"{name}: cannot be read (permission denied)", "no permission") from error
    except OSError as error:
        raise AudioError(
            f"{name}: cannot be read ({error.strerror or error})", "unreadable"
        ) from error


def _is_file(path: str | os.PathLike[str]) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except ValueError:  # a null byte in the path
        return False


def _read(file: BinaryIO, name: str) -> tuple[np.ndarray, int]:
    """Samples ``[samples, channels]`` (float32) and the rate."""
    start = file.read(64)
    file.seek(0)
    if not start:
        raise AudioError(f"{name}: the file is empty", "empty")
    if start.startswith(sphere.MAGIC):
        header = sphere.read_header(file, name)
        _check(header.samples, header.rate, name)
        return sphere.read_samples(file, header, name), header.rate
    if start.startswith(ogg.MAGIC):
        return _read_ogg(file, name)
    if (first := ffmpeg.first_mp3_frame(file)) is not None:
        return ffmpeg.read_mp3(file, first, name, partial(_check, name=name))
    file.seek(0)
    if b"fLaC" in start and len(_FLAC.findall(file.read())) > 1:
        reason = "several FLAC files are joined in it, of which only the first would be read"
        raise AudioError(f"{name}: {reason}: cut it into parts", "sample count")
    file.seek(0)
    return _read_libsndfile(file, start, name)


def _check(samples: int, rate: int, name: str) -> None:
    """What can be known before samples are read."""
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"{name}: says it is at {rate} Hz, which no speech is", "wrong rate")
    if samples > _LONGEST * rate:
        raise AudioError(f"{name}: is longer than an hour, cut it into parts", "too long")


def _one_channel(sound: np.ndarray, channel: int | None, name: str) -> np.ndarray:
    """``[samples]`` of ``[samples, channels]``."""
    number = sound.shape[1]
    if channel is not None and channel > number:
        told = f"has {number} channel{'s' * (number > 1)}, and channel {channel} was asked for"
        raise AudioError(f"{name}: {told}", "channels")
    if channel is not None or number == 1:
        return np.ascontiguousarray(sound[:, (channel or 1) - 1])
    mean: np.ndarray = sound.mean(1)
    if len(mean) and mean.var() < _CANCELLED * sound.var(0).mean() / number:
        raise AudioError(
            f"{name}: its {number} channels are in opposite phase, and cancel each other in their "
            "mean: take one, with --channel 1",
            "opposite phase",
        )
    return mean


def _source(file: BinaryIO) -> Any:
    """What libsndfile reads from: on Windows it cannot use the descriptors of Python."""
    return file.fileno() if os.name == "posix" and not isinstance(file, io.BytesIO) else file


def _read_ogg(file: BinaryIO, name: str) -> tuple[np.ndarray, int]:
    streams = ogg.streams(file.read())
    if not streams:
        raise AudioError(f"{name}: truncated, its stream has no end", "truncated")
    parts = [_read_libsndfile(io.BytesIO(stream), stream[:64], name) for stream in streams]
    sounds = [sound for sound, _ in parts]
    if len({(rate, sound.shape[1]) for sound, rate in parts}) > 1:
        reason = "changes its rate or its number of channels: cut it into parts"
        raise AudioError(f"{name}: {reason}", "unreadable")
    _check(sum(map(len, sounds)), parts[0][1], name)
    return np.concatenate(sounds), parts[0][1]


def _read_libsndfile(file: BinaryIO, start: bytes, name: str) -> tuple[np.ndarray, int]:
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    try:
        sound = soundfile.SoundFile(_source(file), closefd=False)
    except soundfile.LibsndfileError as error:
        if told := other_kind(start):
            raise AudioError(f"{name}: {told}", "unreadable") from error
        # libsndfile's own words, where it has any.
        reason = str(error.error_string).strip() or "not a known format, or damaged"
        if "recognised" in reason:
            reason += " Convert it to WAV or FLAC."
        kind = "header" if start.startswith(_UNCOMPRESSED) else "unreadable"
        raise AudioError(f"{name}: cannot be read ({reason})", kind) from error
    with sound:
        if sound.format not in _FORMATS:
            reason = f"its format is {sound.format}, convert it to WAV or FLAC"
            raise AudioError(f"{name}: {reason}", "unreadable")
        declared, rate = sound.frames, sound.samplerate
        if sound.format == "FLAC" and declared == _UNKNOWN_COUNT:  # written into a pipe
            return ffmpeg.read_stream(file, "flac", name, partial(_check, name=name))
        if declared == 0 and (closed := _closed(file)):
            return _read_libsndfile(closed, start, name)
        _check_sizes(name, sound, size)
        _check(declared, rate, name)
        blocks = [np.zeros((0, sound.channels), dtype=np.float32)]
        try:
            # In blocks: what a header says need not fit the memory.
            while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name}: is damaged or truncated", "truncated") from error
    samples = np.concatenate(blocks)
    if len(samples) != declared:
        raise AudioError(
            f"{name}: truncated, {len(samples)} of {declared} samples are there", "truncated"
        )
    return samples, rate


def _closed(file: BinaryIO) -> io.BytesIO | None:
    """A WAV file whose header says that it has no sound, and that has some: its recorder was
    killed. With zero for its own size, libsndfile takes what is there. None: it is no such file."""
    file.seek(0)
    content = bytearray(file.read())
    sound = content.find(b"data\0\0\0\0") + 8
    if not content.startswith(b"RIFF") or sound < 8 or sound == len(content):
        return None
    if _CHUNK.match(content, sound) or content[4:8] == b"\x08\0\0\0":  # not sound; closed already
        return None
    content[4:8] = b"\x08\0\0\0"
    return io.BytesIO(content)


def _check_sizes(name: str, sound: soundfile.SoundFile, size: int) -> None:
    """What a header says against what is there."""
    log = sound.extra_info
    if "wasn't closed properly" in log:  # and perhaps ends within a sample
        return
    declared = there = 0  # bytes of sound
    if shortened := _SHORTENED.search(log):
        declared, there = map(int, shortened.groups())
    elif sound.format == "AU" and (sizes := _AU_SIZES.search(log)):
        offset, declared = map(int, sizes.groups())
        there = size - offset
    elif sound.subtype in _WIDTHS and (data := _WAV_SIZE.search(log)):
        declared = int(data[1])
        there = sound.frames * sound.channels * _WIDTHS[sound.subtype]
    if declared >= _STREAMED:
        return
    if there < declared:
        raise AudioError(
            f"{name}: truncated, {there} of {declared} bytes of sound are there", "truncated"
        )
    if there > declared or sound.frames == _UNKNOWN_COUNT or _OTHER_COUNT.search(log):
        raise AudioError(
            f"{name}: has another number of samples than its header says", "sample count"
        )
