"""Files of safetensors with a checksum of all that they hold. To read one executes nothing."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor

from pvae_pyro.io.files import most_in_memory, read_regular

_CHECKSUM = "sha256"  # its key among the metadata

Array = TypeVar("Array", Tensor, np.ndarray)


def seal(
    arrays: Mapping[str, Array],
    metadata: Mapping[str, str],
    told: str,
    save: Callable[[dict[str, Array], dict[str, str]], bytes],
) -> bytes:
    """The content of a file. told: what of the metadata the checksum is of, besides all arrays."""
    return save(dict(arrays), {**metadata, _CHECKSUM: _checksum(arrays, told)})


def read_sealed(
    path: Path,
    told: Callable[[dict[str, str]], str],
    load: Callable[[bytes], dict[str, Array]],
    without_checksum: bool = False,
) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays and metadata, as `seal` had them.

    Args:
        told: the metadata -> what the checksum is of.
        without_checksum: whether a file may have none.

    Raises OSError where there is no file or it cannot be read, ValueError where it is not what was
    written: whatever is in it, in no more memory than a small multiple of its size.
    """
    content = read_regular(path, most_in_memory())
    try:
        arrays = load(content)
        size = int.from_bytes(content[:8], "little")  # of the header
        metadata = dict(json.loads(content[8 : 8 + size]).get("__metadata__") or {})
        checksum, found = metadata.pop(_CHECKSUM, None), _checksum(arrays, told(metadata))
        if checksum != found and not (without_checksum and checksum is None):
            raise ValueError("its checksum differs")
        return arrays, metadata
    # What a header says may be of any type and any size: the libraries then raise what they like.
    except (
        *(SafetensorError, LookupError, ValueError, TypeError),
        *(RuntimeError, ArithmeticError, AttributeError),
    ) as error:
        raise ValueError(str(error)) from error


def _checksum(arrays: Mapping[str, Array], told: str) -> str:
    sha = hashlib.sha256(told.encode())
    for name, array in sorted(arrays.items()):
        sha.update(f"{name} {array.dtype} {tuple(array.shape)}".encode())
        # Bytes of a tensor: it may be of a type that numpy lacks.
        if isinstance(array, Tensor):
            if array.numel():  # an empty one may have any strides, which `view` refuses
                sha.update(array.reshape(-1).view(torch.uint8).numpy().data)
        elif array.size:
            sha.update(array.data)
    return sha.hexdigest()
