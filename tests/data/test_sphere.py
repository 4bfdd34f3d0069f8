"""SPHERE files: plain and packed copies are the same, and every kind that cannot be used."""

import os
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpus import AudioError, CorpusError
from tests.support.sphere import Codes, shorten, sphere, sphere_header, write_sphere

RNG = np.random.default_rng(0)
NOISE = RNG.integers(-3000, 3000, 1000)
SOUNDS = {
    "noise": RNG.integers(-32768, 32768, 40_000),
    "sine": (20_000 * np.sin(np.arange(20_000) * 0.14)).astype(int),
    "soft": (3 * np.sin(np.arange(20_000) * 0.03)).astype(int),
    "extremes": RNG.choice([-32768, 32767], 5000),
    "to and fro": np.where(np.arange(1000) % 2, 32767, -32768),
    "bias": -1000 + RNG.integers(-3, 4, 3000),
    "lowest": np.array([*[-32768] * 700, 0]),
    "silence in it": np.concatenate([np.zeros(600, int), [5, -5] * 200, np.zeros(513, int)]),
    **{f"{size} samples": NOISE[:size] for size in (2, 3, 4, 255, 256, 257, 258, 511, 512, 513)},
}


@pytest.mark.parametrize("sound", SOUNDS)
def test_plain_and_packed_copies_are_the_same(tmp_path: Path, sound: str):
    path = tmp_path / "z9z6531a.wav"
    for coding in ("pcm", "shorten"):
        for order in ("01", "10"):
            write_sphere(path, SOUNDS[sound], 20_000, coding=coding, byte_order=order)
            samples, rate = read_audio(path)
            assert (samples.dtype, rate) == (np.float32, 20_000)
            assert np.array_equal(samples * 2.0**15, SOUNDS[sound])
            if coding == "pcm":
                assert np.array_equal(samples, soundfile.read(path, dtype="float32")[0])


def test_packed_is_smaller():
    """The encoder chooses its differences and codes as shorten does: else tests show little."""
    assert len(shorten(SOUNDS["soft"])) < len(SOUNDS["soft"]) * 2 / 7
    assert len(shorten(SOUNDS["noise"])) < len(SOUNDS["noise"]) * 2 * 1.05


@pytest.mark.parametrize("endian", ["LITTLE", "BIG"])
def test_32_bits(tmp_path: Path, endian: str):
    path = tmp_path / "sound.sph"
    soundfile.write(path, NOISE / 7000, 16_000, format="NIST", subtype="PCM_32", endian=endian)
    assert np.array_equal(read_audio(path)[0], soundfile.read(path, dtype="float32")[0])


HEADERS = {
    "as TIDIGITS": {"database_id": "TIDIGITS", "utterance_id": "z9z6531a"},
    "long": {"comment": "x" * 3000},
    "text with spaces": {"prompt": "sample_count is not a field here"},
    "whole real number": {"sample_rate": 20_000.0},
    "twice": {"remark": "yes\nremark -s2 no"},
    "comment": {"sample_rate": "20000 ; Hz"},
    "no checksum": {"sample_checksum": None},
    "no coding": {"sample_coding": None},
    "signed checksum": {"sample_checksum": int(NOISE.sum()) % 2**16 - 2**16},
    "spaces in the coding": {"sample_coding": "pcm, embedded-shorten-v1.09"},
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tmp_path: Path, case: str):
    # "no coding": LDC94S18 tells of packed files whose header does not say that they are.
    coding = "shorten" if "coding" in case or "TIDIGITS" in case else "pcm"
    write_sphere(tmp_path / "a.sph", NOISE, 20_000, coding=coding, **HEADERS[case])
    samples, rate = read_audio(tmp_path / "a.sph")
    assert np.array_equal(samples * 2.0**15, NOISE)
    assert rate == 20_000


def _blocks(size: int, number: int) -> bytes:
    """Silence packed so well that a thousandth of a file fills the memory."""
    codes = Codes()
    for value in (5, 1, size, 0, 0, 0):
        codes.long(value)
    codes.put(np.full(number, 8), 2)
    codes.put(4, 2)
    return _header(sample_count=1000) + b"ajkg\x02" + codes.bytes()


def _header(**fields: int | float | str | None) -> bytes:
    return sphere(NOISE[:0], 20_000, coding="shorten", sample_checksum=None, **fields)[:1024]


def _pcm(count: float | None = None, **fields: int | float | str | None) -> bytes:
    return sphere(NOISE, 20_000, sample_count=count, **fields)


def _packed(count: int | None = None, **fields: int | float | str | None) -> bytes:
    return sphere(NOISE, 20_000, coding="shorten", sample_count=count, **fields)


UNUSABLE = {
    "magic only": (b"NIST_1A", "header", "does not say its own size"),
    "size of no header": (_pcm().replace(b"   1024", b"   1000"), "header", "its own size"),
    "size of 9 MB": (_pcm().replace(b"   1024", b"9437184"), "header", "its own size"),
    "size is no number": (_pcm().replace(b"   1024", b"   big!"), "header", "its own size"),
    "size past the end": (_pcm().replace(b"   1024", b"  65536"), "header", "is cut off"),
    "cut header": (_pcm()[:700], "header", "header is cut off"),
    "no end_head": (_pcm().replace(b"end_head", b"        "), "header", "is cut off"),
    **{
        f"no {field}": (_packed(**{field: None}), "header", f"does not say its {field}")
        for field in ("sample_rate", "channel_count", "sample_n_bytes")
    },
    "no sample_count": (
        _pcm().replace(b"sample_count", b"simple_count"), "header", "does not say its sample_count"
    ),
    "word for a number": (_pcm(sample_rate="fast"), "header", "says sample_rate 'fast'"),
    "part of a sample": (_pcm(999.5), "header", "says sample_count '999.5'"),
    "twice": (_pcm(channel_count="1\nsample_rate -i 16000"), "header", "gives sample_rate twice"),
    "no byte order": (_pcm(sample_byte_format=None), "header", "the order of bytes"),
    "cut": (_pcm()[:-500], "truncated", "truncated, 1500 of 2000 bytes"),
    "2^62 samples": (_pcm(2**62), "truncated", "truncated, 2000 of 9223372036854775808 bytes"),
    "less": (_pcm(1001), "truncated", "truncated, 2000 of 2002 bytes"),
    "more": (_pcm(999), "sample count", "says it has 999 samples, more are there"),
    "half a sample": (_pcm() + b"x", "sample count", "1000 samples, more are there"),
    "less than 0": (_pcm(-5), "sample count", "says it has -5 samples, more are there"),
    "packed, less": (_packed(1001), "sample count", "says it has 1001 samples, fewer or more"),
    "packed, more": (_packed(999), "sample count", "says it has 999 samples, fewer or more"),
    "packed, a third": (_packed(3000), "sample count", "says it has 3000 samples, fewer or more"),
    "packed, an hour": (_packed(3600 * 20_000), "sample count", "72000000 samples, fewer or more"),
    "packed, 2^62": (_packed(2**62), "too long", "longer than an hour"),
    "packed, less than 0": (_packed(-5), "sample count", "-5 samples, fewer or more are there"),
    "packed, cut": (_packed()[:-500], "sample count", "1000 samples, .* or their end is cut off"),
    "packed, cut in its last block": (_packed()[:-100], "sample count", "their end is cut off"),
    "packed, nothing": (_header(sample_count=9), "unreadable", "damaged after 0 of 9"),
    "packed, no shorten": (_header(sample_count=9) + bytes(99), "unreadable", "damaged after 0"),
    "packed, huge block": (_blocks(65_535, 10_000), "unreadable", "damaged after 0 of 1000"),
    "packed, many blocks": (_blocks(4096, 10_000), "sample count", "1000 samples, fewer or more"),
    "packed, stereo": (_packed().replace(shorten(NOISE), shorten(NOISE, channels=2)),
        "header", "has other channels"),
    "packed, bytes": (_packed().replace(shorten(NOISE), shorten(NOISE, 2)), "header", "bytes of a"),
    "checksum": (_pcm(sample_checksum=1), "checksum", "do not add up to the checksum"),
    "packed, checksum": (_packed(sample_checksum=1), "checksum", "do not add up"),
    "no samples": (sphere(NOISE[:0], 20_000), "no samples", "has no samples"),
    "packed, no samples": (
        sphere(NOISE[:0], 20_000, coding="shorten"), "no samples", "has no samples"
    ),
    "silent": (sphere(NOISE * 0, 20_000), "silent", "is silent"),
    "packed, silent": (sphere(NOISE * 0, 20_000, coding="shorten"), "silent", "is silent"),
    "no channel": (_packed(channel_count=0), "header", "0 channels"),
    "bytes": (_pcm(2000, sample_n_bytes=1), "unreadable", "coded as 'pcm', 1 bytes"),
    "packed u-law": (
        _packed(sample_n_bytes=1, sample_coding="ulaw,embedded-shorten-v2.00"),
        "unreadable", "'ulaw,embedded-shorten-v2.00'.*sph2pipe",
    ),
    "wavpack": (_packed(sample_coding="pcm,embedded-wavpack"), "unreadable", "wavpack', which is"),
    "unknown": (_pcm(sample_coding="mp3"), "unreadable", "is coded as 'mp3'"),
    "24 bits": (_pcm(500, sample_n_bytes=4, sample_byte_format="?"), "header", "order of bytes"),
    "3999 Hz": (_pcm(sample_rate=3999), "wrong rate", "says it is at 3999 Hz"),
    "192001 Hz": (_packed(sample_rate=192_001), "wrong rate", "says it is at 192001 Hz"),
}  # fmt: skip


@pytest.mark.parametrize("coding", ["pcm", "shorten"])
def test_two_channels(tmp_path: Path, coding: str):
    both = np.stack([NOISE, np.roll(NOISE, 300)], 1)
    write_sphere(tmp_path / "a.sph", both, 8000, coding=coding)
    for channel, expected in ((None, both.mean(1)), (1, both[:, 0]), (2, both[:, 1])):
        np.testing.assert_allclose(read_audio(tmp_path / "a.sph", channel)[0] * 2**15, expected)


@pytest.mark.parametrize(("coding", "subtype"), [("ulaw", "ULAW"), ("alaw", "ALAW")])
def test_telephone(tmp_path: Path, coding: str, subtype: str):
    both = np.stack([NOISE, np.roll(NOISE, 300)], 1) / 2**15
    soundfile.write(tmp_path / "a.raw", both, 8000, subtype=subtype, format="RAW")
    fields = {"sample_count": 1000, "sample_rate": 8000, "channel_count": 2, "sample_n_bytes": 1}
    content = sphere_header({**fields, "sample_coding": coding}) + (tmp_path / "a.raw").read_bytes()
    (tmp_path / "a.sph").write_bytes(content)
    np.testing.assert_allclose(read_audio(tmp_path / "a.sph", 2)[0], both[:, 1], atol=0.004)


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]):
    content, kind, reason = UNUSABLE[case]
    path = tmp_path / "z9z6531a.wav"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(AudioError, match=f"^{path}: .*({reason})") as error:
            read_audio(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert error.value.kind == kind
    assert capfd.readouterr() == ("", "")  # FFmpeg says nothing


def test_cut_anywhere(tmp_path: Path):
    path = tmp_path / "a.wav"
    for content in (_pcm(), _packed(sample_checksum=None)):
        for end in [*range(0, len(content), 37), len(content) - 1]:
            path.write_bytes(content[:end])
            with pytest.raises(AudioError):
                read_audio(path)


def test_a_wrong_sample_is_noticed(tmp_path: Path):
    """Shorten has no checks of its own: the header's checksum is the only one."""
    write_sphere(tmp_path / "a.wav", NOISE, 20_000, coding="shorten")
    content = bytearray((tmp_path / "a.wav").read_bytes())
    kinds = set()
    for at in range(1100, len(content) - 5, 31):
        damaged = bytearray(content)
        damaged[at] ^= 4
        (tmp_path / "a.wav").write_bytes(damaged)
        with pytest.raises(AudioError) as error:
            read_audio(tmp_path / "a.wav")
        kinds.add(error.value.kind)
    assert "checksum" in kinds


def test_pyav_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "av", None)
    write_sphere(tmp_path / "a.wav", NOISE, 20_000)
    read_audio(tmp_path / "a.wav")
    write_sphere(tmp_path / "a.wav", NOISE, 20_000, coding="shorten")
    with pytest.raises(CorpusError, match=r"a\.wav: is packed by shorten.*pip install av") as error:
        read_audio(tmp_path / "a.wav")
    assert not isinstance(error.value, AudioError)  # not to be skipped, file by file


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux")
def test_no_thread_and_no_file_is_left(tmp_path: Path):
    good, bad = tmp_path / "good.wav", tmp_path / "bad.wav"
    write_sphere(good, NOISE, 20_000, coding="shorten")
    bad.write_bytes(_packed()[:-500])
    counts = []
    for _ in range(3):
        read_audio(good)
        with pytest.raises(AudioError):
            read_audio(bad)
        counts.append([len(os.listdir(f"/proc/self/{kind}")) for kind in ("task", "fd")])
    assert counts[0] == counts[1] == counts[2]


def test_real_recordings(data_root: Path):
    """All of AN4, 20 of them against libsndfile."""
    paths = sorted((data_root / "an4").rglob("*.sph"))
    assert len(paths) == 613
    for number, path in enumerate(paths):
        samples, rate = read_audio(path)
        assert rate == 16_000
        assert 0.01 < np.abs(samples).max() <= 1
        if number % 31 == 0:
            assert np.array_equal(samples, soundfile.read(path, dtype="float32")[0])


def test_header_sizes():
    assert len(sphere_header({"a": 1})) == 1024
    header = sphere_header({"a": "x" * 1024})
    assert header.startswith(b"NIST_1A\n   2048\na -s1024 xxx")
    assert len(header) == 2048
