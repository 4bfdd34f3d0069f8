"""Log-Mel filter bank energies of one recording.

Shapes: n samples, T frames, F Mel filters.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
import torchaudio

from pvae_pyro.data.audio.resampling import resampled


@dataclass(frozen=True)
class LogMel:
    """``log(max(E_f(t), floor))``, E_f(t) the energy of Mel filter f in frame t.

    E_f(t) = sum_k w_f(k) |X_t(k)|^2, where X_t is the FFT of the samples, without their mean, under
    a Hann window around sample ``t * hop``, and w_f are triangles of height 1 spaced evenly on the
    Mel scale (HTK's, 2595 log10(1 + Hz / 700)). `torchaudio.transforms.MelSpectrogram` computes
    the same but keeps the mean, so that the offset of a sound card raises the lowest filters;
    Kaldi removes it too. The paper uses 80 filters every 10 ms; window and range are Kaldi's.

    sample_rate: in Hz; recordings at other rates are resampled.
    window, hop: in seconds.
    floor: the smallest energy, in units of a full-scale sample squared. The rounding of 16-bit
        samples has variance 2^-30 / 12; times the window's sum of squares (75 at 8 kHz) this is
        0.6e-8 for a filter one bin wide, so there is only rounding below 1e-8.
    low_frequency, high_frequency: ends of the filter bank in Hz; None is half the sample rate.

    Raises ValueError for settings that make no filter bank.
    """

    sample_rate: int
    num_mels: int = 80
    window: float = 0.025
    hop: float = 0.010
    floor: float = 1e-8
    low_frequency: float = 20.0
    high_frequency: float | None = None

    def __post_init__(self) -> None:
        if self.sample_rate < 1 or self.num_mels < 1 or not self.floor > 0:
            raise ValueError(f"sample_rate, num_mels and floor must be positive: {self}")
        if self.hop_length < 1 or self.window_length < 2:
            raise ValueError(f"window or hop is shorter than a sample: {self}")
        if not 0 <= self.low_frequency < self.top_frequency <= self.sample_rate / 2:
            raise ValueError(f"frequencies must rise from 0 to half the sample rate: {self}")

    @property
    def window_length(self) -> int:
        """Window in samples."""
        return round(self.window * self.sample_rate)

    @property
    def hop_length(self) -> int:
        """Hop in samples."""
        return round(self.hop * self.sample_rate)

    @property
    def top_frequency(self) -> float:
        """Upper end of the filter bank in Hz."""
        return self.sample_rate / 2 if self.high_frequency is None else self.high_frequency

    @property
    def fft_length(self) -> int:
        """The smallest power of two that holds the window and resolves every Mel filter.

        FFT bins are no further apart than the first, narrowest filter is wide at half its height.
        Otherwise neighbouring filters may see the same bin: at 8 kHz, 256 points give 80 filters
        of rank 74.
        """
        low, top = _mel(self.low_frequency), _mel(self.top_frequency)
        narrowest = _hertz(low + (top - low) / (self.num_mels + 1)) - self.low_frequency
        at_least = max(self.window_length, self.sample_rate / narrowest)
        return int(2 ** math.ceil(math.log2(at_least)))

    @property
    def centre_frequencies(self) -> np.ndarray:
        """``[F]`` in Hz: where each Mel filter is 1, evenly spaced on the Mel scale."""
        low, top = _mel(self.low_frequency), _mel(self.top_frequency)
        corners = np.linspace(low, top, self.num_mels + 2)
        return np.array([_hertz(mel) for mel in corners[1:-1]])

    def __call__(self, samples: np.ndarray, rate: int) -> np.ndarray:
        """Log energies ``[T, F]`` (float32) of samples ``[n]`` at `rate` Hz.

        n samples at `sample_rate` make T = 1 + n // `hop_length` frames; the ends are padded with
        zeros. Raises ValueError for no samples.
        """
        if samples.ndim != 1 or len(samples) == 0:
            raise ValueError(f"expected samples [n] with n > 0, got shape {samples.shape}")
        with torch.inference_mode():
            wave = torch.from_numpy(resampled(samples, rate, self.sample_rate))
            energy = self._power(wave) @ mel_spectrogram(self).mel_scale.fb
            features: np.ndarray = energy.clamp_(min=self.floor).log_().numpy()
        return features

    def _power(self, wave: torch.Tensor) -> torch.Tensor:
        """|X_t(k)|^2 of samples ``[n]``: ``[T, K]``, K bins of the FFT."""
        before = (self.window_length + 1) // 2
        frames, inside = (
            torch.nn.functional.pad(x, (before, self.window_length - before))
            .unfold(0, self.window_length, self.hop_length)
            .contiguous()
            for x in (wave, torch.ones_like(wave))
        )
        # `torch.stft` cannot remove the mean of the samples without that of the padding.
        offset = frames.sum(1, keepdim=True) / inside.sum(1, keepdim=True)
        frames = (frames - offset) * inside * mel_spectrogram(self).spectrogram.window
        return torch.fft.rfft(frames, self.fft_length).abs() ** 2


def _mel(hertz: float) -> float:
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def _hertz(mel: float) -> float:
    return 700.0 * (math.pow(10.0, mel / 2595.0) - 1.0)


@lru_cache(maxsize=8)
def mel_spectrogram(settings: LogMel) -> torchaudio.transforms.MelSpectrogram:
    return torchaudio.transforms.MelSpectrogram(
        settings.sample_rate,
        n_fft=settings.fft_length,
        win_length=settings.window_length,
        hop_length=settings.hop_length,
        f_min=settings.low_frequency,
        f_max=settings.top_frequency,
        n_mels=settings.num_mels,
        center=True,
        pad_mode="constant",
    )
