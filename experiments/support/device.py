"""The device that a command computes on."""

import torch

from pvae_pyro.experiments.support.command import DeviceError

_COMPUTING = ("cpu", "cuda", "mps", "xpu")  # on which torch computes and draws noise itself


def resolve_device(device: str) -> str:
    """``auto`` is CUDA where there is one. Raises DeviceError if it cannot be used."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
        if kind not in _COMPUTING:
            raise DeviceError(
                f"--device {device}: unsupported device; choose one of {', '.join(_COMPUTING)}"
            )
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"--device {device} cannot be used: {reason}") from error
    return device
