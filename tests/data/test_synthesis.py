"""Sound made from log-Mel energies has these energies, and is written as it is."""

import numpy as np
import pytest
import soundfile
import torch

from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.synthesis import level_matched, to_waveform, write_wav

SETTINGS = LogMel(8000)


def _difference(given: np.ndarray, settings: LogMel, **options) -> np.ndarray:
    """Of the energies of the resynthesis, in nats, where they are 5 above the floor."""
    again = settings(to_waveform(given, settings, **options), settings.sample_rate)
    assert again.shape == given.shape
    return np.abs(again - given)[given > np.log(settings.floor) + 5]


def _tones(settings: LogMel, seconds: float = 0.4) -> np.ndarray:
    """Harmonics of 150 Hz that swell and fade, and some noise."""
    time = np.arange(round(seconds * settings.sample_rate)) / settings.sample_rate
    harmonics = sum(np.sin(2 * np.pi * 150 * n * time) / n for n in range(1, 20))
    noise = np.random.default_rng(0).standard_normal(len(time))
    swell = np.sin(np.pi * time / seconds)
    return (0.1 * swell * (harmonics + 0.05 * noise)).astype(np.float32)


@pytest.mark.parametrize(
    "settings", [SETTINGS, LogMel(16000, num_mels=40, window=0.032, hop=0.008), LogMel(22050)]
)
def test_energies_of_tones_come_back(settings):
    given = settings(_tones(settings), settings.sample_rate)
    assert np.median(_difference(given, settings)) < 0.12


def test_energies_of_digits_come_back(data_root):
    paths = sorted((data_root / "fsdd" / "recordings").glob("*_1?.wav"))[::40]
    assert len(paths) > 10
    given = [SETTINGS(*read_audio(path)) for path in paths]
    differences = np.concatenate([_difference(energies, SETTINGS) for energies in given])
    assert np.median(differences) < 0.07
    assert np.mean(differences) < 0.15


@pytest.mark.parametrize("num_frames", [1, 3, 40])
def test_number_of_samples(num_frames):
    """Sounds may be shorter than the window of the FFT."""
    given = np.full((num_frames, 80), -3.0, np.float32)
    samples = to_waveform(given, SETTINGS)
    assert samples.dtype == np.float32
    assert samples.shape == ((num_frames - 1) * 80 + 40,)
    assert SETTINGS(samples, 8000).shape == given.shape
    assert np.abs(samples).max() > 0


def test_silence_stays_silence():
    silence = SETTINGS(np.zeros(2000, np.float32), 8000)
    assert not to_waveform(silence, SETTINGS).any()
    assert not to_waveform(silence - 1e30, SETTINGS).any()
    both = np.concatenate([silence, SETTINGS(_tones(SETTINGS), 8000), silence])
    samples = to_waveform(both, SETTINGS)
    quiet = (len(silence) - 4) * 80
    loudest = np.abs(samples).max()
    assert loudest > 0.05
    assert np.abs(samples[:quiet]).max() < 0.01 * loudest
    assert np.abs(samples[-quiet:]).max() < 0.01 * loudest


def test_the_seed_determines_the_sound_and_the_random_state_stays():
    given = SETTINGS(_tones(SETTINGS), 8000)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = to_waveform(given, SETTINGS, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(4)
    np.testing.assert_array_equal(to_waveform(given, SETTINGS, seed=1), first)
    assert not np.array_equal(to_waveform(given, SETTINGS, seed=2), first)
    np.testing.assert_array_equal(given, SETTINGS(_tones(SETTINGS), 8000))  # left as it was


@pytest.mark.parametrize(
    ("energies", "message"),
    [
        (np.zeros((5, 81)), r"expected log-Mel energies \[T, 80\]"),
        (np.full((5, 80), np.nan), "must be finite and at most 60 nats"),
        (np.full((5, 80), 61.0), "must be finite and at most 60 nats"),
    ],
)
def test_impossible_energies_are_refused(energies, message):
    with pytest.raises(ValueError, match=message):
        to_waveform(energies, SETTINGS)


def test_level():
    samples = _tones(SETTINGS)
    for gain in (1e-30, 1.0, 1e6):
        louder = level_matched(samples * np.float32(gain), 0.05)
        assert louder.dtype == np.float32
        assert np.sqrt(np.mean(louder.astype(float) ** 2)) == pytest.approx(0.05, rel=1e-5)
    loudest = level_matched(samples, 10.0)
    assert np.abs(loudest).max() == pytest.approx(0.99)
    np.testing.assert_allclose(loudest / 0.99, samples / np.abs(samples).max(), atol=1e-6)
    assert not level_matched(np.zeros(5, np.float32), 0.1).any()


def test_what_is_written_can_be_read(tmp_path):
    samples = level_matched(_tones(SETTINGS), 0.1)
    path = tmp_path / "tones.wav"
    for rate in (8000, 16000):  # the second in place of the first
        write_wav(path, samples, rate)
        again, rate_again = read_audio(path)
        assert rate_again == rate
        np.testing.assert_allclose(again, samples, atol=2**-15)
    assert soundfile.info(path).subtype == "PCM_16"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("samples", "reason"),
    [([], "n > 0"), ([0.5, 1.5], r"in \[-1, 1\], the peak is 1.5"), ([np.nan], "must be finite")],
)
def test_impossible_samples_are_not_written(tmp_path, samples, reason):
    with pytest.raises(ValueError, match=f"wrong.wav: .*{reason}"):
        write_wav(tmp_path / "wrong.wav", np.array(samples), 8000)
    assert not list(tmp_path.iterdir())
