"""Log-Mel energies compared with their formula in NumPy."""

from dataclasses import replace

import numpy as np
import pytest
import torchaudio

from pvae_pyro.data.audio.log_mel import LogMel

RATES = {8000: 512, 16000: 1024, 22050: 1024, 48000: 2048}


def _reference(samples: np.ndarray, settings: LogMel) -> np.ndarray:
    n_fft, size, hop = settings.fft_length, settings.window_length, settings.hop_length
    window = np.zeros(n_fft)
    start = (n_fft - size) // 2
    window[start : start + size] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    padded = np.pad(samples.astype(np.float64), n_fft // 2)
    inside = np.pad(np.ones(len(samples)), n_fft // 2)
    frames = []
    for t in range(1 + len(samples) // hop):
        at = slice(t * hop, t * hop + n_fft)
        there = inside[at] * (window_length := np.arange(n_fft) - start >= 0)
        there *= (np.arange(n_fft) < start + size) & window_length
        frames.append((padded[at] - (padded[at] * there).sum() / there.sum()) * there)
    power = np.abs(np.fft.rfft(np.array(frames) * window)) ** 2
    high = settings.high_frequency or settings.sample_rate / 2
    ends = 2595 * np.log10(1 + np.array([settings.low_frequency, high]) / 700)
    corners = 700 * (10 ** (np.linspace(*ends, settings.num_mels + 2) / 2595) - 1)
    hertz = np.arange(n_fft // 2 + 1) * settings.sample_rate / n_fft
    rising = (hertz[:, None] - corners[:-2]) / (corners[1:-1] - corners[:-2])
    falling = (corners[2:] - hertz[:, None]) / (corners[2:] - corners[1:-1])
    weights = np.clip(np.minimum(rising, falling), 0, None)
    return np.log(np.maximum(power @ weights, settings.floor))


@pytest.mark.parametrize(
    "settings", [LogMel(8000), LogMel(22050, low_frequency=0.0, high_frequency=7000.0, floor=1e-2)]
)
def test_formula(settings: LogMel):
    samples = np.random.default_rng(0).normal(0, 0.1, 3000).astype(np.float32)
    features = settings(samples, settings.sample_rate)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    np.testing.assert_allclose(features, _reference(samples, settings), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("rate", RATES)
def test_no_filter_is_empty(rate: int):
    settings = LogMel(rate)
    assert settings.fft_length == RATES[rate]
    weights = torchaudio.functional.melscale_fbanks(
        settings.fft_length // 2 + 1, settings.low_frequency, rate / 2, 80, rate
    ).numpy()
    assert weights.max(0).min() >= 0.5
    assert np.linalg.matrix_rank(weights) == 80  # no filter repeats another


@pytest.mark.parametrize("num_samples", [1, 79, 80, 81, 4000])
def test_frames(num_samples: int):
    settings = LogMel(8000)
    features = settings(np.full(num_samples, 0.1, dtype=np.float32), 8000)
    assert features.shape == (1 + num_samples // 80, 80)
    assert np.isfinite(features).all()


def test_centre_frequencies():
    settings = LogMel(16000, 40, low_frequency=100.0)
    # torchaudio's filters are 1 there and fall linearly to 0 at their neighbours' centres.
    num_bins = 20_001
    weights = torchaudio.functional.melscale_fbanks(
        num_bins,
        settings.low_frequency,
        settings.top_frequency,
        settings.num_mels,
        settings.sample_rate,
    ).numpy()
    spacing = settings.sample_rate / 2 / (num_bins - 1)
    centres = settings.centre_frequencies
    assert centres.shape == (settings.num_mels,)
    np.testing.assert_allclose(centres, weights.argmax(0) * spacing, atol=2 * spacing)


@pytest.mark.parametrize("rate", [8000, 22050])
def test_an_offset_does_not_matter(rate: int):
    samples = np.random.default_rng(0).normal(0, 0.05, rate // 2).astype(np.float32)
    settings = LogMel(8000)
    plain = settings(samples, rate)
    for offset in (-0.3, 0.002):
        np.testing.assert_allclose(settings(samples + np.float32(offset), rate), plain, atol=0.02)


def test_an_offset_of_a_word_does_not_fill_the_silence_beside_it():
    samples = np.zeros(8000, np.float32)
    samples[4000:5000] = 0.01 + np.random.default_rng(0).normal(0, 0.05, 1000)
    assert (LogMel(8000)(samples, 8000)[:45] == np.float32(np.log(1e-8))).all()


def test_floor_is_where_sixteen_bits_end():
    settings = LogMel(8000)
    assert (settings(np.zeros(800, dtype=np.float32), 8000) == np.float32(np.log(1e-8))).all()
    rounding = np.random.default_rng(0).uniform(-0.5, 0.5, 80_000).astype(np.float32) / 2**15
    energy = np.exp(replace(settings, floor=1e-20)(rounding, 8000)).mean(0)
    assert 0.3e-8 < energy.min() < 1e-8
    assert energy.max() < 5e-8


@pytest.mark.parametrize(
    "change", [{"num_mels": 0}, {"floor": float("nan")}, {"high_frequency": 4001.0}]
)
def test_impossible_settings(change: dict[str, float]):
    with pytest.raises(ValueError, match="LogMel"):
        replace(LogMel(8000), **change)
