"""Files of safetensors with a checksum of their content. Reading them executes nothing."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

_CHECKSUM = "sha256"  # its key in the metadata

Array = TypeVar("Array", Tensor, np.ndarray)


def seal(
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str],
    told: str,
    save: Callable[[dict[str, Array], dict[str, str]], bytes],
) -> bytes:
    """The content of a file whose checksum covers all arrays and the text `told`."""
    return save(dict(arrays), {**metadata, _CHECKSUM: _checksum(arrays, told)})


def read_sealed(
    path: Path,
    told: Callable[[dict[str, str]], str],
    load: Callable[[bytes], dict[str, Array]],
    without_checksum: bool = False,
) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata of a file that was made with `seal`.

    told: the text that the checksum covers, made from the metadata. without_checksum: accept a
    file without a checksum. Raises OSError if the file cannot be read, ValueError if it is damaged.
    """
    content = path.read_bytes()
    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")  # of the header
        metadata = dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})
        checksum, found = metadata.pop(_CHECKSUM, None), _checksum(arrays, told(metadata))
        if checksum != found and not (without_checksum and checksum is None):
            raise ValueError("its checksum differs")
        return arrays, metadata
    except Exception as error:  # safetensors and torch raise many types for a damaged header
        raise ValueError(str(error)) from error


def _checksum(arrays: Mapping[str, Array], told: str) -> str:
    sha = hashlib.sha256(told.encode())
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        if isinstance(array, Tensor):  # numpy lacks some types of tensors
            if array.numel():
                sha.update(array.reshape(-1).view(torch.uint8).numpy().data)
        elif array.size:
            sha.update(array.data)
    return sha.hexdigest()
