"""One's own sound and picture files, prepared as the training data were."""

import os
from dataclasses import dataclass

import numpy as np
import torch

from pvae_pyro.data import pictures
from pvae_pyro.data.audio import read_audio
from pvae_pyro.data.corpus import AudioError, shown
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.log_mel import LogMel
from pvae_pyro.data.resampling import resampled
from pvae_pyro.data.voice_activity import VoiceActivity
from pvae_pyro.modality import Observation

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".sph")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm")
_LONGEST = 3.0  # seconds: a word of the kind that corpora of words have


@dataclass(frozen=True)
class Sound:
    """samples ``[n]`` at rate Hz, and their log-Mel energies ``[T, F]``, not normalised."""

    samples: np.ndarray
    rate: int
    log_mel: np.ndarray


def modality_of(path: str | os.PathLike[str]) -> str:
    """``speech`` or ``image``, by the file's name. Raises ValueError for another ending."""
    ending = os.path.splitext(path)[1].lower()
    if ending in SOUNDS:
        return "speech"
    if ending in PICTURES:
        return "image"
    kinds = f"a sound ({', '.join(SOUNDS)}) or a picture ({', '.join(PICTURES)})"
    raise ValueError(f"{shown(path)}: its name must end as that of {kinds}")


def read_sound(
    path: str | os.PathLike[str],
    settings: LogMel,
    usual: np.ndarray,
    *,
    trim: bool = True,
    keep_level: bool = False,
) -> Sound:
    """A word of any file that `read_audio` takes, at any rate, of any channels.

    Args:
        settings: of the training data's features.
        usual: ``[F]``, mean log-Mel energies of the training data. Unless keep_level, the
            sound is made as loud: the mean of log-Mel energies over frames and filters is theirs.
        trim: cut off what is not speech at both ends (`VoiceActivity`).

    Raises `AudioError` as `read_audio` does, ``"no speech"`` where nothing is found to trim to,
    and ``"too long"`` for more than three seconds after that: this is a model of words.
    """
    samples, rate = read_audio(path, any_kind=True)
    if trim:
        span = VoiceActivity().span(samples, rate)
        if span is None:
            reason = f"{shown(path)}: no speech is found in it; try --no-trim"
            raise AudioError(reason, "no speech")
        samples = samples[span[0] : span[1]]
    if len(samples) > _LONGEST * rate:
        seconds = len(samples) / rate
        reason = f"{shown(path)}: {seconds:.1f} s of speech, and {_LONGEST:g} s is the most: cut it"
        raise AudioError(reason, "too long")
    samples = resampled(samples, rate, settings.sample_rate)
    if not keep_level:
        # Twice, as what lies below the floor does not rise with the rest.
        for _ in range(2):
            lower = float(np.mean(usual) - settings(samples, settings.sample_rate).mean())
            samples = samples * np.float32(np.exp(lower / 2))  # energies are squares
    return Sound(samples, settings.sample_rate, settings(samples, settings.sample_rate))


def read_picture(path: str | os.PathLike[str], like_mnist: bool = True) -> np.ndarray:
    """``[28, 28]`` (uint8), as MNIST's (`pictures.as_mnist`) or a manifest's (`pictures.square`).

    Raises `CorpusError` as `pictures.read_grey` does.
    """
    pixels = pictures.read_grey(path)
    return pictures.as_mnist(pixels, str(path)) if like_mnist else pictures.square(pixels)


def observation(values: np.ndarray, normalisation: Normalisation) -> Observation:
    """A batch of one: of log-Mel energies ``[T, F]``, or of a picture ``[28, 28]``."""
    normalised = torch.from_numpy(normalisation.apply(values))
    if values.shape == (pictures.SIZE, pictures.SIZE):
        return Observation(normalised[None, None])
    return Observation(normalised[None], torch.tensor([len(values)]))
