"""Resampling."""

import math
from functools import lru_cache

import numpy as np
from scipy.signal import firwin, resample_poly

_ZEROS = 10  # zeros of the impulse response on each side
_KAISER = 5.0


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """float32 ``[ceil(n * new_rate / rate)]`` of samples ``[n]`` at `rate` Hz.

    Polyphase (`scipy.signal.resample_poly`), so that time and memory are modest for any two rates,
    even without a large common divisor.
    """
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if rate == new_rate:
        return samples
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    low_pass = _filter(max(up, down))
    # With "mean", an offset makes no step at the ends.
    changed: np.ndarray = resample_poly(samples, up, down, window=low_pass, padtype="mean")
    return changed


@lru_cache(maxsize=8)
def _filter(factor: int) -> np.ndarray:
    """A low-pass at the lower of the two rates; cached, as it takes longer than a digit."""
    taps: np.ndarray = firwin(2 * _ZEROS * factor + 1, 1 / factor, window=("kaiser", _KAISER))
    return taps.astype(np.float32)
