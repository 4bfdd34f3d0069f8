"""A run folder, and the model, guide and optimiser its configuration stands for."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyro
import torch
from torch import nn

from guides import PartitionedGuide
from models import PVAE, digit_modalities
from pvae_pyro.checkpoint import load_weights
from pvae_pyro.elbo import PartitionedELBO
from pvae_pyro.svi import SVI
from pvae_pyro.train import CHECKPOINT

CONFIG = "config.json"


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
    dims = {"semantic_dim": config["semantic_dim"], "style_dim": config["style_dim"]}
    model = PVAE(modalities, **dims).to(config["device"])
    guide = PartitionedGuide(modalities, **dims).to(config["device"])
    elbo = PartitionedELBO(
        alpha=config["alpha"],
        beta=config["beta"],
        margin=config["margin"],
        length_scale=config["length_scale"],
    )
    # β1 = 0.95 is that of the author's other papers' code.
    adam = partial(torch.optim.Adam, lr=config["learning_rate"], betas=(0.95, 0.999))
    return SVI(model, guide, adam, elbo)


def load_run(folder: str | Path, device: str = "cpu") -> tuple[nn.Module, nn.Module]:
    """The trained model and guide of a run.

    Raises RunError without a readable config.json, CheckpointError without its checkpoint.
    """
    svi = build({**read_config(folder), "device": device})
    load_weights(Path(folder) / CHECKPOINT, svi.model, svi.guide)
    return svi.model.eval(), svi.guide.eval()


def read_config(folder: str | Path) -> dict[str, Any]:
    """A run's resolved configuration. Raises RunError, saying why it cannot be read."""
    try:
        config: dict[str, Any] = json.loads((Path(folder) / CONFIG).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is no run that can be read: {error}") from error
    if not isinstance(config, dict) or "num_cells" not in config:
        raise RunError(f"{folder} is no run that can be read: {CONFIG} is not a configuration")
    return config
