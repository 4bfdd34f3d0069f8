"""Sound files are read, and unusable ones are refused with a reason. (SPHERE: test_sphere.py)"""

import io
import os
import re
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio.reading import Format, read_audio, read_format
from pvae_pyro.data.corpus import AudioError
from tests.support.sphere import sphere

SAMPLES = np.array([0.5, -0.25, 0.0, 1 / 32768, -1.0], dtype=np.float32)
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 1000)


@pytest.mark.parametrize(
    ("format", "subtype"),
    [
        *((format, "PCM_16") for format in ("WAV", "WAVEX", "FLAC", "AIFF", "AU", "NIST")),
        *(("WAV", subtype) for subtype in ("PCM_24", "PCM_32", "FLOAT", "DOUBLE")),
    ],
)
def test_samples_and_rate(tmp_path: Path, format: str, subtype: str):
    path = tmp_path / "ñandú 二"
    soundfile.write(path, SAMPLES, 11025, format=format, subtype=subtype)
    samples, rate = read_audio(path)
    assert (samples.dtype, rate) == (np.float32, 11025)
    assert samples.tolist() == SAMPLES.tolist()  # sixteen bits hold these values exactly


@pytest.mark.parametrize("subtype", ["ULAW", "ALAW", "PCM_U8"])
def test_eight_bits(tmp_path: Path, subtype: str):
    (tmp_path / "a.wav").write_bytes(_wav(NOISE, subtype))
    np.testing.assert_allclose(read_audio(tmp_path / "a.wav")[0], NOISE, atol=0.02)


@pytest.mark.parametrize("coding", [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")])
def test_lossy_codings(tmp_path: Path, coding: tuple[str, str]):
    path = tmp_path / "sound"
    sine = 0.5 * np.sin(np.arange(60_000) * 0.02)
    soundfile.write(path, sine, 48_000, format=coding[0], subtype=coding[1])
    samples, rate = read_audio(path)
    assert (len(samples), rate) == (60_000, 48_000)
    assert np.abs(samples - sine).mean() < 0.02


def _encoded(
    samples: np.ndarray, format: str, subtype: str | None = None, rate: int = 8000
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype, format=format)
    return file.getvalue()


def _wav(samples: np.ndarray = SAMPLES, subtype: str = "PCM_16", rate: int = 8000) -> bytes:
    return _encoded(samples, "WAV", subtype, rate)


def _cut(format: str, samples: np.ndarray = NOISE) -> bytes:
    content = _encoded(samples, format)
    return content[: len(content) * 6 // 10]


def _wav_saying(size: int) -> bytes:
    """A WAV file of 2000 bytes of sound whose header says `size`."""
    content = _wav(NOISE)
    at = content.index(b"data") + 4
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def _damaged_mp3() -> bytes:
    content = bytearray(_encoded(np.resize(NOISE, 40_000), "MP3"))
    middle = len(content) // 2
    content[middle : middle + 900] = bytes(900)
    return bytes(content)


UNUSABLE = {
    "empty": (b"", "empty", "empty"),
    "text": (b"text" * 99, "unreadable", "text, not a sound"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "unreadable", "git lfs"),
    "annex": (b"/annex/objects/SHA256E-s16044--ab.wav\n", "unreadable", "git annex get"),
    "HTML": (b"\n<!DOCTYPE html><title>404</title>", "unreadable", "HTML page"),
    "M4A": (b"\0\0\0\x20ftypM4A " + bytes(99), "unreadable", "M4A.*convert it"),
    "cut header": (_wav()[:30], "header", "damaged"),
    "cut WAV": (_cut("WAV"), "truncated", "[0-9]+ of 2000 bytes"),
    "cut AIFF": (_cut("AIFF"), "truncated", "[0-9]+ of [0-9]+ bytes"),
    "cut FLAC": (_cut("FLAC", np.resize(NOISE, 40_000)), "truncated", "truncated"),
    "cut MP3": (_cut("MP3", np.resize(NOISE, 40_000)), "truncated", "[0-9]+ of [0-9]+ bytes"),
    "2^30 bytes in WAV": (_wav_saying(2**30), "truncated", "2000 of 1073741824 bytes"),
    "damaged MP3": (_damaged_mp3(), "truncated", "after [0-9]+ samples"),
    "MP3 of two rates": (
        _encoded(NOISE, "MP3") + _encoded(NOISE, "MP3", rate=16_000), "unreadable", "rate.*changes"
    ),
    "joined Ogg": (_encoded(NOISE, "OGG") * 2, "unreadable", "joined"),
    "16 bits in 32": (_wav(NOISE / 65536, "PCM_32"), "silent", "silent"),
    "16 bits in floats": (_wav(NOISE * 32768, "FLOAT"), "range", "of 1.6.*full scale"),
    "opposite phase": (
        _wav(np.stack([NOISE, 0.1 - 0.9 * NOISE], 1)), "opposite phase", "--channel 1"
    ),
    "no samples": (_wav(SAMPLES[:0]), "no samples", "no samples"),
    "silent": (_wav(SAMPLES * 0), "silent", "silent"),
    "NaN": (_wav(np.float32([0.5, np.nan]), "FLOAT"), "not finite", "NaN"),
    "3999 Hz": (_wav(rate=3999), "wrong rate", "3999 Hz"),
    "192001 Hz": (_wav(rate=192_001), "wrong rate", "192001 Hz"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_are_refused(tmp_path: Path, case: str):
    content, kind, reason = UNUSABLE[case]
    path = tmp_path / "sound.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"^{path}: .*({reason})") as error:
        read_audio(path)
    assert error.value.kind == kind


def test_header_is_read_without_the_sound(tmp_path: Path):
    path = tmp_path / "sound.wav"
    stereo = np.stack([NOISE, NOISE], 1)
    for content, expected in (
        (_wav(stereo, "PCM_U8"), Format(8000, 2)),
        (_encoded(NOISE, "MP3", rate=16_000), Format(16_000, 1)),
        (sphere(np.int16(stereo * 9000), 20_000, coding="shorten"), Format(20_000, 2)),
    ):
        path.write_bytes(content)
        assert read_format(path) == expected
    path.write_bytes(b"text" * 99)
    with pytest.raises(AudioError, match=str(path)):
        read_format(path)


@pytest.mark.parametrize("sizes", [(2**32 - 1, 2**32 - 1), (0x7FFFF024, 0x7FFFF000), (36, 0)])
def test_wav_without_a_length_is_read_to_its_end(tmp_path: Path, sizes: tuple[int, int]):
    """As FFmpeg, SoX and arecord write it into a pipe, and a recorder that was killed."""
    ints = np.concatenate([np.zeros(200), NOISE])
    content = bytearray(_wav(ints))
    content[4:8], content[40:44] = (struct.pack("<I", size) for size in sizes)
    (tmp_path / "a.wav").write_bytes(content)
    samples, rate = read_audio(tmp_path / "a.wav")
    assert rate == 8000
    np.testing.assert_allclose(samples, ints, atol=1 / 32767)
    (tmp_path / "a.wav").write_bytes(content[:-1])  # ends within a sample
    assert len(read_audio(tmp_path / "a.wav")[0]) == 1199


def test_flac_written_into_a_pipe(tmp_path: Path):
    noise = np.resize(NOISE, 20_000)
    content = bytearray(_encoded(noise, "FLAC"))
    content[21:26] = bytes([content[21] & 0xF0, 0, 0, 0, 0])  # the number of samples
    path = tmp_path / "sound"
    path.write_bytes(content)
    np.testing.assert_allclose(read_audio(path)[0], noise, atol=1 / 32767)
    for damaged in (content[:-100], content[:9000] + b"\x55" + content[9001:]):
        path.write_bytes(damaged)
        with pytest.raises(AudioError, match="damaged or truncated"):
            read_audio(path)


def _mp3(samples: np.ndarray, xing: bool) -> bytes:
    """At 16 kHz, with or without the header that says the number of frames."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp3", options={"write_xing": str(int(xing))}) as out:
        variable = {"flags": "+qscale", "global_quality": "472"}
        stream = out.add_stream("libmp3lame", rate=16_000, options=variable)
        stream.layout = "mono"
        ints = (samples * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(ints, format="s16", layout="mono")
        frame.sample_rate = 16_000
        split = av.AudioResampler(format="s16p", layout="mono", rate=16_000, frame_size=576)
        for part in split.resample(frame) + split.resample(None):
            out.mux(stream.encode(part))
        out.mux(stream.encode(None))
    return file.getvalue()


_ART = b"ID3\x03\0\0\0\0\x27\x10" + b"APIC" + bytes(5004)  # 39 * 128 + 16


@pytest.mark.parametrize("before", [b"", _ART], ids=["", "cover art"])
@pytest.mark.parametrize("xing", [False, True])
def test_mp3_is_read_to_its_end(tmp_path: Path, before, xing):
    """Without the header, decoders guess a length from the first frame's bit rate."""
    time = np.arange(8000) / 16_000
    hum = 0.3 * np.sin(2 * np.pi * 300 * time) * np.hanning(8000)
    path = tmp_path / "a.mp3"
    path.write_bytes(before + _mp3(hum, xing))
    samples, rate = read_audio(path)
    assert rate == 16_000
    assert len(samples) == (8000 if xing else 16 * 576)  # only the header counts the padding
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.02)


def test_channels(tmp_path: Path):
    left, right = NOISE, np.roll(NOISE, 300)
    path = tmp_path / "a.wav"
    path.write_bytes(_wav(np.stack([left, right], 1), "FLOAT"))
    for channel, expected in ((None, (left + right) / 2), (1, left), (2, right)):
        np.testing.assert_allclose(read_audio(path, channel)[0], expected, atol=1e-6)
    with pytest.raises(AudioError, match="has 2 channels, and channel 3") as error:
        read_audio(path, 3)
    assert error.value.kind == "channels"


@pytest.mark.parametrize(("format", "step"), [("WAV", 1), ("AIFF", 1), ("AU", 1), ("FLAC", 7)])
def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path, format: str, step: int):
    content = _encoded(NOISE[:40], format)
    path = tmp_path / "sound"
    for end in range(0, len(content), step):
        path.write_bytes(content[:end])
        with pytest.raises(AudioError):
            read_audio(path)


@pytest.mark.parametrize("subtype", ["OPUS", "VORBIS"])
def test_truncated_ogg_is_refused(subtype, tmp_path):
    """libsndfile reads what is present of a truncated file, and reports that as its length."""
    path = tmp_path / "a.ogg"
    path.write_bytes(
        whole := _encoded(np.resize(NOISE, 48_000), "OGG", subtype=subtype, rate=48_000)
    )
    assert len(read_audio(path)[0]) == 48_000
    pages = [match.start() for match in re.finditer(b"OggS", whole)]
    assert len(pages) > 3
    for size in (*pages[1:], *range(len(whole) - 40, len(whole)), *range(10, len(whole), 2999)):
        path.write_bytes(whole[:size])
        with pytest.raises(AudioError, match="no end") as error:
            read_audio(path)
        assert error.value.kind == "truncated"


@pytest.mark.parametrize(
    ("name", "kind"), [("none", "missing"), ("", "unreadable"), ("pipe", "unreadable")]
)
def test_what_is_not_a_file_is_refused(tmp_path: Path, name: str, kind: str):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match=f"^{tmp_path / name}: ") as error:
        read_audio(tmp_path / name)
    assert error.value.kind == kind


def test_real_recordings(data_root: Path):
    samples, rate = read_audio(data_root / "fsdd" / "recordings" / "0_george_0.wav")
    assert (len(samples), rate) == (2384, 8000)
    assert 0.01 < np.abs(samples).max() <= 1
