"""The modalities of the spoken and written digits. Add one here, and its column of data."""

from functools import partial

from pvae_pyro.modality import Modality
from pvae_pyro.nn.image import ImageEncoder, ImageLikelihood
from pvae_pyro.nn.speech import SpeechEncoder, SpeechLikelihood
from pvae_pyro.nn.speech_encoders import ConvolutionalSpeechEncoder, TransformerSpeechEncoder

SPEECH_ENCODERS = {
    "lstm": SpeechEncoder,
    "conv": ConvolutionalSpeechEncoder,
    "transformer": TransformerSpeechEncoder,
}


def digit_modalities(
    *,
    num_mels: int = 80,
    num_cells: int = 512,
    max_frames: int = 300,
    speech_scale: float = 1.0,
    image_scale: float = 1.0,
    duration_scale: float | None = 0.1,
    speech_encoder: str = "lstm",
    image_likelihood: str = "normal",
    learn_scale: bool = False,
) -> tuple[Modality, ...]:
    """Speech and image with the paper's networks; the defaults are the paper's sizes.

    num_cells: of each LSTM. speech_scale, image_scale: observation scales (standard
    deviations of a normalised log-Mel coefficient and of a pixel in [0, 1]). max_frames and
    duration_scale: see `SpeechLikelihood`. speech_encoder: one of `SPEECH_ENCODERS`.
    image_likelihood: a family of `ImageLikelihood`. learn_scale: the observation scales are where
    learning starts.
    """
    speech = Modality(
        "speech",
        encoder=partial(SPEECH_ENCODERS[speech_encoder], num_mels, num_cells),
        likelihood=partial(
            SpeechLikelihood,
            num_mels=num_mels,
            num_cells=num_cells,
            scale=speech_scale,
            max_frames=max_frames,
            duration_scale=duration_scale,
            learn_scale=learn_scale,
        ),
    )
    image = Modality(
        "image",
        encoder=ImageEncoder,
        likelihood=partial(
            ImageLikelihood, scale=image_scale, family=image_likelihood, learn_scale=learn_scale
        ),
    )
    return speech, image
