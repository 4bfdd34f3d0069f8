"""One file that holds a training run: weights, optimiser, random states, position.

A safetensors file: loading it executes nothing. Position and optimiser settings are JSON in its
header. It is written beside its place and then renamed, so a reader sees the old one or the
new one and never a part of one. A checksum tells a bit that has changed since.
"""

import hashlib
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
from pvae_pyro.checked_json import misfit, parse_object
from pvae_pyro.svi import SVI

_CHECKSUM = "sha256"
_ADAM = {"step", "exp_avg", "exp_avg_sq"}


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
        content = sealed(
            {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()},
            json.dumps(header),
        )
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def sealed(tensors: Mapping[str, Tensor], header: str) -> bytes:
    """The content of a checkpoint: tensors on the CPU, position and settings, and a checksum."""
    metadata = {"pvae_pyro": header, _CHECKSUM: _checksum(tensors, header)}
    return save(dict(tensors), metadata=metadata)


def load_checkpoint(path: Path, svi: SVI) -> dict[str, Any]:
    """Put `svi` and the random states back as they were; returns the saved progress.

    A process that was not there when it was saved goes on with a random state made of the first
    one's and its rank.

    Raises CheckpointError; where the file is damaged or of another model, nothing has changed but
    perhaps weights.
    """
    tensors, header = _read(path)
    state = _optimiser_state(path, _part(tensors, "optim"), header, svi)
    load_weights(path, svi.model, svi.guide)
    svi.optim.load_state_dict(state)
    try:
        _set_random_states(_part(tensors, "rng"), distributed.rank())
    except (KeyError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{path} has no random state that can be used: {error}") from error
    return header["progress"]


def _optimiser_state(
    path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any], svi: SVI
) -> dict[str, Any]:
    """The optimiser's state, held against the one it is for: torch would take any shapes."""
    now, saved = svi.optim.state_dict()["param_groups"], header["param_groups"]
    wrong = None if len(saved) == len(now) else "it has other groups"
    for group, own in zip(saved, now, strict=False):
        # Versions of torch differ in what settings there are.
        wrong = wrong or misfit(group, {"params": [int], "lr": (int, float)})
        wrong = wrong or misfit(group, {f"{key}?": _kind(value) for key, value in own.items()})
        wrong = wrong or (None if group["params"] == own["params"] else "of other parameters")
    parameters = list(svi.parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        if not index.isdecimal() or len(index) > 9 or int(index) >= len(parameters):
            wrong = wrong or f"{key} is of no parameter"
            continue
        if value.shape != (() if name == "step" else parameters[int(index)].shape):
            wrong = wrong or f"{key} is {list(value.shape)}"
        if not value.is_floating_point():
            wrong = wrong or f"{key} is {value.dtype}"
        state.setdefault(int(index), {})[name] = value
    for part in state.values():
        if isinstance(svi.optim, torch.optim.Adam) and not part.keys() >= _ADAM:
            wrong = wrong or "a part of it is missing"
    if wrong:
        raise CheckpointError(f"{path} holds another optimiser: {wrong}")
    return {"state": state, "param_groups": saved}


def _kind(value: Any) -> Any:
    """The shape in JSON of such a setting of an optimiser."""
    if isinstance(value, (tuple, list)):
        return [(int, float)]
    if isinstance(value, bool) or value is None:
        return (bool, type(None))
    return (int, float) if isinstance(value, (int, float)) else type(value)


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


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        header = parse_object(metadata["pvae_pyro"])
        if wrong := misfit(header, {"progress": dict, "param_groups": [dict]}):
            raise ValueError(wrong)
        # Files of earlier versions have no checksum.
        if metadata.get(_CHECKSUM, "") not in ("", _checksum(tensors, metadata["pvae_pyro"])):
            raise ValueError("its checksum differs")
        return tensors, header
    except FileNotFoundError as error:
        raise CheckpointError(f"there is no checkpoint {path}") from error
    except (SafetensorError, KeyError, ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not a whole checkpoint: {error}") from error


def _checksum(tensors: Mapping[str, Tensor], header: str) -> str:
    sha = hashlib.sha256(header.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else b"")
    return sha.hexdigest()


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
