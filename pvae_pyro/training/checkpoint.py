"""One file that holds a training run: weights, optimiser, random states, progress.

It is a safetensors file: loading it executes nothing. Progress and configuration are JSON in its
header, with a SHA-256 of the whole content. It is written under another name and then renamed, so a
reader sees the old checkpoint or the new one, never a part of one.
"""

import json
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load, save
from torch import Tensor, nn

from pvae_pyro import distributed
from pvae_pyro.errors import PvaeError
from pvae_pyro.io.checksums import read_checked, with_checksum
from pvae_pyro.io.files import write_whole
from pvae_pyro.svi import SVI
from pvae_pyro.training.progress import Progress

CHECKPOINT = "checkpoint.safetensors"  # its name in a run's folder
_KEY = "pvae_pyro"


class _Header(BaseModel):
    """The JSON in a checkpoint's header."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    progress: Progress
    config: dict[str, Any] | None = None


class CheckpointError(PvaeError):
    """A checkpoint is missing, damaged or of another model; the message names the file."""


def save_checkpoint(
    path: Path,
    svi: SVI,
    progress: Mapping[str, Any],
    extra: Mapping[str, Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that is needed to resume exactly where `svi` is.

    All processes must call it; the first one writes, with the random states of all.

    Args:
        progress: the fields of a `Progress`.
        extra: further tensors to keep, e.g. the data's normalisation.
        config: JSON to keep.

    Raises OSError naming the file if it cannot be written; the old checkpoint then stays.
    """
    random_states = distributed.of_each(_random_states())
    if distributed.rank() > 0:
        return
    tensors = {f"model.{k}": v for k, v in svi.model.state_dict().items()}
    tensors |= {f"guide.{k}": v for k, v in svi.guide.state_dict().items()}
    for index, state in svi.optim.state_dict()["state"].items():
        tensors |= {f"optim.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    for rank, states in enumerate(random_states):
        tensors |= {f"rng.{rank}.{k}": v for k, v in states.items()}
    tensors |= {f"extra.{k}": v for k, v in (extra or {}).items()}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    header = {"progress": dict(progress), "config": None if config is None else dict(config)}
    write_whole(Path(path), checkpoint_bytes(tensors, json.dumps(header)))


def checkpoint_bytes(tensors: Mapping[str, Tensor], header: str) -> bytes:
    """The content of a checkpoint file: CPU tensors, the JSON header, and a checksum of both."""
    return with_checksum(tensors, {_KEY: header}, header, save)


def load_checkpoint(path: Path, svi: SVI) -> Progress:
    """Restore `svi` and the random states; returns the saved progress.

    A process that did not exist when it was saved gets a random state made from the first
    process's state and its own rank. Raises CheckpointError.
    """
    tensors, header = _read(path)
    _load_weights(path, tensors, svi.model, svi.guide)
    svi.optim.load_state_dict(_optimiser_state(path, _part(tensors, "optim"), svi))
    try:
        _set_random_states(_part(tensors, "rng"), distributed.rank())
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} has no usable random state: {error}") from error
    return header.progress


def load_weights(path: Path, model: nn.Module, guide: nn.Module) -> None:
    """Load the weights alone, onto the devices of the modules. Raises CheckpointError."""
    _load_weights(path, _read(path)[0], model, guide)


def add_extra(path: Path, extra: Mapping[str, Tensor]) -> None:
    """Add tensors to the `extra` of a checkpoint. Raises CheckpointError, OSError."""
    tensors, header = _read(path)
    tensors |= {f"extra.{k}": v.detach().cpu().contiguous() for k, v in extra.items()}
    write_whole(Path(path), checkpoint_bytes(tensors, header.model_dump_json()))


def load_extra(path: Path) -> dict[str, Tensor]:
    """The tensors saved as `extra`."""
    return _part(_read(path)[0], "extra")


def read_progress(path: Path) -> Progress:
    """The progress saved in a checkpoint."""
    return _read(path)[1].progress


def read_trained_config(path: Path) -> dict[str, Any] | None:
    """The configuration saved in a checkpoint; None if there is none."""
    return _read(path)[1].config


def _read(path: Path) -> tuple[dict[str, Tensor], _Header]:
    try:
        # Files of earlier versions have no checksum.
        tensors, metadata = read_checked(path, itemgetter(_KEY), load, without_checksum=True)
        return tensors, _Header.model_validate_json(metadata[_KEY])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from error


def _load_weights(
    path: Path, tensors: Mapping[str, Tensor], model: nn.Module, guide: nn.Module
) -> None:
    for role, module in (("model", model), ("guide", guide)):
        try:
            module.load_state_dict(_part(tensors, role))
        except RuntimeError as error:
            raise CheckpointError(f"{path} holds another {role}: {error}") from error


def _optimiser_state(path: Path, tensors: Mapping[str, Tensor], svi: SVI) -> dict[str, Any]:
    """The optimiser's state dict, with the settings of `svi`.

    Raises CheckpointError if it does not fit the parameters, which torch does not check.
    """
    shapes = {str(n): parameter.shape for n, parameter in enumerate(svi.parameters())}
    state: dict[int, dict[str, Tensor]] = {}  # a parameter without a gradient has none
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if index not in shapes or value.shape not in (torch.Size(), shapes[index]):
            raise CheckpointError(f"{path} holds another optimiser: {key} is {list(value.shape)}")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, "param_groups": svi.optim.state_dict()["param_groups"]}


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(saved: Mapping[str, Tensor], rank: int) -> None:
    states = _part(saved, str(rank))
    if states:
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])
    else:
        torch.set_rng_state(saved["0.cpu"])
        torch.manual_seed(int(torch.randint(2**62, ())) + rank)
