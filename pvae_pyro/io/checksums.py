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


def with_checksum(
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str],
    covered: str,
    save: Callable[[dict[str, Array], dict[str, str]], bytes],
) -> bytes:
    """The content of a safetensors file with a checksum of all arrays and the text `covered`."""
    return save(dict(arrays), {**metadata, _CHECKSUM: _checksum(arrays, covered)})


def read_checked(
    path: Path,
    covered: Callable[[dict[str, str]], str],
    load: Callable[[bytes], dict[str, Array]],
    without_checksum: bool = False,
) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata of a file that was made with `with_checksum`.

    covered: the text that the checksum covers, made from the metadata. without_checksum: accept a
    file without a checksum. Raises OSError if the file cannot be read, ValueError if it is damaged.
    """
    content = path.read_bytes()
    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")  # of the header
        metadata = dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})
        checksum, found = metadata.pop(_CHECKSUM, None), _checksum(arrays, covered(metadata))
        if checksum != found and not (without_checksum and checksum is None):
            raise ValueError("its checksum differs")
        return arrays, metadata
    except Exception as error:  # safetensors and torch raise many types for a damaged header
        raise ValueError(str(error)) from error


def _checksum(arrays: Mapping[str, Array], covered: str) -> str:
    sha = hashlib.sha256(covered.encode())
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        if isinstance(array, Tensor):  # numpy lacks some types of tensors
            if array.numel():
                sha.update(array.reshape(-1).view(torch.uint8).numpy().data)
        elif array.size:
            sha.update(array.data)
    return sha.hexdigest()
