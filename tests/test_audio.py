"""Sound files that are fine, and every kind that is not. (SPHERE: test_sphere.py)"""

import os
import re
import signal
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio import read_audio
from pvae_pyro.data.corpus import AudioError, shown
from tests.sphere import sphere

SAMPLES = np.array([0.5, -0.25, 0.0, 1 / 32768, -1.0], dtype=np.float32)
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 1000)


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    def late(*_: object) -> None:
        pytest.fail(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("format", ["WAV", "WAVEX", "FLAC", "AIFF", "AU", "NIST"])
def test_samples_and_rate(tmp_path: Path, format: str):
    path = tmp_path / "sound"
    soundfile.write(path, SAMPLES, 11025, format=format, subtype="PCM_16")
    samples, rate = read_audio(path)
    assert rate == 11025
    assert samples.dtype == np.float32
    assert samples.tolist() == SAMPLES.tolist()  # sixteen bits hold these values exactly


@pytest.mark.parametrize("subtype", ["PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_wide_samples(tmp_path: Path, subtype: str, endian: str):
    path = tmp_path / "sound.wav"
    soundfile.write(path, SAMPLES, 8000, subtype=subtype, endian=endian)
    assert read_audio(str(path))[0].tolist() == SAMPLES.tolist()


@pytest.mark.parametrize("coding", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_codings(tmp_path: Path, coding: tuple[str, str]):
    path = tmp_path / "sound"
    sine = 0.5 * np.sin(np.arange(60_000) * 0.02)
    soundfile.write(path, sine, 48_000, format=coding[0], subtype=coding[1])
    samples, rate = read_audio(path)
    assert (len(samples), rate) == (60_000, 48_000)
    assert np.abs(samples - sine).mean() < 0.02


def test_long_file(tmp_path: Path):
    long = np.resize(np.float32(NOISE), 600_000)
    soundfile.write(tmp_path / "long.wav", long, 16_000, subtype="FLOAT")
    assert np.array_equal(read_audio(tmp_path / "long.wav")[0], long)


@pytest.mark.parametrize("name", [b"a b.wav", "ñandú 二.wav".encode(), b"\xff\xfe.wav", b"no.raw"])
def test_names(tmp_path: Path, name: bytes):
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(_wav())
    assert len(read_audio(path)[0]) == 5
    path.write_bytes(b"")
    shown = name.decode("utf-8", "backslashreplace")
    with pytest.raises(AudioError) as error:
        read_audio(path)
    assert str(error.value) == f"{tmp_path}/{shown}: the file is empty"


def _encoded(samples: np.ndarray = SAMPLES, format: str = "WAV", **options: str | int) -> bytes:
    rate = options.pop("rate", 8000)
    with tempfile.TemporaryFile() as file:
        soundfile.write(file, samples, rate, format=format, **options)
        file.seek(0)
        return file.read()


def _wav(samples: np.ndarray = SAMPLES, subtype: str = "PCM_16", rate: int = 8000) -> bytes:
    return _encoded(samples, subtype=subtype, rate=rate)


def _cut(format: str, samples: np.ndarray = NOISE) -> bytes:
    content = _encoded(samples, format)
    return content[: len(content) * 6 // 10]


def _wav_saying(size: int) -> bytes:
    """A WAV file of 2000 bytes of sound whose header says `size`."""
    content = _wav(NOISE)
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def _saying(format: str, number: int) -> bytes:
    """1000 samples whose header has another number of frames, or of bytes (AU)."""
    content = _encoded(NOISE, format, endian="FILE")
    # FLAC: the last four bytes of five; RFC 9639, section 8.2.
    at = {"FLAC": 22, "AIFF": content.find(b"COMM") + 10, "AU": 8}[format]
    return content[:at] + struct.pack(">I", number) + content[at + 4 :]


UNUSABLE = {
    "empty": (b"", "empty", "the file is empty"),
    "text": (b"text" * 99, "unreadable", "cannot be read .Format not recognised"),
    "other format": (_encoded(format="W64"), "unreadable", "its format is W64, convert it"),
    "cut header": (_wav()[:30], "header", "cannot be read .*data"),
    "cut WAV": (_cut("WAV"), "truncated", "truncated, [0-9]+ of 2000 bytes"),
    "cut AIFF": (_cut("AIFF"), "truncated", "truncated, [0-9]+ of [0-9]+ bytes"),
    "cut AU": (_cut("AU"), "truncated", "truncated, [0-9]+ of 2000 bytes"),
    "cut FLAC": (_cut("FLAC", np.resize(NOISE, 40_000)), "truncated", "is damaged or truncated"),
    "cut MP3": (_cut("MP3", np.resize(NOISE, 40_000)), "truncated", "truncated, [0-9]+ of 40000"),
    "cut OGG": (_cut("OGG"), "truncated", "its stream has no end"),
    "less in WAV": (_wav_saying(2002), "truncated", "truncated, 2000 of 2002 bytes"),
    "2^32 in WAV": (_wav_saying(2**32 - 1), "truncated", "truncated, 2000 of 4294967295 bytes"),
    "more in WAV": (_wav_saying(1994), "sample count", "another number of samples"),
    "half of WAV": (_wav_saying(1000), "sample count", "another number of samples"),
    "half a sample in WAV": (_wav_saying(1999), "truncated", "truncated, 1998 of 1999 bytes"),
    "less in AIFF": (_saying("AIFF", 1001), "sample count", "another number of samples"),
    "more in AIFF": (_saying("AIFF", 999), "sample count", "another number of samples"),
    "less in AU": (_saying("AU", 2**31 - 1), "truncated", "truncated, 2000 of 2147483647 bytes"),
    "more in AU": (_saying("AU", 1998), "sample count", "another number of samples"),
    "less in FLAC": (_saying("FLAC", 1001), "truncated", "is damaged or truncated"),
    "2^32 in FLAC": (_saying("FLAC", 2**32 - 1), "too long", "longer than an hour"),
    "FLAC does not say": (_saying("FLAC", 0), "sample count", "another number of samples"),
    "no samples": (_wav(SAMPLES[:0]), "no samples", "has no samples"),
    "silent": (_wav(SAMPLES * 0), "silent", "every sample is zero"),
    "NaN": (_wav(np.float32([0.5, np.nan]), "FLOAT"), "not finite", "NaN or infinite"),
    "infinite": (_wav(np.float32([0.5, np.inf]), "FLOAT"), "not finite", "NaN or infinite"),
    "too large": (_wav(np.float64([0.5, 1e300]), "DOUBLE"), "not finite", "NaN or infinite"),
    "stereo": (_wav(np.ones((5, 2)) / 2), "channels", "has 2 channels, must have one"),
    "PCM_U8": (_wav(subtype="PCM_U8"), "8-bit", "samples of eight bits"),
    "PCM_S8": (_encoded(format="AIFF", subtype="PCM_S8"), "8-bit", "samples of eight bits"),
    "u-law": (_wav(subtype="ULAW"), "8-bit", "samples of eight bits"),
    "A-law": (_wav(subtype="ALAW"), "8-bit", "samples of eight bits"),
    "3999 Hz": (_wav(rate=3999), "wrong rate", "says it is at 3999 Hz"),
    "192001 Hz": (_wav(rate=192_001), "wrong rate", "says it is at 192001 Hz"),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable(tmp_path: Path, case: str):
    content, kind, reason = UNUSABLE[case]
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match=f"^{path}: .*({reason})") as error:
            read_audio(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert error.value.kind == kind


@pytest.mark.parametrize("rate", [4000, 192_000])
def test_rates_at_the_limits(tmp_path: Path, rate: int):
    (tmp_path / "sound.wav").write_bytes(_wav(rate=rate))
    assert read_audio(tmp_path / "sound.wav")[1] == rate


@pytest.mark.parametrize(
    ("format", "step"), [("WAV", 1), ("WAVEX", 1), ("AIFF", 1), ("AU", 1), ("FLAC", 7), ("OGG", 61)]
)
def test_cut_anywhere(tmp_path: Path, format: str, step: int):
    content = _encoded(NOISE[:40], format)
    path = tmp_path / "sound"
    for end in range(0, len(content), step):
        path.write_bytes(content[:end])
        with pytest.raises(AudioError):
            read_audio(path)


def test_not_a_file(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    kinds = dict.fromkeys(["missing", "file/inside"], "missing")
    kinds |= dict.fromkeys(["", "pipe", "null\0byte", "x" * 300], "unreadable")
    for name, kind in kinds.items():
        with (
            deadline(600),
            pytest.raises(AudioError, match=f"^{tmp_path}/?{re.escape(shown(name))}: ") as error,
        ):
            read_audio(tmp_path / name)
        assert error.value.kind == kind, name


def test_no_permission():
    # Not in tmp_path, which others than its owner cannot enter.
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        path = Path(folder) / "sound.wav"
        path.write_bytes(_wav())
        path.chmod(0)
        user = os.geteuid()
        try:
            if user == 0:
                os.seteuid(65534)  # root may read everything
            with pytest.raises(AudioError, match="sound.wav: .*permission denied") as error:
                read_audio(path)
        finally:
            os.seteuid(user)
    assert error.value.kind == "no permission"


def test_damaged_files_are_read_or_refused(tmp_path: Path):
    rng = np.random.default_rng(0)
    ints = np.int16(NOISE * 32768)
    whole = [
        sphere(ints, 20_000),
        sphere(ints, 20_000, coding="shorten", sample_checksum=None),
        _wav(NOISE),
        _wav(NOISE, "FLOAT"),
    ]
    path = tmp_path / "sound.wav"
    refused = 0
    with deadline(600):
        for number in range(200):
            content = bytearray(whole[number % 4])
            for _ in range(rng.integers(1, 5)):
                at = int(rng.integers(rng.choice([60, 400, len(content)])))
                size = int(rng.integers(1, 20))
                content[at : at + size] = [b"", rng.bytes(size), b"\xff" * 4, b"9" * size][
                    rng.integers(4)
                ]
            path.write_bytes(content)
            try:
                samples, _ = read_audio(path)
                assert 0 < len(samples) <= 1000
            except AudioError:
                refused += 1
    assert 120 < refused < 200


def test_real_recordings(data_root: Path):
    samples, rate = read_audio(data_root / "fsdd" / "recordings" / "0_george_0.wav")
    assert (len(samples), rate) == (2384, 8000)
    assert 0.01 < np.abs(samples).max() <= 1


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_ogg_cut_anywhere(subtype, tmp_path):
    """libsndfile reads what is there of a cut one, and calls that its length."""
    path = tmp_path / "a.ogg"
    noise = np.random.default_rng(0).normal(0, 0.1, 48000)
    soundfile.write(path, noise, 48000, format="OGG", subtype=subtype)
    assert len(read_audio(path)[0]) == 48000
    whole = path.read_bytes()
    pages = [match.start() for match in re.finditer(b"OggS", whole)]
    assert len(pages) > 3
    for kept in (*pages[1:], *range(len(whole) - 40, len(whole)), *range(10, len(whole), 997)):
        path.write_bytes(whole[:kept])
        with pytest.raises(AudioError, match="no end") as error:
            read_audio(path)
        assert error.value.kind == "truncated"
