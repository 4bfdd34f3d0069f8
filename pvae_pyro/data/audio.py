"""Reading sound files, and refusing the ones that would spoil a corpus without a word."""

import os
import re
from pathlib import Path

import numpy as np
import soundfile

from pvae_pyro.data.corpus import AudioError

# libsndfile shortens a cut file to what is there and says so only in its log:
# "data : 4768 (should be 2362)" (WAV), "SSND : ..." (AIFF), "Data Size : ..." (AU).
_SHORTENED = re.compile(r"^\s*(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
_SPHERE_FIELD = re.compile(r"^(\w+) -i (\d+)", re.MULTILINE)


def read_audio(path: str | os.PathLike[str]) -> tuple[np.ndarray, int]:
    """Mono samples in [-1, 1] (float32, ``[samples]``) and the sample rate in Hz.

    Any format of libsndfile (WAV, FLAC, AIFF, NIST SPHERE PCM, ...; https://libsndfile.github.io).
    Raises `AudioError`, naming the file and the reason, if it is missing, unreadable or
    truncated, has several channels or no samples, is silent (all zeros) or not finite.
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"{path}: no such file")
    try:
        with soundfile.SoundFile(path) as file:
            declared, rate, channels = file.frames, file.samplerate, file.channels
            log = file.extra_info
            samples = file.read(dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path}: cannot be read ({_reason(path, error)})") from error
    if channels != 1:
        raise AudioError(f"{path}: has {channels} channels, must have one")
    if shortened := _SHORTENED.search(log):
        size, found = map(int, shortened.groups())
        if found < size:
            raise AudioError(f"{path}: truncated, {found} of {size} bytes of sound are there")
    declared = max(declared, _sphere_frames(path))
    if len(samples) != declared:
        raise AudioError(f"{path}: truncated, {len(samples)} of {declared} samples are there")
    samples = samples[:, 0]
    if len(samples) == 0:
        raise AudioError(f"{path}: has no samples")
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: has samples that are NaN or infinite")
    if not samples.any():
        raise AudioError(f"{path}: is silent, every sample is zero")
    return samples, rate


def _reason(path: Path, error: Exception) -> str:
    """libsndfile's own words where it has any: they are empty for an unknown format."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if not os.access(path, os.R_OK):
        return "permission denied"
    if path.stat().st_size == 0:
        return "the file is empty"
    return str(getattr(error, "error_string", "")).strip() or "not a known format, or damaged"


def _sphere_frames(path: Path) -> int:
    """What a NIST SPHERE header declares, 0 for other files: libsndfile does not check it."""
    with path.open("rb") as file:
        header = file.read(1024)
    if not header.startswith(b"NIST_1A"):
        return 0
    return int(dict(_SPHERE_FIELD.findall(header.decode("latin-1"))).get("sample_count", 0))
