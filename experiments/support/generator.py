"""A finished run without its data, for generation from a user's own files."""

from collections.abc import Iterable
from pathlib import Path

import torch

from pvae_pyro.batch import Observation
from pvae_pyro.data.audio.log_mel import LogMel
from pvae_pyro.data.examples import Normalisation
from pvae_pyro.data.pictures.framing import Framing
from pvae_pyro.data.user_file import kind_of, observation, read_picture, read_sound
from pvae_pyro.errors import shown
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.experiments.support.saved_run import FRAMING, load_run, read_config
from pvae_pyro.io.files import expanded
from pvae_pyro.nn.picture_layers import MNIST
from pvae_pyro.training.checkpoint import CHECKPOINT, CheckpointError, load_extra


class Generator:
    """Model and guide of a run, and how its data were prepared.

    remarks: what was changed in the files that were read, a sentence each.
    Raises RunError and CheckpointError if the run cannot be read.
    """

    def __init__(self, folder: Path, device: str):
        self.config = read_config(folder)
        self.device = resolve_device(device)
        self.model, self.guide = load_run(folder, self.device)
        self.names = self.config.modelled
        self.normalisation = read_normalisations(folder / CHECKPOINT, self.names)
        self.image_shape = self.config.image_shape or MNIST
        self.framing = read_framing(folder / CHECKPOINT)
        self.remarks: list[str] = []
        rates = self.config.sample_rates or {}
        self.log_mels = {name: LogMel(rate) for name, rate in rates.items() if name in self.names}
        if "speech" in self.names and not self.log_mels:
            raise RunError(
                f"{folder} is of an earlier version, which did not keep the sample rate of its "
                f"features: python experiments/run_svi.py --resume {folder} adds it"
            )

    def modality_of(self, text: str) -> tuple[str, Path]:
        """Modality and path of ``FILE`` or ``NAME:FILE``. Raises RunError, ValueError."""
        prefix, _, rest = text.partition(":")
        named = bool(rest) and prefix in self.names
        path = expanded(rest if named else text)
        kind = kind_of(path)
        fitting = [*self.log_mels] if kind == "sound" else [n for n in self.names if n == "image"]
        if named and prefix not in fitting:
            raise RunError(f"{path} is a {kind}, which cannot be read as {prefix}")
        if not fitting:
            raise RunError(f"{path} is a {kind}, but the run has only {', '.join(self.names)}")
        if not named and len(fitting) > 1:
            which = " or ".join(f"{name}:{path}" for name in fitting)
            raise RunError(f"{path} may be of several modalities: write {which}")
        return (prefix if named else fitting[0]), path

    def read(
        self, text: str, trim: bool | None = None, channel: int | None = None
    ) -> tuple[str, Observation]:
        """The modality of ``FILE`` or ``NAME:FILE``, and its content as the model sees it.

        trim, channel: as for `read_sound`.
        """
        name, path = self.modality_of(text)
        normalisation = self.normalisation[name]
        if name in self.log_mels:
            settings = self.log_mels[name]
            longest = max(3.0, (self.config.max_frames or 0) * settings.hop)
            values = read_sound(
                path, settings, normalisation, trim=trim, channel=channel, longest=longest
            )
        else:
            like_mnist = self.config.image_dataset == "mnist" and not self.config.has_known_pairs
            values, changes = read_picture(path, like_mnist, self.framing, self.image_shape)
            if changes:
                self.remarks.append(f"{shown(path)}: {'; '.join(changes)}")
        return name, observation(values, normalisation).to(self.device)


def read_normalisations(path: Path, names: Iterable[str]) -> dict[str, Normalisation]:
    """The normalisation of each modality's data that a checkpoint keeps.

    Raises CheckpointError if one is missing or unusable.
    """
    tensors = load_extra(path)
    found = {}
    for name in names:
        loc, scale = (tensors.get(f"{name}.{part}") for part in ("loc", "scale"))
        if (
            loc is None
            or scale is None
            or not loc.dtype == scale.dtype == torch.float32
            or not (loc.isfinite().all() and scale.isfinite().all() and (scale > 0).all())
            or loc.shape not in ((), scale.shape)
            or (name == "image" and scale.shape != ())
        ):
            raise CheckpointError(f"{path} has no usable normalisation of {name}")
        found[name] = Normalisation(loc.numpy(), scale.numpy())
    return found


def read_framing(path: Path) -> Framing | None:
    """The framing of the training pictures that a checkpoint keeps; None if there is none.

    Raises CheckpointError if it is unusable.
    """
    numbers = load_extra(path).get(FRAMING)
    try:
        return None if numbers is None else Framing.of(numbers.tolist())
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: {error}") from error
