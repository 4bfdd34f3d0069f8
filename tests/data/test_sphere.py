"""SPHERE files: plain and shortened copies give the same samples, and damage is noticed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.corpus import AudioError
from tests.support.sphere import sphere, write_sphere

RNG = np.random.default_rng(0)
NOISE = RNG.integers(-3000, 3000, 1000)
SOUNDS = {
    "noise": RNG.integers(-32768, 32768, 40_000),
    "soft": (3 * np.sin(np.arange(20_000) * 0.03)).astype(int),
    "extremes": RNG.choice([-32768, 32767], 5000),
    "bias": -1000 + RNG.integers(-3, 4, 3000),
    "lowest": np.array([*[-32768] * 700, 0]),
    "silence in it": np.concatenate([np.zeros(600, int), [5, -5] * 200, np.zeros(513, int)]),
    **{f"{size} samples": NOISE[:size] for size in (2, 255, 256, 257)},
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


@pytest.mark.parametrize("subtype", ["PCM_32", "ULAW", "ALAW"])
def test_other_codings(tmp_path: Path, subtype: str):
    path = tmp_path / "sound.sph"
    soundfile.write(path, NOISE / 7000, 16_000, format="NIST", subtype=subtype)
    assert np.array_equal(read_audio(path)[0], soundfile.read(path, dtype="float32")[0])


HEADERS = {
    "as TIDIGITS": {"database_id": "TIDIGITS", "utterance_id": "z9z6531a"},
    "long": {"comment": "sample_count is not a field here" * 99},
    "whole real number": {"sample_rate": 20_000.0},
    "no checksum": {"sample_checksum": None},
    "signed checksum": {"sample_checksum": int(NOISE.sum()) % 2**16 - 2**16},
}


@pytest.mark.parametrize("case", HEADERS)
def test_headers(tmp_path: Path, case: str):
    coding = "shorten" if "TIDIGITS" in case else "pcm"
    write_sphere(tmp_path / "a.sph", NOISE, 20_000, coding=coding, **HEADERS[case])
    samples, rate = read_audio(tmp_path / "a.sph")
    assert np.array_equal(samples * 2.0**15, NOISE)
    assert rate == 20_000


def _pcm(count: int | None = None, **fields: int | float | str | None) -> bytes:
    return sphere(NOISE, 20_000, sample_count=count, **fields)


def _packed(count: int | None = None, **fields: int | float | str | None) -> bytes:
    return sphere(NOISE, 20_000, coding="shorten", sample_count=count, **fields)


UNUSABLE = {
    "cut header": (_pcm()[:700], "truncated", "declares 1000 samples, and .* has [0-9]"),
    "no sample_rate": (_packed(sample_rate=None), "wrong rate", "0 Hz"),
    "cut": (_pcm()[:-500], "truncated", "declares 1000 samples, and .* has [0-9]"),
    "too many": (_pcm(999), "sample count", "declares 999 samples.*more"),
    "shortened, too few": (_packed(1001), "truncated", "declares 1001 samples, and .* has [0-9]"),
    "shortened, too many": (_packed(999), "sample count", "declares 999 samples.*more"),
    "checksum": (_pcm(sample_checksum=1), "checksum", "checksum"),
    "shortened, checksum": (_packed(sample_checksum=1), "checksum", "checksum"),
    "silent": (sphere(NOISE * 0, 20_000, coding="shorten"), "silent", "silent"),
    "wavpack": (_packed(sample_coding="pcm,embedded-wavpack"), "header", "coding is unknown"),
}  # fmt: skip


@pytest.mark.parametrize("coding", ["pcm", "shorten"])
def test_two_channels(tmp_path: Path, coding: str):
    both = np.stack([NOISE, np.roll(NOISE, 300)], 1)
    write_sphere(tmp_path / "a.sph", both, 8000, coding=coding)
    for channel, expected in ((None, both.mean(1)), (1, both[:, 0]), (2, both[:, 1])):
        np.testing.assert_allclose(read_audio(tmp_path / "a.sph", channel)[0] * 2**15, expected)


@pytest.mark.parametrize("case", UNUSABLE)
def test_unusable_files_are_refused(tmp_path: Path, case: str, capfd: pytest.CaptureFixture[str]):
    content, kind, reason = UNUSABLE[case]
    path = tmp_path / "z9z6531a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=f"^{path}: .*({reason})") as error:
        read_audio(path)
    assert error.value.kind == kind
    assert capfd.readouterr() == ("", "")  # FFmpeg prints nothing


def test_truncated_files_are_refused_wherever_they_end(tmp_path: Path):
    path = tmp_path / "a.wav"
    for content in (_pcm(), sphere(NOISE, 20_000, coding="shorten")):
        for end in [*range(0, len(content), 37), len(content) - 20]:
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


def test_real_recordings(data_root: Path):
    for path in sorted((data_root / "an4").rglob("*.sph"))[::31]:
        samples, rate = read_audio(path)
        assert rate == 16_000
        assert np.array_equal(samples, soundfile.read(path, dtype="float32")[0])
