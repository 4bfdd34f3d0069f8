"""One file that holds a training run: weights, optimiser, random states, position.

A safetensors file: loading it executes nothing. Position and optimiser settings are JSON in its
header, with a SHA-256 of it all. It is written beside its place and then renamed, so a reader sees
the old one or the new one and never a part of one; the one before it stays beside it.
"""

import json
import os
from collections.abc import Mapping
from itertools import chain, count
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter
from safetensors.torch import load, save
from torch import Tensor, nn

from pvae_pyro import distributed
from pvae_pyro.errors import PvaeError
from pvae_pyro.io.checksums import read_sealed, seal
from pvae_pyro.io.files import RefusedError, flush_folder, naming, write_whole
from pvae_pyro.svi import SVI
from pvae_pyro.training.progress import Progress

CHECKPOINT = "checkpoint.safetensors"  # its name in a run's folder
_KEY = "pvae_pyro"


class _Header(BaseModel):
    """What a checkpoint holds besides tensors; checkpoints of earlier versions have no config."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    progress: Progress
    config: dict[str, Any] | None = None


class CheckpointError(PvaeError):
    """A checkpoint is missing, damaged or of another model; the message names the file."""


class DamagedError(CheckpointError):
    """What is there is not what was written."""


def previous(path: Path) -> Path:
    """Where the checkpoint before that of `path` is."""
    return path.with_name(f"{path.stem}-previous{path.suffix}")


def save_checkpoint(
    path: Path,
    svi: SVI,
    progress: Mapping[str, Any],
    extra: Mapping[str, Tensor] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Write everything that is needed to resume exactly where `svi` is.

    The file that is replaced stays under the name `previous`. If there are several processes, all
    of them must call it: the first one writes, with the random states of all.

    Args:
        progress: the fields of a `Progress`.
        extra: further tensors to keep, e.g. the data's normalisation.
        config: JSON to keep.

    Raises OSError naming the file where it cannot be written; the one before then stays.
    """
    random_states = distributed.of_each(_random_states())
    if distributed.rank() > 0:
        return
    optim = svi.optim.state_dict()
    tensors = {f"model.{k}": v for k, v in svi.model.state_dict().items()}
    tensors |= {f"guide.{k}": v for k, v in svi.guide.state_dict().items()}
    for index, state in optim["state"].items():
        tensors |= {f"optim.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors |= {
        f"rng.{rank}.{k}": v for rank, states in enumerate(random_states) for k, v in states.items()
    }
    tensors |= {f"extra.{k}": v for k, v in (extra or {}).items()}
    header = {"progress": dict(progress), "config": None if config is None else dict(config)}
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    content = sealed(tensors, json.dumps(header))
    path = Path(path)
    write_whole(path, content, previous(path))


def recover(path: Path) -> str | None:
    """See to it that the checkpoint of a run that is to go on is whole.

    Where it is damaged or gone, the one before takes its place, and the damaged one is kept under
    another name, that no file has yet. Returns what is to be told of that, None where all is well.

    Raises CheckpointError where neither is whole, or a file may not be read.
    """
    path, before = Path(path), previous(path)
    try:
        _read(path)
        return None
    except CheckpointError as error:
        if not before.exists() or (path.exists() and not isinstance(error, DamagedError)):
            raise
        reason = error
    _, header = _read(before)
    with naming(path):
        if path.exists():
            set_aside(path)
        os.replace(before, path)
        flush_folder(path.parent)
    return f"{reason}; using the checkpoint before it, of step {header.progress.step}"


def set_aside(path: Path) -> Path:
    """Give what is damaged the name ``…-damaged``, or the first of ``-damaged-2``, … that nothing
    has; returns it."""
    first = path.with_name(f"{path.stem}-damaged{path.suffix}")
    names = (path.with_name(f"{first.stem}-{n}{path.suffix}") for n in count(2))
    aside = next(name for name in chain([first], names) if not os.path.lexists(name))
    os.replace(path, aside)
    return aside


def has_checkpoint(path: Path) -> bool:
    """Whether there is a checkpoint, or the one before it, whole or not."""
    return path.exists() or previous(path).exists()


def sealed(tensors: Mapping[str, Tensor], header: str) -> bytes:
    """The content of a checkpoint: tensors on the CPU, position and settings, and a checksum."""
    return seal(tensors, {_KEY: header}, header, save)


def load_checkpoint(path: Path, svi: SVI) -> Progress:
    """Put `svi` and the random states back as they were; returns the saved progress.

    A process that was not there when it was saved goes on with a random state made of the first
    one's and its rank.

    Raises CheckpointError; where the file is damaged or of another model, nothing has changed but
    perhaps weights.
    """
    tensors, header = _read(path)
    state = _optimiser_state(path, _part(tensors, "optim"), svi)
    load_weights(path, svi.model, svi.guide)
    svi.optim.load_state_dict(state)
    try:
        _set_random_states(_part(tensors, "rng"), distributed.rank())
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} has no random state that can be used: {error}") from error
    return header.progress


def _optimiser_state(path: Path, tensors: Mapping[str, Tensor], svi: SVI) -> dict[str, Any]:
    """The optimiser's state, with the settings of `svi`. Raises CheckpointError if it does not fit
    the parameters: torch would take tensors of any names, shapes and types."""
    parameters = {str(n): parameter for n, parameter in enumerate(svi.parameters())}
    state: dict[int, dict[str, Tensor]] = {}  # a parameter without a gradient has none
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        parameter = parameters.get(index)
        shape = None if parameter is None else () if name == "step" else parameter.shape
        if value.shape != shape or not value.is_floating_point():
            raise CheckpointError(f"{path} holds another optimiser: {key} is {list(value.shape)}")
        if name == "step" and not value >= 0:
            raise CheckpointError(f"{path} holds an optimiser after {value.item()} steps")
        state.setdefault(int(index), {})[name] = value
    if len({frozenset(of_one) for of_one in state.values()}) > 1:
        raise CheckpointError(f"{path} holds a part of an optimiser's state")
    return {"state": state, "param_groups": svi.optim.state_dict()["param_groups"]}


def load_weights(path: Path, model: nn.Module, guide: nn.Module) -> None:
    """Load the weights alone, onto whatever device the modules are on."""
    tensors, _ = _read(path)
    for role, module in (("model", model), ("guide", guide)):
        weights, own = _part(tensors, role), module.state_dict()
        for name, value in weights.items():
            if name in own and value.dtype != own[name].dtype:
                raise CheckpointError(f"{path} holds another {role}: {name} is {value.dtype}")
            if value.is_floating_point() and not value.isfinite().all():
                raise CheckpointError(f"{path} holds a {role} that is not finite: {name}")
        try:
            module.load_state_dict(weights)
        except RuntimeError as error:
            raise CheckpointError(f"{path} holds another {role}: {error}") from error


def load_extra(path: Path) -> dict[str, Tensor]:
    """The tensors saved as `extra`."""
    return _part(_read(path)[0], "extra")


def read_progress(path: Path) -> Progress:
    """The progress that was saved with it."""
    return _read(path)[1].progress


def read_config(path: Path) -> dict[str, Any] | None:
    """The configuration that was saved with it; None if there was none."""
    tensors, header = _read(path)
    kept = _part(tensors, "extra").get("config")  # where earlier versions kept it
    if header.config is not None or kept is None:
        return header.config
    try:
        return TypeAdapter(dict[str, Any]).validate_json(kept.numpy().tobytes())
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{path} holds another configuration: {error}") from error


def _read(path: Path) -> tuple[dict[str, Tensor], _Header]:
    """The tensors and the header. Raises CheckpointError, DamagedError where it is not whole."""
    try:
        # Files of earlier versions have no checksum.
        tensors, metadata = read_sealed(path, itemgetter(_KEY), load, without_checksum=True)
        return tensors, _Header.model_validate_json(metadata[_KEY])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except RefusedError as error:
        raise DamagedError(f"{path} is not a whole checkpoint: {error.strerror}") from error
    except OSError as error:  # of the place, perhaps: the file may be as good as ever
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise DamagedError(f"{path} is not a whole checkpoint: {error}") from error


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _random_states() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def _set_random_states(saved: Mapping[str, Tensor], rank: int) -> None:
    # Files of earlier versions hold one process's, without a number.
    states = _part(saved, str(rank)) or ({} if rank else saved)
    if "cpu" in states:
        torch.set_rng_state(states["cpu"])
        if "cuda" in states and torch.cuda.is_available():
            torch.cuda.set_rng_state(states["cuda"])
        return
    first = _part(saved, "0") or saved
    torch.set_rng_state(first["cpu"])
    torch.manual_seed(int(torch.randint(2**62, ())) + rank)
