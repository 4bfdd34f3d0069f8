"""One file that holds a training run: weights, optimiser, random states, position.

A safetensors file: loading it executes nothing. Position and optimiser settings are JSON in its
header. It is written beside its place and then renamed, so a reader sees the old one or the
new one and never a part of one.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from pvae_pyro import distributed
from pvae_pyro.svi import SVI


class CheckpointError(Exception):
    """A checkpoint is missing, damaged or of another model; the message names the file."""


def save_checkpoint(
    path: Path, svi: SVI, progress: Mapping[str, Any], extra: Mapping[str, Tensor] | None = None
) -> None:
    """Write all that is needed to go on exactly where `svi` is.

    Of several processes all must call it: the first writes, with the random states of all.

    Args:
        progress: JSON-serialisable, returned by `load_checkpoint` as it is.
        extra: further tensors to keep, e.g. the data's normalisation.
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
    header = {"progress": dict(progress), "param_groups": optim["param_groups"]}
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        content = save(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
            metadata={"pvae_pyro": json.dumps(header)},
        )
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path, svi: SVI) -> dict[str, Any]:
    """Put `svi` and the random states back as they were; returns the saved progress.

    A process that was not there when it was saved goes on with a random state made of the first
    one's and its rank.
    """
    tensors, header = _read(path)
    load_weights(path, svi.model, svi.guide)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in _part(tensors, "optim").items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    svi.optim.load_state_dict({"state": state, "param_groups": header["param_groups"]})
    _set_random_states(_part(tensors, "rng"), distributed.rank())
    return header["progress"]


def load_weights(path: Path, model: nn.Module, guide: nn.Module) -> None:
    """Load the weights alone, onto whatever device the modules are on."""
    tensors, _ = _read(path)
    for role, module in (("model", model), ("guide", guide)):
        try:
            module.load_state_dict(_part(tensors, role))
        except RuntimeError as error:
            raise CheckpointError(f"{path} holds another {role}: {error}") from error


def load_extra(path: Path) -> dict[str, Tensor]:
    """The tensors saved as `extra`."""
    return _part(_read(path)[0], "extra")


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return tensors, json.loads(metadata["pvae_pyro"])
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from error


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
