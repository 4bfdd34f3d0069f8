"""Reading sound files, and refusing the ones that would spoil a corpus without a word."""

import os
import re
import stat
from collections.abc import Callable
from functools import partial
from typing import Any, BinaryIO, TypeVar

import numpy as np
import soundfile

from pvae_pyro.data import ogg, sphere
from pvae_pyro.data.corpus import AudioError, shown

# Formats of libsndfile in which a file that was cut is noticed: by libsndfile, or below.
_FORMATS = {"WAV", "WAVEX", "AIFF", "AU", "FLAC", "OGG", "MP3"}
_UNCOMPRESSED = (b"RIFF", b"RIFX", b"FORM", b".snd")
_EIGHT_BIT = {"PCM_S8", "PCM_U8", "ULAW", "ALAW", "DPCM_8"}
_RATES = (4_000, 192_000)  # Hz
_LONGEST = 3600  # seconds
_LOUDEST = 1 << 16  # full scale is 1; a file of floats may hold anything
_BLOCK = 1 << 18
_UNKNOWN_COUNT = 2**63 - 1

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


def read_audio(path: str | os.PathLike[str], any_kind: bool = False) -> tuple[np.ndarray, int]:
    """Mono samples in [-1, 1] (float32, ``[samples]``) and the sample rate in Hz.

    any_kind: several channels are averaged, and samples of eight bits are taken, which in a
        corpus are a mistake; not of SPHERE files.

    WAV, FLAC, AIFF, AU, Ogg and MP3 (libsndfile, https://libsndfile.github.io) and NIST
    SPHERE (`pvae_pyro.data.sphere`), told apart by what is in the file, not by its name.

    Raises `AudioError`, which names the file and the reason. Its `kind` is one of: ``missing``,
    ``no permission``, ``unreadable`` (not a file, not a sound), ``empty``, ``header`` (cut off,
    or makes no sense), ``truncated``, ``sample count`` (not what the header says), ``checksum``,
    ``no samples``, ``silent`` (all zeros), ``not finite``, ``range`` (beyond 2^16 times full
    scale), ``channels`` (more than one), ``8-bit``, ``wrong rate`` (below 4 or above 192 kHz),
    ``too long`` (over an hour).
    """
    name = shown(path)
    samples, rate = _opened(path, partial(_read, any_kind=any_kind))
    if len(samples) == 0:
        raise AudioError(f"{name}: has no samples", "no samples")
    if not np.isfinite(samples).all():
        raise AudioError(f"{name}: has samples that are NaN or infinite", "not finite")
    if not samples.any():
        raise AudioError(f"{name}: is silent, every sample is zero", "silent")
    if (loudest := float(np.abs(samples).max())) > _LOUDEST:
        raise AudioError(f"{name}: has samples of {loudest:.3g}, and full scale is 1", "range")
    return samples, rate


def read_rate(path: str | os.PathLike[str]) -> int:
    """The rate in Hz that the file's header says, without a look at the sound.

    Raises `AudioError` as `read_audio` does, for what shows in the header.
    """

    def rate(file: BinaryIO, name: str) -> int:
        start = file.read(8)
        file.seek(0)
        if start.startswith(sphere.MAGIC):
            return sphere.read_header(file, name).rate
        try:
            with soundfile.SoundFile(_source(file), closefd=False) as sound:
                found: int = sound.samplerate
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name}: cannot be read", "unreadable") from error
        if not _RATES[0] <= found <= _RATES[1]:
            raise AudioError(f"{name}: says it is at {found} Hz, which no speech is", "wrong rate")
        return found

    return _opened(path, rate)


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


def _read(file: BinaryIO, name: str, any_kind: bool) -> tuple[np.ndarray, int]:
    start = file.read(8)
    file.seek(0)
    if not start:
        raise AudioError(f"{name}: the file is empty", "empty")
    if start.startswith(ogg.MAGIC) and not ogg.is_whole(file):
        raise AudioError(f"{name}: truncated, its stream has no end", "truncated")
    if not start.startswith(sphere.MAGIC):
        return _read_libsndfile(file, start, name, any_kind)
    header = sphere.read_header(file, name)
    _check(name, header.samples, header.rate, header.channels, header.eight_bit)
    return sphere.read_samples(file, header, name), header.rate


def _check(name: str, samples: int, rate: int, channels: int, eight_bit: bool) -> None:
    """What can be known before a sample is read."""
    if channels != 1:
        raise AudioError(f"{name}: has {channels} channels, must have one", "channels")
    if eight_bit:
        raise AudioError(f"{name}: has samples of eight bits, must have sixteen", "8-bit")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise AudioError(f"{name}: says it is at {rate} Hz, which no speech is", "wrong rate")
    if samples > _LONGEST * rate:
        raise AudioError(f"{name}: is longer than an hour, cut it into parts", "too long")


def _source(file: BinaryIO) -> Any:
    """What libsndfile reads from: on Windows it cannot use the descriptors of Python."""
    return file.fileno() if os.name == "posix" else file


def _read_libsndfile(
    file: BinaryIO, start: bytes, name: str, any_kind: bool
) -> tuple[np.ndarray, int]:
    try:
        sound = soundfile.SoundFile(_source(file), closefd=False)
    except soundfile.LibsndfileError as error:
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
        _check_sizes(name, sound, os.fstat(file.fileno()).st_size)
        eight_bit = sound.subtype in _EIGHT_BIT
        _check(name, declared, rate, 1 if any_kind else sound.channels, eight_bit and not any_kind)
        blocks = [np.zeros(0, dtype=np.float32)]
        try:
            # In blocks: what a header says need not fit the memory.
            while len(block := sound.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block[:, 0] if block.shape[1] == 1 else block.mean(1))
        except soundfile.LibsndfileError as error:
            raise AudioError(f"{name}: is damaged or truncated", "truncated") from error
    samples = np.concatenate(blocks)
    if len(samples) != declared:
        raise AudioError(
            f"{name}: truncated, {len(samples)} of {declared} samples are there", "truncated"
        )
    return samples, rate


def _check_sizes(name: str, sound: soundfile.SoundFile, size: int) -> None:
    """What a header says against what is there."""
    log = sound.extra_info
    declared = there = 0  # bytes of sound
    if shortened := _SHORTENED.search(log):
        declared, there = map(int, shortened.groups())
    elif sound.format == "AU" and (sizes := _AU_SIZES.search(log)):
        offset, declared = map(int, sizes.groups())
        there = size - offset
    elif sound.subtype in _WIDTHS and (data := _WAV_SIZE.search(log)):
        declared = int(data[1])
        there = sound.frames * sound.channels * _WIDTHS[sound.subtype]
    if there < declared:
        raise AudioError(
            f"{name}: truncated, {there} of {declared} bytes of sound are there", "truncated"
        )
    if there > declared or sound.frames == _UNKNOWN_COUNT or _OTHER_COUNT.search(log):
        raise AudioError(
            f"{name}: has another number of samples than its header says", "sample count"
        )
