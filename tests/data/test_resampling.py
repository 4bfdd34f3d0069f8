"""Sound at another rate is the same sound."""

import tracemalloc

import numpy as np
import pytest

from pvae_pyro.data.audio.resampling import resampled


@pytest.mark.parametrize("rate", [8000, 16000, 20800, 22050, 22255, 44100, 48000])
def test_a_tone_stays_what_it_is(rate):
    def tone(at):
        return np.sin(2 * np.pi * 700 * np.arange(at // 2) / at)

    changed = resampled(tone(rate), rate, 16000)
    assert changed.dtype == np.float32
    assert len(changed) == -(-(rate // 2) * 16000 // rate)
    # Away from the ends, where there is silence before and after.
    middle = slice(200, min(len(changed), 8000) - 200)
    np.testing.assert_allclose(changed[middle], tone(16000)[middle], atol=0.01)


def test_what_the_lower_rate_cannot_hold_is_gone():
    high = np.sin(2 * np.pi * 11000 * np.arange(24000) / 48000)
    assert np.abs(resampled(high, 48000, 16000)[100:-100]).max() < 0.01


def test_rates_without_a_common_divisor_take_little():
    noise = np.random.default_rng(0).normal(0, 0.1, 44099).astype(np.float32)
    tracemalloc.start()
    assert len(resampled(noise, 44099, 16000)) == 16000
    assert tracemalloc.get_traced_memory()[1] < 200 << 20
    tracemalloc.stop()
