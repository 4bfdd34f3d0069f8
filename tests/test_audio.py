"""Sound files that are fine, and every kind that is not."""

import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio import read_audio
from pvae_pyro.data.corpus import AudioError

SAMPLES = np.array([0.5, -0.25, 0.0, 1 / 32768, -1.0], dtype=np.float32)


def _sphere(samples: np.ndarray) -> bytes:
    fields = (
        f"sample_count -i {len(samples)}\nsample_rate -i 16000\nsample_n_bytes -i 2\n"
        "sample_byte_format -s2 01\nchannel_count -i 1\nsample_coding -s3 pcm\nend_head\n"
    )
    return f"NIST_1A\n   1024\n{fields}".ljust(1024).encode() + samples.astype("<i2").tobytes()


@pytest.mark.parametrize("format", ["WAV", "FLAC", "AIFF", "AU", "NIST"])
def test_samples_and_rate(tmp_path: Path, format: str):
    path = tmp_path / "sound"
    soundfile.write(path, SAMPLES, 11025, format=format, subtype="PCM_16")
    samples, rate = read_audio(path)
    assert rate == 11025
    assert samples.dtype == np.float32
    assert samples.tolist() == SAMPLES.tolist()  # sixteen bits hold these values exactly


def test_sphere_as_an4_has_it(tmp_path: Path):
    path = tmp_path / "a.sph"
    path.write_bytes(_sphere(np.array([16384, -8192])))
    samples, rate = read_audio(str(path))
    assert (samples.tolist(), rate) == ([0.5, -0.25], 16000)


def _wav(subtype: str = "PCM_16", samples: np.ndarray = SAMPLES):
    return lambda path: soundfile.write(path, samples, 8000, format="WAV", subtype=subtype)


def _cut(format: str, size: int = 1000, keep: float = 0.6):
    def make(path: Path) -> None:
        noise = np.random.default_rng(0).uniform(-0.5, 0.5, size)
        soundfile.write(path, noise, 8000, format=format)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * keep)])

    return make


def _declares_more(path: Path) -> None:
    soundfile.write(path, SAMPLES, 8000, format="WAV", subtype="PCM_16")
    content = path.read_bytes()
    at = content.index(b"data") + 4
    path.write_bytes(content[:at] + struct.pack("<I", 12) + content[at + 4 :])


UNUSABLE = {
    "missing": (lambda path: None, "no such file"),
    "folder": (lambda path: path.mkdir(), "no such file"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read .the file is empty"),
    "no sound": (
        lambda path: path.write_bytes(b"text" * 99),
        "cannot be read .Format not recognised",
    ),
    "cut WAV": (_cut("WAV"), "truncated, [0-9]+ of 2000 bytes"),
    "cut AIFF": (_cut("AIFF"), "truncated, "),
    "cut AU": (_cut("AU"), "truncated, [0-9]+ of 2000 bytes"),
    "cut FLAC": (_cut("FLAC", 40_000), "cannot be read|truncated"),
    "one frame less": (_declares_more, "truncated, 10 of 12 bytes"),
    "cut SPHERE": (
        lambda path: path.write_bytes(_sphere(np.arange(1, 100))[:-50]),
        "truncated, 74 of 99 samples",
    ),
    "no samples": (_wav(samples=SAMPLES[:0]), "no samples"),
    "silent": (_wav(samples=SAMPLES * 0), "silent"),
    "NaN": (_wav("FLOAT", np.float32([0.5, np.nan])), "NaN or infinite"),
    "infinite": (_wav("FLOAT", np.float32([0.5, np.inf])), "NaN or infinite"),
    "stereo": (_wav(samples=np.ones((5, 2)) / 2), "has 2 channels"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable(tmp_path: Path, case: str):
    make, reason = UNUSABLE[case]
    path = tmp_path / "sound.wav"
    make(path)
    with pytest.raises(AudioError, match=f"sound.wav: .*({reason})"):
        read_audio(path)


def test_real_recordings(data_root: Path):
    samples, rate = read_audio(data_root / "fsdd" / "recordings" / "0_george_0.wav")
    assert (len(samples), rate) == (2384, 8000)
    assert 0.01 < np.abs(samples).max() <= 1
