"""The built-in modalities. Add your own here, one line each (docs/modalities.md)."""

import pkgutil
from collections.abc import Collection, Sequence
from functools import partial

from torch import nn

from pvae_pyro.modality import Modality
from pvae_pyro.models.likelihoods import ImageLikelihood, SpeechLikelihood
from pvae_pyro.nn.choices import PixelFamily, SpeechEncoderName
from pvae_pyro.nn.encoders import ImageEncoder, SpeechEncoder
from pvae_pyro.nn.picture_layers import MNIST, PictureShape
from pvae_pyro.nn.speech_encoders import ConvolutionalSpeechEncoder, TransformerSpeechEncoder

SPEECH_ENCODERS: dict[SpeechEncoderName, type[nn.Module]] = {
    "lstm": SpeechEncoder,
    "conv": ConvolutionalSpeechEncoder,
    "transformer": TransformerSpeechEncoder,
}

# Your own: name -> "module:object", a `Modality` of that name with its column of data.
OWN: dict[str, str] = {}
BUILT_IN = ("speech", "image")


def digit_modalities(
    names: Sequence[str] = ("speech", "image"),
    *,
    spoken: Collection[str] = ("speech",),
    num_mels: int = 80,
    num_cells: int = 512,
    max_frames: int = 300,
    speech_scale: float = 1.0,
    image_scale: float = 1.0,
    duration_scale: float | None = 0.1,
    speech_encoder: SpeechEncoderName = "lstm",
    image_likelihood: PixelFamily = "normal",
    learn_scale: bool = False,
    image_shape: PictureShape = MNIST,
) -> tuple[Modality, ...]:
    """The modalities called `names`; speech and image have the paper's networks and sizes.

    spoken: those of `names` that are speech; each has its own networks. num_cells: of each LSTM.
    speech_scale, image_scale: observation scales (standard deviations of a normalised log-Mel
    coefficient and of a pixel in [0, 1]), from which learning starts with learn_scale. max_frames,
    duration_scale: see `SpeechLikelihood`. speech_encoder: one of `SPEECH_ENCODERS`.
    image_likelihood: a family of `ImageLikelihood`. image_shape: channels, height and width of the
    images. These options do not apply to modalities of your own.

    Raises ValueError for an unknown name, and if an entry of `OWN` is not a modality of that name.
    """
    for name in spoken:
        check_name(name)
    speech = partial(
        Modality,
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
    built_in = {name: speech(name) for name in spoken}
    built_in["image"] = Modality(
        "image",
        encoder=partial(ImageEncoder, shape=image_shape),
        likelihood=partial(
            ImageLikelihood,
            scale=image_scale,
            family=image_likelihood,
            learn_scale=learn_scale,
            shape=image_shape,
        ),
    )
    return tuple(built_in[name] if name in built_in else own_modality(name) for name in names)


def check_name(name: str) -> None:
    """Raise ValueError for a name that a modality cannot have."""
    # These would clash with latents, the plate, or attributes of torch's modules.
    taken = name in ("z", "sem", "style", "examples") or hasattr(nn.ModuleDict(), name)
    if not name.isalnum() or taken:
        raise ValueError(
            f"modality {name!r}: a name has letters and digits only, and is not z, sem, style, "
            "examples, or an attribute of torch's modules"
        )


def own_modality(name: str) -> Modality:
    """A modality of `OWN`; raises ValueError as `digit_modalities`."""
    check_name(name)
    if name not in OWN:
        known = ", ".join([*BUILT_IN, *OWN])
        raise ValueError(
            f"no modality {name!r}: there are {known}, and those that you add to OWN "
            "in models/modalities.py"
        )
    try:
        modality = pkgutil.resolve_name(OWN[name])
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"modality {name!r}: {OWN[name]} cannot be imported: {error}") from error
    if not isinstance(modality, Modality) or modality.name != name:
        raise ValueError(f"modality {name!r}: {OWN[name]} is not a Modality of that name")
    return modality
