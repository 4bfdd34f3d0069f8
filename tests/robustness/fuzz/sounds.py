"""Sound files: SPHERE, and what libsndfile reads."""

import io
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import soundfile

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.reading import read_audio, read_format
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.own_file import read_sound
from tests.robustness.fuzz.mutate import mutated, with_ogg_checksums
from tests.robustness.fuzz.reader import Reader, check_named
from tests.support.sphere import sphere

_RNG = np.random.default_rng(0)
_SAMPLES = (_RNG.normal(size=700) * 3000).astype(np.int16)


def _written(
    container: str, subtype: str, rate: int = 16000, seconds: float = 0.05, **how
) -> bytes:
    file = io.BytesIO()
    samples = 0.1 * np.random.default_rng(1).normal(size=round(rate * seconds))
    soundfile.write(file, samples, rate, subtype, format=container, **how)
    return file.getvalue()


def _spheres() -> list[bytes]:
    return [
        sphere(_SAMPLES, 20_000, coding=coding, byte_order=order, **more)
        for coding, order in (("pcm", "01"), ("pcm", "10"), ("shorten", "01"), ("shorten", "10"))
        for more in ({}, {"sample_checksum": None})
    ]


RIFF = [
    _written("WAV", "PCM_16"),
    _written("WAV", "PCM_24"),
    _written("WAV", "FLOAT"),
    _written("WAV", "DOUBLE"),
    _written("WAV", "PCM_U8"),
    _written("WAV", "IMA_ADPCM"),
    _written("WAV", "MS_ADPCM"),
    _written("WAV", "GSM610", 8000),
    _written("WAVEX", "PCM_16"),
    _written("WAV", "PCM_16", endian="BIG"),
]
OTHERS = [
    _written("AIFF", "PCM_16"),
    _written("AU", "PCM_16"),
    _written("AU", "ULAW"),
    _written("FLAC", "PCM_16", seconds=0.2),
    _written("MP3", "MPEG_LAYER_III", seconds=0.2),
]
OGG = [
    _written("OGG", "VORBIS", seconds=0.1),
    _written("OGG", "OPUS", seconds=0.1),
]
_SPHERE_WORDS = (
    *(b"sample_count -i ", b"sample_rate -i ", b"channel_count -i ", b"sample_n_bytes -i "),
    *(b"sample_coding -s3 pcm", b"pcm,embedded-shorten-v2.00", b"ulaw", b"end_head\n", b"NIST_1A"),
    *(b"sample_byte_format -s2 10", b"sample_checksum -i ", b"   1024\n", b"   2048\n", b"ajkg"),
)
_WORDS = (
    *(b"RIFF", b"RIFX", b"WAVE", b"fmt ", b"data", b"fact", b"LIST", b"smpl", b"FORM", b"AIFF"),
    *(b"AIFC", b"COMM", b"SSND", b".snd", b"fLaC", b"OggS", b"ID3\4", b"\xff\xfb", b"vorbis"),
    *(b"OpusHead", b"OpusTags", b"RF64", b"ds64", b"id3 ", b"bext", b"cart", b"caff", b"w64"),
)


def _checked(samples: np.ndarray, rate: int) -> None:
    assert samples.ndim == 1
    assert samples.dtype == np.float32
    assert len(samples) > 0
    assert np.isfinite(samples).all()
    assert samples.any()
    assert 4000 <= rate <= 192_000


def _prepare(name: str, channel: int | None, folder: Path) -> Callable[[bytes], None]:
    path = folder / name

    def read(content: bytes) -> None:
        path.write_bytes(content)
        try:
            rate = read_format(path).rate
        except AudioError as error:
            check_named(error, path)
            rate = None
        samples, found = read_audio(path, channel)
        _checked(samples, found)
        assert rate in (None, found)

    return read


def _prepare_own(folder: Path) -> Callable[[bytes], None]:
    path = folder / "own.wav"
    settings = LogMel(8000)
    normalisation = Normalisation(np.float32(-6.0), np.float32(3.0))

    def read(content: bytes) -> None:
        path.write_bytes(content)
        sound = read_sound(path, settings, normalisation)
        _checked(sound.samples, sound.rate)
        assert np.isfinite(sound.log_mel).all()
        assert sound.log_mel.shape[1] == settings.num_mels

    return read


def _ogg(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    content = mutated(rng, seeds, _WORDS)
    return with_ogg_checksums(content) if rng.random() < 0.7 else content


def _any(rng: random.Random, seeds: Sequence[bytes]) -> bytes:
    return mutated(rng, seeds, (*_SPHERE_WORDS, *_WORDS))


SOUNDS = [
    Reader("SPHERE", partial(_prepare, "a.sph", 1), _spheres(), _any, (AudioError,), "a.sph"),
    Reader("RIFF", partial(_prepare, "a.wav", None), RIFF, _any, (AudioError,), "a.wav"),
    Reader(
        "AIFF, AU, FLAC, MP3", partial(_prepare, "a.au", None), OTHERS, _any, (AudioError,), "a.au"
    ),
    Reader("Ogg", partial(_prepare, "a.ogg", None), OGG, _ogg, (AudioError,), "a.ogg"),
    Reader(
        "own sound",
        _prepare_own,
        [*RIFF[:3], *OTHERS[:2], _spheres()[0]],
        _any,
        (AudioError,),
        "own.wav",
    ),
]
