"""A run folder, and the model, guide, optimiser and data its configuration stands for."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import nn

from experiments.corpora import image_arguments, speech_arguments
from experiments.options import OBJECTIVES, PRECISIONS, config_of, make_parser, wrong_options
from guides import JMVAEGuide, PartitionedGuide, VAEGuide
from models import JMVAE, PVAE, digit_modalities
from pvae_pyro.checked_json import misfit, read_json
from pvae_pyro.checkpoint import CheckpointError, load_weights
from pvae_pyro.data.cache import data_root
from pvae_pyro.data.hold_out import hold_out
from pvae_pyro.data.paired import PairedData, load_paired
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.modality import Modality
from pvae_pyro.svi import SVI
from pvae_pyro.train import CHECKPOINT

CONFIG = "config.json"
# Of a configuration, what is no option: found out when the run was begun.
_FOUND = {
    "corpus?": str,
    "stand_in?": bool,
    "data_digest?": str,
    "max_frames?": int,
    "sample_rate_of_features?": int,
}
_MOST_UNITS = 1 << 20  # of a layer
_MOST_FRAMES = 1_000_000  # nearly three hours


class RunError(Exception):
    """A run folder cannot be used as asked; the message says why."""


def build(config: Mapping[str, Any]) -> SVI:
    """Model, guide, objective and optimiser of a configuration."""
    pyro.set_rng_seed(config["seed"])
    modalities = digit_modalities(
        num_cells=config["num_cells"],
        max_frames=config["max_frames"],
        speech_scale=config["speech_scale"],
        image_scale=config["image_scale"],
        duration_scale=config["duration_scale"] or None,
    )
    model, guide, elbo = _assemble(config, modalities)
    # β1 = 0.95 is that of the author's other papers' code.
    adam = partial(torch.optim.Adam, lr=config["learning_rate"], betas=(0.95, 0.999), fused=True)
    autocast = PRECISIONS[config["precision"]]
    return SVI(model.to(config["device"]), guide.to(config["device"]), adam, elbo, autocast)


def _assemble(
    config: Mapping[str, Any], modalities: tuple[Modality, ...]
) -> tuple[nn.Module, nn.Module, PartitionedELBO]:
    """The PVAE, or a baseline of as many latent dimensions, with the same networks."""
    semantic, style = config["semantic_dim"], config["style_dim"]
    if config["model"] == "pvae":
        elbo = PartitionedELBO(
            alpha=config["alpha"],
            beta=config["beta"],
            margin=config["margin"],
            length_scale=config["length_scale"],
            gamma=config["gamma"],
            delta=config["delta"],
        )
        dims = (semantic, style)
        return PVAE(modalities, *dims), PartitionedGuide(modalities, *dims), elbo
    if config["model"] == "jmvae":
        # Its second term, α Σ_m KL(q ‖ q_m), is the coherence of one latent.
        elbo = PartitionedELBO(alpha=config["alpha"], beta=0.0, shared="z")
        dim = semantic + style * len(modalities)
        return JMVAE(modalities, dim), JMVAEGuide(modalities, dim), elbo
    (modality,) = (m for m in modalities if config["model"] == f"vae-{m.name}")
    dim = semantic + style
    return JMVAE([modality], dim), VAEGuide(modality, dim), PartitionedELBO(alpha=0.0, beta=0.0)


def load_data(config: Mapping[str, Any], root: Path) -> PairedData:
    """The data of a configuration. Raises CorpusError as `load_paired` does."""
    data = load_paired(
        config["dataset"], root, **speech_arguments(config), **image_arguments(config)
    )
    return hold_out(data, config["hold_out"]) if config["hold_out"] else data


def check_data(config: Mapping[str, Any], data: PairedData, folder: str | Path) -> dict[str, Any]:
    """What a configuration says of the data of its run; where it says so already, the same.

    Raises RunError when a run was begun on anything else.
    """
    found = {"corpus": data.corpus, "stand_in": data.stand_in, "data_digest": data.digest()}
    for name, value in found.items():
        if config.get(name, value) != value:
            raise RunError(
                f"{folder} was begun on other data: {name} {config[name]}, now {value}; have "
                "files, a manifest, or $PVAE_DATA (--data) changed?"
            )
    return found


def load_run_data(folder: str | Path, root: Path | None = None) -> PairedData:
    """The data that a run was trained and scored on; root is as of --data.

    Raises RunError when it is no longer the same, CorpusError when it is not there.
    """
    config = read_config(folder)
    data = load_data(config, root or data_root())
    check_data(config, data, folder)
    return data


def load_run(folder: str | Path, device: str = "cpu") -> tuple[nn.Module, nn.Module]:
    """The trained model and guide of a run.

    Raises RunError without a readable config.json, CheckpointError without its checkpoint.
    """
    config = {**read_config(folder), "device": device}
    check_size(config, Path(folder))
    svi = build(config)
    load_weights(Path(folder) / CHECKPOINT, svi.model, svi.guide)
    return svi.model.eval(), svi.guide.eval()


def check_size(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a configuration of more weights than its checkpoint holds, before it is built: a
    number in a file of someone else's may ask for any memory. Raises RunError, CheckpointError."""
    try:
        size = (folder / CHECKPOINT).stat().st_size
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {folder / CHECKPOINT}") from error
    if "max_frames" not in config:
        raise RunError(f"{folder} was never begun: {CONFIG} has no max_frames")
    try:
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            svi = build({**config, "device": "meta"})
        weights = sum(parameter.numel() for parameter in svi.parameters())
    except RuntimeError as error:  # more than any tensor holds
        raise RunError(f"{folder}: {CONFIG} asks for too large a model ({error})") from error
    if 4 * weights > size:
        raise RunError(
            f"{folder}: {CONFIG} is of {weights:,} weights, more than {CHECKPOINT} holds"
        )


def read_config(folder: str | Path) -> dict[str, Any]:
    """A run's resolved configuration. Raises RunError, saying why it cannot be read.

    A run of an earlier version lacks the options that came since: it had their defaults, and the
    paper's objective. What is no value of an option is refused: nothing is built of it.
    """
    try:
        config = read_json(Path(folder) / CONFIG)
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is no run that can be read: {error}") from error
    if "num_cells" not in config:
        raise RunError(f"{folder} is no run that can be read: {CONFIG} is not a configuration")
    earlier = {"objective": "paper", **OBJECTIVES["paper"]}
    config = {**config_of(make_parser(None).parse_args([])), **earlier, **config}
    if wrong := config_problem(config):
        raise RunError(f"{folder} is no run that can be read: {CONFIG}: {wrong}")
    return config


def config_problem(config: Mapping[str, Any]) -> str | None:
    """What in a configuration no run can have had, in words; None is nothing."""
    if wrong := [*wrong_options(make_parser(None), config)]:
        return wrong[0]
    if wrong := misfit(config, _FOUND, "configuration"):
        return wrong
    for size in ("num_cells", "semantic_dim", "style_dim"):
        if config[size] > _MOST_UNITS:
            return f"{size} {config[size]}"
    if not 1 <= config.get("max_frames", 1) <= _MOST_FRAMES:
        return f"max_frames {config['max_frames']}"
    if not 4000 <= config.get("sample_rate_of_features", 4000) <= 192_000:
        return f"sample_rate_of_features {config['sample_rate_of_features']}"
    return None
