"""A user's own sound and picture files, prepared as the training data were."""

import os

import numpy as np
import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.audio.reading import read_audio
from pvae_pyro.data.audio.resampling import resampled
from pvae_pyro.data.audio.voice_activity import VoiceActivity
from pvae_pyro.data.corpus import AudioError
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.pictures import decoding as pictures
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.data.pictures.ink import find_drawing
from pvae_pyro.errors import shown
from pvae_pyro.nn.picture_layers import MNIST, PictureShape

SOUNDS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif", ".au", ".sph")
PICTURES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm")
_SILENCE = 0.25  # seconds


def kind_of(path: str | os.PathLike[str]) -> str:
    """``sound`` or ``picture``, by the file's name. Raises ValueError for another ending."""
    ending = os.path.splitext(path)[1].lower()
    if ending in SOUNDS:
        return "sound"
    if ending in PICTURES:
        return "picture"
    endings = ", ".join((*SOUNDS, *PICTURES))
    raise ValueError(f"{shown(path)}: its name must end with one of {endings}")


def read_sound(
    path: str | os.PathLike[str],
    settings: LogMel,
    normalisation: Normalisation,
    *,
    trim: bool | None = None,
    channel: int | None = None,
    longest: float = 3.0,
) -> np.ndarray:
    """Log-Mel energies ``[T, F]`` of a spoken word from any file that `read_audio` reads.

    A sound whose normalised energies have a mean beyond ±1, twice the variation within a corpus,
    is scaled to ±1.

    Args:
        settings, normalisation: of the training data's features.
        trim: cut off what is not speech at both ends (`VoiceActivity`); None does so where it is
            more than a quarter of a second, which words cut out of recordings do not have.
        channel: the channel to take, from 1; None is the mean of all.
        longest: the most seconds of speech.

    Raises `AudioError` as `read_audio` does, ``"no speech"`` if `trim` is true and no speech is
    found, and ``"too long"`` for more than `longest` seconds of it.
    """
    samples, rate = read_audio(path, channel)
    if trim is not False:
        span = VoiceActivity().span(samples, rate)
        if span is None and trim:
            raise AudioError(f"{shown(path)}: no speech was found", "no speech")
        if span is not None and (trim or len(samples) - (span[1] - span[0]) > _SILENCE * rate):
            samples = samples[span[0] : span[1]]
    if len(samples) > longest * rate:
        seconds = len(samples) / rate
        reason = f"{seconds:.1f} s of speech, and the longest word is {longest:g} s: cut it"
        raise AudioError(f"{shown(path)}: {reason}", "too long")
    samples = resampled(samples, rate, settings.sample_rate)
    for _ in range(2):  # energies at the floor do not rise with the others: once is not enough
        mean = float(normalisation.apply(settings(samples, settings.sample_rate)).mean())
        nats = (np.clip(mean, -1, 1) - mean) / float(np.mean(1 / normalisation.scale))
        samples = samples * np.float32(np.exp(nats / 2))  # energies are squares
    return settings(samples, settings.sample_rate)


def read_picture(
    path: str | os.PathLike[str],
    like_mnist: bool = True,
    framing: Framing | None = None,
    shape: PictureShape = MNIST,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """``[C, H, W]`` (uint8), and the changes made to a picture, a few words each.

    like_mnist: prepare it as MNIST's pictures are (`pictures.placed`); else it gets the framing
        of a manifest's pictures, or without one only its size and colour change
        (`pictures.square`).
    shape: C, H and W of the training pictures. Colour and larger pictures have no framing.

    Raises `CorpusError` as `read_grey` and `find_drawing` do.
    """
    if like_mnist or shape == MNIST:
        pixels, changes = _read_drawing(path, like_mnist, framing)
    else:
        pixels, changes = pictures.read_pixels(path, "rgb" if shape[0] == 3 else "grey"), ()
    return pictures.channels_first(pictures.square(pixels, shape[-1])), changes


def _read_drawing(
    path: str | os.PathLike[str], like_mnist: bool, framing: Framing | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    """``[28, 28]`` (uint8), and the changes made."""
    pixels, name = pictures.read_grey(path), str(path)
    if like_mnist and pictures.is_mnist(pixels):
        return pixels, ()
    if like_mnist:
        drawing = find_drawing(pixels, name)
        dark = () if drawing.light else ("light and dark were exchanged: MNIST is light on dark",)
        return pictures.placed(drawing.ink), (*drawing.changes, *dark)
    if framing is None:
        why = "the training pictures are not drawings on one ground"
        return pictures.square(pixels), (f"light and dark were not exchanged: {why}",)
    return framing.framed(pixels, name)


def observation(values: np.ndarray, normalisation: Normalisation) -> Observation:
    """A batch of one: of log-Mel energies ``[T, F]``, or of a picture ``[C, H, W]``."""
    normalised = torch.from_numpy(normalisation.apply(values))
    if values.ndim == 3:
        return Observation(normalised[None])
    return Observation(normalised[None], torch.tensor([len(values)]))
