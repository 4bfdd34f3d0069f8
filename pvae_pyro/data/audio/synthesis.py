"""Log-Mel energies made audible again, and written to WAV files.

Shapes: n samples, T frames, F Mel filters.
"""

import io
import os
from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import torch
import torchaudio
from torch import Tensor

from pvae_pyro.data.audio.log_mel import LogMel, mel_spectrogram
from pvae_pyro.io.files import write_whole

_STEPS = 30  # of the inversion of the filter bank; more do not improve it
_PEAK = 0.99  # of full scale
_LARGEST = 60.0  # nats: squares of such energies still fit float32; full scale is near 9


def to_waveform(
    log_mel: np.ndarray, settings: LogMel, *, iterations: int = 64, seed: int = 0
) -> np.ndarray:
    """Samples ``[n]`` (float32) at `settings.sample_rate` Hz with the energies `log_mel`.

    log_mel: ``[T, F]``, natural logarithms as ``settings(samples, rate)`` returns them.
    iterations: of Griffin-Lim, which finds phases from the overlap of frames.
    seed: of the initial phases. The caller's random state does not change.

    n is ``(T - 1) * hop_length + hop_length // 2``, the middle of the numbers of samples that have
    T frames. Energies at the floor become silence.

    The power spectrum P >= 0 minimises the Kullback-Leibler divergence between the energies E and
    W P, by the steps ``P <- P * W^T(E / W P) / W^T 1`` of Lee and Seung 2001
    (https://papers.nips.cc/paper/1861); W is the filter bank of `LogMel`. This reproduces spoken
    digits better than the least squares of `torchaudio.transforms.InverseMelScale`.

    Raises ValueError for another shape, no frames, energies that are NaN, infinite or over 60
    nats, or fewer than one iteration.
    """
    wanted = f"[T, {settings.num_mels}] with T > 0"
    if log_mel.ndim != 2 or log_mel.shape[1] != settings.num_mels or len(log_mel) == 0:
        raise ValueError(f"expected log-Mel energies {wanted}, got shape {log_mel.shape}")
    if not np.isfinite(log_mel).all() or log_mel.max() > _LARGEST:
        raise ValueError(f"log-Mel energies must be finite and at most {_LARGEST:g} nats")
    if iterations < 1:
        raise ValueError(f"iterations must be positive, got {iterations}")
    hop = settings.hop_length
    length = max(1, (len(log_mel) - 1) * hop + hop // 2)
    # LogMel pads the sound with zeros at both ends: so many more frames contain some of it.
    beyond = -(-settings.fft_length // (2 * hop))
    energy = torch.from_numpy(np.exp(log_mel.astype(np.float32)).T)
    energy[energy <= settings.floor * 1.001] = 0.0
    with torch.inference_mode(), torch.random.fork_rng():
        torch.manual_seed(seed)
        power = torch.nn.functional.pad(_power(energy, settings), (beyond, beyond))
        samples: np.ndarray = _griffin_lim(settings, iterations)(power).numpy()
    return samples[beyond * hop :][:length].copy()


def level_matched(samples: np.ndarray, rms: float) -> np.ndarray:
    """``samples [n]`` scaled to the root mean square `rms`, in units of full scale; float32.

    No peak exceeds 0.99; a louder sound is scaled to this peak. Silence stays silence. Raises
    ValueError for samples of another shape, none, or not finite, and unless `rms` is positive.
    """
    _check_samples(samples)
    if not 0 < rms < np.inf:
        raise ValueError(f"rms must be positive, got {rms}")
    samples = samples.astype(np.float64)
    peak = np.abs(samples).max()
    if peak == 0:
        return samples.astype(np.float32)
    samples /= peak  # first, because the squares of tiny samples are zero
    scale = min(rms / np.sqrt(np.mean(samples**2)), _PEAK)
    return (samples * scale).astype(np.float32)


def write_wav(path: str | os.PathLike[str], samples: np.ndarray, rate: int) -> None:
    """Write ``samples [n]`` in [-1, 1] as 16-bit PCM, mono, at `rate` Hz: the whole file, or none.

    Raises ValueError, naming the file, for samples of another shape, none, not finite, or beyond
    full scale (see `level_matched`); OSError if the file cannot be written.
    """
    try:
        _check_samples(samples)
        if np.abs(samples).max() > 1:
            raise ValueError(f"samples must be in [-1, 1], the peak is {np.abs(samples).max():g}")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    content = io.BytesIO()
    soundfile.write(content, samples.astype(np.float32), rate, subtype="PCM_16", format="WAV")
    write_whole(Path(path), content.getvalue())


def _check_samples(samples: np.ndarray) -> None:
    if samples.ndim != 1 or len(samples) == 0:
        raise ValueError(f"expected samples [n] with n > 0, got shape {samples.shape}")
    if not np.isfinite(samples).all():
        raise ValueError("samples must be finite")


def _power(energy: Tensor, settings: LogMel) -> Tensor:
    """``[K, T]``, K bins of the FFT, of energies ``[F, T]``."""
    weights = mel_spectrogram(settings).mel_scale.fb  # [K, F]
    tiny = torch.finfo(energy.dtype).tiny
    share = weights.sum(1, keepdim=True).clamp(min=tiny)  # a bin that no filter sees stays zero
    # The start is smooth, because the filters do not determine the fine structure.
    power = weights @ (energy / weights.sum(0)[:, None]) / share
    for _ in range(_STEPS):
        power = power * (weights @ (energy / (weights.T @ power).clamp(min=tiny))) / share
    return power


@lru_cache(maxsize=8)
def _griffin_lim(settings: LogMel, iterations: int) -> torchaudio.transforms.GriffinLim:
    return torchaudio.transforms.GriffinLim(
        settings.fft_length,
        iterations,
        win_length=settings.window_length,
        hop_length=settings.hop_length,
        power=2.0,
    )
