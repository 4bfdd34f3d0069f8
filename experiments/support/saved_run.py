"""A run's folder, read again: its configuration, model, guide, data and latents."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from pvae_pyro.evaluate.run import TrainedRun
from pvae_pyro.experiments.support.build import build_model, num_weights
from pvae_pyro.experiments.support.command import RunError
from pvae_pyro.experiments.support.command_line import what_is_wrong
from pvae_pyro.experiments.support.config import MAY_CHANGE, PLACES, Config, config_of_json
from pvae_pyro.experiments.support.data import load_run_data
from pvae_pyro.experiments.support.device import resolve_device
from pvae_pyro.models.fitting import install
from pvae_pyro.training.checkpoint import (
    CHECKPOINT,
    CheckpointError,
    load_extra,
    load_weights,
    read_trained_config,
)

CONFIG = "config.json"
RESULTS = "results.json"
# Extra tensors of a checkpoint: the framing of training pictures, and what was fitted afterwards.
FRAMING = "image.framing"
FIT = "fit."


def read_config(folder: str | Path) -> Config:
    """A run's configuration. Raises RunError if it cannot be read."""
    try:
        return config_of_json((Path(folder) / CONFIG).read_bytes())
    except ValidationError as error:
        raise RunError(f"{folder}/{CONFIG} is not valid: {what_is_wrong(error)}") from error
    except (OSError, ValueError) as error:
        raise RunError(f"{folder} is not a run that can be read: {error}") from error


def staying(config: Config) -> dict[str, Any]:
    """The part of a configuration that may not change when a run is resumed, as JSON."""
    return config.model_dump(mode="json", exclude={*MAY_CHANGE, *PLACES, "threads", "corpus"})


def check_same(config: Config, folder: Path) -> None:
    """Refuse a configuration that was edited since its checkpoint was trained.

    Options that the checkpoint does not know are not compared. Raises RunError, CheckpointError.
    """
    trained = read_trained_config(folder / CHECKPOINT) or {}
    now = staying(config)
    if different := [name for name in now if trained.get(name, now[name]) != now[name]]:
        list_of = ", ".join(f"{name} is {now[name]!r}, not {trained[name]!r}" for name in different)
        raise RunError(f"{folder}/{CONFIG} was edited after {CHECKPOINT} was trained: {list_of}")


def check_size(config: Config, folder: Path) -> None:
    """Refuse a configuration that asks for more weights than its checkpoint holds.

    Without this check, an untrusted file could ask for any amount of memory.
    Raises RunError, CheckpointError.
    """
    try:
        size = (folder / CHECKPOINT).stat().st_size
    except OSError as error:
        raise CheckpointError(f"there is no checkpoint {folder / CHECKPOINT}") from error
    try:
        number = num_weights(config)
    except (RuntimeError, RunError) as error:  # RuntimeError: more than any tensor holds
        raise RunError(f"{folder}/{CONFIG} cannot be built: {error}") from error
    if 4 * number > size:
        raise RunError(f"{folder}/{CONFIG} has {number:,} weights, more than {CHECKPOINT} holds")


def load_run(
    folder: str | Path, device: str = "cpu", fitted: bool = True
) -> tuple[nn.Module, nn.Module]:
    """The trained model and guide of a run.

    fitted: with the priors that were fitted after training, if they were (`models.fitting`).

    Raises RunError without a valid config.json, CheckpointError without its checkpoint.
    """
    config, checkpoint = read_config(folder).but(device=device), Path(folder) / CHECKPOINT
    check_size(config, Path(folder))
    model, guide, _ = build_model(config)
    load_weights(checkpoint, model, guide)
    if fitted and (tensors := read_fit(checkpoint)):
        try:
            install(model, guide, tensors)
        except ValueError as error:
            raise CheckpointError(f"{checkpoint}: the fitted priors: {error}") from error
    return model.eval(), guide.eval()


def read_fit(checkpoint: Path) -> dict[str, Tensor]:
    """What `models.fitting.fit` found after the training; empty if nothing was fitted.

    Raises CheckpointError.
    """
    extra = load_extra(checkpoint)
    return {k.removeprefix(FIT): tensor for k, tensor in extra.items() if k.startswith(FIT)}


@dataclass(kw_only=True)
class SavedRun(TrainedRun):
    """A finished run in its folder."""

    folder: Path
    config: Config


def open_run(
    folder: Path,
    root: Path | None = None,
    device: str = "auto",
    moved: Mapping[str, Any] | None = None,
) -> SavedRun:
    """Open a finished run. root, moved: as for `load_run_data`.

    Raises RunError, CheckpointError or CorpusError, saying what is missing or has changed.
    """
    config = read_config(folder)
    if not (folder / RESULTS).exists():
        raise RunError(f"{folder} is not finished: python experiments/run_svi.py --resume {folder}")
    device = resolve_device(device)
    model, guide = load_run(folder, device)
    data = load_run_data(config, folder, root, moved)
    has_fit = bool(read_fit(folder / CHECKPOINT))
    return SavedRun(
        model=model,
        guide=guide,
        model_before_fit=load_run(folder, device, fitted=False)[0] if has_fit else None,
        data=data,
        device=device,
        num_clusters=config.num_clusters or len(data.classes),
        unseen_classes=config.unseen_classes or (),
        folder=folder,
        config=config,
    )


def folder_within(folder: Path, name: str) -> Path:
    """A folder in a run's folder that a command writes into; it may not exist yet.

    Raises RunError if it is a link, which would have us write elsewhere.
    """
    path = Path(folder) / name
    if path.is_symlink():
        raise RunError(f"{path} is a link: nothing is written through it")
    return path
