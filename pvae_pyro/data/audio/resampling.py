"""Sound at another sample rate."""

import math
from functools import lru_cache

import numpy as np
from scipy.signal import firwin, resample_poly

_ZEROS = 10  # of the filter's impulse response, on each side
_KAISER = 5.0


def resampled(samples: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """float32 ``[ceil(n * new_rate / rate)]`` of samples ``[n]`` at `rate` Hz.

    Polyphase, by `scipy.signal.resample_poly` with its own filter: time and memory are modest
    for any two rates, also where these have no large common divisor.
    """
    samples = np.ascontiguousarray(samples, dtype=np.float32)
    if rate == new_rate:
        return samples
    divisor = math.gcd(rate, new_rate)
    up, down = new_rate // divisor, rate // divisor
    # "mean": an offset is no step at the ends.
    low_pass = _filter(max(up, down))
    changed: np.ndarray = resample_poly(samples, up, down, window=low_pass, padtype="mean")
    return changed


@lru_cache(maxsize=8)
def _filter(factor: int) -> np.ndarray:
    """Low-pass at the lower of the two rates. Kept: to make it costs more than a digit does."""
    taps: np.ndarray = firwin(2 * _ZEROS * factor + 1, 1 / factor, window=("kaiser", _KAISER))
    return taps.astype(np.float32)
